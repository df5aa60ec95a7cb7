"""The closed form of a kernel translator: in double precision, whatever the data are."""

import torch
from torch import Tensor

from modimpute._mixture import Mixture
from modimpute._ridge import Held, Ridge, centred, complete, solver, wide
from modimpute._table import Table

PENALTIES = tuple(2.0**exponent for exponent in range(-4, 7))  # times what was learned


def best_penalty(mixture: Mixture, rows: Table, judged: Table | None, windows: bool) -> float:
    """Returns the penalty that errs least, around the one that was learned."""
    learned, rows = float(mixture.noise.exp()), rows.wide()
    y, mean = centred(rows.y, rows.weight)
    ridge = Ridge.of_kernel(mixture(rows.x, rows.x), y)
    ridge = ridge.completed(rows.weight, learned / ridge.scale())
    held = None
    if judged is not None:
        judged = judged.wide()
        held = Held(mixture(judged.x, rows.x), judged.y - mean, judged.weight)
    # Neighbouring windows say the same: leaving one out says nothing.
    left_out = None if windows and held is not None else rows.weight
    penalties = [learned * factor for factor in PENALTIES]
    errors = [ridge.error(x / ridge.scale(), left_out, held) for x in penalties]
    return min(zip(errors, penalties, strict=True))[1]


def solve(
    mixture: Mixture, rows: Table, basis: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the coefficients of the basis, the linear map that they make, and the mean.

    Summed up example by example, the map would be lost in the rounding of what cancels out.
    """
    rows, basis = rows.wide(), wide(basis)
    y, mean = centred(rows.y, rows.weight)
    own, penalty, size = mixture(basis, basis, spread), mixture.noise.exp(), len(basis)
    eye = torch.eye(size, dtype=own.dtype, device=own.device)
    if len(rows) == size:  # the memory holds all
        invert = solver(own + penalty * eye)
        solution = invert(complete(y, rows.weight, lambda y: own @ invert(y)))
    else:
        left, right = penalty * own + 1e-8 * size * eye, torch.zeros_like(y[:size])
        for part, answer in zip(torch.split(rows.x, size), torch.split(y, size), strict=True):
            product = mixture(part, basis, spread)
            left, right = left + product.mT @ product, right + product.mT @ answer
        solution = solver(left)(right)
    return solution, mixture.line(basis).mT @ solution, mean
