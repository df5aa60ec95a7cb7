"""Ours: one call, with the same defaults for all data."""

import numpy as np
import torch
from torch import Tensor

from examples.benchmarks.imputation.parts import Part, join
from modimpute import TranslatorEnsemble, fit_ensemble

CHUNK = 512  # samples at once


class ModImpute:
    """An ensemble for each target, fitted to all other modalities, weighed on validation.

    Where several are missing it is asked with what is left of its sources: nothing is fitted anew.
    """

    def __init__(self) -> None:
        self.ensembles: dict[str, TranslatorEnsemble] = {}

    def fit(
        self,
        train: Part,
        validation: Part,
        sources: tuple[str, ...],
        targets: tuple[str, ...],
        seed: int,
    ) -> None:
        self.sources, self.targets = sources, targets
        part = join(train, validation)
        groups = None
        if part.groups is not None:
            groups = torch.as_tensor(np.unique(part.groups, return_inverse=True)[1])
        for target in targets:
            if target in self.ensembles:
                continue
            others = [name for name in sorted(part.modalities) if name != target]
            self.ensembles[target] = fit_ensemble(
                {name: part.modalities[name] for name in others},
                part.modalities[target],
                valid={name: part.valid[name] for name in others},
                target_valid=part.valid[target],
                validation=torch.arange(len(part)) >= len(train),
                groups=groups,
                seed=seed,
            )

    @torch.no_grad()
    def predict(self, part: Part) -> dict[str, Tensor]:
        filled: dict[str, list[Tensor]] = {target: [] for target in self.targets}
        for rows in torch.arange(len(part)).split(CHUNK):
            some = part.rows(rows.numpy())
            sources = {name: some.modalities[name] for name in self.sources}
            valid = {name: some.valid[name] for name in self.sources}
            for target in self.targets:
                ensemble, exists = self.ensembles[target], some.exists[target]
                filled[target].append(ensemble(sources, valid=valid, target_valid=exists))
        return {target: torch.cat(parts) for target, parts in filled.items()}
