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
    labels: np.ndarray | None  # (N, S), or pairs (N, K, 2)
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
    def first(self) -> RawPart:
        return next(iter(self.parts.values()))

    @property
    def task(self) -> str:
        labels = self.first.labels
        return "emotions" if labels is not None and labels.ndim == 3 else "regression"


@dataclass(frozen=True)
class Wanted:
    """What is to be read; the rest need not be in the file."""

    modalities: tuple[str, ...] = MODALITIES
    splits: tuple[str, ...] = SPLITS
    labels: bool = True


def read(path: Path, wanted: Wanted | None = None) -> Raw:
    """Finds out which layout a file has, reads it and checks sizes."""
    wanted = wanted or Wanted()
    raw = _npz(path, wanted) if path.suffix == ".npz" else _pickle(path, wanted)
    for split, part in raw.parts.items():
        counts = {name: len(x) for name, x in part.arrays.items()}
        if part.labels is not None:
            counts[raw.label_field] = len(part.labels)
        checks.same_count(Place(path, split), counts)
    for name in wanted.modalities:
        sizes = {split: part.arrays[name].shape[1:] for split, part in raw.parts.items()}
        checks.same_sizes(path, name, sizes)
    if wanted.labels:
        sizes = {split: part.labels.shape[1:] for split, part in raw.parts.items()}
        checks.same_sizes(path, raw.label_field, sizes)
    return raw


def _pickle(path: Path, wanted: Wanted) -> Raw:
    content = read_pickle(path)
    if not isinstance(content, dict):
        rule = f"{path} must be a dict of {', '.join(wanted.splits)}"
        raise ValueError(f"{rule}, however: it is a {checks.describe(content)}")
    for split in wanted.splits:
        if not isinstance(content.get(split), dict):
            fact = f"the file is a {checks.describe(content)}"
            raise Place(path, split).error("be a dict of fields", fact)
    mmsa = any(key in content[wanted.splits[0]] for key in ("regression_labels", "text_bert"))
    return (_mmsa if mmsa else _mult)(path, content, wanted)


def _mult(path: Path, content: Mapping[str, dict[str, Any]], wanted: Wanted) -> Raw:
    """MulT: mosi_data.pkl, mosei_senti_data.pkl, iemocap_data.pkl, and each _noalign.pkl."""
    parts = {
        split: _part(Place(path, split), content[split], wanted, "labels", "id")
        for split in wanted.splits
    }
    return Raw(path, "MulT", "labels", parts)


def _mmsa(path: Path, content: Mapping[str, dict[str, Any]], wanted: Wanted) -> Raw:
    """MMSA: aligned_50.pkl and unaligned_50.pkl, with the text features of BERT."""
    parts = {}
    for split in wanted.splits:
        place, fields = Place(path, split), content[split]
        part = parts[split] = _part(place, fields, wanted, "regression_labels", "id")
        for name in {"audio", "vision"} & set(wanted.modalities):
            _add_length(place, fields, part, name, f"{name}_lengths")
        if "text_bert" in fields and "text" in wanted.modalities:
            text = part.arrays["text"]
            part.valid["text"] = _bert(place.at("text_bert"), fields["text_bert"], text)
    return Raw(path, "MMSA", "regression_labels", parts)


def _npz(path: Path, wanted: Wanted) -> Raw:
    """Arrays train_text, train_labels, train_ids, train_text_lengths or train_lengths, ...

    A single split may also come without the name of the split: text, vision, ...
    """
    checks.check_download(path, ".npz")
    try:
        with open(path, "rb") as archive, np.load(archive, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except BROKEN as error:
        rule = f"{path} must be a whole .npz of plain arrays"
        raise ValueError(f"{rule}, however: {error}") from None
    parts = {}
    for split in wanted.splits:
        place, start = Place(path, split), f"{split}_"
        fields = {k.removeprefix(start): x for k, x in arrays.items() if k.startswith(start)}
        if not fields and len(wanted.splits) == 1:
            fields = arrays
        part = parts[split] = _part(place, fields, wanted, "labels", "ids", vectors=True)
        for name in wanted.modalities:
            _add_length(place, fields, part, name, f"{name}_lengths", "lengths")
    return Raw(path, "npz", "labels", parts)


def _part(
    place: Place,
    fields: dict[str, Any],
    wanted: Wanted,
    label_field: str,
    id_field: str,
    vectors: bool = False,
) -> RawPart:
    """With ``vectors``, (N, D) is one step, and each step may have a label."""
    needed = (*wanted.modalities, label_field) if wanted.labels else wanted.modalities
    checks.check_fields(place, fields, needed)
    arrays = {  # taken out of the file's dict: the float32 copy is enough to hold in memory
        name: checks.sequences(place.at(name), fields.pop(name), vectors)
        for name in wanted.modalities
    }
    labels = None
    if wanted.labels:
        steps = {x.shape[1] for x in arrays.values()}
        steps = max(steps) if vectors and len(steps) == 1 else 1
        labels = _labels(place.at(label_field), fields[label_field], steps)
    count = len(next(iter(arrays.values())) if labels is None else labels)
    ids = [f"{place.split}-{i}" for i in range(count)]
    if id_field in fields:
        ids = checks.names(place.at(id_field), fields[id_field], count)
    return RawPart(arrays, labels, ids)


def _labels(place: Place, values: Any, steps: int) -> np.ndarray:
    """(N, 1), (N, steps) or, for emotions, (N, 4, 2)."""
    labels = checks.numbers(place, values, (1, 2, 3))
    shape = labels.shape[1:]
    if shape in ((), (1,), (1, 1)):
        return labels.reshape(-1, 1)
    if shape in ((steps,), (len(EMOTIONS), 2)):
        return labels
    rule = f"have shape (N), (N, 1, 1), (N, {steps}) or (N, {len(EMOTIONS)}, 2)"
    raise place.error(rule, f"shape={labels.shape}")


def _add_length(
    place: Place, fields: Mapping[str, Any], part: RawPart, name: str, *keys: str
) -> None:
    """By the first of the keys that there is."""
    for key in keys:
        if key in fields:
            count, longest, _ = part.arrays[name].shape
            part.lengths[name] = checks.lengths(place.at(key), fields[key], count, longest)
            return


def _bert(place: Place, values: Any, text: np.ndarray) -> np.ndarray:
    """The second of three rows (tokens, mask, segments) says which tokens there are."""
    rows = checks.numbers(place, values, (3,))
    if rows.shape != (len(text), 3, text.shape[1]):
        raise place.error(f"have shape ({len(text)}, 3, {text.shape[1]})", f"shape={rows.shape}")
    if not np.isin(rows[:, 1], (0, 1)).all():
        raise place.error("have a mask of 0 and 1 in its second row", f"{np.unique(rows[:, 1])}")
    return rows[:, 1] == 1
