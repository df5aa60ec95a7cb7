"""One modality's encoder and decoder in the imputer: a larger imputer only adds these, by name."""

import torch
from torch import Tensor, nn

from modimpute._positions import (
    Places,
    clock_positions,
    rotation,
    step_positions,
    waves,
)
from modimpute._product import of_module
from modimpute._transformer import Block, Transformer
from modimpute._valid import attention_mask, blend, keep

Sizes = tuple[int, int, int, int | None]  # model_dim, num_heads, num_layers, feedforward_dim


class Encoder(nn.Module):
    """Reads the valid steps of one modality, once for all that use them."""

    def __init__(
        self,
        dim: int,
        sizes: Sizes,
        dropout: float,
        attention_dropout: float,
        num_places: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        model_dim = sizes[0]
        self.model_dim, self.num_heads = sizes[:2]
        self.input = nn.Linear(dim, model_dim, device=device, dtype=dtype)
        self.gap = nn.Parameter(torch.empty(model_dim, device=device, dtype=dtype))
        self.missing = nn.Parameter(torch.empty(model_dim, device=device, dtype=dtype))
        self.places = Places(num_places, model_dim, device, dtype)
        self.transformer = Transformer(*sizes, dropout, attention_dropout, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.gap)
        nn.init.zeros_(self.missing)

    def forward(self, x: Tensor, valid: Tensor | None, counted: Tensor | None) -> Tensor:
        """Returns ``(B, L, model_dim)``; at steps that are not valid, what the others tell."""
        h = of_module(self.input, keep(valid, x).to(self.gap.dtype))
        h = blend(valid, h, self.gap)
        h = self.places(h, counted)
        by = rotation(step_positions(h), self.model_dim, self.num_heads)
        encoded: Tensor = self.transformer(h, by, attention_mask(valid, h))
        return encoded


class Decoder(nn.Module):
    """Predicts one modality from its own encoding, where there is one, and from the others.

    Aligned: what the others say at a step is added to it, and a block reads all steps.
    Otherwise each step reads what the others say on the clock, through a block of attention.
    """

    def __init__(
        self,
        dim: int,
        sizes: Sizes,
        dropout: float,
        attention_dropout: float,
        num_places: int,
        aligned: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        model_dim, num_heads, _, feedforward_dim = sizes
        self.model_dim, self.num_heads = model_dim, num_heads
        self.unknown = nn.Parameter(torch.empty(model_dim, device=device, dtype=dtype))
        self.places = Places(num_places, model_dim, device, dtype)
        self.clock = None
        if not aligned:
            self.clock = nn.Linear(model_dim, model_dim, bias=False, device=device, dtype=dtype)
        options = (dropout, attention_dropout, device, dtype)
        self.block = Block(model_dim, num_heads, feedforward_dim, *options)
        self.norm = nn.LayerNorm(model_dim, device=device, dtype=dtype)
        self.output = nn.Linear(model_dim, dim, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.unknown)

    def forward(
        self,
        own: Tensor | None,
        heard: Tensor | None,
        others: Tensor,
        others_by: Tensor | None,
        counted: Tensor | None,
        exists: Tensor | None,
        shape: tuple[int, int],
    ) -> Tensor:
        """Returns the prediction ``(B, L, dim)``.

        ``own`` is the encoding, to be read where ``heard`` ``(B, 1)`` says so; ``others`` is
        ``(B, L, model_dim)`` if aligned, else one state for each slot of the clock; steps count
        from the first one of ``counted``; ``shape`` is ``(B, L)``.
        """
        h = self.unknown.expand(*shape, -1)
        if own is not None:
            h = blend(heard, own, self.unknown)
        h = self.places(h, counted)
        if self.clock is None or others_by is None:
            by = rotation(step_positions(h), self.model_dim, self.num_heads)
            h = self.block(h + others, by, attention_mask(exists, h))
        else:
            clock = clock_positions(h, counted)
            h = h + self.clock(waves(clock, h.shape[-1]).to(self.unknown.dtype))
            h = self.block(
                h, rotation(clock, self.model_dim, self.num_heads), None, others, others_by
            )
        out = of_module(self.output, self.norm(h))
        return out.to(self.unknown.dtype)  # autocast lowers it
