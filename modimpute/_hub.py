"""Where the encodings of all modalities meet, at a cost that grows linearly with their number."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._coders import Sizes
from modimpute._positions import clock_positions, rotation
from modimpute._transformer import Block
from modimpute._valid import any_valid, attention_mask, blend


class Hub(nn.Module):
    """Tells each modality what all others say.

    Aligned modalities are added step by step. Others are first read into a fixed number of slots
    that stand evenly on the clock of unaligned modalities.
    """

    def __init__(
        self,
        num_slots: int | None,
        sizes: Sizes,
        dropout: float,
        attention_dropout: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        model_dim, num_heads, _, feedforward_dim = sizes
        self.model_dim, self.num_heads, self.num_slots = model_dim, num_heads, num_slots
        self.norm = nn.LayerNorm(model_dim, device=device, dtype=dtype)
        if num_slots is not None:
            slots = torch.empty(num_slots, model_dim, device=device, dtype=dtype)
            self.slots = nn.Parameter(slots)
            options = (dropout, attention_dropout, device, dtype)
            self.block = Block(model_dim, num_heads, feedforward_dim, *options)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.num_slots is not None:
            nn.init.normal_(self.slots, std=0.02)

    def rotation(self) -> Tensor | None:
        """Returns the rotation of the slots, None if there are none."""
        if self.num_slots is None:
            return None
        clock = clock_positions(self.slots.unsqueeze(0), None)
        return rotation(clock, self.model_dim, self.num_heads)

    def forward(
        self,
        size: int,
        encoded: Mapping[str, Tensor],
        valids: Mapping[str, Tensor],
        counted: Mapping[str, Tensor],
        missing: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Returns for each name what the others say, ``(B, L or slots, model_dim)``.

        ``missing`` has a vector for every name, to stand where a sample lacks the modality.
        """
        by = self.rotation()
        parts = []
        for name, vector in missing.items():
            if name in encoded:
                part = encoded[name]
                if by is not None:
                    part = self._write(part, by, valids.get(name), counted.get(name))
                part = blend(any_valid(valids.get(name)), part, vector)
            else:
                part = vector.expand(1, self.num_slots or 1, -1)
            parts.append(part)
        others = [self.norm(x) for x in sums_of_others(parts)]
        if by is not None:
            others = [x.expand(size, -1, -1) for x in others]
        return dict(zip(missing, others, strict=True))

    def _write(
        self, x: Tensor, by: Tensor, valid: Tensor | None, counted: Tensor | None
    ) -> Tensor:
        slots = self.slots.expand(x.shape[0], -1, -1)
        source_by = rotation(clock_positions(x, counted), self.model_dim, self.num_heads)
        written: Tensor = self.block(slots, by, attention_mask(valid, x), x, source_by)
        return written


def sums_of_others(parts: list[Tensor]) -> list[Tensor]:
    """Returns for each part the sum of all others, by sums from both ends.

    Not the total less the part: what must not be read would reach the result by rounding.
    """
    zero = parts[0].new_zeros((1, 1, 1))
    before, after = [zero], [zero]
    for part in parts[:-1]:
        before.append(before[-1] + part)
    for part in parts[:0:-1]:
        after.append(after[-1] + part)
    return [b + a for b, a in zip(before, reversed(after), strict=True)]
