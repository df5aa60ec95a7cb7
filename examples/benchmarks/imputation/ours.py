"""Ours: one call, with the same defaults for all data."""

import numpy as np
import torch
from torch import Tensor

from examples.benchmarks.imputation.parts import Part, join
from modimpute import TranslatorEnsemble, fit_ensemble

CHUNK = 512  # samples at once


class ModImpute:
    """An ensemble for each target, fitted to train and weighed on validation."""

    def fit(
        self,
        train: Part,
        validation: Part,
        sources: tuple[str, ...],
        targets: tuple[str, ...],
        seed: int,
    ) -> None:
        self.sources = sources
        part = join(train, validation)
        held = torch.arange(len(part)) >= len(train)
        groups = (
            None
            if part.groups is None
            else torch.as_tensor(np.unique(part.groups, return_inverse=True)[1])
        )
        self.ensembles: dict[str, TranslatorEnsemble] = {}
        for target in targets:
            self.ensembles[target] = fit_ensemble(
                {name: part.modalities[name] for name in sources},
                part.modalities[target],
                valid={name: part.valid[name] for name in sources},
                target_valid=part.valid[target],
                validation=held,
                groups=groups,
                seed=seed,
            )

    @torch.no_grad()
    def predict(self, part: Part) -> dict[str, Tensor]:
        filled: dict[str, list[Tensor]] = {target: [] for target in self.ensembles}
        for rows in torch.arange(len(part)).split(CHUNK):
            some = part.rows(rows.numpy())
            sources = {name: some.modalities[name] for name in self.sources}
            valid = {name: some.valid[name] for name in self.sources}
            for target, ensemble in self.ensembles.items():
                exists = some.exists[target]
                filled[target].append(ensemble(sources, valid=valid, target_valid=exists))
        return {target: torch.cat(parts) for target, parts in filled.items()}
