"""Some of the samples of a data set: what every method gets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Some of the samples. ``exists`` has also the steps that a missing modality would have."""

    modalities: dict[str, Tensor]  # (N, L, D), zero where not valid
    valid: dict[str, Tensor]  # (N, L)
    exists: dict[str, Tensor]  # (N, L)
    labels: np.ndarray | None = None  # (N,) or (N, K)
    groups: np.ndarray | None = None  # (N,), if the splits hold different groups

    def __len__(self) -> int:
        return len(self.exists[min(self.exists)])

    def rows(self, rows: np.ndarray) -> "Part":
        index = torch.as_tensor(rows)
        tensors = (self.modalities, self.valid, self.exists)
        arrays = (self.labels, self.groups)
        return Part(
            *({n: x[index] for n, x in group.items()} for group in tensors),
            *(None if x is None else x[rows] for x in arrays),
        )

    def has(self, names: Sequence[str]) -> np.ndarray:
        """Returns which samples lack none of the modalities, ``(N,)``."""
        return torch.stack([self.valid[n].any(-1) for n in names]).all(0).numpy()

    def hide(self, names: Sequence[str]) -> "Part":
        """What a method may see: not these modalities, not the labels."""
        kept = {n: x for n, x in self.modalities.items() if n not in names}
        return Part(kept, {n: self.valid[n] for n in kept}, self.exists, None, self.groups)


def join(first: Part, second: Part) -> Part:
    """One part of both. Groups are numbered within each."""
    groups = labels = None
    if first.groups is not None and second.groups is not None:
        groups = np.concatenate([first.groups, second.groups + first.groups.max() + 1])
    if first.labels is not None and second.labels is not None:
        labels = np.concatenate([first.labels, second.labels])
    pairs = (
        (first.modalities, second.modalities),
        (first.valid, second.valid),
        (first.exists, second.exists),
    )
    tensors = ({n: torch.cat([a[n], b[n]]) for n in a} for a, b in pairs)
    return Part(*tensors, labels, groups)
