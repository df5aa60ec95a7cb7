"""Any .npz file of paired modalities: what there is of each of them in each sample."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from torch import Tensor

from examples.benchmarks.imputation.parts import Part
from modimpute import valid_from_lengths

LIMIT = 10.0  # deviations
HELD_OUT = 0.2  # of train, where the file has no validation split
SPLITS = {"train": "train", "validation": "valid", "test": "test"}
STRIPS = {"left": slice(0, 3), "middle": slice(3, 5), "right": slice(5, 8)}

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class DataSet:
    """``validation`` is None where the file has none: ``split`` then takes it from ``train``."""

    name: str
    train: Part
    validation: Part | None
    test: Part
    zero: dict[str, Tensor]  # (D,), zeros of the file in standardised units
    digest: str  # of everything above

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(sorted(self.train.modalities))

    def split(self, seed: int) -> tuple[Part, Part]:
        """Returns train and validation samples."""
        if self.validation is not None:
            return self.train, self.validation
        everything, labels = np.arange(len(self.train)), self.train.labels
        if self.train.groups is not None:
            halves = GroupShuffleSplit(1, test_size=HELD_OUT, random_state=seed)
            train, held = next(halves.split(everything, groups=self.train.groups))
        else:
            classes = is_classes(labels) and _enough_of_each(labels)
            train, held = train_test_split(
                everything,
                test_size=HELD_OUT,
                stratify=labels if classes else None,
                random_state=seed,
            )
        return self.train.rows(np.sort(train)), self.train.rows(np.sort(held))


def _enough_of_each(labels: np.ndarray) -> bool:
    """Whether each class can be on both sides."""
    counts = np.unique(labels, return_counts=True)[1]
    return counts.min() > 1 and HELD_OUT * len(labels) >= len(counts)


def is_classes(labels: np.ndarray | None) -> bool:
    return labels is not None and labels.ndim == 1 and labels.dtype.kind in "iubUS"


def load(
    path: str,
    modalities: Sequence[str] = (),
    labels: str = "labels",
    groups: str | None = None,
    zeros_are_real: Sequence[str] | bool = False,
) -> DataSet:
    """Loads ``digits`` or an .npz file, and standardises it.

    ``zeros_are_real``: the sequences in which a row of zeros is a measurement, not padding.
    """
    if path == "digits":
        arrays, modalities, zeros_are_real = digits(), tuple(STRIPS), True
    else:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    names = sorted(modalities)
    real = names if zeros_are_real is True else zeros_are_real or ()
    parts = {
        split: _part(arrays, key, names, labels, groups, real)
        for split, key in SPLITS.items()
        if f"{key}_{names[0]}" in arrays
    }
    for split in ("train", "test"):
        if split not in parts:
            raise ValueError(f"{path} must have {split}_{names[0]}, however: {sorted(arrays)}")
    parts, zero = standardised(_same_length(parts, names), names)
    three = (parts["train"], parts.get("validation"), parts["test"])
    return DataSet(Path(path).stem, *three, zero, _digest(parts))


def digits() -> dict[str, np.ndarray]:
    """Strips of handwritten digits as vectors: each pixel has a place and a meaning of its own.

    (As sequences of eight rows, the fixed linear model would read only mean and deviation over
    the rows, and so not the digit.) The test rows are those of ``examples.digits``.
    """
    data = load_digits()
    train, test = train_test_split(
        np.arange(len(data.target)), test_size=360, stratify=data.target, random_state=0
    )
    arrays = {}
    for split, rows in (("train", np.sort(train)), ("test", np.sort(test))):
        arrays[f"{split}_labels"] = data.target[rows]
        for name, columns in STRIPS.items():
            arrays[f"{split}_{name}"] = data.images[rows][:, :, columns].reshape(len(rows), -1)
    return arrays


def _part(
    arrays: Arrays,
    split: str,
    names: Sequence[str],
    labels: str,
    groups: str | None,
    real: Sequence[str],
) -> Part:
    x, valid = {}, {}
    for name in names:
        values = _get(arrays, f"{split}_{name}")
        values = torch.as_tensor(np.asarray(values, dtype=np.float32))
        if values.dim() not in (2, 3):
            rule = f"{split}_{name} must have shape (N, D) or (N, L, D)"
            raise ValueError(f"{rule}, however: {tuple(values.shape)}")
        there = values.isfinite().all(-1)
        if values.dim() == 2:
            x[name], valid[name] = values.unsqueeze(1), there.unsqueeze(1)
            continue
        lengths = arrays.get(f"{split}_{name}_lengths", arrays.get(f"{split}_lengths"))
        if lengths is not None:
            steps = torch.as_tensor(lengths, dtype=torch.int64)
            there = there & valid_from_lengths(steps, values.shape[1])
        if name not in real:
            there = there & (values != 0).any(-1)
        x[name], valid[name] = values, there
    if len(sizes := {len(values) for values in x.values()}) > 1:
        raise ValueError(f"modalities must have the same samples, however: {split} has {sizes}")
    x = {n: torch.where(valid[n].unsqueeze(-1), values, 0.0) for n, values in x.items()}
    y = _labels(arrays.get(f"{split}_{labels}"), x, arrays.get(f"{split}_lengths"))
    g = None
    if groups is not None:
        g = np.unique(_get(arrays, f"{split}_{groups}"), return_inverse=True)[1]
    return Part(x, valid, {}, y, g)


def _get(arrays: Arrays, key: str) -> np.ndarray:
    if key not in arrays:
        raise ValueError(f"the file must have {key}, however: it has {', '.join(sorted(arrays))}")
    return arrays[key]


def _labels(
    labels: np.ndarray | None, x: Mapping[str, Tensor], lengths: np.ndarray | None
) -> np.ndarray | None:
    """One label per sample. Of labels per step: their mean, or the most frequent class."""
    longest = max(values.shape[1] for values in x.values())
    if labels is None or lengths is None or labels.shape[1:2] != (longest,):
        return labels
    real = [row[: max(1, length)] for row, length in zip(labels, lengths, strict=True)]
    if labels.dtype.kind in "iub":
        return np.array([np.bincount(row - labels.min()).argmax() + labels.min() for row in real])
    return np.array([row.mean(0) for row in real])


def _same_length(parts: Mapping[str, Part], names: Sequence[str]) -> dict[str, Part]:
    """Pads each modality to its longest split, and says which steps a missing one would have."""
    lengths = {n: max(p.modalities[n].shape[1] for p in parts.values()) for n in names}
    padded = {}
    for split, part in parts.items():
        more = {n: lengths[n] - part.modalities[n].shape[1] for n in names}
        x = {n: F.pad(part.modalities[n], (0, 0, 0, more[n])) for n in names}
        valid = {n: F.pad(part.valid[n], (0, more[n])) for n in names}
        exists = {}
        for name, v in valid.items():
            same = [other for other in valid.values() if other.shape == v.shape]
            steps = torch.stack(same).any(0)  # its own, or what the others of this length have
            steps = torch.where(v.any(-1, keepdim=True), v, steps)
            exists[name] = steps | ~steps.any(-1, keepdim=True)  # or all, if that is nothing
        padded[split] = replace(part, modalities=x, valid=valid, exists=exists)
    return padded


def standardised(
    parts: Mapping[str, Part], names: Sequence[str]
) -> tuple[dict[str, Part], dict[str, Tensor]]:
    """Standardised by the valid steps of train, clipped, without columns that are constant there.

    A pixel that is white in all training images but one may else be 100 deviations off in test:
    an error that hides all others.
    """
    columns, mean, deviation = {}, {}, {}
    for name in names:
        x = parts["train"].modalities[name][parts["train"].valid[name]].double()
        if len(x) == 0 or not (varies := x.amax(0) > x.amin(0)).any():
            raise ValueError(f"{name} must have a feature that varies, however: train has none")
        columns[name], mean[name] = varies, x.mean(0)[varies]
        deviation[name] = x.std(0, correction=0)[varies]
    result = {}
    for split, part in parts.items():
        x = {}
        for name in names:
            values = (part.modalities[name][..., columns[name]] - mean[name]) / deviation[name]
            values = torch.where(part.valid[name].unsqueeze(-1), values, 0.0)
            x[name] = values.clamp(-LIMIT, LIMIT).float()
        result[split] = replace(part, modalities=x)
    zero = {n: (-mean[n] / deviation[n]).clamp(-LIMIT, LIMIT).float() for n in names}
    return result, zero


def _digest(parts: Mapping[str, Part]) -> str:
    digest = hashlib.sha256()
    for split, part in sorted(parts.items()):
        digest.update(split.encode())
        for name, x in sorted(part.modalities.items()):
            digest.update(name.encode() + x.numpy().tobytes() + part.valid[name].numpy().tobytes())
        for array in (part.labels, part.groups):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
