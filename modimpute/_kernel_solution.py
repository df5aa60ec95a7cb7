"""The closed form of a kernel translator: in double precision, whatever the data are."""

import torch
from torch import Tensor

from modimpute._mixture import Mixture
from modimpute._ridge import Held, Ridge, centred, complete, solver, wide
from modimpute._table import Table

ROWS = 2048  # compared with the memory at once
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
    penalty, size = mixture.noise.exp(), len(basis)
    # In parts, and in place: a matrix of the memory's size has 400 MB for 7,000 examples.
    own = torch.cat([mixture(part, basis, spread) for part in torch.split(basis, ROWS)])
    if len(rows) == size:  # the memory holds all
        regular = own.clone()
        regular.diagonal().add_(penalty)
        invert = solver(regular)
        solution = invert(complete(y, rows.weight, lambda y: own @ invert(y)))
    else:
        left, right = own.mul_(penalty), torch.zeros_like(y[:size])
        left.diagonal().add_(1e-8 * size)
        for part, answer in zip(torch.split(rows.x, ROWS), torch.split(y, ROWS), strict=True):
            product = mixture(part, basis, spread)
            left.addmm_(product.mT, product)
            right.addmm_(product.mT, answer)
        solution = solver(left)(right)
    return solution, mixture.line(basis).mT @ solution, mean
