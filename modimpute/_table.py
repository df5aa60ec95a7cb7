"""Examples as rows, as closed forms and memories take them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modimpute._examples import Examples
from modimpute._ridge import wide
from modimpute._subsets import who_has


@dataclass(frozen=True)
class Table:
    """Examples as rows: features, targets, which of them exist, which sources are there, whose."""

    x: Tensor  # (n, F)
    y: Tensor  # (n, Q)
    weight: Tensor  # (n, Q), 1 where the target exists
    has: Tensor  # (n, M) bool
    owner: Tensor  # (n,) int64, the sample's number

    def __len__(self) -> int:
        return len(self.x)

    def pick(self, rows: Tensor) -> "Table":
        return Table(*(part[rows] for part in vars(self).values()))

    def to(self, dtype: torch.dtype) -> "Table":
        """Returns the same numbers in this precision."""
        return replace(self, x=self.x.to(dtype), y=self.y.to(dtype), weight=self.weight.to(dtype))

    def wide(self) -> "Table":
        """Returns the same numbers in the widest precision that the device has."""
        return self.to(wide(self.x[:0]).dtype)

    def there(self, steps: int) -> Tensor:
        """Returns ``(n, steps)``: which of an example's target steps exist."""
        return self.weight.view(len(self), steps, -1)[..., 0] > 0

    def having(self, columns: list[int]) -> Tensor:
        """Returns the numbers of the examples that have all of these sources."""
        return self.has[:, columns].all(-1).nonzero().squeeze(-1)

    def some(self, most: int, generator: torch.Generator) -> "Table":
        """Returns at most so many examples, drawn at random, in their order."""
        if len(self) <= most:
            return self
        chosen = torch.randperm(len(self), generator=generator)[:most]
        return self.pick(chosen.sort().values.to(self.x.device))


def table_of(
    examples: Examples,
    sources: Mapping[str, Tensor],
    valids: Mapping[str, Tensor],
    target: Tensor,
    target_valid: Tensor | None,
) -> Table:
    """Returns all examples that have a target and a source."""
    size, length = target.shape[0], target.shape[1]
    x = examples.features(sources, valids, length, target_valid)
    y, there = examples.targets(target, target_valid)
    has = []
    for who in who_has(tuple(examples.sizes), sources, valids).values():
        full = torch.full((size, 1), who is True, dtype=torch.bool, device=x.device)
        has.append(who if isinstance(who, Tensor) else full)
    count = x.shape[1]
    weight = there.unsqueeze(-1).expand(*there.shape, examples.target_dim)
    table = Table(
        x.flatten(0, 1),
        y.flatten(0, 1).flatten(1),
        weight.flatten(0, 1).flatten(1).to(y.dtype),
        torch.cat(has, -1).repeat_interleave(count, 0),
        torch.arange(size, device=x.device).repeat_interleave(count),
    )
    return table.pick((table.weight.any(-1) & table.has.any(-1)).nonzero().squeeze(-1))
