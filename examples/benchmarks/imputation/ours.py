"""Ours: not here yet."""

from torch import Tensor

from examples.benchmarks.imputation.parts import Part


class ModImpute:
    def fit(
        self,
        train: Part,
        validation: Part,
        sources: tuple[str, ...],
        targets: tuple[str, ...],
        seed: int,
    ) -> None:
        raise NotImplementedError("the recipe is not here yet")

    def predict(self, part: Part) -> dict[str, Tensor]:
        raise NotImplementedError("the recipe is not here yet")
