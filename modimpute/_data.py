"""Training samples as the recipe hands them around."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from modimpute._checks import check_batch, check_sequence, check_valid, check_valids
from modimpute._members import Member


@dataclass(frozen=True)
class Data:
    """Sources and target of some samples, and what is there of them."""

    sources: Mapping[str, Tensor]
    valid: Mapping[str, Tensor]  # of all of them
    target: Tensor
    there: Tensor
    joint: bool = True  # read as mappings, or as the one tensor that there is
    alike: bool = True  # the target's features count alike, whatever their deviations

    def __len__(self) -> int:
        return len(self.target)

    @property
    def read(self) -> Tensor | Mapping[str, Tensor]:
        return self.sources if self.joint else next(iter(self.sources.values()))

    @property
    def read_valid(self) -> Tensor | Mapping[str, Tensor]:
        return self.valid if self.joint else next(iter(self.valid.values()))

    def pick(self, rows: Tensor) -> "Data":
        """Returns some of the samples."""
        sources, valid = ({n: x[rows] for n, x in y.items()} for y in (self.sources, self.valid))
        target, there = self.target[rows], self.there[rows]
        return replace(self, sources=sources, valid=valid, target=target, there=there)

    def of(self, member: Member) -> "Data":
        """Returns what a member reads."""
        if not set(member.dims) <= set(self.sources):
            rule = f"sources must have what the translator {member.name!r} reads"
            raise ValueError(f"{rule}, {sorted(member.dims)}, however: {sorted(self.sources)}")
        sources, valid = ({n: y[n] for n in member.dims} for y in (self.sources, self.valid))
        return replace(self, sources=sources, valid=valid, joint=member.joint)

    def noisy(self, noise: Mapping[str, Tensor]) -> "Data":
        """Returns the samples with noise in what is read."""
        sources = {n: x + noise[n] * torch.randn_like(x) for n, x in self.sources.items()}
        return replace(self, sources=sources)

    def ask(self, module: nn.Module, takes_target_valid: bool) -> Tensor:
        """Returns what the module says."""
        options = {"target_valid": self.there} if takes_target_valid else {}
        length = self.target.shape[1]
        out: Tensor = module(self.read, valid=self.read_valid, target_length=length, **options)
        return out


def checked(
    sources: Mapping[str, Tensor],
    target: Tensor,
    valid: Mapping[str, Tensor] | None,
    target_valid: Tensor | None,
    alike: bool,
) -> Data:
    """Checks training samples, sorts their sources, widens half precision to ``float32``."""
    check_sequence("target", target)
    check_batch("sources", sources, dict.fromkeys(sources), target.device)
    check_valids(valid, "sources", sources)
    there = target_valid
    if there is None:
        there = target.new_ones(target.shape[:2], dtype=torch.bool)
    check_valid("target_valid", there, tuple(target.shape[:2]), target.device)
    full = {n: x.new_ones(x.shape[:2], dtype=torch.bool) for n, x in sorted(sources.items())}
    some = next(iter(full.values()))
    if len(some) != len(target):
        rule = "sources and target must have one batch size"
        raise ValueError(f"{rule}, however: {len(some)} and {len(target)}")
    # Half precision is too coarse to learn in.
    dtype = torch.promote_types(target.dtype, torch.float32)
    given = {name: x.to(dtype) for name, x in sorted(sources.items())}
    return Data(given, full | dict(valid or {}), target.to(dtype), there, alike=alike)


def check_rows(name: str, x: Tensor | None, dtype: torch.dtype, target: Tensor) -> None:
    if x is not None and (x.dtype != dtype or tuple(x.shape) != (len(target),)):
        rule = f"{name} must be {dtype}, of shape {(len(target),)}"
        raise ValueError(f"{rule}, however: {x.dtype}, {tuple(x.shape)}")
