"""What the recipe learns from samples that it holds out, part by part."""

from collections.abc import Mapping

from torch import Tensor

from modimpute._data import Data
from modimpute._evidence import Evidence, Units
from modimpute._weights import ask_all, gather, gather_donors
from modimpute.donor import DonorMatching
from modimpute.ensemble import TranslatorEnsemble

SHARPNESS = 0.1  # of donors: their temperature, in shares of what is left of the variance


class HeldOut:
    """Adds up the evidence for members and donors, and chooses by it."""

    def __init__(self, units: Units, guard: float) -> None:
        self.units, self.guard = units, guard
        self.members: dict[int, Evidence] = {}
        self.donors: dict[int, Evidence] = {}

    def add(self, ensemble: TranslatorEnsemble, data: Data, held: Tensor, seed: int) -> None:
        """Asks the ensemble, whose members were fitted to the other samples."""
        part, others = (data.pick(rows.nonzero().squeeze(-1)) for rows in (held, ~held))
        weighing, donors = ensemble.weighing, ensemble.donors
        asked = (weighing, ensemble.translate, part.sources, part.target, part.valid, part.there)
        _add(self.members, gather(weighing, ask_all(*asked), self.units))
        if donors is not None:
            weighing.choose(self.members, self.units[0], self.guard, 0.0)
            self._remember(donors, others, seed)
            left = min(found.left(self.guard) for found in self.members.values())
            donors.tau.fill_(SHARPNESS * left)
            _add(self.donors, gather_donors(weighing, ask_all(*asked), self.units))

    def choose(
        self, ensemble: TranslatorEnsemble, data: Data, tolerance: float, seed: int
    ) -> None:
        """Chooses the weights and the donors' share; donors come from all samples then."""
        ensemble.weighing.choose(self.members, self.units[0], self.guard, tolerance)
        if ensemble.donors is not None:
            ensemble.weighing.choose_donors(self.donors, self.guard, tolerance)
            self._remember(ensemble.donors, data, seed)

    def _remember(self, donors: DonorMatching, data: Data, seed: int) -> None:
        donors.remember(data.target, valid=data.there, standardize_target=data.alike, seed=seed)


def _add(total: dict[int, Evidence], more: Mapping[int, Evidence]) -> None:
    for row, found in more.items():
        total[row] = total[row] + found if row in total else found
