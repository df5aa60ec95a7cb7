"""The sources of donors: how far those of a sample are from theirs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._checks import check_batch, check_valids
from modimpute._distance import mean_squared_distance
from modimpute._examples import Examples
from modimpute._subsets import who_has
from modimpute._valid import keep
from modimpute.normalizer import Moments

TINY = 1e-6
SOME = 512  # remembered samples whose nearest others are looked for

Sources = Mapping[str, Tensor]


def checked_sources(
    sources: Sources | None,
    valid: Sources | None,
    dims: Mapping[str, int],
    like: Tensor,
    size: int,
) -> tuple[Sources, Sources]:
    """Checks sources that may be compared, and returns them with zeros where nothing is valid."""
    if sources is None:
        sources = {}
    else:
        check_batch("sources", sources, dims, like.device)
    check_valids(valid, "sources", sources, argument="source_valid")
    for name, x in sources.items():
        if x.shape[0] != size:
            rule = f"sources must have a batch size of {size}, as the target"
            raise ValueError(f"{rule}, however: {name!r} has {x.shape[0]}")
    known = dict(valid or {})
    return {n: keep(known.get(n), x).to(like.dtype) for n, x in sources.items()}, known


class SourceMemory(nn.Module):
    """Remembers the sources of samples, each as one row of features."""

    memory: Tensor
    available: Tensor
    tau: Tensor

    def __init__(
        self,
        dims: Mapping[str, int],
        places: Mapping[str, int],
        memory_size: int,
        temperature: float,
        aligned: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.dims, self.temperature = dims, temperature
        self.examples = Examples(dims, 1, places, 1, None, 0, aligned, device, dtype)
        shape = (memory_size, sum(self.examples.sizes.values()))
        self.register_buffer("memory", torch.empty(shape, device=device, dtype=dtype))
        self.register_buffer("available", torch.empty(shape, device=device, dtype=torch.bool))
        self.register_buffer("tau", torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Forgets the memory."""
        for part in self.examples.modules():
            if isinstance(part, Moments):
                part.reset_parameters()
        self._forget()

    def _forget(self) -> None:
        self.memory.zero_()
        self.available.zero_()
        self.tau.fill_(self.temperature)

    def take(
        self, sources: Sources, valid: Sources, target: Tensor, exists: Tensor | None, rows: Tensor
    ) -> None:
        """Remembers the sources of some of the samples instead of those before."""
        self._forget()
        self.examples.observe(sources, valid, target[..., :1], exists, True)
        if sources:
            x, seen = self._read(sources, valid, target.shape[1], exists)
            self.memory[: len(rows)], self.available[: len(rows)] = x[rows], seen[rows]
            self.tau.copy_(self.temperature * self._nearest(len(rows)))

    def forward(
        self, sources: Sources, valid: Sources, length: int, exists: Tensor | None
    ) -> Tensor:
        """Returns how far each remembered sample is, ``(B, N)``, in units of the temperature."""
        distance, _ = self._apart(*self._read(sources, valid, length, exists))
        return distance / self.tau.to(distance.dtype).clamp(min=TINY)

    def _read(
        self, sources: Sources, valid: Sources, length: int, exists: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the features of the sources, and which of them there are, ``(B, F)``."""
        x = self.examples.features(sources, valid, length, exists).squeeze(1)
        has = who_has(tuple(self.examples.sizes), sources, valid)
        seen = []
        for name, size in self.examples.sizes.items():
            who = has[name]
            if not isinstance(who, Tensor):
                who = x.new_full((x.shape[0], 1), who, dtype=torch.bool)
            seen.append(who.expand(-1, size))
        return x, torch.cat(seen, -1)

    def _apart(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean square of what differs, and the number of features that both have.

        Who has none of the features is as far away as the others are on average.
        """
        single = x.unsqueeze(-1), seen, self.memory.unsqueeze(-1), self.available
        distance, shared = mean_squared_distance(*single)
        count = (shared > 0).sum(-1, keepdim=True).clamp(min=1)
        return torch.where(shared > 0, distance, distance.sum(-1, keepdim=True) / count), shared

    def _nearest(self, count: int) -> Tensor:
        """Returns how far the nearest other one is from a remembered sample, on average."""
        rows = torch.arange(0, count, max(1, count // SOME), device=self.memory.device)
        distance, shared = self._apart(self.memory[rows], self.available[rows])
        own = rows.unsqueeze(-1) == torch.arange(len(self.memory), device=rows.device)
        least = distance.masked_fill((shared == 0) | own, torch.inf).amin(-1)
        found = least.isfinite()
        mean = least.masked_fill(~found, 0.0).sum() / found.sum().clamp(min=1)
        return torch.where(found.any(), mean, 1.0)
