"""One modality's part of the fusion: a larger fusion only adds towers, by name."""

import torch
from torch import Tensor, nn

from modimpute._positions import Places
from modimpute._transformer import Block
from modimpute._valid import any_valid, blend, count_after, opened

POOLS = ("mean", "last", "attention")


class Tower(nn.Module):
    """Input projection, blocks, pooling and the vector that stands for a missing modality."""

    def __init__(
        self,
        dim: int,
        model_dim: int,
        num_heads: int,
        num_layers: int,
        feedforward_dim: int | None,
        dropout: float,
        attention_dropout: float,
        num_places: int,
        pool: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.input = nn.Linear(dim, model_dim, device=device, dtype=dtype)
        self.places = Places(num_places, model_dim, device, dtype)
        self.blocks = nn.ModuleList(
            Block(model_dim, num_heads, feedforward_dim, dropout, attention_dropout, device, dtype)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim, device=device, dtype=dtype)
        self.missing = nn.Parameter(torch.empty(model_dim, device=device, dtype=dtype))
        self.kind = pool
        if pool == "attention":
            self.query = nn.Parameter(torch.empty(model_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.missing)
        if self.kind == "attention":
            nn.init.zeros_(self.query)

    def pool(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Returns one vector ``(B, model_dim)`` per sample."""
        pools = {"mean": self._mean, "last": self._last, "attention": self._attention}
        pooled = pools[self.kind](x, valid).to(self.missing.dtype)
        return blend(any_valid(valid), pooled.unsqueeze(1), self.missing).squeeze(1)

    def _mean(self, x: Tensor, valid: Tensor | None) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        if valid is None:
            return x.mean(1, dtype=dtype)
        return x.sum(1, dtype=dtype) / valid.sum(-1, keepdim=True).clamp(min=1)

    def _last(self, x: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None:
            return x[:, -1]
        last = (x.shape[1] - 1 - count_after(valid)).clamp(min=0)
        return x.gather(1, last.unsqueeze(-1).expand(-1, -1, x.shape[-1])).squeeze(1)

    def _attention(self, x: Tensor, valid: Tensor | None) -> Tensor:
        # Starts as the mean: the query is zero.
        scores = (x * self.query).sum(-1, dtype=torch.promote_types(x.dtype, torch.float32))
        scores = scores * x.shape[-1] ** -0.5
        if valid is not None:
            scores = scores.masked_fill(~opened(valid), -torch.inf)
        weights: Tensor = scores.softmax(-1).unsqueeze(-1)
        return (weights * x).sum(1)
