"""Which of its sources a sample has, as one of the few subsets that are solved for."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

# Up to here every subset is solved for: 31 of 5 sources. Beyond: all, all but one, single ones.
FEW = 5

Subset = tuple[str, ...]


def solved_subsets(names: Sequence[str]) -> tuple[Subset, ...]:
    """Returns the subsets of the sources that have a solution of their own, largest first."""
    count = len(names)
    sizes = range(count, 0, -1) if count <= FEW else sorted({count, count - 1, 1}, reverse=True)
    return tuple(subset for size in sizes for subset in combinations(sorted(names), size))


def all_subsets(names: Sequence[str]) -> tuple[Subset, ...]:
    """Returns every subset but the empty one, largest first."""
    sizes = range(len(names), 0, -1)
    return tuple(subset for size in sizes for subset in combinations(sorted(names), size))


def who_has(
    names: Sequence[str], sources: Mapping[str, Tensor], valid: Mapping[str, Tensor]
) -> dict[str, Tensor | bool]:
    """Returns, for each source, which samples ``(B, 1)`` have it; True, False: all, none."""
    has: dict[str, Tensor | bool] = {}
    for name in names:
        if name not in sources or sources[name].shape[1] == 0:
            has[name] = False
        else:
            has[name] = valid[name].any(-1, keepdim=True) if name in valid else True
    return has


def row_of(table: Tensor, row: Tensor | int) -> Tensor:
    """Returns a row ``(D)`` of a table ``(rows, D)``, or one for each sample, ``(B, 1, D)``."""
    return F.embedding(row, table) if isinstance(row, Tensor) else table[row]


def candidates(
    subsets: Sequence[Subset], has: Mapping[str, Tensor | bool]
) -> list[tuple[int, Tensor | None]]:
    """Returns the numbers of the subsets that may serve a sample, each with the samples served.

    Largest first; a sample is served by the first that it has all sources of. None: everybody
    who was not served before.
    """
    found: list[tuple[int, Tensor | None]] = []
    for number, subset in enumerate(subsets):
        served: Tensor | None = None
        for name in subset:
            who = has[name]
            if isinstance(who, Tensor):
                served = who if served is None else served & who
            elif not who:
                break
        else:
            found.append((number, served))
            if served is None:
                break
    return found


def first_served(answers: Sequence[tuple[Tensor | None, Tensor]], nothing: Tensor) -> Tensor:
    """Returns each sample's first answer; ``answers`` are pairs (who is served, answer)."""
    out = nothing
    for served, answer in reversed(answers):
        if served is None:
            out = answer
        else:
            where = served.reshape(served.shape[0], *[1] * (answer.dim() - 1))
            out = torch.where(where, answer, out)
    return out
