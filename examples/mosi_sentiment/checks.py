"""Checks of files from strangers. An error names the file, the split and the field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STARTS = {  # what is saved in place of a file, by how it begins, in small letters
    b"<!doctype": "an HTML page",
    b"<html": "an HTML page",
    b"<head": "an HTML page",
    b"<?xml": "an XML page",
    b"{": "JSON, perhaps an error message",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"\x89hdf": "an HDF5 file",
    b"\x93numpy": "a single array (.npy)",
}
ARCHIVE = b"pk"  # zip, which is what .npz is
RANGE = 3.0  # of sentiment


def check_download(path: Path, kind: str) -> None:
    """Refuses what is plainly something else than ``kind``, "pickle" or ".npz"."""
    with open(path, "rb") as file:
        start = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    rule = f"{path} must be a {kind}"
    if not path.stat().st_size:
        raise ValueError(f"{rule}, however: it is empty (0 bytes); download it again")
    for beginning, what in STARTS.items():
        if start.startswith(beginning):
            raise ValueError(f"{rule}, however: it looks like {what}; download it again")
    if start.startswith(ARCHIVE) != (kind == ".npz"):
        what = "no zip archive" if kind == ".npz" else "a zip archive; unpack it, or name it .npz"
        raise ValueError(f"{rule}, however: it is {what}")


@dataclass(frozen=True)
class Place:
    """Where in a file we are."""

    path: Path
    split: str
    field: str = ""

    def error(self, rule: str, fact: str) -> ValueError:
        field = f", field {self.field}" if self.field else ""
        return ValueError(f"{self.path}, split {self.split}{field}: must {rule}, however: {fact}")

    def at(self, field: str) -> "Place":
        return Place(self.path, self.split, field)


def check_fields(place: Place, fields: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if name not in fields:
            raise place.at(name).error("be there", f"there are {', '.join(map(str, fields))}")


def numbers(place: Place, values: Any, ranks: Sequence[int]) -> np.ndarray:
    """As a float32 array of its own, of one of the ranks."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        raise place.error("be an array", "its rows do not have one shape") from None
    if array.dtype.kind not in "biuf":
        raise place.error("hold numbers", f"dtype={array.dtype}")
    if array.ndim not in ranks:
        expected = " or ".join(map(str, ranks))
        raise place.error(f"have {expected} dimensions", f"shape={array.shape}")
    with np.errstate(over="ignore"):  # becomes inf, which is counted
        return np.array(array, dtype=np.float32)


def sequences(place: Place, values: Any, vectors: bool = False) -> np.ndarray:
    """(N, L, D); with ``vectors`` also (N, D), which become L = 1."""
    x = numbers(place, values, (2, 3) if vectors else (3,))
    x = x[:, None] if x.ndim == 2 else x
    if 0 in x.shape:
        raise place.error("not be empty", f"shape={x.shape}")
    return x


def regression(place: Place, labels: np.ndarray, label_valid: np.ndarray) -> np.ndarray:
    """(N, S) with NaN and anything else only where there is no label; returns (N, S, 1)."""
    bad = label_valid & ~np.isfinite(labels)
    if bad.any():
        raise place.error("hold a finite label for each", _first(bad, labels, bad.sum()))
    far = label_valid & (np.abs(labels) > RANGE)
    if far.any():
        raise place.error(f"lie in [-{RANGE:g}, {RANGE:g}]", _first(far, labels, far.sum()))
    return np.where(label_valid, labels, 0.0)[..., None].astype(np.float32)


def pairs(place: Place, labels: np.ndarray) -> np.ndarray:
    """One-hot pairs (N, K, 2), no or yes; returns (N, 1, K) 0 or 1, as the argmax of each pair."""
    bad = ~(np.isin(labels, (0, 1)).all(-1) & (labels.sum(-1) == 1))
    if bad.any():
        raise place.error("hold pairs [1, 0] or [0, 1]", _first(bad, labels, bad.sum()))
    return labels.argmax(-1)[:, None].astype(np.float32)


def lengths(place: Place, values: Any, count: int, longest: int) -> np.ndarray:
    """(N,), each from 0 to the padded length."""
    x = numbers(place, values, (1,))
    bad = (x != np.floor(x)) | (x < 0) | (x > longest)
    if len(x) != count:
        raise place.error(f"have a length for each of {count} samples", f"{len(x)}")
    if bad.any():
        raise place.error(f"be whole numbers from 0 to {longest}", _first(bad, x, bad.sum()))
    return x.astype(np.int64)


def names(place: Place, values: Any, count: int) -> list[str]:
    """Ids: strings, bytes or numbers, or several of them for each sample, joined with "_"."""
    if not hasattr(values, "__len__") or len(values) != count:
        raise place.error(f"have an id for each of {count} samples", describe(values))
    return [_name(value) for value in values]


def _name(value: Any) -> str:
    if isinstance(value, np.ndarray | list | tuple):
        return "_".join(map(_name, value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def describe(content: Any) -> str:
    """What there is, in a line: to tell which layout it might be."""
    if isinstance(content, dict):
        inner = [f"{key}: {_kind(x)}" for key, x in content.items()]
    elif isinstance(content, list | tuple):
        inner = [_kind(x) for x in content]
    else:
        return _kind(content)
    more = ", ..." if len(inner) > 8 else ""
    return f"{_kind(content)} ({', '.join(inner[:8])}{more})"


def _kind(content: Any) -> str:
    if isinstance(content, np.ndarray):
        return f"an array {content.shape} of {content.dtype}"
    size = f" of {len(content)}" if hasattr(content, "__len__") else ""
    return f"{type(content).__name__}{size}"


def same_count(place: Place, counts: Mapping[str, int]) -> None:
    if len(set(counts.values())) > 1:
        raise place.error("have as many samples in each field", f"{dict(counts)}")


def same_sizes(path: Path, field: str, sizes: Mapping[str, tuple[int, ...]]) -> None:
    """The length and the number of features must be the same in all splits."""
    first = next(iter(sizes.values()))
    for split, size in sizes.items():
        if size != first:
            rule = f"have steps and features {first}, as train"
            raise Place(path, split, field).error(rule, f"{size}")


def _first(bad: np.ndarray, values: np.ndarray, count: int) -> str:
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{values[where]} at {list(where)} ({count} in all)"
