"""Series and spectra of aeon, sktime and seglearn, cut into two modalities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Series:
    """``<problem>_TRAIN.ts`` and ``_TEST.ts`` of a package: two modalities, halves of each sample.

    The first and the second half of the channels, or of the steps where there is one channel.
    """

    problem: str
    modalities: tuple[str, str] = ("first", "second")
    package: str = "aeon"
    vectors: bool = False  # a half is read as a whole, not step by step


SERIES = {
    "arrowhead": Series("ArrowHead", vectors=True),
    "gunpoint": Series("GunPoint"),
    "italy_power": Series("ItalyPowerDemand"),
    "japanese_vowels": Series("JapaneseVowels", ("low", "high")),
    "osuleaf": Series("OSULeaf", vectors=True),
    "tecator": Series("Tecator", ("low", "high"), "sktime", vectors=True),
}

STEPS = 128  # of a watch, 2.56 s
SUBJECTS = {"test": 3, "valid": 1}  # of ten; the others train


def read(text: str) -> tuple[list[np.ndarray], list[str]]:
    """Reads a .ts file: samples, (L, channels), and what stands behind the last colon."""
    lines = [line.strip().split(":") for line in text.splitlines() if line and line[0] not in "#@"]
    samples = [
        np.array([channel.split(",") for channel in line[:-1]], dtype=np.float32).T
        for line in lines
    ]
    return samples, [line[-1].strip() for line in lines]


def series(name: str, texts: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays of the benchmark's file, of the texts of both splits."""
    own = SERIES[name]
    parts = {split: read(text) for split, text in texts.items()}
    longest = max(len(x) for samples, _ in parts.values() for x in samples)
    classes = sorted({label for _, labels in parts.values() for label in labels})
    arrays = {}
    for split, (samples, labels) in parts.items():
        x = np.zeros((len(samples), longest, samples[0].shape[1]), dtype=np.float32)
        for row, sample in zip(x, samples, strict=True):
            row[: len(sample)] = sample
        axis = 2 if x.shape[2] > 1 else 1
        half = x.shape[axis] // 2
        for modality, start in zip(own.modalities, (0, half), strict=True):
            part = x.take(range(start, start + half), axis)
            arrays[f"{split}_{modality}"] = part.reshape(len(x), -1) if own.vectors else part
        if axis == 2:
            lengths = [len(sample) for sample in samples]
            arrays[f"{split}_lengths"] = np.array(lengths, dtype=np.int32)
        if any("." in label for label in classes):  # measurements
            arrays[f"{split}_labels"] = np.array(labels, dtype=np.float32)
        else:
            arrays[f"{split}_labels"] = np.array([classes.index(label) for label in labels])
    return arrays


def watch(
    recordings: Sequence[np.ndarray], labels: np.ndarray, subjects: np.ndarray
) -> dict[str, np.ndarray]:
    """Acceleration and rotation, three axes each, in pieces; people are split with a seed."""
    pieces = [r[: len(r) // STEPS * STEPS].reshape(-1, STEPS, 6) for r in recordings]
    of = np.repeat(np.arange(len(pieces)), [len(p) for p in pieces])
    x, labels, subjects = np.concatenate(pieces).astype(np.float32), labels[of], subjects[of]
    people = np.random.default_rng(0).permutation(np.unique(subjects))
    first = np.cumsum(list(SUBJECTS.values()))
    arrays = {}
    for split, some in zip((*SUBJECTS, "train"), np.split(people, first), strict=True):
        here = np.isin(subjects, some)
        arrays[f"{split}_acc"], arrays[f"{split}_gyro"] = x[here, :, :3], x[here, :, 3:]
        arrays[f"{split}_labels"] = labels[here].astype(np.int64)
        arrays[f"{split}_subject"] = subjects[here].astype(np.int32)
    return arrays
