"""What is compared. Each method fills in some modalities from others."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from examples.benchmarks.imputation import classical, windows
from examples.benchmarks.imputation.autoencoder import ResidualAutoencoder
from examples.benchmarks.imputation.data import DataSet
from examples.benchmarks.imputation.multivae import MultiVAE
from examples.benchmarks.imputation.paper import Ensemble
from examples.benchmarks.imputation.parts import Part


class Method(Protocol):
    """One object serves all targets of one seed: what they share may be fitted once."""

    def fit(
        self,
        train: Part,
        validation: Part,
        sources: tuple[str, ...],
        targets: tuple[str, ...],
        seed: int,
    ) -> None:
        """``groups`` are given where validation and test hold other groups than train."""

    def predict(self, part: Part) -> dict[str, Tensor]:
        """Returns each target, (N, L, D). ``part`` has no targets; ``exists`` has their steps."""


def _modimpute() -> Method:
    from examples.benchmarks.imputation.ours import ModImpute

    return ModImpute()


OURS = "modimpute"
METHODS: dict[str, Callable[[DataSet], Method]] = {
    "zero": lambda data: classical.Constant(data.zero),
    "mean": lambda data: classical.Constant({n: 0 * x for n, x in data.zero.items()}),
    "ridge": lambda _: classical.RidgeMap(),
    "knn": lambda _: classical.Neighbours(),
    "ridge_windows": lambda _: windows.StepRidge(),
    "knn_windows": lambda _: windows.StepNeighbours(),
    "iterative": lambda _: classical.Iterative(),
    "autoencoder": lambda _: ResidualAutoencoder(),
    "multivae": lambda _: MultiVAE(),
    "paper": lambda _: Ensemble(),
    OURS: lambda _: _modimpute(),
}
SLOW = ("iterative", "autoencoder", "multivae", "paper")
SEEDED = ("autoencoder", "multivae", "paper", OURS)  # the others say the same for every seed
