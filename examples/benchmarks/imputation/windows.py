"""The same, step by step: sequences of one length, whose steps belong together.

A target step is answered from the source steps around it, and every step of every training
sample is an example. Where movements do not begin at the same step in all samples, this says far
more than the whole sequence as one vector.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor

from examples.benchmarks.imputation.classical import ALPHAS
from examples.benchmarks.imputation.parts import Part, join

WIDTHS = (1, 2, 5, 10)  # steps on either side
EXAMPLES = 20_000  # training steps, evenly drawn where there are more
QUERIES = 4_000  # to choose the width


class Inapplicable(Exception):
    """A method that has nothing to say to this data."""


def windows(part: Part, names: Sequence[str], width: int) -> np.ndarray:
    """Returns (N, L, D): the features of the steps around each one, zero beyond the ends."""
    padded = [F.pad(part.modalities[name], (0, 0, width, width)) for name in names]
    parts = [x.unfold(1, 2 * width + 1, 1).flatten(2) for x in padded]
    return torch.cat(parts, 2).numpy().astype(np.float64)


class StepWise:
    """The width by two-fold cross-validation over samples."""

    def fit(self, train, validation, sources, targets, seed) -> None:  # noqa: ARG002
        part = join(train, validation)
        lengths = {part.exists[name].shape[1] for name in (*sources, *targets)}
        if len(lengths) > 1 or max(lengths) < 3:
            raise Inapplicable(f"needs sequences of one length, however: {sorted(lengths)}")
        self.sources, self.fits = sources, {}
        odd = np.arange(len(part)) % 2 == 1
        for target in targets:
            widths = [w for w in WIDTHS if 2 * w < max(lengths)]
            errors = []
            for width in widths if len(widths) > 1 else ():
                x, y, v = self._examples(part, target, width)
                halves = [(odd, ~odd), (~odd, odd)]
                errors.append(
                    sum(self._error(x[a], y[a], v[a], x[b], y[b], v[b]) for a, b in halves)
                )
            width = widths[int(np.argmin(errors))] if errors else widths[0]
            x, y, v = self._examples(part, target, width)
            self.fits[target] = (width, self.model().fit(*thin(x[v], y[v], EXAMPLES)))

    def predict(self, part: Part) -> dict[str, Tensor]:
        out = {}
        for target, (width, model) in self.fits.items():
            x = windows(part, self.sources, width)
            y = model.predict(x.reshape(-1, x.shape[2])).reshape(*x.shape[:2], -1)
            out[target] = torch.as_tensor(y, dtype=torch.float32)
        return out

    def _examples(self, part: Part, target: str, width: int) -> tuple[np.ndarray, ...]:
        y = part.modalities[target].numpy().astype(np.float64)
        return windows(part, self.sources, width), y, part.valid[target].numpy()

    def _error(self, x, y, v, x_held, y_held, v_held) -> float:
        model = self.model().fit(*thin(x[v], y[v], QUERIES))
        x_held, y_held = thin(x_held[v_held], y_held[v_held], QUERIES)
        return float(np.mean((model.predict(x_held) - y_held) ** 2))


def thin(x: np.ndarray, y: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.linspace(0, len(x) - 1, min(size, len(x))).astype(int)
    return x[rows], y[rows]


class StepRidge(StepWise):
    def model(self) -> RidgeCV:
        return RidgeCV(ALPHAS)


class StepNeighbours(StepWise):
    def model(self) -> KNeighborsRegressor:
        return KNeighborsRegressor(5, weights="distance")
