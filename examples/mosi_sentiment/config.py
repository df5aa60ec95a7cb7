"""What a run is asked for: three mappings of plain values, kept as JSON beside the weights."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ModelConfig:
    """What is read and what is reconstructed, and the sizes.

    A modality that is not in ``reads`` never reaches a prediction. One in ``reconstructs`` is
    filled where it is not read, from those of ``sources`` that are.
    """

    reads: tuple[str, ...] = ("text", "vision")
    reconstructs: tuple[str, ...] = ("audio",)
    sources: tuple[str, ...] = ("audio", "text", "vision")
    target: str = "standardised"  # or "projected": a fixed random projection of it
    further_transformer: bool = True
    attention: bool = True
    model_dim: int = 40
    num_heads: int = 10
    translator_layers: int = 4
    ensemble_dim: int = 80
    ensemble_layers: int = 4
    fusion_layers: int = 4
    feedforward: int = 4  # times the width
    kernels: tuple[int, int, int] = (1, 1, 1)  # of text, vision, audio
    dropout: float = 0.1  # of the fusion
    translator_dropout: float = 0.1  # of what reconstructs
    text_dropout: float = 0.0
    output_dropout: float = 0.1
    pool: str = "mean"


@dataclass(frozen=True)
class Shape:
    """What the model has to know of the data; a checkpoint keeps it."""

    dims: dict[str, int]
    lengths: dict[str, int]
    task: str  # "regression" or "emotions"
    aligned: bool
    stepwise: bool  # a label for each step


@dataclass(frozen=True)
class TrainingConfig:
    """Defaults are MulT's for MOSI (its Table 5)."""

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 0.8
    schedule: str = "plateau"  # a tenth after plateau epochs without gain; or "cosine", "constant"
    plateau: int = 20
    select: str = "valid"  # the weights of the best validation loss; or "last": nothing is chosen
    patience: int = 0  # epochs without gain until training stops; 0: it does not
    consistency: str = "l2"  # or "l1", "smooth_l1", "cosine", "none"
    weight: float = 1.0  # of the consistency loss
    translate_first: int = 0  # epochs of the consistency loss alone
    hide: float = 0.0  # the rate at which modalities that are read are hidden in training
    validate_without: tuple[str, ...] = ()

    def share(self, epoch: int, part: float) -> float:
        """How much of its phase, translation alone or all together, is over."""
        first, rest = self.translate_first, self.epochs - self.translate_first
        if epoch < first:
            return (epoch + part) / first
        return (epoch - first + part) / rest

    def weights(self, parts: int, epoch: int) -> Tensor:
        """The weight of the task and of each reconstruction; these share ``weight``."""
        weight = 0.0 if self.consistency == "none" else self.weight / max(parts - 1, 1)
        weights = torch.full((parts,), weight)
        weights[0] = 0.0 if epoch < self.translate_first else 1.0
        return weights
