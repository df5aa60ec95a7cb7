"""The paper's model, put together from the public layers; its comparators are settings of it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from examples.mosi_sentiment.config import ModelConfig, Shape
from examples.mosi_sentiment.data import EMOTIONS
from examples.mosi_sentiment.parts import (
    ConcatenatedTranslators,
    Concatenation,
    Head,
    Projection,
    stretch,
)
from modimpute import (
    CrossModalAttentionFusion,
    ModalityNormalizer,
    ModalityTranslator,
    TranslatorEnsemble,
)

LIMIT = 10.0  # deviations: one wild frame of a pitch tracker must not rule a batch


class SentimentModel(nn.Module):
    """Translators to each missing modality, a further transformer, cross-modal attention, a head.

    ``forward`` returns predictions, ``(B, S, 1)`` or for emotions the logits ``(B, S, 4, 2)``,
    and the reconstructions ``(B, L, D)`` by name. It reads ``modalities`` in the units of the
    files, where ``valid`` says so and ``config.reads`` allows it: nothing else matters.
    """

    def __init__(self, shape: Shape, config: ModelConfig) -> None:
        super().__init__()
        if shape.stepwise and not (shape.aligned and len({*shape.lengths.values()}) == 1):
            rule = "data with a label for each step must be aligned"
            raise ValueError(f"{rule}, however: lengths={shape.lengths}")
        self.shape, self.config = shape, config
        self.names = tuple(sorted({*config.reads, *config.reconstructs}))
        width, dropout = config.model_dim, config.dropout
        self.normalizer = ModalityNormalizer(shape.dims)
        kernels = dict(zip(("text", "vision", "audio"), config.kernels, strict=True))
        self.projections = nn.ModuleDict(
            {name: Projection(shape.dims[name], width, kernels[name]) for name in self.names}
        )
        self.text_dropout = nn.Dropout(config.text_dropout)
        self.reconstructors = nn.ModuleDict(
            {name: self._reconstructor(name) for name in config.reconstructs}
        )
        if config.target == "projected":
            # Nothing but the loss would train what the loss compares with: it stays as drawn.
            for name in config.reconstructs:
                self.projections[name].requires_grad_(False)
        dims = dict.fromkeys(self.names, width)
        if len(dims) == 1:  # the fusion is of two or more: this one is always missing
            dims["nothing"] = 1
        self.fusion = (
            CrossModalAttentionFusion(
                dims,
                model_dim=width,
                num_heads=config.num_heads,
                num_layers=config.fusion_layers,
                feedforward_dim=config.feedforward * width,
                dropout=dropout,
                pool=config.pool,
                aligned=shape.aligned,
            )
            if config.attention
            else Concatenation(dims, config.pool)
        )
        outputs = 1 if shape.task == "regression" else 2 * len(EMOTIONS)
        self.head = Head(len(dims) * width, outputs, config.output_dropout)

    def _reconstructor(self, target: str) -> nn.Module:
        c = self.config
        sources = [s for s in c.sources if s != target and s in c.reads]
        if not sources:
            rule = f"config.sources must name something that is read besides {target!r}"
            raise ValueError(f"{rule}, however: sources={c.sources}, reads={c.reads}")
        translators = {
            source: ModalityTranslator(
                c.model_dim,
                c.model_dim,  # not the target's width: MOSI's audio has but 5 features
                model_dim=c.model_dim,
                num_heads=c.num_heads,
                num_layers=c.translator_layers,
                feedforward_dim=c.feedforward * c.model_dim,
                dropout=c.translator_dropout,
                aligned=self.shape.aligned,
            )
            for source in sources
        }
        width = c.model_dim if c.target == "projected" else self.shape.dims[target]
        if not c.further_transformer:
            return ConcatenatedTranslators(translators, c.model_dim, width)
        return TranslatorEnsemble(
            translators,
            width,
            model_dim=c.ensemble_dim,
            num_heads=c.num_heads,
            num_layers=c.ensemble_layers,
            feedforward_dim=c.feedforward * c.ensemble_dim,
            dropout=c.translator_dropout,
        )

    def standardise(self, modalities: Mapping[str, Tensor], valid: Mapping[str, Tensor]):
        x = self.normalizer(modalities, valid=valid)
        return {name: values.clamp(-LIMIT, LIMIT) for name, values in x.items()}

    @torch.no_grad()
    def target(self, name: str, x: Tensor, valid: Tensor) -> Tensor:
        """What the reconstruction of a modality is compared with."""
        standard = self.standardise({name: x}, {name: valid})[name]
        return self.projections[name](standard) if self.config.target == "projected" else standard

    def forward(
        self,
        modalities: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor],
        fill: str = "missing",
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x, kept = self._read(modalities, valid)
        projected = {}
        for name in self.names:
            heard = self.text_dropout(x[name]) if name == "text" else x[name]
            projected[name] = self.projections[name](heard)
        expected = self._expected(kept)
        reconstructed = {
            name: self._reconstruct(name, projected, kept, expected[name])
            for name in self.config.reconstructs
        }
        fused, there = {}, {}
        for name in self.names:
            filler = self._filler(name, reconstructed, expected[name], fill)
            if filler is None:
                fused[name], there[name] = projected[name], kept[name]
                continue
            has = kept[name].any(-1, keepdim=True)
            fused[name] = torch.where(has.unsqueeze(-1), projected[name], filler)
            there[name] = torch.where(has, kept[name], expected[name])
        return self._predict(fused, there), reconstructed

    def _read(self, modalities, valid):
        """Returns all modalities standardised, and what of them is read; the rest is zero."""
        first = modalities[min(modalities)]
        x, kept = {}, {}
        for name in self.names:
            if name in self.config.reads and name in modalities:
                x[name], kept[name] = modalities[name], valid[name]
            else:
                steps = (len(first), self.shape.lengths[name])
                x[name] = first.new_zeros(*steps, self.shape.dims[name])
                kept[name] = torch.zeros(steps, dtype=torch.bool, device=first.device)
        return self.standardise(x, kept), kept

    def _expected(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Which steps a missing modality would have: where, in proportion, another has some.

        How long the missing modality really was is not known, so it is not used.
        """
        expected = {}
        for name in self.names:
            length = self.shape.lengths[name]
            others = [stretch(v, length) for other, v in kept.items() if other != name]
            some = torch.stack([*others, torch.zeros_like(stretch(kept[name], length))]).any(0)
            expected[name] = some | ~some.any(-1, keepdim=True)
        return expected

    def _reconstruct(self, name, projected, kept, expected):
        module = self.reconstructors[name]
        sources = {source: projected[source] for source in module.modalities}
        there = {source: kept[source] for source in module.modalities}
        length = self.shape.lengths[name]
        return module(sources, valid=there, target_length=length, target_valid=expected)

    def _filler(self, name, reconstructed, expected, fill) -> Tensor | None:
        if name in reconstructed:
            if self.config.target == "projected":
                return reconstructed[name]
            return self.projections[name](reconstructed[name])
        if fill == "missing":
            return None
        zeros = torch.zeros(*expected.shape, self.shape.dims[name], device=expected.device)
        # In standardised units the mean is zero, and what was zero is not.
        constant = (
            self.standardise({name: zeros}, {name: expected})[name] if fill == "zero" else zeros
        )
        return self.projections[name](constant)

    def _predict(self, fused: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Tensor:
        if self.shape.stepwise:
            steps = self.fusion.attend(fused, valid=there)
            like = next(iter(steps.values()))
            slots = [steps.get(name, torch.zeros_like(like)) for name in self.fusion.modalities]
            out = self.head(torch.cat(slots, -1))
        else:
            out = self.head(self.fusion(fused, valid=there)).unsqueeze(1)
        return out.unflatten(-1, (len(EMOTIONS), 2)) if self.shape.task == "emotions" else out
