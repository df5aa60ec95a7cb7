"""Attention of every modality to all others, and the look at its weights."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from modimpute._names import ModuleMapping
from modimpute._tower import Tower
from modimpute._transformer import Block
from modimpute._valid import any_valid, attention_mask, keep

QUERIES = 64  # looked at at once by attention_shares

Shares = dict[str, dict[str, Tensor]]


def join_others(valids: Mapping[str, Tensor | None], x: Mapping[str, Tensor], name: str) -> Tensor:
    """Returns ``(B, sum of L)``: the valid steps of all modalities but this one."""
    parts = []
    for other, valid in valids.items():
        if other != name:
            ones = x[other].new_ones(x[other].shape[:2], dtype=torch.bool)
            parts.append(ones if valid is None else valid)
    return torch.cat(parts, -1)


def cross_attention(
    towers: ModuleMapping[Tower],
    x: dict[str, Tensor],
    valids: Mapping[str, Tensor | None],
    by: Mapping[str, Tensor],
    shares: Shares | None = None,
) -> dict[str, Tensor]:
    """Runs the blocks of all towers; adds the shares of attention to ``shares``, if given."""
    # The masks are the same for all blocks; none is made where every step is valid.
    some = any(valid is not None for valid in valids.values())
    readable = {name: join_others(valids, x, name) if some else None for name in towers.names}
    masks = {name: attention_mask(valid) for name, valid in readable.items()}
    for i in range(len(towers[towers.names[0]].blocks)):
        layer = {name: cast(Block, towers[name].blocks[i]) for name in towers.names}
        projected = {
            name: block.attention.project(block.attention_norm(x[name]), by[name])
            for name, block in layer.items()
        }
        read = {}
        for name, block in layer.items():
            others = [other for other in layer if other != name]
            key = torch.cat([projected[other][1] for other in others], 2)
            value = torch.cat([projected[other][2] for other in others], 2)
            attended = block.attention.read(projected[name][0], key, value, masks[name])
            # Where there is no other modality nothing was read: the mask opened the row.
            read[name] = block.finish(x[name], keep(any_valid(readable[name]), attended))
            if shares is not None:
                lengths = {other: x[other].shape[1] for other in others}
                add_shares(shares[name], projected[name][0], key, masks[name], lengths)
        x = read
    if shares is not None:
        for name in towers.names:
            scale = len(towers[name].blocks)
            for other, share in shares[name].items():
                told = keep(any_valid(readable[name]), share.unsqueeze(-1) / scale)
                told = keep(valids[name], told).squeeze(-1)
                shares[name][other] = told.to(towers[name].missing.dtype)
    return {name: keep(valids[name], towers[name].norm(x[name])) for name in towers.names}


def add_shares(
    shares: dict[str, Tensor],
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    lengths: Mapping[str, int],
) -> None:
    """Adds ``(B, L)``, how much of its attention each query gives to each other modality."""
    scale = query.shape[-1] ** -0.5
    wide = torch.promote_types(query.dtype, torch.float32)
    sizes = list(lengths.values())
    chunks: dict[str, list[Tensor]] = {other: [] for other in lengths}
    for part in torch.split(query, QUERIES, 2):
        scores = (part @ key.transpose(-1, -2)).to(wide) * scale
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights = scores.softmax(-1).mean(1)
        for other, segment in zip(lengths, torch.split(weights, sizes, -1), strict=True):
            chunks[other].append(segment.sum(-1))
    for other, parts in chunks.items():
        shares[other] = shares.get(other, 0.0) + torch.cat(parts, -1)
