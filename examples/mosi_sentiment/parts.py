"""The parts of the model that impute nothing: projections, the head, and two plain ablations."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Projection(nn.Module):
    """MulT's first layer, a convolution over time without bias; the length stays as it is."""

    def __init__(self, dim: int, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, width, kernel, padding="same", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class Head(nn.Module):
    """MulT's last layers: a residual block, then a linear map."""

    def __init__(self, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(x + self.second(self.dropout(self.first(x).relu())))


class ConcatenatedTranslators(nn.Module):
    """The ensemble without its further transformer (an ablation): concatenated, then linear."""

    def __init__(self, translators: Mapping[str, nn.Module], width: int, target_dim: int) -> None:
        super().__init__()
        self.translators = nn.ModuleDict(translators)
        self.modalities = tuple(sorted(translators))
        self.output = nn.Linear(width * len(translators), target_dim)

    def forward(
        self,
        sources: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor],
        target_length: int,
        target_valid: Tensor,
    ) -> Tensor:
        options = {"target_length": target_length, "target_valid": target_valid}
        said = [
            self.translators[name](sources[name], valid=valid[name], **options)
            for name in self.modalities
        ]
        return torch.where(target_valid.unsqueeze(-1), self.output(torch.cat(said, -1)), 0.0)


class Concatenation(nn.Module):
    """Modalities side by side, without attention between them (an ablation of the fusion)."""

    def __init__(self, dims: Mapping[str, int], pool: str) -> None:
        super().__init__()
        self.modalities, self.pool = tuple(sorted(dims)), pool

    def attend(
        self, modalities: Mapping[str, Tensor], *, valid: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {n: torch.where(valid[n].unsqueeze(-1), x, 0.0) for n, x in modalities.items()}

    def forward(self, modalities: Mapping[str, Tensor], *, valid: Mapping[str, Tensor]) -> Tensor:
        x = self.attend(modalities, valid=valid)
        pooled = {name: self._pooled(x[name], valid[name]) for name in x}
        like = next(iter(pooled.values()))
        return torch.cat([pooled.get(n, torch.zeros_like(like)) for n in self.modalities], -1)

    def _pooled(self, x: Tensor, valid: Tensor) -> Tensor:
        if self.pool == "last":  # the last valid step
            steps = torch.arange(1, x.shape[1] + 1, device=x.device) * valid
            return x[torch.arange(len(x), device=x.device), steps.argmax(-1)]
        return x.sum(1) / valid.sum(-1, keepdim=True).clamp(min=1)


def stretch(valid: Tensor, length: int) -> Tensor:
    """``valid`` at another number of steps: of each step, what stood at its share of the whole."""
    steps = torch.arange(length, device=valid.device) * valid.shape[1] // max(length, 1)
    return valid.index_select(1, steps)
