"""Tables of numbers, their columns cut into modalities: of scikit-learn and of KEEL."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

# The columns of each modality.
TABLES = {
    "breast_cancer": {"mean": range(10), "error": range(10, 20), "worst": range(20, 30)},
    "diabetes": {"person": range(4), "serum": range(4, 10)},
    "iris": {"sepal": range(2), "petal": range(2, 4)},
    "wine": {"first": range(4), "second": range(4, 9), "third": range(9, 13)},
}
# The same of KEEL: the column of the class is the last one, and belongs to none.
KEEL: dict[str, dict[str, Sequence[int]]] = {
    "ionosphere": {"first": range(17), "second": range(17, 33)},
    "letter": {"first": range(8), "second": range(8, 16)},
    "movement_libras": {"x": range(0, 90, 2), "y": range(1, 90, 2)},
    "penbased": {"x": range(0, 16, 2), "y": range(1, 16, 2)},
    "satimage": {f"band{i}": range(i, 36, 4) for i in range(4)},
    "segment": {"shape": range(9), "color": range(9, 19)},
    "sonar": {"low": range(20), "middle": range(20, 40), "high": range(40, 60)},
    "texture": {f"part{i}": range(10 * i, 10 * i + 10) for i in range(4)},
    "vehicle": {"first": range(6), "second": range(6, 12), "third": range(12, 18)},
    "vowel": {"first": range(7), "second": range(7, 13)},
}
SHARE, TRAIN, TEST = 0.7, 1200, 600  # of the rows for training, and how many rows at most


def keel(path: Path, name: str) -> dict[str, np.ndarray]:
    """A table of KEEL: some of its rows, drawn with a seed."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [row for row in csv.reader(file) if row and not row[0].startswith("@")]
    values = np.array([row[:-1] for row in lines], dtype=np.float32)
    labels = np.unique([row[-1].strip() for row in lines], return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(len(lines))
    size = min(TRAIN, int(SHARE * len(lines)))
    arrays = {}
    for split, rows in (("train", order[:size]), ("test", order[size : size + TEST])):
        for modality, columns in KEEL[name].items():
            arrays[f"{split}_{modality}"] = values[np.ix_(rows, columns)]
        arrays[f"{split}_labels"] = labels[rows].astype(np.int64)
    return arrays


def table(name: str) -> dict[str, np.ndarray]:
    """A small table of scikit-learn, its columns cut into modalities; a quarter is the test."""
    data = getattr(datasets, f"load_{name}")()
    classes = data.target.dtype.kind == "i"
    train, test = train_test_split(
        np.arange(len(data.target)),
        test_size=0.25,
        random_state=0,
        stratify=data.target if classes else None,
    )
    arrays = {}
    for split, rows in (("train", train), ("test", test)):
        for modality, columns in TABLES[name].items():
            arrays[f"{split}_{modality}"] = data.data[np.ix_(rows, columns)].astype(np.float32)
        labels = data.target[rows]
        arrays[f"{split}_labels"] = labels.astype(np.int64 if classes else np.float32)
    return arrays
