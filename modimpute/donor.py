from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from modimpute._checks import check_device, check_sequence, check_sizes, check_valid
from modimpute._distance import mean_squared_distance
from modimpute._examples import EPS, Examples
from modimpute._reading import dims_and_places
from modimpute._source_memory import SourceMemory, Sources, checked_sources
from modimpute._valid import keep

__all__ = ["DonorMatching"]

TINY = 1e-6


class DonorMatching(nn.Module):
    r"""Draws a reconstruction towards real values that are like it: its *donors*.

    .. math:: \tilde{y} = \hat{y} + s \Big(\sum_j a_j y_j - \hat{y}\Big), \qquad
              a_j = \operatorname{softmax}_j \Big(-\frac{d(\hat{y}, y_j)^2}{\tau}
              - \frac{d(x, x_j)^2}{\tau_x}\Big)

    where :math:`y_j` are at most ``memory_size`` real values of the target, whole samples,
    :math:`d^2` is the mean square of what differs over the features and the steps that both have,
    in units of the variance (each feature's, or one for all of the target), :math:`\tau` is the
    temperature, and :math:`0 \le s \le 1`. With ``source_dims``, donors are like the sample in
    its sources :math:`x`, too: only then do they belong to it, and not to its average.

    A reconstruction that is best in squared error is an average: it is smoother and lies nearer
    to the mean than anything real, and a model that was trained on real values feels it. With
    ``share=1`` and a low temperature the answer is the nearest real value: plausible, at a larger
    squared error. A small share may make even the squared error smaller. Inside a
    :class:`TranslatorEnsemble` (its ``donors``) the share is chosen on held-out samples, for
    each subset of the sources.

    :meth:`remember` is given the real values. Before, and for a sample with no valid step, what
    is given is returned. Of more samples a random part is kept.

    Args:
        target_dim: The number of features :math:`D`.
        source_dims: The number of features of each source that is compared. Default: none.
        memory_size: The number of samples that are kept at most.
        source_places: The number of steps of the sources that are compared, as of the target.
        target_places: The number of steps that are compared: if aligned, the first ones from the
            first valid step on, the rest stays as it is. Else so many points of time, evenly
            from the first to the last valid step.
        aligned: Whether steps are counted (``False``: placed on a clock).
        temperature: The temperature :math:`\tau`, above 0, at first. It is the buffer ``tau``:
            :func:`fit_ensemble` puts a fifth of the variance that is left there.
        source_temperature: :math:`\tau_x`, in units of what :math:`d^2` is on average from one
            remembered sample to the nearest other one.
        device: The device of the memory.
        dtype: The dtype of the memory.

    Shape:
        - reconstruction: :math:`(B, L, D)`, any floating dtype
        - valid: :math:`(B, L)`, bool; ``False``: the step does not exist, it is never read
        - sources: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - source_valid: mapping of names to :math:`(B, L_m)`, bool; ``False``: missing
        - share: a number, or :math:`(B, 1)`, floating
        - Output: :math:`(B, L, D)`, in the dtype of the memory, zero at steps that do not exist

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a size, shape or device does not fit.

    References:
        Little, Missing-Data Adjustments in Large Surveys, 1988 (predictive mean matching:
        the donor is a real value). Our choice: weighted donors, their sources, the share.

    Example:
        >>> real = torch.tensor([-1.0, 1.0]).view(2, 1, 1)
        >>> matching = DonorMatching(1, temperature=0.01).remember(real)
        >>> matching(torch.tensor([[[0.3]], [[-0.2]]])).flatten()
        tensor([ 1., -1.])
        >>> matching(torch.tensor([[[0.3]]]), share=0.5).flatten()
        tensor([0.6500])
    """

    memory: Tensor
    available: Tensor
    tau: Tensor

    def __init__(
        self,
        target_dim: int,
        *,
        source_dims: Mapping[str, int] | None = None,
        memory_size: int = 2048,
        source_places: int | Mapping[str, int] = 1,
        target_places: int = 1,
        aligned: bool = True,
        temperature: float = 0.05,
        source_temperature: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_sizes(target_dim=target_dim, memory_size=memory_size, target_places=target_places)
        for name, value in (("", temperature), ("source_", source_temperature)):
            if not value > 0:
                raise ValueError(f"{name}temperature must be above 0, however: {value}")
        super().__init__()
        self.target_dim, self.target_places = target_dim, target_places
        self.memory_size, self.aligned = memory_size, aligned
        self.temperature, self.source_temperature = temperature, source_temperature
        dims, places = dims_and_places(source_dims, source_places) if source_dims else ({}, {})
        self.source_dims, self.source_places = dims, places
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        none: Mapping[str, int] = {}
        self.examples = Examples(none, target_dim, none, target_places, None, 0, aligned, **place)
        steps = (memory_size, target_places)
        self.register_buffer("memory", torch.empty(*steps, target_dim, **place))
        self.register_buffer("available", torch.empty(steps, device=device, dtype=torch.bool))
        self.register_buffer("tau", torch.empty((), **place))
        self.source_memory: SourceMemory | None = None
        if dims:
            options = (memory_size, source_temperature, aligned)
            self.source_memory = SourceMemory(dims, places, *options, **place)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Forgets the memory; the temperatures are the first ones again."""
        self.examples.target.reset_parameters()
        self.memory.zero_()
        self.available.zero_()
        self.tau.fill_(self.temperature)
        if self.source_memory is not None:
            self.source_memory.reset_parameters()

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        return (
            f"target_dim={self.target_dim}, source_dims={self.source_dims}, memory_size="
            f"{self.memory_size}, target_places={self.target_places}, aligned={self.aligned}, "
            f"temperature={self.temperature}"
        )

    @torch.no_grad()
    def remember(
        self,
        target: Tensor,
        *,
        sources: Sources | None = None,
        valid: Tensor | None = None,
        source_valid: Sources | None = None,
        standardize_target: bool = True,
        seed: int = 0,
    ) -> Self:
        """Remembers these real values instead of those before.

        Args:
            target: Real values of the target, ``(N, L, target_dim)``.
            sources: The sources of the same samples, those that there are.
            valid: Which of the target's steps hold a real value, ``(N, L)``. Default: all.
            source_valid: Which of the sources' steps do. Default: all.
            standardize_target: As of :func:`fit_ensemble`: what differs is measured so.
            seed: The seed of what is drawn where there are more samples than are kept.

        Returns:
            The module itself.
        """
        self._check("target", target, valid)
        like, size = self.memory, target.shape[0]
        given, known = checked_sources(sources, source_valid, self.source_dims, like, size)
        self.examples.observe({}, {}, target, valid, standardize_target)
        y, there = (part.squeeze(1) for part in self.examples.targets(target, valid))
        rows = there.any(-1).nonzero().squeeze(-1)
        if len(rows) > self.memory_size:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randperm(len(rows), generator=generator)[: self.memory_size]
            rows = rows[drawn.sort().values.to(rows.device)]
        self.memory.zero_()
        self.available.zero_()
        self.memory[: len(rows)] = keep(there[rows], y[rows])
        self.available[: len(rows)] = there[rows]
        if self.source_memory is not None:
            self.source_memory.take(given, known, target, valid, rows)
        return self

    def forward(
        self,
        reconstruction: Tensor,
        *,
        sources: Sources | None = None,
        valid: Tensor | None = None,
        source_valid: Sources | None = None,
        share: Tensor | float = 1.0,
    ) -> Tensor:
        """Returns the reconstruction, drawn towards its donors.

        Args:
            reconstruction: What is to be drawn.
            sources: What it was made of, if that is compared: the sources that there are.
            valid: Which steps exist; the others are zero. Default: all.
            source_valid: Which steps of the sources hold a real value. Default: all.
            share: How far: 0 not at all, 1 all the way; a number, or one for each sample.
        """
        self._check("reconstruction", reconstruction, valid)
        like, size = self.memory, reconstruction.shape[0]
        given, known = checked_sources(sources, source_valid, self.source_dims, like, size)
        said = keep(valid, reconstruction.to(self.memory.dtype))
        # Distances are lost in half precision.
        with torch.autocast(said.device.type, enabled=False):
            x, there = (part.squeeze(1) for part in self.examples.targets(said, valid))
            there = there.expand(x.shape[:2])
            beside = None
            if self.source_memory is not None and given:
                beside = self.source_memory(given, known, said.shape[1], valid)
            toward = self._donors(x, there, beside) - x
            if isinstance(share, Tensor):
                share = share.to(toward.dtype).view(-1, 1, 1)
            change = (share * toward).flatten(1).unsqueeze(1)
            steps = self.examples.steps_of(change, said.shape[1], valid)
            return keep(valid, said + self.examples.target.scaled(steps, EPS))

    def _donors(self, x: Tensor, there: Tensor, beside: Tensor | None) -> Tensor:
        """Returns the weighted donors of ``x`` ``(B, P, D)``; ``x`` where nobody has a value.

        ``beside``: how far the sources are from theirs, in units of their temperature.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        wide, values, known = (y.to(dtype) for y in (x, self.memory, self.available))
        distance, shared = mean_squared_distance(wide, there, values, known)
        scores = -distance / self.tau.to(dtype).clamp(min=TINY)
        if beside is not None:
            scores = scores - beside
        hidden = shared == 0
        weight = scores.masked_fill(hidden, torch.finfo(dtype).min).softmax(-1)
        weight = weight.masked_fill(hidden, 0.0)
        found = (weight @ known).unsqueeze(-1)
        donors = (weight @ values.flatten(1)).view_as(wide) / found.clamp(min=TINY)
        return torch.where(found > TINY, donors, wide).to(x.dtype)

    def _check(self, name: str, x: Tensor, valid: Tensor | None) -> None:
        check_sequence(name, x, self.target_dim, "target_dim")
        check_device(name, x, self.memory.device)
        if valid is not None:
            check_valid("valid", valid, tuple(x.shape[:2]), x.device)
