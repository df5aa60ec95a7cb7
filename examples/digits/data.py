"""Handwritten digits as three modalities: the left, middle and right strip of each image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

STRIPS = {"left": slice(0, 3), "middle": slice(3, 5), "right": slice(5, 8)}
ROWS = 8
TEST_SIZE = 360


@dataclass(frozen=True)
class Part:
    """Some of the images: their row numbers in load_digits, their pixels and labels."""

    rows: np.ndarray
    images: np.ndarray  # (N, 8, 8), float32 in [0, 1]
    labels: np.ndarray  # (N,), int64

    def strips(self, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """Each strip is a sequence of 8 rows: (N, 8, 3), (N, 8, 2), (N, 8, 3)."""
        images = torch.as_tensor(self.images, device=device)
        return {name: images[:, :, columns] for name, columns in STRIPS.items()}


@dataclass(frozen=True)
class Split:
    train: Part
    validation: Part
    test: Part


def load_split(seed: int, *, development: bool = False) -> Split:
    """The test rows are the same for every seed; the seed splits the rest 80 : 20.

    ``development``: the validation rows are tested, and what is left is split again.
    """
    digits = load_digits()
    images, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SIZE, stratify=labels, random_state=0
    )
    if development:
        rest, test = _split(rest, labels, seed)
    train, validation = _split(rest, labels, seed)
    return Split(*(Part(rows, images[rows], labels[rows]) for rows in (train, validation, test)))


def _split(rows: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = train_test_split(rows, test_size=0.2, stratify=labels[rows], random_state=seed)
    return first, second


def together(first: Part, second: Part) -> Part:
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return Part(*(np.concatenate(pair) for pair in pairs))


def source_pixels(images: np.ndarray, missing: str) -> np.ndarray:
    """What is left of each image without the missing strip, as one row of pixels per image."""
    kept = [images[:, :, columns] for name, columns in STRIPS.items() if name != missing]
    return np.concatenate(kept, axis=2).reshape(len(images), -1)


def target_pixels(images: np.ndarray, missing: str) -> np.ndarray:
    return images[:, :, STRIPS[missing]].reshape(len(images), -1)


def fill(images: np.ndarray, missing: str, reconstruction: np.ndarray) -> np.ndarray:
    """The images with the missing strip replaced; the other strips stay as observed."""
    filled = images.copy()
    filled[:, :, STRIPS[missing]] = reconstruction.reshape(len(images), ROWS, -1)
    return filled


def join(strips: Mapping[str, Tensor]) -> np.ndarray:
    return torch.cat([strips[name] for name in STRIPS], dim=2).numpy(force=True)
