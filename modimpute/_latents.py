"""Latents in which all modalities meet, at a cost that grows linearly with their number."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from modimpute._cross import Shares, join, join_contexts, mean_weights, segment_shares
from modimpute._names import ModuleMapping
from modimpute._positions import clock_positions, rotation
from modimpute._tower import Tower
from modimpute._transformer import Block
from modimpute._valid import attention_mask


class Latents(nn.Module):
    """Stands between the towers of a fusion, evenly on the clock of unaligned modalities.

    In each block the latents first read the valid steps of all modalities, then every modality
    reads the latents, of which none is ever missing.
    """

    def __init__(
        self,
        num_latents: int,
        model_dim: int,
        num_heads: int,
        num_layers: int,
        feedforward_dim: int | None,
        dropout: float,
        attention_dropout: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.vectors = nn.Parameter(
            torch.empty(num_latents, model_dim, device=device, dtype=dtype)
        )
        self.blocks = nn.ModuleList(
            Block(model_dim, num_heads, feedforward_dim, dropout, attention_dropout, device, dtype)
            for _ in range(num_layers)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # As large as what they read: if drawn close together, they stay alike, as if one.
        nn.init.normal_(self.vectors)

    def forward(
        self,
        towers: ModuleMapping[Tower],
        x: dict[str, Tensor],
        valids: Mapping[str, Tensor | None],
        by: Mapping[str, Tensor],
        shares: Shares | None = None,
    ) -> dict[str, Tensor]:
        """Runs the blocks of all towers; adds the shares of attention to ``shares``, if given."""
        mask = None
        if any(valid is not None for valid in valids.values()):
            mask = attention_mask(join(valids, x), self.vectors)
        latents = self.vectors.expand(x[towers.names[0]].shape[0], -1, -1)
        clock = clock_positions(self.vectors.unsqueeze(0), None)
        latents_by = rotation(clock, self.vectors.shape[-1], self.num_heads)
        for i, own in enumerate(self.blocks):
            block = cast(Block, own)
            layer = {name: cast(Block, towers[name].blocks[i]) for name in towers.names}
            told = {
                name: tower.attention.project_apart(tower.attention_norm, x[name], by[name])
                for name, tower in layer.items()
            }
            key, value = join_contexts([told[name][1] for name in layer])
            query = block.attention.project_query(block.attention_norm(latents), latents_by)
            latents = block.finish(latents, block.attention.read(query, key, value, mask))
            held = block.attention.project_context(block.attention_norm(latents), latents_by)
            if shares is not None:
                lengths = {name: x[name].shape[1] for name in layer}
                origins = segment_shares(query, key, mask, lengths)
                for name in layer:
                    add_shares(shares[name], name, told[name][0], held[0], origins)
            x = {
                name: tower.finish(x[name], tower.attention.read(told[name][0], *held, None))
                for name, tower in layer.items()
            }
        return x


def add_shares(
    shares: dict[str, Tensor],
    name: str,
    query: Tensor,
    latents: Tensor,
    origins: Mapping[str, Tensor],
) -> None:
    """Adds ``(B, L)``: what each query reads of each other modality through the latents.

    ``origins`` is how much each latent has just read of each modality, ``(B, latents)``.
    """
    table = torch.stack(list(origins.values()), -1)
    told = torch.cat([weights @ table for weights in mean_weights(query, latents, None)], 1)
    for other, share in zip(origins, told.unbind(-1), strict=True):
        if other != name:
            shares[other] = shares.get(other, 0.0) + share
