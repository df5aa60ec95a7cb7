"""Reconstruct the missing strip, then classify the digit from observed + reconstructed strips."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from examples.digits.data import ROWS, STRIPS
from modimpute import CrossModalAttentionFusion, ModalityTranslator, TranslatorEnsemble

CLASSES = 10
WIDTHS = {name: columns.stop - columns.start for name, columns in STRIPS.items()}


@dataclass(frozen=True)
class ModelConfig:
    model_dim: int = 64
    num_heads: int = 4
    translator_layers: int = 1
    ensemble_layers: int = 3  # only here do the two sources meet
    fusion_dim: int = 32
    fusion_layers: int = 1
    dropout: float = 0.1


class StripModel(nn.Module):
    """One ensemble of two translators per strip that may be missing, and one classifier."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = {
            "model_dim": config.model_dim,
            "num_heads": config.num_heads,
            "feedforward_dim": 2 * config.model_dim,
            "dropout": config.dropout,
            "num_places": ROWS,  # a stroke means something else in the first row than in the last
        }
        self.ensembles = nn.ModuleDict()
        for missing in STRIPS:
            # As wide as the model: a member that had to squeeze its opinion into two or three
            # pixels would lose what the further transformer could still use.
            translators = {
                source: ModalityTranslator(
                    WIDTHS[source],
                    config.model_dim,
                    num_layers=config.translator_layers,
                    **sizes,
                )
                for source in STRIPS
                if source != missing
            }
            self.ensembles[missing] = TranslatorEnsemble(
                translators, WIDTHS[missing], num_layers=config.ensemble_layers, **sizes
            )
        self.fusion = CrossModalAttentionFusion(
            WIDTHS,
            model_dim=config.fusion_dim,
            num_heads=config.num_heads,
            num_layers=config.fusion_layers,
            dropout=config.dropout,
            num_places=ROWS,
            aligned=True,
        )
        self.head = nn.Linear(self.fusion.output_dim, CLASSES)

    def reconstruct(self, strips: Mapping[str, Tensor], missing: str) -> Tensor:
        """Reconstructs one strip from the other two; it is not read itself."""
        sources = {name: x for name, x in strips.items() if name != missing}
        return self.ensembles[missing](sources)

    def classify(self, strips: Mapping[str, Tensor]) -> Tensor:
        """Returns the logits; a reconstructed strip goes in like an observed one."""
        return self.head(self.fusion(strips))

    def forward(self, strips: Mapping[str, Tensor], missing: str) -> tuple[Tensor, Tensor]:
        """Returns the logits and the reconstruction."""
        reconstructed = self.reconstruct(strips, missing)
        return self.classify({**strips, missing: reconstructed}), reconstructed
