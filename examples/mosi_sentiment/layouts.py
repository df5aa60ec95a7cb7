"""The layouts of the files that people have. All sizes are read from the file."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from examples.mosi_sentiment import checks
from examples.mosi_sentiment.checks import Place
from examples.mosi_sentiment.data import EMOTIONS, MODALITIES, SPLITS
from examples.mosi_sentiment.unpickling import read_pickle

# What NumPy raises where an archive is broken, encrypted, or asks for too much.
BROKEN = (ValueError, OSError, EOFError, RuntimeError, MemoryError, BadZipFile, zlib.error)


@dataclass
class RawPart:
    """A split as the file has it; where a length or a mask is given, it is kept."""

    arrays: dict[str, np.ndarray]  # (N, L, D), float32
    labels: np.ndarray  # (N, S), or pairs (N, K, 2)
    ids: list[str]
    lengths: dict[str, np.ndarray] = field(default_factory=dict)  # (N,)
    valid: dict[str, np.ndarray] = field(default_factory=dict)  # (N, L)


@dataclass
class Raw:
    path: Path
    layout: str  # "MulT", "MMSA" or "npz"
    label_field: str
    parts: dict[str, RawPart]

    @property
    def task(self) -> str:
        return "emotions" if self.parts["train"].labels.ndim == 3 else "regression"


def read(path: Path) -> Raw:
    """Finds out which layout a file has, reads it and checks sizes."""
    if path.suffix == ".npz":
        raw = _npz(path)
    else:
        content = read_pickle(path)
        if not isinstance(content, dict):
            rule = f"{path} must be a dict of {', '.join(SPLITS)}"
            raise ValueError(f"{rule}, however: it is a {checks.describe(content)}")
        for split in SPLITS:
            if not isinstance(content.get(split), dict):
                fact = f"the file is a {checks.describe(content)}"
                raise Place(path, split).error("be a dict of fields", fact)
        raw = (
            _mmsa(path, content)
            if "regression_labels" in content["train"]
            else _mult(path, content)
        )
    for split, part in raw.parts.items():
        counts = {name: len(x) for name, x in part.arrays.items()}
        checks.same_count(Place(path, split), counts | {raw.label_field: len(part.labels)})
    for name in MODALITIES:
        sizes = {split: part.arrays[name].shape[1:] for split, part in raw.parts.items()}
        checks.same_sizes(path, name, sizes)
    sizes = {split: part.labels.shape[1:] for split, part in raw.parts.items()}
    checks.same_sizes(path, raw.label_field, sizes)
    return raw


def _mult(path: Path, content: Mapping[str, dict[str, Any]]) -> Raw:
    """MulT: mosi_data.pkl, mosei_senti_data.pkl, iemocap_data.pkl, and each _noalign.pkl."""
    parts = {}
    for split in SPLITS:
        place, fields = Place(path, split), content[split]
        arrays = _sequences(place, fields, "labels")
        labels = _labels(place.at("labels"), fields["labels"])
        parts[split] = RawPart(arrays, labels, _ids(place, fields, "id", len(labels)))
    return Raw(path, "MulT", "labels", parts)


def _mmsa(path: Path, content: Mapping[str, dict[str, Any]]) -> Raw:
    """MMSA: aligned_50.pkl and unaligned_50.pkl, with the text features of BERT."""
    parts = {}
    for split in SPLITS:
        place, fields = Place(path, split), content[split]
        arrays = _sequences(place, fields, "regression_labels")
        labels = _labels(place.at("regression_labels"), fields["regression_labels"])
        part = RawPart(arrays, labels, _ids(place, fields, "id", len(labels)))
        _add_lengths(place, fields, part, {n: (f"{n}_lengths",) for n in ("audio", "vision")})
        if "text_bert" in fields:
            part.valid["text"] = _bert(place.at("text_bert"), fields["text_bert"], arrays["text"])
        parts[split] = part
    return Raw(path, "MMSA", "regression_labels", parts)


def _npz(path: Path) -> Raw:
    """Arrays train_text, train_labels, train_ids, train_text_lengths or train_lengths, ..."""
    checks.check_download(path, ".npz")
    try:
        with open(path, "rb") as archive, np.load(archive, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except BROKEN as error:
        rule = f"{path} must be a whole .npz of plain arrays"
        raise ValueError(f"{rule}, however: {error}") from None
    parts = {}
    for split in SPLITS:
        place, start = Place(path, split), f"{split}_"
        fields = {k.removeprefix(start): x for k, x in arrays.items() if k.startswith(start)}
        modalities = _sequences(place, fields, "labels", vectors=True)
        length = {x.shape[1] for x in modalities.values()}
        labels = fields["labels"]
        labels = _labels(place.at("labels"), labels, max(length) if len(length) == 1 else 1)
        part = RawPart(modalities, labels, _ids(place, fields, "ids", len(labels)))
        _add_lengths(place, fields, part, {n: (f"{n}_lengths", "lengths") for n in MODALITIES})
        parts[split] = part
    return Raw(path, "npz", "labels", parts)


def _sequences(
    place: Place, fields: dict[str, Any], labels: str, vectors: bool = False
) -> dict[str, np.ndarray]:
    checks.check_fields(place, fields, (*MODALITIES, labels))
    return {  # taken out of the file's dict: the float32 copy is enough to hold in memory
        name: checks.sequences(place.at(name), fields.pop(name), vectors) for name in MODALITIES
    }


def _labels(place: Place, values: Any, steps: int = 1) -> np.ndarray:
    """(N, 1), (N, steps) or, for emotions, (N, 4, 2)."""
    labels = checks.numbers(place, values, (1, 2, 3))
    shape = labels.shape[1:]
    if shape in ((), (1,), (1, 1)):
        return labels.reshape(-1, 1)
    if shape in ((steps,), (len(EMOTIONS), 2)):
        return labels
    rule = f"have shape (N), (N, 1, 1), (N, {steps}) or (N, {len(EMOTIONS)}, 2)"
    raise place.error(rule, f"shape={labels.shape}")


def _ids(place: Place, fields: Mapping[str, Any], name: str, count: int) -> list[str]:
    if name not in fields:
        return [f"{place.split}-{i}" for i in range(count)]
    return checks.names(place.at(name), fields[name], count)


def _add_lengths(
    place: Place, fields: Mapping[str, Any], part: RawPart, keys: Mapping[str, tuple[str, ...]]
) -> None:
    for name, options in keys.items():
        for key in options:
            if key in fields:
                count, longest, _ = part.arrays[name].shape
                part.lengths[name] = checks.lengths(place.at(key), fields[key], count, longest)
                break


def _bert(place: Place, values: Any, text: np.ndarray) -> np.ndarray:
    """The second of three rows (tokens, mask, segments) says which tokens there are."""
    rows = checks.numbers(place, values, (3,))
    if rows.shape != (len(text), 3, text.shape[1]):
        raise place.error(f"have shape ({len(text)}, 3, {text.shape[1]})", f"shape={rows.shape}")
    if not np.isin(rows[:, 1], (0, 1)).all():
        raise place.error("have a mask of 0 and 1 in its second row", f"{np.unique(rows[:, 1])}")
    return rows[:, 1] == 1
