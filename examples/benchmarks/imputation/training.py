"""How the networks among the peers are trained: AdamW, averaged weights, early stopping."""

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from examples.benchmarks.imputation.parts import Part


def train(
    model: nn.Module,
    size: int,
    loss: Callable[[nn.Module, Tensor], Tensor],
    error: Callable[[nn.Module], float],
    *,
    steps: int = 1500,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    averaging: float = 0.99,
    evaluations: int = 30,
    patience: int = 8,
) -> float:
    """Trains in place and leaves the averaged weights of least ``error``, which it returns.

    ``loss`` is of some of the ``size`` training rows, ``error`` is on the validation samples.
    """
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, weight_decay=weight_decay)
    averaged = AveragedModel(model, avg_fn=lambda a, b, n: _average(a, b, n, averaging))
    every = max(1, steps // evaluations)
    best, best_error, since = model.state_dict(), math.inf, 0
    for step in range(1, steps + 1):
        progress = step / steps
        rate = min(1.0, 20 * progress) * 0.5 * (1 + math.cos(math.pi * progress))
        optimizer.param_groups[0]["lr"] = learning_rate * rate
        model.train()
        optimizer.zero_grad()
        loss(model, torch.randperm(size)[:batch_size]).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        averaged.update_parameters(model)
        if step % every == 0 or step == steps:
            with torch.no_grad():
                now = error(averaged.module.eval())
            if now < best_error:
                best, best_error, since = copy.deepcopy(averaged.module.state_dict()), now, 0
            elif (since := since + 1) >= patience:
                break
    model.load_state_dict(best)
    model.eval()
    return best_error


def _average(average: Tensor, current: Tensor, count: int | Tensor, decay: float) -> Tensor:
    """An exponential mean that soon forgets the weights of the first steps."""
    return torch.lerp(average, current, 1 - min(decay, int(count) / (int(count) + 10)))


def mean_error(filled: Mapping[str, Tensor], part: Part) -> Tensor:
    """The mean over the valid steps of each modality, then over the modalities."""
    errors = []
    for name, x in filled.items():
        there = part.valid[name]
        squares = (x - part.modalities[name]).square().mean(-1)
        errors.append(torch.where(there, squares, 0.0).sum() / there.sum().clamp(min=1))
    return torch.stack(errors).mean()
