"""The combination of an ensemble by weights that add up to one, the mean's among them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modimpute._evidence import Evidence, Units
from modimpute._subsets import Subset, all_subsets, row_of
from modimpute._valid import keep
from modimpute._variation import Variation
from modimpute.donor import DonorMatching

FEW = 6  # up to so many sources each subset has weights of its own, beyond each number of them
CHUNK = 512  # samples that are weighed at once
DONORS, MEAN = "donors", "mean"  # beside the members, where shares are shown


class Asked(NamedTuple):
    """What members said of some samples that have the sources of one subset."""

    row: int
    said: dict[str, Tensor]
    target: Tensor
    exists: Tensor
    sources: dict[str, Tensor]
    valid: dict[str, Tensor]


class Weights(nn.Module):
    """Adds members up: ``mean + sum_m weight_m (said_m - mean)``, the weights by who is there.

    It is drawn towards donors; without them it may be inflated and moved.
    """

    weight: Tensor
    mean: Tensor
    donors_share: Tensor

    def __init__(
        self,
        members: Sequence[str],
        sources: Sequence[str],
        target_dim: int,
        donors: DonorMatching | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.members, self.sources = tuple(members), tuple(sources)
        self.donors = donors
        self.each = len(self.sources) <= FEW
        rows = 2 ** len(self.sources) if self.each else len(self.sources) + 1
        for name, shape in (("weight", (rows, len(self.members))), ("mean", (target_dim,))):
            self.register_buffer(name, torch.empty(shape, device=device, dtype=dtype))
        if donors is not None:
            shares = torch.empty(rows, device=device, dtype=dtype)
            self.register_buffer("donors_share", shares)
        else:
            self.variation = Variation(rows, target_dim, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All members count alike, the donors do not, and the mean is zero."""
        self.weight.fill_(1 / len(self.members))
        self.mean.zero_()
        if self.donors is not None:
            self.donors_share.zero_()
        else:
            self.variation.reset_parameters()

    def forward(
        self,
        said: Mapping[str, Tensor],
        heard: Mapping[str, Tensor | None],
        has: Mapping[str, Tensor | bool],
        target_valid: Tensor | None,
        sources: Mapping[str, Tensor] | None,
        valid: Mapping[str, Tensor] | None,
    ) -> Tensor:
        """Returns ``(B, L, target_dim)``; who is not heard leaves the share to the mean."""
        row = self._row(has)
        total = self.add_up(said, heard, row)
        if self.donors is None:
            moved: Tensor = self.variation(total, row)
            return moved
        share = row_of(self.donors_share.unsqueeze(-1), row)
        return self.draw(total, target_valid, sources or {}, valid or {}, share)

    def draw(
        self,
        total: Tensor,
        exists: Tensor | None,
        sources: Mapping[str, Tensor],
        valid: Mapping[str, Tensor],
        share: Tensor | float = 1.0,
    ) -> Tensor:
        """Returns what the donors make of a sum: they are shown the sources that they compare."""
        assert self.donors is not None
        compared = {name: x for name, x in sources.items() if name in self.donors.source_dims}
        shown = {name: x for name, x in valid.items() if name in compared}
        options = {"sources": compared or None, "source_valid": shown or None}
        drawn: Tensor = self.donors(total, valid=exists, share=share, **options)
        return drawn

    def add_up(
        self,
        said: Mapping[str, Tensor],
        heard: Mapping[str, Tensor | None],
        row: Tensor | int,
    ) -> Tensor:
        """Returns what the members say, neither drawn nor moved; ``row``: of the weights."""
        weight = row_of(self.weight, row)
        total = self.mean.view(1, 1, -1)
        for name, x in said.items():
            share = weight[..., self.members.index(name)].unsqueeze(-1)
            total = total + share * keep(heard.get(name), x.to(self.mean.dtype) - self.mean)
        return total

    def choose(
        self, evidence: Mapping[int, Evidence], units: Units, guard: float, tolerance: float
    ) -> None:
        """Chooses the weights of known rows; ``tolerance`` is spent if there are no donors."""
        self.reset_parameters()
        self.mean.copy_(units.mean)
        spent = tolerance if self.donors is None else 0.0
        weights = {row: found.weights(guard, spent) for row, found in evidence.items()}
        for row, weight in weights.items():
            self.weight[row] = weight
        if self.donors is None:
            self.variation.choose(evidence, weights, units, spent)

    def choose_donors(
        self, evidence: Mapping[int, Evidence], guard: float, tolerance: float
    ) -> None:
        """Chooses the donors' share, by what the way to them explains of what is left."""
        self.donors_share.zero_()
        for row, found in evidence.items():
            self.donors_share[row] = found.share(guard, tolerance)

    def row(self, subset: Subset) -> int:
        """Returns the row of the weights for samples that have these sources."""
        row = self._row({name: name in subset for name in self.sources})
        assert isinstance(row, int)
        return row

    def shares(self) -> dict[Subset, dict[str, float]]:
        """Returns the weights of members and mean by subset."""
        shares = {}
        for subset, inflation in self.inflation().items():
            row = self.row(subset)
            weight, given = self.weight[row] / inflation, 0.0
            if self.donors is not None:
                given = float(self.donors_share[row])
            kept = (weight * (1 - given)).tolist()
            shares[subset] = dict(zip(self.members, kept, strict=True))
            if self.donors is not None:
                shares[subset][DONORS] = given
            shares[subset][MEAN] = max(0.0, 1 - given - sum(kept))
        return shares

    def inflation(self) -> dict[Subset, float]:
        """Returns by subset what the shares of members and mean are multiplied by."""
        rounding = len(self.members) * torch.finfo(self.weight.dtype).eps
        sums = {subset: float(self.weight[self.row(subset)].sum()) for subset in self.subsets()}
        return {subset: total if total > 1 + rounding else 1.0 for subset, total in sums.items()}

    def moved(self) -> dict[Subset, float]:
        """Returns by subset by what share of the target's motion answers are moved."""
        shares = self.variation.share.tolist() if self.donors is None else []
        return {subset: shares[self.row(subset)] if shares else 0.0 for subset in self.subsets()}

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


def ask_all(
    weighing: Weights,
    translate: Callable[..., dict[str, Tensor]],
    sources: Mapping[str, Tensor],
    target: Tensor,
    valid: Mapping[str, Tensor],
    there: Tensor,
) -> Iterator[Asked]:
    """Asks the members for every subset of the sources, of the samples that have it.

    Yields at least once for each row, if only for no samples.
    """
    for subset in weighing.subsets():
        if not set(subset) <= set(sources):
            continue
        has = target.new_ones((len(target), 1), dtype=torch.bool)
        for name in subset:
            has = has & valid[name].any(-1, keepdim=True) if name in valid else has
        chosen = (has.squeeze(-1) & there.any(-1)).nonzero().squeeze(-1)
        row = weighing.row(subset)
        for part in torch.split(chosen, CHUNK):
            given = {name: sources[name][part] for name in subset}
            shown = {name: valid[name][part] for name in subset if name in valid}
            exists = there[part]
            said = translate(given, valid=shown or None, target_valid=exists)
            yield Asked(row, said, target[part], exists, given, shown)


def gather(weighing: Weights, asked: Iterable[Asked], units: Units) -> dict[int, Evidence]:
    """Returns what samples say about the weights of each row: every subset that they have."""
    (mean, scale, *_), evidence = units, dict[int, Evidence]()
    for row, said, y, exists, _, _ in asked:
        nothing = torch.zeros_like(y)
        columns = [
            (said[name] - mean) / scale if name in said else nothing for name in weighing.members
        ]
        found = evidence.setdefault(row, Evidence(len(columns), y))
        said_there = torch.stack([x[exists].flatten() for x in columns], -1)
        found.add(said_there, ((y - mean) / scale)[exists].flatten())
    return evidence


def gather_donors(
    weighing: Weights,
    asked: Iterable[Asked],
    units: Units,
    settings: Sequence[Callable[[], object]] = (lambda: None,),
) -> list[dict[int, Evidence]]:
    """Returns what samples say about the donors' share with each setting, once weights are chosen.

    Donors come from samples that are not among them.
    """
    evidence = [dict[int, Evidence]() for _ in settings]
    for row, said, y, exists, sources, valid in asked:
        total = weighing.add_up(said, {}, row)
        left = ((y - total) / units.scale)[exists].flatten()
        for found, put in zip(evidence, settings, strict=True):
            put()
            toward = weighing.draw(total, exists, sources, valid) - total
            toward = (toward / units.scale)[exists].flatten()
            found.setdefault(row, Evidence(1, y)).add(toward.unsqueeze(-1), left)
    return evidence
