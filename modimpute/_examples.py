"""How members that remember see sequences: as examples, rows of features with their targets.

Either a sample is one example, its steps side by side, each at a *place* of its own (a vector is
one step); or, with a *window*, each target step is one: the source steps around it are its
features, the target steps around it, a *patch*, its targets, and what overlaps is averaged.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modimpute._names import ModuleMapping
from modimpute._valid import count_after, count_before
from modimpute.normalizer import Moments

EPS = 1e-7  # as ModalityNormalizer
LEVEL = 1e-4  # the deviation of logarithms from which lengths differ
FAR = 3.0  # deviations; lengths beyond are as far as these
Span = tuple[Tensor | int, Tensor | int]  # the first step, and how many there are


class Examples(nn.Module):
    """Standardises sources and target, and turns them into examples and back."""

    def __init__(
        self,
        dims: Mapping[str, int],
        target_dim: int,
        source_places: Mapping[str, int],
        target_places: int,
        window: int | None,
        patch: int,
        aligned: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.window, self.patch, self.aligned = window, patch, aligned
        wide = None if window is None else 2 * window + 1
        self.steps = {name: wide or source_places[name] for name in sorted(dims)}
        self.target_steps = target_places if window is None else 2 * patch + 1
        # The clock hides how long things are. That is said beside: of the source, of the target.
        self.clocked = window is None and not aligned
        more = 2 if self.clocked else 0
        self.sizes = {name: self.steps[name] * dims[name] + more for name in self.steps}
        self.target_dim = target_dim
        self.sources = ModuleMapping(
            {name: Moments(dim, device, dtype) for name, dim in dims.items()}
        )
        self.target = Moments(target_dim, device, dtype)
        self.lengths = ModuleMapping(
            {name: Moments(2, device, dtype) for name in dims if self.clocked}
        )

    @property
    def target_size(self) -> int:
        return self.target_steps * self.target_dim

    def observe(
        self,
        sources: Mapping[str, Tensor],
        valid: Mapping[str, Tensor],
        target: Tensor,
        target_valid: Tensor | None,
        alike: bool,
    ) -> None:
        """Takes the moments of the data, and forgets those of other data.

        ``alike``: each feature of the target has a deviation of its own.
        """
        for name, moments in self.sources.items():
            moments.reset_parameters()
            if name in sources:
                moments.update(sources[name], valid.get(name))
        for name, moments in self.lengths.items():
            moments.reset_parameters()
            if name in sources:
                x, there = sources[name], valid.get(name)
                lengths = _lengths(x, there, target.shape[1], target_valid)
                moments.update(lengths, None if there is None else there.any(-1, keepdim=True))
        self.target.reset_parameters()
        self.target.update(target, target_valid)
        if not alike:
            self.target.pool()

    def features(
        self,
        sources: Mapping[str, Tensor],
        valid: Mapping[str, Tensor],
        length: int,
        exists: Tensor | None,
    ) -> Tensor:
        """Returns ``(B, E, F)``, modality by modality, zero (the mean) where nothing is valid.

        ``exists``: of the target's steps; of aligned modalities, the places count from the first.
        """
        like = sources[min(sources)]
        blocks = []
        for name, moments in self.sources.items():
            if name not in sources or sources[name].shape[1] == 0:
                examples = 1 if self.window is None else length
                blocks.append(like.new_zeros(like.shape[0], examples, self.sizes[name]))
                continue
            x = moments.standardize(sources[name], valid.get(name), EPS)
            taken = self._taken(name, x, valid.get(name), length, exists)
            if self.clocked:
                lengths = self._lengths(name, x, valid.get(name), length, exists)
                taken = torch.cat([taken, lengths.to(taken.dtype)], -1)
            blocks.append(taken)
        dtype = self.target.mean.dtype
        return torch.cat([block.to(dtype) for block in blocks], -1)

    def targets(self, target: Tensor, exists: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns ``(B, E, steps, D)`` and which of these steps exist, ``(B, E, steps)``."""
        y = self.target.standardize(target, exists, EPS)
        there = y.new_ones(y.shape[:2], dtype=torch.bool) if exists is None else exists
        if self.window is None:
            index = self._places(y, exists, exists, self.target_steps)
        else:
            offsets = torch.arange(-self.patch, self.patch + 1, device=y.device)
            index = torch.arange(y.shape[1], device=y.device).unsqueeze(-1) + offsets
            index = index.unsqueeze(0)
        rows = index.flatten(1)
        shape = (y.shape[0], index.shape[1], self.target_steps)
        taken = _take(there.unsqueeze(-1).to(y.dtype), rows).view(shape) > 0
        if self.window is not None:  # steps that do not exist are no examples
            taken = taken & there.unsqueeze(-1)
        return _take(y, rows).view(*shape, self.target_dim), taken

    def answers(self, y: Tensor, length: int, exists: Tensor | None) -> Tensor:
        """Returns what was said of examples ``(B, E, steps * D)`` step by step, ``(B, L, D)``."""
        return self.target.restore(self.steps_of(y, length, exists), None, EPS)

    def steps_of(self, y: Tensor, length: int, exists: Tensor | None) -> Tensor:
        """Returns the same, standardised; zero where no example says anything."""
        y = y.view(y.shape[0], y.shape[1], self.target_steps, self.target_dim)
        if self.window is None:
            steps = torch.arange(length, device=y.device).unsqueeze(0)
            if self.aligned:
                places = steps if exists is None else steps - count_before(exists)
            else:
                span = _span(exists, length)
                places = _same_time(steps, span, (0, self.target_steps))
            return _take(y[:, 0], places)
        return self._overlap(y, exists)

    def _lengths(
        self, name: str, x: Tensor, valid: Tensor | None, length: int, exists: Tensor | None
    ) -> Tensor:
        """Returns ``(B, 1, 2)``: how long source and target are, if that told anything before."""
        moments = self.lengths[name]
        there = None if valid is None else valid.any(-1, keepdim=True)
        y = moments.standardize(_lengths(x, valid, length, exists), there, EPS)
        told = moments.deviation > LEVEL
        return torch.where(told, y.clamp(-FAR, FAR), 0.0)

    def _taken(
        self, name: str, x: Tensor, valid: Tensor | None, length: int, exists: Tensor | None
    ) -> Tensor:
        """Returns ``(B, E, steps * D)``: what the steps of each example hold, zero outside."""
        if self.window is None:
            index = self._places(x, valid, exists, self.steps[name])
        elif self.aligned:
            padded = F.pad(x, (0, 0, self.window, self.window))
            return padded.unfold(1, self.steps[name], 1).transpose(2, 3).flatten(2)
        else:
            offsets = torch.arange(-self.window, self.window + 1, device=x.device)
            centres = _same_time(
                torch.arange(length, device=x.device).unsqueeze(0),
                _span(exists, length),
                _span(valid, x.shape[1]),
            )
            index = centres.unsqueeze(-1) + offsets
        taken = _take(x, index.flatten(1))
        return taken.view(x.shape[0], index.shape[1], self.steps[name] * x.shape[-1])

    def _places(
        self, x: Tensor, valid: Tensor | None, exists: Tensor | None, count: int
    ) -> Tensor:
        """Returns ``(B or 1, 1, count)``: the step that stands at each place.

        Aligned, counted from the first step that exists. Else on one clock from the first to the
        last valid step, so that samples of any lengths are compared.
        """
        places = torch.arange(count, device=x.device).unsqueeze(0)
        if not self.aligned:
            steps = _same_time(places, (0, count), _span(valid, x.shape[1]))
        else:
            steps = places if exists is None else places + count_before(exists)
        return steps.unsqueeze(1)

    def _overlap(self, y: Tensor, exists: Tensor | None) -> Tensor:
        """Averages what all patches say of a step."""
        there = y.new_ones(y.shape[:2]) if exists is None else exists.to(y.dtype)
        there = there.unsqueeze(-1)
        total, count = torch.zeros_like(y[:, :, 0]), torch.zeros_like(there)
        for k in range(self.target_steps):
            shift = k - self.patch  # the k-th step of the patch around s is s + shift
            total = total + _shifted(y[:, :, k] * there, shift)
            count = count + _shifted(there, shift)
        return total / count.clamp(min=1)


def _lengths(x: Tensor, valid: Tensor | None, length: int, exists: Tensor | None) -> Tensor:
    """Returns ``(B, 1, 2)``: the logarithms of how many steps source and target span."""
    spans = (_span(valid, x.shape[1])[1], _span(exists, length)[1])
    columns = [
        span.to(x.dtype) if isinstance(span, Tensor) else x.new_full((x.shape[0], 1), span)
        for span in spans
    ]
    return torch.stack(columns, -1).log()


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Returns the steps of ``x`` ``(B, L, D)`` at ``index`` ``(B or 1, K)``, zero outside."""
    if x.shape[1] == 0:
        return x.new_zeros(x.shape[0], index.shape[1], x.shape[2])
    inside = (index >= 0) & (index < x.shape[1])
    at = index.clamp(0, x.shape[1] - 1).expand(x.shape[0], -1)
    taken = x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[2]))
    return torch.where(inside.unsqueeze(-1), taken, 0.0)


def _span(valid: Tensor | None, length: int) -> Span:
    """Returns the first valid step and the number of steps from there to the last one."""
    if valid is None:
        return 0, max(length, 1)
    before = count_before(valid)
    return before, (length - before - count_after(valid)).clamp(min=1)


def _same_time(steps: Tensor, span: Span, other: Span) -> Tensor:
    """Returns the steps of the other span that lie at the same share of it."""
    # The middle of step t of n lies at (2t + 1) / 2n of the span: integers, exact.
    (first, count), (other_first, other_count) = span, other
    twice = (2 * (steps - first) + 1) * other_count
    return other_first + torch.div(twice, 2 * count, rounding_mode="floor")


def _shifted(x: Tensor, by: int) -> Tensor:
    """Moves the steps of ``x`` ``(B, L, D)`` later by ``by`` steps, zeros come in."""
    length = x.shape[1]
    steps = torch.arange(length, device=x.device).unsqueeze(0)
    return _take(x, steps - by)
