"""What an ensemble offers that adds its members up."""

from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from modimpute._checks import check_sequence, check_valid
from modimpute._evidence import units_of
from modimpute._subsets import Subset
from modimpute._weights import Weights, ask_all, gather, gather_donors
from modimpute.donor import DonorMatching


class Weighable(nn.Module):
    """Weights that are shown, and chosen on held-out samples."""

    combination: str
    target_dim: int
    weighing: Weights
    translate: Callable[..., dict[str, Tensor]]

    @property
    def weights(self) -> dict[Subset, dict[str, float]]:
        """The share of each member, of donors and of the mean, for each subset of the sources.

        With ``combination="weights"``; beyond 6 sources, for one subset of each size.
        """
        self._check_weights("weights")
        return self.weighing.shares()

    @property
    def inflation(self) -> dict[Subset, float]:
        """How many times as far from the mean as by the shares answers are, for each subset.

        1, unless a ``tolerance`` is spent on answers that vary as real values do; with donors
        it is spent on them.
        """
        self._check_weights("inflation")
        return self.weighing.inflation()

    @property
    def variation(self) -> dict[Subset, float]:
        """By what share of the target's motion answers are moved over the steps, for each subset.

        0, unless the ``tolerance`` is more than inflation spends: where little is told, averages
        stand still. The motion of a feature is its deviation about each sample's own mean.
        """
        self._check_weights("variation")
        return self.weighing.moved()

    @property
    def donors(self) -> DonorMatching | None:
        """What draws the sum towards real values, with ``combination="weights"``."""
        return self.weighing.donors if self.combination == "weights" else None

    @torch.no_grad()
    def fit_weights(
        self,
        sources: Mapping[str, Tensor],
        target: Tensor,
        *,
        valid: Mapping[str, Tensor] | None = None,
        target_valid: Tensor | None = None,
        guard: float = 0.0,
        tolerance: float = 0.0,
        standardize_target: bool = True,
    ) -> Self:
        """Chooses the weights, and the mean, on samples that the members were not fitted to.

        Every subset of the sources is tried on the samples that have it. Donors, if there are
        any, must remember other samples: the training samples.

        Args:
            sources: The source modalities that there are.
            target: The target, ``(B, L, target_dim)``.
            valid: Which source steps hold a real value. Default: all.
            target_valid: Which target steps hold a real value. Default: all.
            guard: The share of the target's variance that must be explained for the weights to
                count in full; below, they are shrunk in proportion. For samples of other groups
                (speakers, subjects) than those that are to come, 0.2 is a good value.
            tolerance: The share of the least error that may be given up to be drawn further to
                donors, where they help at all; without donors, away from the mean, and over the
                steps.
            standardize_target: As of :func:`fit_ensemble`.

        Returns:
            The module itself.
        """
        self._check_weights("fit_weights")
        check_sequence("target", target, self.target_dim, "target_dim")
        steps = target.shape[:2]
        there = target.new_ones(steps, dtype=torch.bool) if target_valid is None else target_valid
        check_valid("target_valid", there, tuple(steps), target.device)
        units = units_of(target, there, standardize_target)
        was_training = self.training
        self.eval()
        asked = (self.weighing, self.translate, sources, target, valid or {}, there)
        evidence = gather(self.weighing, ask_all(*asked), units)
        self.weighing.choose(evidence, units, guard, tolerance)
        if self.donors is not None:
            (found,) = gather_donors(self.weighing, ask_all(*asked), units)
            self.weighing.choose_donors(found, guard, tolerance)
        self.train(was_training)
        return self

    def _check_weights(self, what: str) -> None:
        if self.combination != "weights":
            rule = f'{what} must be asked of an ensemble with combination="weights"'
            raise ValueError(f"{rule}, however: combination={self.combination!r}")
