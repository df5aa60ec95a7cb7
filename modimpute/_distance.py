"""How far samples are from each other."""

import torch
from torch import Tensor


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Returns the squared Euclidean distances ``(n, m)`` of rows."""
    squares = a.square().sum(-1, keepdim=True) + b.square().sum(-1)
    return (squares - 2 * (a @ b.mT)).clamp(min=0)


def mean_squared_distance(
    x: Tensor, there: Tensor, memory: Tensor, available: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the mean square of what differs where both have something, and in how many places.

    ``x`` ``(B, P, D)`` and ``memory`` ``(N, P, D)`` are zero where ``there`` ``(B, P)`` and
    ``available`` ``(N, P)`` say that there is nothing; both results are ``(B, N)``.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, mask = x.to(dtype), there.to(dtype)
    memory, known = memory.to(dtype), available.to(dtype)
    shared = mask @ known.mT
    squares = mask @ memory.square().sum(-1).mT + x.square().sum(-1) @ known.mT
    squares = squares - 2 * x.flatten(1) @ memory.flatten(1).mT
    return squares.clamp(min=0) / (shared * x.shape[-1]).clamp(min=1), shared
