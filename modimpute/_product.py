"""Products of linear layers, on a CPU by the library that is fastest there."""

import functools
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook as _everywhere  # hooks of all modules

from modimpute._elementwise import Context, is_transformed
from modimpute._processor import is_amd, is_wide

LEAST = 2**21  # multiplications, from which a call of another library is worth it
WIDE = 64  # features, from which it is also where AVX-512 takes two steps


def of_module(linear: nn.Linear, x: Tensor) -> Tensor:
    """As ``linear(x)``, and nobody else's: a hook may keep what it has seen."""
    if is_plain(linear, nn.Linear):
        return product(x, linear.weight, linear.bias)
    out: Tensor = linear(x)
    return out.clone()


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is as we made it; one put in its place, or with hooks, has to be called."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    hooked = hooked or module._backward_hooks or module._backward_pre_hooks
    return type(module) is kind and not (hooked or _everywhere())  # type: ignore[no-untyped-call]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As ``F.linear``."""
    if not _is_faster(x, weight):
        return F.linear(x, weight, bias)
    some = (x, weight) if bias is None else (x, weight, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in some):
        return cast(Tensor, _Product.apply(x, weight, bias))  # type: ignore[no-untyped-call]
    return _of_onednn(x, weight, bias)


def no_view(rows: Tensor, like: Tensor) -> Tensor:
    """Returns the rows in the shape of what they were made of.

    What was made in a function must not be a view to be rotated.
    """
    shape = (*like.shape[:-1], rows.shape[-1])
    return cast(Tensor, torch.ops.aten._unsafe_view(rows, shape))


def input_gradient(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient of ``x`` from that of the product."""
    return product(_rows(gradient), weight.t()).to(x.dtype).view(x.shape)


def parameter_gradients(
    gradient: Tensor, x: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Returns the gradients of weight and bias, where needed."""
    rows = _rows(gradient)  # of lower precision under autocast
    of_weight = product(rows.t(), x.flatten(0, -2).to(rows.dtype).t()) if needed[0] else None
    return of_weight, rows.sum(0) if needed[1] else None


def _rows(x: Tensor) -> Tensor:
    return x.contiguous().flatten(0, -2)


def _is_faster(x: Tensor, weight: Tensor) -> bool:
    if is_transformed() or x.device.type != "cpu" or x.numel() * weight.shape[0] < LEAST:
        return False
    if not is_amd():
        return False
    # MKL's kernels for AVX2 compute half as much at a time as oneDNN's for AVX-512. Where that
    # takes a processor two steps, wide rows gain a tenth, and sums over rows lose a half.
    if not is_wide() and not (min(weight.shape) >= WIDE and x.is_contiguous()):
        return False
    if not (x.dtype == weight.dtype == torch.float32) or torch.is_autocast_enabled("cpu"):
        return False
    ours = type(x) is Tensor and type(weight) in (Tensor, nn.Parameter)
    on = ours and torch._C._get_mkldnn_enabled() and _has_onednn()
    return on and _is_dense(x) and _is_dense(weight)


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 2 and x.t().is_contiguous())


@functools.cache
def _has_onednn() -> bool:
    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _of_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.flatten(0, -2)
    return no_view(torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], ""), x)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _of_onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), needed = ctx.saved_tensors, ctx.needs_input_grad
        of_x = input_gradient(gradient, x, weight) if needed[0] else None
        return of_x, *parameter_gradients(gradient, x, needed[1:])
