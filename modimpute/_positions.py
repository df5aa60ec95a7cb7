"""Positions in time: the rotation of queries and keys by them, and learned places.

Rotary position embeddings (Su et al., 2021, RoFormer, arXiv 2104.09864) make attention depend
on the difference of two positions only: it works at lengths never seen in training, and padding
at either end changes nothing.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modimpute._valid import count_after, count_before

# Unaligned modalities are compared on one clock that runs from 0 to 100 over each one's span.
CLOCK = 100.0


def step_positions(x: Tensor) -> Tensor:
    """Returns ``(1, L)``: the index of each step of ``x`` ``(B, L, D)``."""
    return torch.arange(x.shape[1], device=x.device, dtype=_wide(x.dtype)).unsqueeze(0)


def clock_positions(x: Tensor, valid: Tensor | None) -> Tensor:
    """Returns ``(1, L)`` or ``(B, L)``: how far each step lies between first and last valid one.

    The middle of the first valid step is at half a step, that of the last at half a step before
    100. Steps outside (padding) lie before 0 and after 100.
    """
    steps = step_positions(x)
    if valid is None:
        return (steps + 0.5) * (CLOCK / max(x.shape[1], 1))
    before = count_before(valid)
    span = (x.shape[1] - before - count_after(valid)).clamp(min=1)
    return (steps - before + 0.5) * (CLOCK / span.to(steps.dtype))


def rotation(positions: Tensor, model_dim: int, num_heads: int) -> Tensor:
    """Returns what :func:`rotate` takes: for each pair of features a turn, by cosine and sine.

    Turns are the same for all heads, and for queries and keys. A complex number, ``(B or 1, L,
    2 * heads, pairs)``, turns a pair in one pass over memory; on a CPU they are written out, since
    one long row is multiplied three times as fast as many short ones. Compilers fuse plain
    arithmetic and know no complex numbers: for them, and for heads of odd width, cosine and sine
    are real, ``(B or 1, L, pairs, 2)``.
    """
    head_dim = model_dim // num_heads
    angles = positions.unsqueeze(-1) * _frequencies(positions, head_dim // 2, 10_000.0)
    if head_dim % 2 or torch.compiler.is_compiling():
        return torch.stack((angles.cos(), angles.sin()), -1)
    turns = torch.polar(angles.new_ones(()), angles)
    rows = turns.unsqueeze(2).expand(-1, -1, 2 * num_heads, -1)
    return rows.contiguous() if rows.device.type == "cpu" else rows


def rotate(x: Tensor, by: Tensor, parts: int, shape: tuple[int, int]) -> Tensor:
    """Rotates the first ``parts`` of ``x`` ``(B, L, all parts * heads * head_dim)``.

    Returns ``(B, L, all parts, *shape)``, where ``shape`` is ``(heads, head_dim)``. In the
    precision of ``by``, and in place where it can: ``x`` must be nobody else's. The last feature
    of a head of odd width is left as it is.
    """
    whole = (*x.shape[:2], x.shape[2] // math.prod(shape), *shape)
    if by.is_complex():
        return _turn(x, by, parts).view(whole)
    x = x.view(whole)
    half, wide = shape[1] // 2, x[:, :, :parts].to(by.dtype)
    a, b = wide[..., 0 : 2 * half : 2], wide[..., 1 : 2 * half : 2]
    cos, sin = by.unsqueeze(2).unsqueeze(2).unbind(-1)
    both = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    wide = torch.cat((both, wide[..., 2 * half :]), -1)
    return torch.cat((wide.to(x.dtype), x[:, :, parts:]), 2)


def _turn(x: Tensor, by: Tensor, parts: int) -> Tensor:
    """Rotates in place."""
    count = parts * (by.shape[2] // 2)
    narrow = x.narrow(2, 0, count * 2 * by.shape[3])
    wide = narrow.to(by.dtype.to_real())  # itself, but under autocast
    pairs = wide.view(*x.shape[:2], count, by.shape[3], 2)
    torch.view_as_complex(pairs).mul_(by if parts == 2 else by.narrow(2, 0, count))
    if wide is not narrow:
        narrow.copy_(wide)
    return x


def waves(positions: Tensor, dim: int) -> Tensor:
    """Returns sinusoidal features ``(B or 1, L, dim)`` of positions (Vaswani et al., 2017)."""
    angles = positions.unsqueeze(-1) * _frequencies(positions, (dim + 1) // 2, 1_000.0)
    return torch.cat((angles.sin(), angles.cos()), -1)[..., :dim]


class Places(nn.Module):
    """A learned vector for each of the first steps, counted from the first one that exists.

    All later steps share the last one, so that longer sequences meet nothing new. All are zero
    at first. With ``num_places=0`` there is nothing: only differences of positions count.
    """

    def __init__(
        self,
        num_places: int,
        model_dim: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.num_places = num_places
        if num_places:
            weight = torch.empty(num_places, model_dim, device=device, dtype=dtype)
            self.weight = nn.Parameter(weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.num_places:
            nn.init.zeros_(self.weight)

    def forward(self, x: Tensor, exists: Tensor | None) -> Tensor:
        """Adds the vectors to ``x`` ``(B, L, model_dim)``."""
        if not self.num_places:
            return x
        steps = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        if exists is not None:
            steps = steps - count_before(exists)
        return x + F.embedding(steps.clamp(0, self.num_places - 1), self.weight)


def _frequencies(positions: Tensor, count: int, base: float) -> Tensor:
    """Returns ``base ** (-i / count)``."""
    last = 1 / max(count, 1) - 1
    return torch.logspace(0, last, count, base, device=positions.device, dtype=positions.dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    # bfloat16 counts to 256 only.
    return torch.promote_types(dtype, torch.float32)
