"""What everybody can do with scikit-learn. Sequences are read and answered as one long vector.

These methods have no use for a validation split: they are fitted on train and validation.
A source that a sample lacks is zero, the mean of train.
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import BayesianRidge, RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor

from examples.benchmarks.imputation.parts import Part, join

ALPHAS = np.logspace(-2, 6, 33)
BLOCKS = 20  # of steps, that differ in which samples have them
ENOUGH = 5  # samples to fit a block on
NEAREST = 100  # features that predict another one in the iterative imputer
ROUNDS, FEATURES = 10, 3000  # fewer rounds for more features than FEATURES / ROUNDS


def flat(part: Part, names: Sequence[str]) -> np.ndarray:
    """Returns (N, sum of L * D), zero where not valid."""
    x = torch.cat([part.modalities[name].flatten(1) for name in names], 1)
    return x.numpy().astype(np.float64)


class Constant:
    """The same vector everywhere."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = values

    def fit(self, train, validation, sources, targets, seed) -> None:  # noqa: ARG002
        self.targets = targets

    def predict(self, part: Part) -> dict[str, Tensor]:
        return {n: self.values[n].expand(*part.exists[n].shape, -1) for n in self.targets}


class Classical:
    """One fit per target, on the samples that have it."""

    def fit(self, train, validation, sources, targets, seed) -> None:
        self.sources, self.seed = sources, seed
        everything, self.models = join(train, validation), {}
        for target in targets:
            part = everything.rows(np.flatnonzero(everything.has([target])))
            y, v = part.modalities[target].double().numpy(), part.valid[target].numpy()
            self.models[target] = self.fit_one(flat(part, sources), y, v)

    def predict(self, part: Part) -> dict[str, Tensor]:
        x, out = flat(part, self.sources), {}
        for target, model in self.models.items():
            steps = part.exists[target].shape[1]
            y = self.predict_one(model, x, steps).reshape(len(x), steps, -1)
            out[target] = torch.as_tensor(y, dtype=torch.float32)
        return out


class RidgeMap(Classical):
    """Ridge regression, the penalty by leave-one-out.

    Steps that not every sample has are fitted in blocks, on the samples that have them.
    """

    def fit_one(self, x: np.ndarray, y: np.ndarray, v: np.ndarray) -> list[RidgeCV | int]:
        blocks = 1 if v.all() else min(BLOCKS, y.shape[1])
        models: list[RidgeCV | int] = []
        for steps in np.array_split(np.arange(y.shape[1]), blocks):
            rows, target = v[:, steps].any(1), y[:, steps].reshape(len(y), -1)
            enough = rows.sum() >= ENOUGH
            models.append(
                RidgeCV(ALPHAS).fit(x[rows], target[rows]) if enough else target.shape[1]
            )
        return models

    def predict_one(self, models: list[RidgeCV | int], x: np.ndarray, steps: int) -> np.ndarray:  # noqa: ARG002
        parts = [
            np.zeros((len(x), model)) if isinstance(model, int) else model.predict(x)
            for model in models
        ]
        return np.concatenate([part.reshape(len(x), -1) for part in parts], 1)


class Neighbours(Classical):
    """The five nearest training samples, weighted by 1 / distance; of each step, those with it."""

    def fit_one(self, x: np.ndarray, y: np.ndarray, v: np.ndarray) -> KNeighborsRegressor:
        # y is zero where there is nothing: what the neighbours say of y, divided by what they say
        # of v, is the weighted mean of those that have the step.
        both = np.concatenate([y, v[:, :, None]], 2).reshape(len(y), -1)
        return KNeighborsRegressor(min(5, len(x)), weights="distance").fit(x, both)

    def predict_one(self, model: KNeighborsRegressor, x: np.ndarray, steps: int) -> np.ndarray:
        both = model.predict(x).reshape(len(x), steps, -1)
        return both[:, :, :-1] / np.maximum(both[:, :, -1:], 1e-9)


class Iterative(Classical):
    """Chained equations (MICE): Bayesian ridge for each target feature from the others, in turn.

    Each one reads the features that correlate most with it, so that hundreds of features are
    feasible, and the more features there are, the fewer the rounds. It is fitted on complete
    samples and on copies of some of them that lack the target, as those do that it shall fill.
    A whole modality is a hard case: the rounds begin at its mean, and end near ridge regression
    at best. Values stay near those of train, else they may grow from round to round.
    """

    def fit_one(self, x: np.ndarray, y: np.ndarray, v: np.ndarray) -> IterativeImputer:
        target = np.where(v[:, :, None], y, np.nan).reshape(len(y), -1)
        lacking = np.full_like(target[:: max(1, len(x) // 100)], np.nan)
        rows = np.concatenate([x, x[:: max(1, len(x) // 100)]])
        seen = np.concatenate([x, y.reshape(len(y), -1)], 1)
        model = IterativeImputer(
            BayesianRidge(),
            max_iter=max(2, min(ROUNDS, FEATURES // target.shape[1])),
            n_nearest_features=min(NEAREST, x.shape[1] + target.shape[1] - 1),
            skip_complete=True,
            keep_empty_features=True,
            min_value=1.5 * seen.min(0),
            max_value=1.5 * seen.max(0) + 1e-9,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return model.fit(np.concatenate([rows, np.concatenate([target, lacking])], 1))

    def predict_one(self, model: IterativeImputer, x: np.ndarray, steps: int) -> np.ndarray:  # noqa: ARG002
        missing = np.full((len(x), model.n_features_in_ - x.shape[1]), np.nan)
        return model.transform(np.concatenate([x, missing], 1))[:, x.shape[1] :]
