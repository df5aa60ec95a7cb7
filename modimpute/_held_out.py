"""What the recipe learns from samples that it holds out, part by part."""

from collections.abc import Callable, Mapping
from functools import partial
from math import inf

import torch
from torch import Tensor

from modimpute._data import Data
from modimpute._evidence import Evidence, Units
from modimpute._weights import ask_all, gather, gather_donors
from modimpute.donor import DonorMatching
from modimpute.ensemble import TranslatorEnsemble

# Of donors, in shares of what is left of the variance, and whether sources are compared, too. The
# first is preferred: donors that belong to the sample. But where sources tell what kind of sample
# it is and no more, those that are like it in them are a random choice.
TEMPERATURES = ((0.15, True), (0.1, False))


class HeldOut:
    """Adds up the evidence for members and donors, and chooses by it."""

    def __init__(self, units: Units, guard: float) -> None:
        self.units, self.guard = units, guard
        self.members: dict[int, Evidence] = {}
        self.donors: list[dict[int, Evidence]] = []

    def add(self, ensemble: TranslatorEnsemble, data: Data, held: Tensor, seed: int) -> None:
        """Asks the ensemble, whose members were fitted to the other samples."""
        part, others = (data.pick(rows.nonzero().squeeze(-1)) for rows in (held, ~held))
        weighing, donors = ensemble.weighing, ensemble.donors
        asked = (weighing, ensemble.translate, part.sources, part.target, part.valid, part.there)
        _add(self.members, gather(weighing, ask_all(*asked), self.units))
        if donors is not None:
            weighing.choose(self.members, self.units, self.guard, 0.0)
            settings = self._remember(donors, others, seed)
            found = gather_donors(weighing, ask_all(*asked), self.units, settings)
            self.donors = self.donors or [{} for _ in settings]
            for total, more in zip(self.donors, found, strict=True):
                _add(total, more)

    def choose(
        self, ensemble: TranslatorEnsemble, data: Data, tolerance: float, seed: int
    ) -> None:
        """Chooses the weights and the donors' share; donors come from all samples then."""
        weighing, donors = ensemble.weighing, ensemble.donors
        weighing.choose(self.members, self.units, self.guard, tolerance)
        if donors is not None:
            errors = [sum(known.least() for known in found.values()) for found in self.donors]
            most = (1 + tolerance) * min(errors)
            number = next(number for number, error in enumerate(errors) if error <= most)
            rest = most / errors[number] - 1 if errors[number] > 0 else tolerance
            weighing.choose_donors(self.donors[number], self.guard, rest)
            self._remember(donors, data, seed)[number]()

    def _remember(
        self, donors: DonorMatching, data: Data, seed: int
    ) -> list[Callable[[], object]]:
        """Donors come from these samples; returns what sets each of the temperatures."""
        names = [name for name in data.sources if name in donors.source_dims]
        donors.remember(
            data.target,
            sources={name: data.sources[name] for name in names} or None,
            valid=data.there,
            source_valid={name: data.valid[name] for name in names} or None,
            standardize_target=data.alike,
            seed=seed,
        )
        left = min(found.left(self.guard) for found in self.members.values())
        if donors.source_memory is None:
            return [partial(donors.tau.fill_, TEMPERATURES[-1][0] * left)]
        own = donors.source_memory.tau.clone()
        return [
            partial(_heat, donors, share * left, own if compared else torch.full_like(own, inf))
            for share, compared in TEMPERATURES
        ]


def _heat(donors: DonorMatching, tau: float, source_tau: Tensor) -> None:
    assert donors.source_memory is not None
    donors.tau.fill_(tau)
    donors.source_memory.tau.copy_(source_tau)


def _add(total: dict[int, Evidence], more: Mapping[int, Evidence]) -> None:
    for row, found in more.items():
        total[row] = total[row] + found if row in total else found
