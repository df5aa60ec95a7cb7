"""The combination of an ensemble by weights that add up to one, the mean's among them."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modimpute._subsets import Subset, all_subsets
from modimpute._valid import keep

FEW = 6  # up to so many sources each subset has weights of its own, beyond each number of them
ITERATIONS = 500
CHUNK = 512  # samples that are weighed at once

Units = tuple[Tensor, Tensor]  # mean and deviation of the target's features


class Weights(nn.Module):
    """Adds members up: ``mean + sum_m weight_m (said_m - mean)``, the weights by who is there."""

    weight: Tensor
    mean: Tensor

    def __init__(
        self,
        members: Sequence[str],
        sources: Sequence[str],
        target_dim: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.members, self.sources = tuple(members), tuple(sources)
        self.each = len(self.sources) <= FEW
        rows = 2 ** len(self.sources) if self.each else len(self.sources) + 1
        for name, shape in (("weight", (rows, len(self.members))), ("mean", (target_dim,))):
            self.register_buffer(name, torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All members count alike, and the mean is zero."""
        self.weight.fill_(1 / len(self.members))
        self.mean.zero_()

    def forward(
        self,
        said: Mapping[str, Tensor],
        heard: Mapping[str, Tensor | None],
        has: Mapping[str, Tensor | bool],
    ) -> Tensor:
        """Returns ``(B, L, target_dim)``; who is not heard leaves the share to the mean."""
        row = self._row(has)
        weight = F.embedding(row, self.weight) if isinstance(row, Tensor) else self.weight[row]
        total = self.mean.view(1, 1, -1)
        for name, x in said.items():
            share = weight[..., self.members.index(name)].unsqueeze(-1)
            total = total + share * keep(heard.get(name), x.to(self.mean.dtype) - self.mean)
        return total

    def choose(self, evidence: Mapping[int, "Evidence"], mean: Tensor, guard: float) -> None:
        """Chooses the weights of the rows of which something is known."""
        self.reset_parameters()
        self.mean.copy_(mean)
        for row, found in evidence.items():
            self.weight[row] = found.weights(guard)

    def row(self, subset: Subset) -> int:
        """Returns the row of the weights for samples that have these sources."""
        row = self._row({name: name in subset for name in self.sources})
        assert isinstance(row, int)
        return row

    def shares(self) -> dict[Subset, dict[str, float]]:
        """Returns the weights of members and mean by subset."""
        shares = {}
        for subset in self.subsets():
            row = self.weight[self.row(subset)].tolist()
            shares[subset] = dict(zip(self.members, row, strict=True)) | {
                "mean": max(0.0, 1 - sum(row))
            }
        return shares

    def subsets(self) -> list[Subset]:
        """Returns the subsets that have weights: all of them, or one of each size."""
        if self.each:
            return list(all_subsets(self.sources))
        return [self.sources[:size] for size in range(len(self.sources), 0, -1)]

    def _row(self, has: Mapping[str, Tensor | bool]) -> Tensor | int:
        row: Tensor | int = 0
        for place, name in enumerate(self.sources):
            step, there = 2**place if self.each else 1, has[name]
            row = row + step * (there.to(torch.int64) if isinstance(there, Tensor) else int(there))
        return row


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

    def weights(self, guard: float) -> Tensor:
        """Returns the non-negative weights of sum at most one that err least.

        With ``guard``, they are shrunk where less than this share of the variance is explained.
        """
        weight = torch.zeros_like(self.moments)
        if not float(self.power) > 0:
            return weight
        step = 1 / torch.linalg.eigvalsh(self.products)[-1].clamp(min=1e-12)
        ahead, pace = weight, 1.0
        for _ in range(ITERATIONS):  # Beck and Teboulle, FISTA, 2009
            new = _projected(ahead - step * (self.products @ ahead - self.moments))
            faster = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
            ahead, pace = new + (pace - 1) / faster * (new - weight), faster
            weight = new
        if guard > 0:
            gained = 2 * weight @ self.moments - weight @ self.products @ weight
            weight = weight * (gained / self.power / guard).clamp(0, 1)
        return weight


def gather(
    weighing: Weights,
    translate: Callable[..., dict[str, Tensor]],
    sources: Mapping[str, Tensor],
    target: Tensor,
    valid: Mapping[str, Tensor],
    there: Tensor,
    units: Units,
) -> dict[int, Evidence]:
    """Returns what samples say about the weights of each row: every subset that they have."""
    mean, scale = units
    rows = {weighing.row(s): s for s in weighing.subsets() if set(s) <= set(sources)}
    evidence = {row: Evidence(len(weighing.members), target) for row in rows}
    for row, subset in rows.items():
        has = target.new_ones((len(target), 1), dtype=torch.bool)
        for name in subset:
            has = has & valid[name].any(-1, keepdim=True) if name in valid else has
        chosen = (has.squeeze(-1) & there.any(-1)).nonzero().squeeze(-1)
        for part in torch.split(chosen, CHUNK):
            given = {name: sources[name][part] for name in subset}
            shown = {name: valid[name][part] for name in subset if name in valid}
            exists, answer = there[part], (target[part] - mean) / scale
            said = translate(given, valid=shown or None, target_valid=exists)
            nothing = torch.zeros_like(answer)
            columns = [
                (said[name] - mean) / scale if name in said else nothing
                for name in weighing.members
            ]
            evidence[row].add(
                torch.stack([x[exists].flatten() for x in columns], -1), answer[exists].flatten()
            )
    return evidence


def moments(target: Tensor, there: Tensor) -> Units:
    """Returns mean and deviation of the features over the steps that exist."""
    count = there.sum().clamp(min=1)
    mean = keep(there, target).sum((0, 1)) / count
    spread = (keep(there, target - mean).square().sum((0, 1)) / count).sqrt()
    return mean, torch.where(spread > 0, spread, 1.0)


def _projected(weight: Tensor) -> Tensor:
    """Returns the nearest non-negative weights of sum at most one."""
    positive = weight.clamp(min=0)
    if float(positive.sum()) <= 1:
        return positive
    ordered = weight.sort(descending=True).values
    excess = (ordered.cumsum(0) - 1) / torch.arange(1, len(weight) + 1, device=weight.device)
    last = int((ordered > excess).sum()) - 1
    return (weight - excess[last]).clamp(min=0)
