"""Activation, dropout and sum, at the least cost in time and memory."""

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

LARGE = 2**18  # elements of a state; below it time counts more than memory
WIDE = 2**21  # elements of the widest tensor of a block, from which it is made piece by piece
PIECE = 2**19  # elements of a piece: it stays in the processor's cache


def is_transformed() -> bool:
    """Whether a compiler, tracer or functional transform reads the code: each has its rules."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return torch._C._is_tracing() or forward_ad._current_level >= 0


def recomputes(x: Tensor) -> bool:
    """Whether what is cheap to compute is computed again in the backward pass, not kept for it.

    For large states on a CPU. Compilers choose by themselves what they keep; on a GPU each call
    costs more, and 15 % of the memory is all there is to gain.
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled() or is_transformed():
        return False
    return x.numel() >= LARGE


def rows_at_once(x: Tensor, width: int) -> int:
    """Returns how many rows of ``x`` to widen at once where no gradient is kept; 0: all.

    On a CPU: memory fresh from the system costs a tenth of the time of a large forward pass.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or is_transformed():
        return 0
    rows = x.shape[0] * x.shape[1]
    return max(PIECE // width, 1) if rows * width >= WIDE else 0


def gelu(x: Tensor) -> Tensor:
    """As ``F.gelu``; in place where no gradient needs ``x``, the widest tensor of a block.

    Memory fresh from the system can cost more than the function itself.
    """
    return F.gelu(x) if torch.is_grad_enabled() else cast(Tensor, torch.ops.aten.gelu_(x))


def added(x: Tensor, fresh: Tensor) -> Tensor:
    """As ``x + fresh``; where no gradient is kept, in place: ``fresh`` must be nobody else's."""
    if torch.is_grad_enabled() or fresh.dtype != x.dtype:  # autocast lowers one of them
        return x + fresh
    return fresh.add_(x)


def dropped(x: Tensor, rate: float, again: bool) -> Tensor:
    """As ``F.dropout`` in training; ``again``: its factors are computed again, not kept.

    On a CPU, where drawing takes longer than all else in it, a draw serves four elements.
    """
    if not rate:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    kept, scale = draw_kept(x, rate)
    if again:
        return cast(Tensor, _Masked.apply(x, kept, scale))  # type: ignore[no-untyped-call]
    return x * factors(kept, scale, x)


def draw_kept(x: Tensor, rate: float) -> tuple[Tensor, float]:
    """Returns which elements are kept, a byte each, and what these are multiplied by."""
    draws = x.new_empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    sixteen = draws.view(torch.int16)[: x.numel()].view(x.shape)
    hidden = min(round(rate * 2**16), 2**16 - 1)
    return sixteen >= hidden - 2**15, 2**16 / (2**16 - hidden)


def factors(kept: Tensor, scale: float, like: Tensor) -> Tensor:
    """Returns 0 or ``scale``, which takes less time to multiply by than a mask."""
    return kept.to(like.dtype).mul_(scale)


class Context(Protocol):
    """What a function remembers from forward to backward."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    scale: float
    eps: float

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """The tensors among it."""


class _Masked(torch.autograd.Function):
    """``x * factors(kept, scale, x)``."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return x * factors(kept, scale, x)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return gradient * factors(kept, ctx.scale, gradient), None, None
