"""The data sets: what there is of each modality in each sample of each split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from modimpute import ModalityNormalizer, valid_from_lengths

STRIPS = {"left": slice(0, 3), "middle": slice(3, 5), "right": slice(5, 8)}
FILES = {
    "mfeat": "mfeat_digits.npz",
    "basic_motions": "basic_motions.npz",
    "av_digits": "av_digits.npz",
    "pom": "pom_sequences.npz",
}
NAMES = ("digits", *FILES)
LIMIT = 10.0  # deviations


@dataclass(frozen=True)
class Part:
    """Some of the samples. ``exists`` has also the steps that a missing modality would have."""

    modalities: dict[str, Tensor]  # (N, L, D)
    valid: dict[str, Tensor]  # (N, L)
    exists: dict[str, Tensor]  # (N, L)
    labels: np.ndarray  # (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Part":
        groups = (self.modalities, self.valid, self.exists)
        return Part(*({n: x.to(device) for n, x in g.items()} for g in groups), self.labels)


@dataclass(frozen=True)
class DataSet:
    """``aligned``: step t of one modality belongs to step t of the others.

    ``flat``: what the classifier reads value by value, not as mean and deviation over the steps.
    """

    name: str
    aligned: bool
    flat: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    zero: dict[str, Tensor] = field(default_factory=dict)  # (D,), zeros in standardised units

    @property
    def dims(self) -> dict[str, int]:
        return {name: x.shape[-1] for name, x in sorted(self.train.modalities.items())}

    @property
    def sequences(self) -> tuple[str, ...]:
        """The modalities in which single steps can be missing."""
        return tuple(name for name in self.dims if self.train.modalities[name].shape[1] > 1)

    @property
    def num_places(self) -> int:
        """The length, where each step has a meaning of its own, as the rows of an image."""
        if set(self.sequences) - set(self.flat):
            return 0
        return max((self.train.modalities[n].shape[1] for n in self.sequences), default=0)


def load(name: str, folder: Path, seed: int, modalities: Sequence[str] = ()) -> DataSet:
    """Loads and standardises; ``name`` is one of NAMES, or a file with ``modalities``."""
    if name == "digits":
        return _standardised(_digits(seed))
    path = folder / FILES[name] if name in FILES else Path(name)
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    if name in FILES:
        readers = {
            "mfeat": _mfeat,
            "av_digits": _av_digits,
            "pom": _pom,
            "basic_motions": _motions,
        }
        return _standardised(readers[name](arrays, seed))
    parts = _parts(arrays, modalities, seed)
    lengths = [{x.shape[1] for x in part.modalities.values()} for part in parts.values()]
    aligned = all(len(unique) == 1 for unique in lengths)
    vectors = tuple(n for n, x in parts["train"].modalities.items() if x.shape[1] == 1)
    return _standardised(DataSet(path.stem, aligned, vectors, **parts))


def _digits(seed: int) -> DataSet:
    """Strips of handwritten digits, each a sequence of 8 rows of pixels."""
    digits = load_digits()
    rest, test = train_test_split(
        np.arange(len(digits.target)), test_size=360, stratify=digits.target, random_state=0
    )
    train, validation = train_test_split(
        rest, test_size=0.2, stratify=digits.target[rest], random_state=seed
    )
    parts = {
        name: _part(
            {strip: digits.images[rows][:, :, columns] for strip, columns in STRIPS.items()},
            digits.target[rows],
        )
        for name, rows in (("train", train), ("validation", validation), ("test", test))
    }
    return DataSet("digits", True, tuple(STRIPS), **parts)


def _mfeat(arrays: Mapping[str, np.ndarray], seed: int) -> DataSet:
    """Six views of handwritten digits, a vector each."""
    views = ("fourier", "karhunen", "morphology", "pixel", "profile", "zernike")
    return DataSet("mfeat", True, views, **_parts(arrays, views, seed))


def _motions(arrays: Mapping[str, np.ndarray], seed: int) -> DataSet:
    """Accelerometer and gyroscope of a watch, 100 steps."""
    return DataSet("basic_motions", True, (), **_parts(arrays, ("acc", "gyro"), seed))


def _av_digits(arrays: Mapping[str, np.ndarray], seed: int) -> DataSet:
    """A spoken digit, up to 40 frames, and a written one, 8 rows of pixels."""
    return DataSet("av_digits", False, ("image",), **_parts(arrays, ("audio", "image"), seed))


def _pom(arrays: Mapping[str, np.ndarray], seed: int) -> DataSet:
    """Persuasion videos, of which half have no vision; label: is the first trait above its median?

    Steps of zeros are missing: padding, or the whole modality.
    """
    arrays = dict(arrays)
    median = np.median(arrays["train_labels"][:, 0])
    for split in ("train", "valid", "test"):
        arrays[f"{split}_labels"] = (arrays[f"{split}_labels"][:, 0] > median).astype(np.int64)
        for name in ("audio", "vision"):
            x = arrays[f"{split}_{name}"]
            nothing = (x == 0).all(-1, keepdims=True)
            arrays[f"{split}_{name}"] = np.where(nothing, np.nan, x)
    return DataSet("pom", True, (), **_parts(arrays, ("audio", "vision"), seed))


def _parts(arrays: Mapping[str, np.ndarray], names: Sequence[str], seed: int) -> dict[str, Part]:
    """Arrays are named "train_audio", "train_labels", "train_audio_lengths" (if padded).

    Without arrays of a split "valid", the seed holds out a quarter of "train".
    """
    parts = {}
    for split, key in (("train", "train"), ("validation", "valid"), ("test", "test")):
        if f"{key}_labels" in arrays:
            parts[split] = _part(
                {name: arrays[f"{key}_{name}"] for name in names},
                arrays[f"{key}_labels"],
                {name: arrays.get(f"{key}_{name}_lengths") for name in names},
            )
    if "validation" not in parts:
        labels = parts["train"].labels
        rows = train_test_split(
            np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=seed
        )
        parts["train"], parts["validation"] = (_rows(parts["train"], np.sort(r)) for r in rows)
    return parts


def _part(
    arrays: Mapping[str, np.ndarray],
    labels: np.ndarray,
    lengths: Mapping[str, np.ndarray | None] | None = None,
) -> Part:
    """A step with NaN, or beyond the length, is missing."""
    modalities, valid = {}, {}
    for name, array in sorted(arrays.items()):
        x = torch.as_tensor(array, dtype=torch.float32)
        x = x.unsqueeze(1) if x.dim() == 2 else x
        there = x.isfinite().all(-1)
        length = (lengths or {}).get(name)
        if length is not None:
            there &= valid_from_lengths(torch.as_tensor(length, dtype=torch.int64), x.shape[1])
        modalities[name], valid[name] = x, there
    return Part(modalities, valid, _exists(valid), np.asarray(labels).astype(np.int64))


def _exists(valid: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is valid; where a sample lacks all of a modality, the steps that the others have."""
    exists = {}
    for name, v in valid.items():
        same = [o for o in valid.values() if o.shape == v.shape]
        steps = torch.stack(same).any(0) if len(same) > 1 else torch.ones_like(v)
        exists[name] = torch.where(v.any(-1, keepdim=True), v, steps)
    return exists


def _rows(part: Part, rows: np.ndarray) -> Part:
    groups = (part.modalities, part.valid, part.exists)
    return Part(*({n: x[rows] for n, x in g.items()} for g in groups), part.labels[rows])


def _standardised(data: DataSet) -> DataSet:
    """Standardised by what is valid in training; zero where nothing is.

    A pixel that is white in all training images but one may else be 100 deviations off in test:
    an error that hides all others.
    """
    normalizer = ModalityNormalizer(data.dims).fit([(data.train.modalities, data.train.valid)])
    parts = []
    for part in (data.train, data.validation, data.test):
        x = normalizer(part.modalities, valid=part.valid)
        x = {name: values.clamp(-LIMIT, LIMIT) for name, values in x.items()}
        parts.append(Part(x, part.valid, part.exists, part.labels))
    zero = normalizer({name: torch.zeros(1, 1, dim) for name, dim in data.dims.items()})
    zero = {name: x[0, 0] for name, x in zero.items()}
    return DataSet(data.name, data.aligned, data.flat, *parts, zero)
