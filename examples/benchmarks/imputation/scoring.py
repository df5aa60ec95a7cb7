"""One fixed linear model, and the error of what was filled in."""

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from examples.benchmarks.imputation.data import DataSet, is_classes
from examples.benchmarks.imputation.parts import Part

ALPHAS = np.logspace(-2, 6, 33)
DRAWS = 1000  # of the bootstrap

Tensors = Mapping[str, Tensor]


class Scorer:
    """A linear model of the labels, trained on the training samples that lack no modality."""

    def __init__(self, data: DataSet) -> None:
        train, y = data.train, data.train.labels
        self.names = data.modalities
        self.model = None
        complete = train.has(self.names)
        if y is None or complete.sum() < 10:
            return
        self.classes = is_classes(y)
        kind = LogisticRegression(max_iter=5000) if self.classes else RidgeCV(ALPHAS)
        x = summary(train.modalities, train.valid, self.names)
        self.mean = x[complete].mean(0)
        self.model = make_pipeline(StandardScaler(), kind).fit(x[complete], y[complete])

    def __call__(self, part: Part, filled: Tensors, rows: np.ndarray) -> np.ndarray | None:
        """Returns what each sample adds to the score, ``(rows,)``: their mean is the score.

        Accuracy: right or not. R²: one minus the squared error by the variance of the label.
        A modality that a sample lacks, and that is not in ``filled``, counts as the mean.
        """
        if self.model is None or part.labels is None:
            return None
        valid = part.valid | {name: part.exists[name] for name in filled}
        x = summary({**part.modalities, **filled}, valid, self.names)[rows]
        x = np.where(np.isnan(x), self.mean, x)
        y, said = part.labels[rows], self.model.predict(x)
        if self.classes:
            return (said == y).astype(np.float64)
        y, said = (z.reshape(len(y), -1).astype(np.float64) for z in (y, said))
        return (1 - (y - said) ** 2 / y.var(0).clip(min=1e-12)).mean(1)


def summary(modalities: Tensors, valid: Tensors, names: tuple[str, ...]) -> np.ndarray:
    """Vectors as they are, sequences as mean and deviation over their steps; NaN: has none."""
    parts = []
    for name in names:
        x, there = modalities[name].double(), valid[name].unsqueeze(-1)
        count = there.sum(1)
        mean = torch.where(there, x, 0.0).sum(1) / count
        parts.append(mean)
        if x.shape[1] > 1:
            squares = torch.where(there, x - mean.unsqueeze(1), 0.0).square().sum(1)
            parts.append((squares / count).sqrt())
    return torch.cat(parts, 1).numpy()


def error(part: Part, filled: Tensors, rows: np.ndarray) -> float:
    """The mean over the valid steps and the features of each target, then over the targets."""
    index = torch.as_tensor(rows)
    errors = []
    for name, x in filled.items():
        there = part.valid[name][index]
        squares = (x[index].double() - part.modalities[name][index]).square().mean(-1)
        errors.append(squares[there].mean().item())
    return float(np.mean(errors))


def standard_error(difference: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Bootstrap of a mean over samples, or over groups of samples that belong together."""
    if groups is None:
        groups = np.arange(len(difference))
    _, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, difference), np.bincount(index)
    drawn = np.random.default_rng(0).integers(len(sums), size=(DRAWS, len(sums)))
    return float((sums[drawn].sum(1) / counts[drawn].sum(1)).std(ddof=1))
