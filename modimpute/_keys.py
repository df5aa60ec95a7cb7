"""What a retrieval translator compares examples by."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Keys(nn.Module):
    """A linear map of the sources' features, plus a network that starts at zero."""

    def __init__(
        self,
        sizes: Sequence[int],
        key_dim: int,
        hidden_dim: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        size = sum(sizes)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.straight = nn.Linear(size, key_dim, bias=False, **place)
        self.hidden = nn.Linear(size, hidden_dim, **place)
        self.norm = nn.LayerNorm(hidden_dim, **place)
        self.bend = nn.Linear(hidden_dim, key_dim, **place)

    def reset(self) -> None:
        """Draws new weights; who owns the keys calls it first of all."""
        for layer in (self.straight, self.hidden, self.norm):
            layer.reset_parameters()
        nn.init.zeros_(self.bend.weight)
        nn.init.zeros_(self.bend.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the keys ``(n, key_dim)``; no source outweighs another by its size."""
        equal = math.sqrt(x.shape[-1] / len(self.sizes))
        scale = torch.cat([x.new_full((size,), equal * size**-0.5) for size in self.sizes])
        x = x * scale
        straight: Tensor = self.straight(x)
        bent: Tensor = self.bend(self.norm(F.gelu(self.hidden(x))))
        return straight + bent
