"""What held-out samples say about members: moments, and the weights that follow."""

from typing import NamedTuple

import torch
from torch import Tensor

from modimpute._examples import EPS
from modimpute._valid import keep
from modimpute.normalizer import Moments

ITERATIONS = 500
LEAST = 1e-6
LITTLE = 4.0  # how much more is left than explained, from which answers are inflated no further


class Units(NamedTuple):
    """What the features of the target are measured in, each ``(D)``."""

    mean: Tensor
    scale: Tensor
    motion: Tensor  # the deviation about each sample's own mean
    likeness: Tensor  # the correlation of neighbouring steps about it


class Evidence:
    """What the weights of one row are chosen by: moments of members and target about the mean."""

    def __init__(self, members: int, like: Tensor) -> None:
        self.products = torch.zeros(members, members, dtype=torch.float64, device=like.device)
        self.moments = torch.zeros(members, dtype=torch.float64, device=like.device)
        self.power = torch.zeros((), dtype=torch.float64, device=like.device)

    def add(self, said: Tensor, target: Tensor) -> None:
        """Takes in what members said ``(n, members)`` and the target ``(n)``."""
        said, target = said.double(), target.double()
        self.products += said.mT @ said
        self.moments += said.mT @ target
        self.power += target.square().sum()

    def __add__(self, other: "Evidence") -> "Evidence":
        both = Evidence(len(self.moments), self.moments)
        both.products = self.products + other.products
        both.moments, both.power = self.moments + other.moments, self.power + other.power
        return both

    def weights(self, guard: float, tolerance: float = 0.0) -> Tensor:
        """Returns the non-negative weights of sum at most one that err least.

        With ``guard``, they are shrunk where less than this share of the variance is explained.
        With ``tolerance`` they are multiplied first: by what errs by this share more.
        """
        weight = torch.zeros_like(self.moments)
        if not float(self.power) > 0:
            return weight
        # In units of each member's own size: one that says far too much slows nobody else down.
        unit = self.products.diagonal().rsqrt()
        unit = torch.where(unit.isfinite(), unit, 1.0)
        products, moments = unit.unsqueeze(-1) * self.products * unit, unit * self.moments
        step = 1 / torch.linalg.eigvalsh(products)[-1].clamp(min=1e-12)
        ahead, pace = weight, 1.0
        for _ in range(ITERATIONS):  # Beck and Teboulle, FISTA, 2009
            new = _projected(ahead - step * (products @ ahead - moments), unit)
            faster = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
            ahead, pace = new + (pace - 1) / faster * (new - weight), faster
            weight = new
        weight = unit * weight
        factor = self._inflation(weight, tolerance)
        if guard > 0:
            weight = weight * (self._gained(weight) / self.power / guard).clamp(0, 1)
        return weight * factor

    def _inflation(self, weight: Tensor, tolerance: float) -> Tensor:
        """Returns the largest factor of these weights that errs by at most ``tolerance`` more.

        In shares of the least error; at most what makes answers as large as the target.
        """
        size, moment = weight @ self.products @ weight, weight @ self.moments
        if not (tolerance > 0 and float(size) > 0):
            return torch.ones_like(size)
        least = (self.power - moment.square() / size).clamp(min=0)
        factor = moment / size + (tolerance * (least / size).clamp(max=LITTLE)).sqrt()
        return factor.minimum((self.power / size).sqrt()).clamp(min=1)

    def variation(self, weight: Tensor, units: Units, tolerance: float) -> Tensor:
        """Returns by which share of the target's motion answers of these weights are moved.

        The largest one that errs by at most ``tolerance`` more than the least, what inflation
        errs included; at most what makes answers as large as the target, and the whole motion.
        """
        motion = (units.motion / units.scale).double().square().mean()
        if not (tolerance > 0 and float(self.power * motion) > 0):
            return torch.zeros_like(motion)
        size, moment = weight @ self.products @ weight, weight @ self.moments
        most = torch.where(size > 0, moment.square() / size, 0.0)  # that a multiple of them gains
        spare = self._gained(weight) - most + tolerance * (self.power - most)
        spare = spare.minimum(self.power - size).clamp(min=0)
        return (spare / (self.power * motion)).sqrt().clamp(max=1)

    def _gained(self, weight: Tensor) -> Tensor:
        """Returns how much less these weights err than the mean."""
        return 2 * weight @ self.moments - weight @ self.products @ weight

    def left(self, guard: float) -> float:
        """Returns the share of the variance that the weighted members do not explain."""
        gained = self._gained(self.weights(guard))
        return max(LEAST, 1 - float(gained / self.power)) if float(self.power) > 0 else 1.0

    def least(self) -> float:
        """Returns the error with the best weight of one member."""
        gained = self.moments[0].clamp(min=0).square() / self.products[0, 0].clamp(min=1e-12)
        return float((self.power - gained).clamp(min=0))

    def share(self, guard: float, tolerance: float) -> Tensor:
        """Returns the largest weight of one member that errs by at most ``tolerance`` more.

        In shares of the least error. None, if it explains nothing.
        """
        free, kept = self.weights(0.0)[0], self.weights(guard)[0]
        if not float(kept) > 0:
            return kept
        size = self.products[0, 0]
        least = (self.power - self.moments[0].square() / size).clamp(min=0)
        return (kept + kept / free * (tolerance * least / size).sqrt()).clamp(max=1)


def moments(target: Tensor, there: Tensor, alike: bool = True) -> tuple[Tensor, Tensor]:
    """Returns mean and deviation of the features over the steps that exist.

    The deviation is one for all of them unless they are to count alike.
    """
    found = Moments(target.shape[-1], target.device, target.dtype)
    found.update(target, there)
    if not alike:
        found.pool()
    return found.mean, found.scaled(torch.ones_like(found.mean), EPS)


def units_of(target: Tensor, there: Tensor, alike: bool) -> Units:
    """Returns the moments, and how the features move over the steps that exist."""
    x, both = keep(there, target).double(), there[:, 1:] & there[:, :-1]
    own = x.sum(1, keepdim=True) / there.sum(1).clamp(min=1).view(-1, 1, 1)
    power = keep(there, x - own).square().sum((0, 1)) / there.sum().clamp(min=1)
    change = keep(both, x.diff(dim=1)).square().sum((0, 1)) / both.sum().clamp(min=1)
    likeness = torch.where(power > 0, 1 - change / (2 * power), 0.0).clamp(-1, 1)
    return Units(*moments(target, there, alike), power.sqrt().to(target), likeness)


def _projected(weight: Tensor, unit: Tensor) -> Tensor:
    """Returns the nearest non-negative weights whose sum, each times its unit, is at most one."""
    positive = weight.clamp(min=0)
    if float(positive @ unit) <= 1:
        return positive
    ratio, order = (weight / unit).sort(descending=True)
    excess = ((weight * unit)[order].cumsum(0) - 1) / unit[order].square().cumsum(0)
    last = int((ratio > excess).sum()) - 1
    return (weight - excess[last] * unit).clamp(min=0)
