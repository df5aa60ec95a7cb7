"""Least squares with a penalty, in closed form, with what leave-one-out says of the penalty."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

ROUNDS = 6
# Relative to the mean squared length of the rows. The least ones are for features that nearly say
# the same, as those of a spectrum do: their small differences tell the most.
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 5))


class Held(NamedTuple):
    """Examples that were not fitted: products with the fitted ones, targets, which exist."""

    products: Tensor  # (n, N) of a kernel, or features (n, F)
    y: Tensor  # (n, Q)
    weight: Tensor  # (n, Q), 1 where the target exists


@dataclass(frozen=True)
class Ridge:
    """The least squares of ``y`` on rows, diagonalised: every penalty then costs one product.

    From a kernel matrix (N, N), or from features (N, F) where they are fewer than the rows.
    """

    basis: Tensor  # eigenvectors, of the kernel matrix or of the features' moments
    values: Tensor
    rows: Tensor  # the rows in the basis, scaled: their squares are leverages
    moments: Tensor  # of rows and y
    y: Tensor
    dual: bool

    @classmethod
    def of_kernel(cls, kernel: Tensor, y: Tensor) -> Self:
        values, basis = torch.linalg.eigh(kernel)
        values = values.clamp(min=0)
        rows = basis * values.sqrt()
        return cls(basis, values, rows, rows.mT @ y, y, dual=True)

    @classmethod
    def of_features(cls, features: Tensor, y: Tensor) -> Self:
        values, basis = torch.linalg.eigh(features.mT @ features)
        rows = features @ basis
        return cls(basis, values.clamp(min=0), rows, rows.mT @ y, y, dual=False)

    def scale(self) -> float:
        """The mean squared length of the rows, to which penalties are relative."""
        return max(float(self.values.sum()) / max(len(self.rows), 1), 1e-12)

    def solve(self, penalty: float) -> Tensor:
        """Returns the coefficients, of the rows (N, Q) or of the features (F, Q)."""
        shrunk = self.values + penalty * self.scale()
        if self.dual:
            return self.basis @ ((self.basis.mT @ self.y) / shrunk.unsqueeze(-1))
        return self.basis @ (self.moments / shrunk.unsqueeze(-1))

    def left_out(self, penalty: float) -> Tensor:
        """Returns what each row is told by the fit on all others (up to their mean)."""
        shrunk = self.values + penalty * self.scale()
        fit = self.rows @ (self.moments / shrunk.unsqueeze(-1))
        leverage = (self.rows.square() / shrunk).sum(-1) + 1 / max(len(self.rows), 1)
        return self.y - (self.y - fit) / (1 - leverage).clamp(min=1e-6).unsqueeze(-1)

    def completed(self, weight: Tensor, penalty: float) -> "Ridge":
        """Returns the fit to ``y`` where it exists, and elsewhere to what it says itself."""
        shrunk = (self.values + penalty * self.scale()).unsqueeze(-1)
        y = complete(self.y, weight, lambda y: self.rows @ ((self.rows.mT @ y) / shrunk))
        return replace(self, y=y, moments=self.rows.mT @ y)

    def error(self, penalty: float, weight: Tensor | None, held: Held | None) -> float:
        """Returns the sum of the mean squared errors left out (unless weight is None) and held."""
        total = 0.0
        if weight is not None:
            total += mean_error(self.left_out(penalty), self.y, weight)
        if held is not None:
            total += mean_error(held.products @ self.solve(penalty), held.y, held.weight)
        return total

    def best(self, weight: Tensor | None, held: Held | None) -> tuple[float, float]:
        """Returns the least error and its penalty."""
        return min((self.error(penalty, weight, held), penalty) for penalty in PENALTIES)


def mean_error(guess: Tensor, y: Tensor, weight: Tensor) -> float:
    """Returns the mean squared error where there is something to compare with."""
    return float((weight * (guess - y).square()).sum() / weight.sum().clamp(min=1))


def complete(y: Tensor, weight: Tensor, smooth: Callable[[Tensor], Tensor]) -> Tensor:
    """Fills ``y``, zero on average, where it does not exist, with what a linear smoother says.

    Zeros there would pull what is said of a step towards the mean, the more the fewer examples
    have it. It starts with what is said of ``y`` divided by what is said of there being one.
    """
    if bool((weight > 0).all()):
        return y
    there = weight > 0
    share = weight.mean(0)
    known = (share + smooth(weight - share)).clamp(min=0.1)
    guess = smooth(y) / known
    for _ in range(ROUNDS):
        filled = torch.where(there, y, guess)
        mean = filled.mean(0)
        guess = mean + smooth(filled - mean)
    return torch.where(there, y, guess)


def centred(y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns ``y`` less its mean where it exists, zero elsewhere, and that mean."""
    mean = (weight * y).sum(0) / weight.sum(0).clamp(min=1)
    return torch.where(weight > 0, y - mean, 0.0), mean


def wide(x: Tensor) -> Tensor:
    """Widens to ``float64``, or to the widest that the device has."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def solver(a: Tensor) -> Callable[[Tensor], Tensor]:
    """Solves a symmetric system; where rounding made it indefinite, by its eigenvalues."""
    factor, failed = torch.linalg.cholesky_ex(a)
    if not bool(failed):
        return lambda b: torch.cholesky_solve(b, factor)
    values, basis = torch.linalg.eigh(a)
    values = values.clamp(min=float(values[-1]) * 1e-12).unsqueeze(-1)
    return lambda b: basis @ ((basis.mT @ b) / values)
