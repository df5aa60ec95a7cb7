"""Attention of every modality to all others, and the look at its weights."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

from modimpute._names import ModuleMapping
from modimpute._tower import Tower
from modimpute._transformer import Block
from modimpute._valid import any_valid, attention_mask, keep

QUERIES = 64  # looked at at once by mean_weights

Shares = dict[str, dict[str, Tensor]]


def join(valids: Mapping[str, Tensor | None], x: Mapping[str, Tensor]) -> Tensor:
    """Returns ``(B, sum of L)``: the valid steps of all these modalities."""
    parts = []
    for name, valid in valids.items():
        ones = x[name].new_ones(x[name].shape[:2], dtype=torch.bool)
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
    readable: dict[str, Tensor | None] = dict.fromkeys(towers.names)
    if any(valid is not None for valid in valids.values()):
        for name in towers.names:
            readable[name] = join({n: v for n, v in valids.items() if n != name}, x)
    masks = {name: attention_mask(valid, x[name]) for name, valid in readable.items()}
    heard = {name: weight_of(any_valid(valid), x[name]) for name, valid in readable.items()}
    first, sizes = towers.names[0], [x[name].shape[1] for name in towers.names]
    fill = 0  # for all that are read together; a look at the weights reads heads as they are
    if shares is None:
        attention = cast(Block, towers[first].blocks[0]).attention
        fill = attention.fill(x[first], min(sizes), sum(sizes) - max(sizes))
    for i in range(len(towers[first].blocks)):
        layer = {name: cast(Block, towers[name].blocks[i]) for name in towers.names}
        projected = {
            name: block.attention.project_apart(block.attention_norm, x[name], by[name], fill)
            for name, block in layer.items()
        }
        read = {}
        for name, block in layer.items():
            others = [other for other in layer if other != name]
            key, value = join_contexts([projected[other][1] for other in others])
            attended = block.attention.read(projected[name][0], key, value, masks[name])
            weight = heard[name]  # 0 where the mask opened the row: it read what is not there
            read[name] = block.finish(x[name], attended if weight is None else attended * weight)
            if shares is not None:
                lengths = {other: x[other].shape[1] for other in others}
                told = segment_shares(projected[name][0], key, masks[name], lengths)
                for other in others:
                    share = keep(any_valid(readable[name]), told[other].unsqueeze(-1)).squeeze(-1)
                    shares[name][other] = shares[name].get(other, 0.0) + share
        x = read
    return x


def join_contexts(contexts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the keys and values of all these modalities, ``(B, heads, sum of L, head_dim)``."""
    key, value = torch.cat(contexts, 1).transpose(1, 3).unbind(2)
    return key, value


def weight_of(heard: Tensor | None, x: Tensor) -> Tensor | None:
    """Returns ``(B, 1, 1)`` of ones and zeros to multiply with, in the dtype of ``x``."""
    return None if heard is None else heard.unsqueeze(-1).to(x.dtype)


def segment_shares(
    query: Tensor, key: Tensor, mask: Tensor | None, lengths: Mapping[str, int]
) -> dict[str, Tensor]:
    """Returns ``(B, L)`` by name: how much attention each query gives to each part of the keys."""
    chunks: list[list[Tensor]] = []
    for weights in mean_weights(query, key, mask):
        parts = torch.split(weights, list(lengths.values()), -1)
        chunks.append([part.sum(-1) for part in parts])
    return {
        name: torch.cat(parts, -1)
        for name, parts in zip(lengths, zip(*chunks, strict=True), strict=True)
    }


def mean_weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
    """Yields the attention of some queries at a time, ``(B, queries, keys)``, mean over heads."""
    scale = query.shape[-1] ** -0.5
    wide = torch.promote_types(query.dtype, torch.float32)
    for part in torch.split(query, QUERIES, 2):
        scores = (part @ key.transpose(-1, -2)).to(wide) * scale
        if mask is not None:
            scores = scores + mask
        yield scores.softmax(-1).mean(1)
