"""What is added to answers that stand still: where little is told, averages do not move."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._evidence import Evidence, Units
from modimpute._subsets import row_of

GOLDEN = 2.399963  # the golden angle: phases of neighbouring features lie far apart


class Variation(nn.Module):
    """A wave over the steps, the same for all samples: each feature at a pace of its own.

    Its deviation is a share of that of the target about each sample's own mean, and neighbouring
    steps are as much alike as those of the target.
    """

    share: Tensor
    deviation: Tensor
    frequency: Tensor

    def __init__(
        self,
        rows: int,
        target_dim: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        for name, size in (("share", rows), ("deviation", target_dim), ("frequency", target_dim)):
            self.register_buffer(name, torch.zeros(size, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Nothing is added."""
        for buffer in self.buffers():
            buffer.zero_()

    def forward(self, answers: Tensor, row: Tensor | int) -> Tensor:
        """Returns answers ``(B, L, D)`` that move; ``row``: of the shares."""
        # In single precision at least: many steps times a frequency.
        exact = torch.promote_types(answers.dtype, torch.float32)
        step = torch.arange(answers.shape[1], device=answers.device, dtype=exact).unsqueeze(-1)
        phase = GOLDEN * torch.arange(len(self.frequency), device=answers.device, dtype=exact)
        wave = 2**0.5 * torch.cos(step * self.frequency.to(exact) + phase)
        share = row_of(self.share.unsqueeze(-1), row)
        return answers + share * self.deviation * wave.to(answers.dtype)

    def choose(
        self,
        evidence: Mapping[int, Evidence],
        weights: Mapping[int, Tensor],
        units: Units,
        tolerance: float,
    ) -> None:
        """Chooses the shares of the rows of which something is known, and that have weights."""
        self.deviation.copy_(units.motion)
        self.frequency.copy_(units.likeness.acos())
        for row, found in evidence.items():
            self.share[row] = found.variation(weights[row], units, tolerance)
        nothing = Evidence(0, units.mean)  # without sources the answer is the mean, which errs all
        nothing.power += 1
        self.share[0] = nothing.variation(nothing.moments, units, tolerance)
