"""Linear layers whose input, a norm or an activation, is computed again in the backward pass.

Autograd keeps the input of every linear layer, here twice the state and twice the widest tensor of
a block. They follow cheaply from what is kept anyway.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook as _everywhere  # hooks of all modules

from modimpute._elementwise import Context, draw_kept, dropped, factors, gelu


def linear_of_norm(linear: nn.Linear, norm: nn.LayerNorm, x: Tensor, again: bool) -> Tensor:
    """As ``linear(norm(x))``; ``again``: the norm is computed again, not kept."""
    if again and is_plain(linear, nn.Linear) and is_plain(norm, nn.LayerNorm):
        parameters = (norm.weight, norm.bias, *_parameters(linear))
        return cast(Tensor, _LinearOfNorm.apply(x, *parameters, norm.eps))  # type: ignore[no-untyped-call]
    return of_module(linear, norm(x))


def linear_of_gelu(linear: nn.Linear, x: Tensor, rate: float, again: bool) -> Tensor:
    """As ``linear(dropout(gelu(x)))``; ``again``: these two are computed again, not kept."""
    if again and is_plain(linear, nn.Linear):
        kept, scale = draw_kept(x, rate) if rate else (None, 1.0)
        return cast(Tensor, _LinearOfGelu.apply(x, kept, scale, *_parameters(linear)))  # type: ignore[no-untyped-call]
    return of_module(linear, dropped(gelu(x), rate, again))


def of_module(linear: nn.Linear, x: Tensor) -> Tensor:
    """As ``linear(x)``, and nobody else's: a hook may keep what it has seen."""
    out: Tensor = linear(x)
    return out if is_plain(linear, nn.Linear) else out.clone()


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is as we made it; one put in its place, or with hooks, has to be called."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    hooked = hooked or module._backward_hooks or module._backward_pre_hooks
    return type(module) is kind and not (hooked or _everywhere())  # type: ignore[no-untyped-call]


def _parameters(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Returns weight and bias: cast inside a function, autocast would keep them without graph."""
    kind, dtype = linear.weight.device.type, linear.weight.dtype
    if torch.is_autocast_enabled(kind) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(kind)
    return linear.weight.to(dtype), linear.bias.to(dtype)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As ``F.linear``, but no view: what was made in a function must not be one to be rotated."""
    out = F.linear(x.flatten(0, -2), weight, bias)
    return cast(Tensor, torch.ops.aten._unsafe_view(out, (*x.shape[:-1], out.shape[-1])))


class _LinearOfNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context,
        x: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, norm_weight, norm_bias, weight)
        ctx.eps = eps
        wide = x.to(norm_weight.dtype)  # autocast may have lowered it
        return _linear(F.layer_norm(wide, x.shape[-1:], norm_weight, norm_bias, eps), weight, bias)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_weight, norm_bias, weight = ctx.saved_tensors
        wide, shape = x.to(norm_weight.dtype), x.shape[-1:]
        normed, *moments = torch.native_layer_norm(wide, shape, norm_weight, norm_bias, ctx.eps)
        needed = ctx.needs_input_grad
        of_normed, *of_linear = _linear_backward(gradient, normed, weight, needed[3:5])
        of_norm = torch.ops.aten.native_layer_norm_backward(
            of_normed, wide, shape, *moments, norm_weight, norm_bias, needed[:3]
        )
        return *of_norm, *of_linear, None


class _LinearOfGelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context, x: Tensor, kept: Tensor | None, scale: float, weight: Tensor, bias: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, kept, weight)
        ctx.scale = scale
        hidden = F.gelu(x)
        if kept is not None:
            hidden.mul_(factors(kept, scale, x))
        return _linear(hidden, weight, bias)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, kept, weight = ctx.saved_tensors
        hidden, factor = F.gelu(x), None
        if kept is not None:
            factor = factors(kept, ctx.scale, x)
            hidden.mul_(factor)
        needed = ctx.needs_input_grad[3:]
        of_hidden, *of_linear = _linear_backward(gradient, hidden, weight, needed)
        if factor is not None:
            of_hidden.mul_(factor)
        return torch.ops.aten.gelu_backward(of_hidden, x), None, None, *of_linear


def _linear_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Returns the gradients of the input and, where needed, of weight and bias."""
    rows = gradient.flatten(0, -2)  # of lower precision under autocast
    of_x = (rows @ weight).to(x.dtype).view(x.shape)
    of_weight = rows.t() @ x.flatten(0, -2).to(rows.dtype) if needed[0] else None
    return of_x, of_weight, rows.sum(0) if needed[1] else None
