"""What may stand where something is missing: constants, lines, neighbours, the imputer's answer.

All take ``(modalities, valid, exists)`` and return the modalities with every step that exists and
is not valid filled in.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from examples.imputation.data import DataSet, Part
from modimpute import ModalityImputer, drop_at_rate

Tensors = Mapping[str, Tensor]
Method = Callable[[Tensors, Tensors, Tensors], dict[str, Tensor]]

NEIGHBOURS = (1, 3, 5, 10, 20, 40)


def put(
    modalities: Tensors, valid: Tensors, exists: Tensors, values: Tensors
) -> dict[str, Tensor]:
    """Returns what is valid as it is, ``values`` where a step exists, zero elsewhere."""
    return {
        name: torch.where(
            valid[name].unsqueeze(-1),
            x,
            torch.where(exists[name].unsqueeze(-1), values[name], 0.0),
        )
        for name, x in modalities.items()
    }


def zeros(data: DataSet) -> Method:
    """Zeros in the units in which the data came."""
    return lambda modalities, valid, exists: put(modalities, valid, exists, data.zero)


def means(data: DataSet) -> Method:
    """The means of the training data: zeros, since everything is standardised."""
    mean = {name: torch.zeros_like(x) for name, x in data.zero.items()}
    return lambda modalities, valid, exists: put(modalities, valid, exists, mean)


def own_mean(modalities: Tensors, valid: Tensors, exists: Tensors) -> dict[str, Tensor]:
    """The mean of the valid steps of the same sample and modality."""
    values = {}
    for name, x in modalities.items():
        there = valid[name].unsqueeze(-1)
        total = torch.where(there, x, 0.0).sum(1, keepdim=True)
        values[name] = total / there.sum(1, keepdim=True).clamp(min=1)
    return put(modalities, valid, exists, values)


def interpolate(modalities: Tensors, valid: Tensors, exists: Tensors) -> dict[str, Tensor]:
    """A line between the valid steps on either side; before the first and after the last, that."""
    values = {}
    for name, x in modalities.items():
        out = np.zeros(x.shape, dtype=np.float32)
        for sample, there in enumerate(valid[name].numpy()):
            known = np.flatnonzero(there)
            for feature in range(x.shape[-1] if len(known) else 0):
                y = x[sample, known, feature].numpy()
                out[sample, :, feature] = np.interp(np.arange(x.shape[1]), known, y)
        values[name] = torch.from_numpy(out)
    return put(modalities, valid, exists, values)


class Neighbours:
    """The k nearest training samples, weighted by 1 / distance, as scikit-learn's KNNImputer.

    The distance is over the values that both samples have. For each step the neighbours are those
    that have this step. ``k`` is chosen on the validation samples.
    """

    def __init__(self, data: DataSet) -> None:
        self.train, self.k = data.train, 5
        self.names = sorted(data.dims)
        self.flat, self.has = self._flatten(data.train.modalities, data.train.valid)
        self.errors = {k: self._error(data.validation, k) for k in NEIGHBOURS}
        self.k = min(self.errors, key=self.errors.__getitem__)

    def __call__(self, modalities: Tensors, valid: Tensors, exists: Tensors) -> dict[str, Tensor]:
        distance = self._distance(*self._flatten(modalities, valid))
        everybody = distance.topk(min(self.k, distance.shape[1]), largest=False)
        values = {}
        for name, x in modalities.items():
            donors, values[name] = self.train.valid[name], torch.zeros_like(x)
            for step in range(x.shape[1]):
                if not (exists[name][:, step] & ~valid[name][:, step]).any():
                    continue
                near = everybody
                if not donors[:, step].all():
                    some = distance.masked_fill(~donors[:, step], torch.inf)
                    near = some.topk(min(self.k, distance.shape[1]), largest=False)
                weights = 1 / near.values.clamp(min=1e-6)  # 0 where there is no donor
                guess = weights.unsqueeze(-1) * self.train.modalities[name][near.indices, step]
                total = weights.sum(-1, keepdim=True).clamp(min=1e-12)
                values[name][:, step] = guess.sum(1) / total
        return put(modalities, valid, exists, values)

    def _flatten(self, modalities: Tensors, valid: Tensors) -> tuple[Tensor, Tensor]:
        masks = {n: valid[n].unsqueeze(-1).expand_as(modalities[n]) for n in self.names}
        x = torch.cat([torch.where(masks[n], modalities[n], 0.0).flatten(1) for n in masks], 1)
        return x, torch.cat([masks[n].flatten(1) for n in masks], 1).to(x.dtype)

    def _distance(self, x: Tensor, has: Tensor) -> Tensor:
        shared = has @ self.has.T
        squares = x.square() @ self.has.T + has @ self.flat.square().T - 2 * x @ self.flat.T
        distance = squares.clamp(min=0) * x.shape[1] / shared.clamp(min=1)
        return torch.where(shared > 0, distance, 1e12).sqrt()

    def _error(self, part: Part, k: int) -> float:
        self.k = k
        kept = drop_at_rate(part.modalities, 0.5, valid=part.valid, seed=0)
        filled = self(part.modalities, kept, part.exists)
        return mean_error(*squared_errors(filled, part, kept))


def imputing(imputer: ModalityImputer) -> Method:
    device = next(imputer.parameters()).device

    @torch.no_grad()
    def method(modalities: Tensors, valid: Tensors, exists: Tensors) -> dict[str, Tensor]:
        groups = [{n: x.to(device) for n, x in g.items()} for g in (modalities, valid, exists)]
        filled = imputer(groups[0], valid=groups[1], target_valid=groups[2])
        return {name: x.cpu() for name, x in filled.items()}

    return method


def squared_errors(filled: Tensors, part: Part, kept: Tensors) -> tuple[Tensor, Tensor]:
    """Returns sums over the steps that were dropped, and the number of these: (N, M) each."""
    sums, counts = [], []
    for name in sorted(part.modalities):
        dropped = part.valid[name] & ~kept[name]
        error = (filled[name] - part.modalities[name]).square().mean(-1)
        sums.append(torch.where(dropped, error, 0.0).sum(-1))
        counts.append(dropped.sum(-1))
    return torch.stack(sums, -1), torch.stack(counts, -1)


def mean_error(sums: Tensor, counts: Tensor) -> float:
    """The mean over the dropped steps of each modality, then over the modalities; or NaN."""
    errors = (sums.sum(0) / counts.sum(0))[counts.sum(0) > 0]  # of (M,)
    return errors.mean().item()
