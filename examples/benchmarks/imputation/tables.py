"""Small tables of scikit-learn as data sets of several modalities."""

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
