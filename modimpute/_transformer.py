"""The attention and the pre-norm block that all layers share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modimpute._elementwise import added, dropped, is_transformed, recomputes, rows_at_once
from modimpute._positions import rotate
from modimpute._processor import is_amd
from modimpute._product import is_plain, of_module, product
from modimpute._recomputed import linear_of_gelu, linear_of_norm

# With a mask, CUDA writes out the attention matrix of heads of any other width (float32: than 4).
WHOLE = 8
FULL = 16  # MKL's kernels for AVX2 take up to twice as long for any narrower head
# From so many scores, and so many queries and keys, filling up takes less than it saves.
MANY, LONG = 2**16, 32


class Attention(nn.Module):
    """Multi-head attention with one fused projection, on ``F.scaled_dot_product_attention``.

    ``mask`` is added to the scores and stays broadcast, ``(B, 1, 1, L)``: no tensor of the size
    of the attention matrix is made (at attention dropout 0, see ``attention_dropout``).
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        attention_dropout: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, model_dim // num_heads
        self.attention_dropout = attention_dropout
        # Rows: queries, keys, values.
        self.input = nn.Linear(model_dim, 3 * model_dim, device=device, dtype=dtype)
        self.output = nn.Linear(model_dim, model_dim, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.input.weight)
        nn.init.zeros_(self.input.bias)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def project(self, norm: nn.LayerNorm, x: Tensor, by: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns queries, keys and values of the normed ``x``, ``(B, heads, L, head_dim)``."""
        fused = filled(self._fused(norm, x, by), self.fill(x, x.shape[1], x.shape[1]))
        query, key, value = fused.transpose(1, 3).unbind(2)
        return query, key, value

    def project_apart(
        self, norm: nn.LayerNorm, x: Tensor, by: Tensor, fill: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Returns the queries, and keys and values as one, to be joined with those of others.

        The latter, ``(B, L, 2, heads, head_dim)``, are copied faster than they are by head. All
        that are read together are filled alike.
        """
        query, context = filled(self._fused(norm, x, by), fill).tensor_split((1,), 2)
        return query.squeeze(2).transpose(1, 2), context

    def project_query(self, x: Tensor, by: Tensor) -> Tensor:
        """Returns the queries alone, where something else is read."""
        dim = x.shape[-1]
        query = product(x, self.input.weight[:dim], self.input.bias[:dim])
        return rotate(query, by, 1, self._shape).squeeze(2).transpose(1, 2)

    def project_context(self, x: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the keys and values alone, of what is read."""
        dim = x.shape[-1]
        fused = product(x, self.input.weight[dim:], self.input.bias[dim:])
        key, value = rotate(fused, by, 1, self._shape).transpose(1, 3).unbind(2)
        return key, value

    def _fused(self, norm: nn.LayerNorm, x: Tensor, by: Tensor) -> Tensor:
        fused = linear_of_norm(self.input, norm, x, recomputes(x))
        return rotate(fused, by, 2, self._shape)

    @property
    def _shape(self) -> tuple[int, int]:
        return self.num_heads, self.head_dim

    def fill(self, like: Tensor, queries: int, keys: int) -> int:
        """Returns how many zeros heads are filled up with, to a width that is computed faster.

        ``like``, ``(B, ...)``, has their device and dtype, and as many samples.
        """
        if like.is_cuda:
            return -self.head_dim % WHOLE
        if self.head_dim >= FULL or like.device.type != "cpu" or is_transformed():
            return 0
        if like.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or not is_amd():
            return 0
        many = like.shape[0] * self.num_heads * queries * keys >= MANY
        return FULL - self.head_dim if many and min(queries, keys) >= LONG else 0

    def read(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Returns what the queries read, ``(B, L, model_dim)``. Heads may be filled already."""
        rate, width = self.attention_dropout if self.training else 0.0, query.shape[-1]
        if width == self.head_dim and (fill := self.fill(query, query.shape[2], key.shape[2])):
            query, key, value = (  # as they lie in memory
                filled(x.transpose(1, 2), fill).transpose(1, 2) for x in (query, key, value)
            )
            width += fill
        scale = None if width == self.head_dim else self.head_dim**-0.5
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=rate, scale=scale
        )
        out = out if width == self.head_dim else out.narrow(-1, 0, self.head_dim)
        return of_module(self.output, out.transpose(1, 2).flatten(2))


def filled(heads: Tensor, fill: int) -> Tensor:
    """Returns them, each with so many zeros more."""
    return F.pad(heads, (0, fill)) if fill else heads


class Block(nn.Module):
    """A pre-norm transformer block: attention, then feed-forward, each with a residual path."""

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        feedforward_dim: int | None,
        dropout: float,
        attention_dropout: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.width = width = 4 * model_dim if feedforward_dim is None else feedforward_dim
        self.attention_norm = nn.LayerNorm(model_dim, device=device, dtype=dtype)
        self.attention = Attention(model_dim, num_heads, attention_dropout, device, dtype)
        self.feedforward_norm = nn.LayerNorm(model_dim, device=device, dtype=dtype)
        self.feedforward_in = nn.Linear(model_dim, width, device=device, dtype=dtype)
        self.feedforward_out = nn.Linear(width, model_dim, device=device, dtype=dtype)
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        by: Tensor,
        mask: Tensor | None,
        context: Tensor | None = None,
        context_by: Tensor | None = None,
    ) -> Tensor:
        """Reads ``x`` itself or, if given, the ``context``; ``mask`` is of what is read."""
        if context is None or context_by is None:
            query, key, value = self.attention.project(self.attention_norm, x, by)
        else:
            query = self.attention.project_query(self.attention_norm(x), by)
            key, value = self.attention.project_context(context, context_by)
        return self.finish(x, self.attention.read(query, key, value, mask))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Adds what was read, then the feed-forward part."""
        again = recomputes(x)
        rate = self.dropout if self.training else 0.0
        x = added(x, dropped(attended, rate, again))
        rows = rows_at_once(x, self.width)
        if not rows or rate or not self._is_plain():
            return added(x, dropped(self._feedforward(x, rate, again), rate, again))
        x = x.contiguous()
        for part in torch.split(x.flatten(0, 1), rows):  # views: x is nobody else's
            part.add_(self._feedforward(part, 0.0, False))
        return x

    def _is_plain(self) -> bool:
        linears = (self.feedforward_in, self.feedforward_out)
        plain = all(is_plain(linear, nn.Linear) for linear in linears)
        return plain and is_plain(self.feedforward_norm, nn.LayerNorm)

    def _feedforward(self, x: Tensor, rate: float, again: bool) -> Tensor:
        hidden = linear_of_norm(self.feedforward_in, self.feedforward_norm, x, again)
        return linear_of_gelu(self.feedforward_out, hidden, rate, again)


class Transformer(nn.Module):
    """A stack of blocks and a last norm."""

    def __init__(
        self,
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
        self.blocks = nn.ModuleList(
            Block(model_dim, num_heads, feedforward_dim, dropout, attention_dropout, device, dtype)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(model_dim, device=device, dtype=dtype)

    def forward(
        self,
        x: Tensor,
        by: Tensor,
        mask: Tensor | None,
        context: Tensor | None = None,
        context_by: Tensor | None = None,
    ) -> Tensor:
        """Returns the normed states ``(B, L, model_dim)``."""
        for block in self.blocks:
            x = block(x, by, mask, context, context_by)
        out: Tensor = self.norm(x)
        return out
