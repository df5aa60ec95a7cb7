"""Linear layers whose input, a norm or an activation, is computed again in the backward pass.

Autograd keeps the input of every linear layer, here twice the state and twice the widest tensor of
a block. They follow cheaply from what is kept anyway.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modimpute._elementwise import Context, draw_kept, dropped, factors, gelu
from modimpute._product import (
    input_gradient,
    is_plain,
    no_view,
    of_module,
    parameter_gradients,
    product,
)


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


def _parameters(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Returns weight and bias: cast inside a function, autocast would keep them without graph."""
    kind, dtype = linear.weight.device.type, linear.weight.dtype
    if torch.is_autocast_enabled(kind) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(kind)
    return linear.weight.to(dtype), linear.bias.to(dtype)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return no_view(product(x.flatten(0, -2), weight, bias), x)


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
        of_normed = input_gradient(gradient, normed, weight)
        of_linear = parameter_gradients(gradient, normed, needed[3:5])
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
        of_linear = parameter_gradients(gradient, hidden, ctx.needs_input_grad[3:])
        of_hidden = input_gradient(gradient, hidden, weight)
        if factor is not None:
            of_hidden.mul_(factor)
        return torch.ops.aten.gelu_backward(of_hidden, x), None, None, *of_linear
