"""What a kernel translator compares examples by: three kernels, a scale for every feature."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modimpute._distance import squared_distance
from modimpute._ridge import wide

SAMPLE = 512  # examples that set the first scales
AMPLITUDES = (0.0, -0.7, -2.0)  # logarithms, of the Gaussian, exponential and linear kernel
NOISE = -3.0  # its logarithm
TINY = 1e-3  # the root of a distance, near zero, would make much of rounding


class Mixture(nn.Module):
    """The sum of a Gaussian, an exponential and a linear kernel. All buffers but one are logs."""

    scale: Tensor
    amplitude: Tensor
    noise: Tensor
    projection: Tensor | None

    def __init__(
        self,
        sizes: Sequence[int],
        key_dim: int | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.sizes, size = tuple(sizes), sum(sizes)
        shapes = {"scale": (3, size), "amplitude": (3,), "noise": ()}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.empty(shape, device=device, dtype=dtype))
        projection = None
        if key_dim is not None:
            projection = torch.empty(size, key_dim, device=device, dtype=dtype)
        self.register_buffer("projection", projection)
        self.reset()

    def reset(self) -> None:
        """Forgets what was learned."""
        self.scale.zero_()
        self.amplitude.copy_(torch.tensor(AMPLITUDES))
        self.noise.fill_(NOISE)
        if self.projection is not None:
            self.projection.zero_()

    def start(self, x: Tensor) -> None:
        """Sets the scales so that sources count alike and the median distance is one."""
        self.reset()
        parts = [self.scale.new_full((size,), size**-0.5) for size in self.sizes]
        equal = torch.cat(parts)
        some = x[:SAMPLE] * equal
        if self.projection is not None:
            basis = torch.linalg.svd(some - some.mean(0), full_matrices=False)[2]
            basis = basis[: self.projection.shape[1]].mT
            self.projection[:, : basis.shape[1]] = basis
        self.scale.copy_((equal / median(squared_distance(some, some)).sqrt()).log())

    def average(self, others: Sequence["Mixture"]) -> None:
        """Takes the mean of what several learned: of logarithms, and of projected distances."""
        for name in ("scale", "amplitude", "noise"):
            getattr(self, name).copy_(torch.stack([getattr(o, name) for o in others]).mean(0))
        if self.projection is not None:
            # Turned, they say the same: their squared distances are averaged, not they themselves.
            pairs = [(o.scale[0], o.projection) for o in others if o.projection is not None]
            parts = [wide(scale).exp().unsqueeze(-1) * wide(maps) for scale, maps in pairs]
            basis, root, _ = torch.linalg.svd(torch.cat(parts, -1), full_matrices=False)
            size = min(len(root), self.projection.shape[1])
            mean = basis[:, :size] * root[:size] / len(parts) ** 0.5
            self.projection.zero_()
            self.projection[:, :size] = mean / wide(self.scale[0]).exp().unsqueeze(-1)

    def forward(self, a: Tensor, b: Tensor, spread: Tensor | float = 1.0) -> Tensor:
        """Returns the kernel ``(n, m)`` of examples; distances are divided by the spread."""
        scale, amplitude = self.scale[2].to(a.dtype).exp(), self.amplitude[2].to(a.dtype).exp()
        return self.curved(a, b, spread) + amplitude * ((a * scale) @ (b * scale).mT)

    def curved(self, a: Tensor, b: Tensor, spread: Tensor | float = 1.0) -> Tensor:
        """Returns the kernel without its linear part."""
        scale, amplitude = self.scale[1].to(a.dtype).exp(), self.amplitude[:2].to(a.dtype).exp()
        rounded = (torch.exp(-self.distance(a, b) / spread), self._root(a, b, scale, spread))
        return amplitude[0] * rounded[0] + amplitude[1] * rounded[1]

    def line(self, b: Tensor) -> Tensor:
        """Returns ``(m, F)``: what a vector is multiplied by for the linear part."""
        scale, amplitude = self.scale[2].to(b.dtype).exp(), self.amplitude[2].to(b.dtype).exp()
        return amplitude * scale.square() * b

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Returns the squared distances ``(n, m)`` that the Gaussian kernel is of."""
        scale = self.scale[0].to(a.dtype).exp()
        a, b = a * scale, b * scale
        if self.projection is not None:
            projection = self.projection.to(a.dtype)
            a, b = a @ projection, b @ projection
        return squared_distance(a, b)

    def _root(self, a: Tensor, b: Tensor, scale: Tensor, spread: Tensor | float) -> Tensor:
        distance = squared_distance(a * scale, b * scale) / spread
        return torch.exp(-(distance + TINY).sqrt())


def median(distance: Tensor) -> Tensor:
    """Returns the median distance of different examples, 1 if there are none."""
    upper = distance.triu(1)
    upper = upper[upper > 0]
    return upper.median() if len(upper) else distance.new_ones(())


def log(x: float) -> float:
    """The logarithm of what may be zero by rounding."""
    return math.log(max(x, 1e-12))
