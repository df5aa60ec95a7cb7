"""The call of an imputer: what is given, what exists, and which rows are run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modimpute._checks import (
    check_batch,
    check_known,
    check_names,
    check_steps,
    check_tensor,
    check_valid,
    check_valids,
)
from modimpute._valid import any_source, choose, keep


@dataclass(frozen=True)
class Call:
    """A checked batch. ``lengths`` has the names that are returned or read."""

    size: int
    modalities: dict[str, Tensor]
    valid: dict[str, Tensor]
    exists: dict[str, Tensor]
    lengths: dict[str, int]
    like: Tensor  # has the dtype of what is returned for a modality that is not given

    def counted(self, aligned: bool, targets: Sequence[str]) -> dict[str, Tensor]:
        """Returns the steps from whose first one each modality counts, of those that are known.

        Those that exist; where nobody was asked (no target), those that are valid. Aligned
        modalities count together.
        """
        known = {n: x for n, x in self.valid.items() if n not in targets} | self.exists
        shared = any_source(self.lengths, known) if aligned else None
        return known if shared is None else dict.fromkeys(self.lengths, shared)

    def take(self, rows: Tensor) -> "Call":
        """Returns these rows alone."""
        batches = (self.modalities, self.valid, self.exists)
        modalities, valid, exists = (
            {name: x.index_select(0, rows.to(x.device)) for name, x in batch.items()}
            for batch in batches
        )
        size = rows.shape[0]
        return replace(self, size=size, modalities=modalities, valid=valid, exists=exists)

    def left(self, name: str, reconstruct: bool, dim: int) -> Tensor:
        """Returns what a row holds that is not run: what is given, zero elsewhere."""
        if name in self.modalities and not reconstruct:
            return keep(self.valid.get(name), self.modalities[name])
        like = self.modalities.get(name, self.like)
        return like.new_zeros((self.size, self.lengths[name], dim))

    def dummy(self) -> "Call":
        """Returns one row of one step with nothing valid."""
        modalities = {n: x.new_zeros((1, 1, x.shape[-1])) for n, x in self.modalities.items()}
        valid = {n: x.new_zeros((1, 1), dtype=torch.bool) for n, x in modalities.items()}
        return Call(1, modalities, valid, {}, dict.fromkeys(self.lengths, 1), self.like)


def check_targets(targets: Sequence[str] | None, modalities: tuple[str, ...]) -> tuple[str, ...]:
    if targets is None:
        return modalities
    if isinstance(targets, str):
        raise TypeError(f"targets must be a sequence of names, however: targets={targets!r}")
    check_names("targets", dict.fromkeys(targets))
    check_known("targets", dict.fromkeys(targets), modalities)
    return tuple(sorted(set(targets)))


def check_call(
    dims: Mapping[str, int],
    targets: tuple[str, ...],
    aligned: bool,
    like: Tensor,
    modalities: Mapping[str, Tensor],
    valid: Mapping[str, Tensor] | None,
    target_valid: Mapping[str, Tensor] | None,
    rows: Tensor | None,
) -> Call:
    size = check_batch("modalities", modalities, dims, like.device)
    check_valids(valid, "modalities", modalities)
    lengths = {name: modalities[name].shape[1] for name in sorted(modalities)}
    check_names("target_valid", {} if target_valid is None else target_valid, least=0)
    exists = dict(target_valid or {})
    check_known("target_valid", exists, targets, " (targets)")
    for name in sorted(exists):
        label = f"target_valid[{name!r}]"
        x = check_steps(label, exists[name])
        check_valid(label, x, (size, lengths.setdefault(name, x.shape[1])), like.device)
    if aligned:
        first = lengths[min(lengths)]  # compared, not put into a set: a size may be symbolic
        if any(length != first for length in lengths.values()):
            rule = "modalities must have one length (aligned=True)"
            raise ValueError(f"{rule}, however: {lengths}")
    if rows is not None:
        check_rows(rows, size)
    if valid:  # what is valid exists
        exists |= {name: x | valid[name] for name, x in exists.items() if name in valid}
    return Call(size, dict(modalities), dict(valid or {}), exists, lengths, like)


def check_rows(rows: Tensor, size: int) -> None:
    check_tensor("rows", rows)
    if rows.dtype != torch.int64:
        raise TypeError(f"rows must be int64, however: rows.dtype={rows.dtype}")
    if rows.dim() != 1:
        raise ValueError(f"rows must have shape (R,), however: rows.shape={tuple(rows.shape)}")
    if rows.device.type != "cpu":
        rule = "rows must be on the CPU (elsewhere reading them would stop the device)"
        raise ValueError(f"{rule}, however: rows.device={rows.device}")
    if rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < size:
        rule = f"rows must be in [0, {size})"
        raise ValueError(f"{rule}, however: from {int(rows.min())} to {int(rows.max())}")
    if len(set(rows.tolist())) != rows.shape[0]:
        raise ValueError(f"rows must differ from each other, however: {rows.tolist()}")


def filled(
    given: Tensor | None, valid: Tensor | None, exists: Tensor | None, predicted: Tensor
) -> Tensor:
    """Puts the prediction where a step exists and is not valid."""
    if given is None:
        return keep(exists, predicted)
    predicted = predicted.to(given.dtype)
    return choose(valid, given, keep(exists, predicted))


def tie(x: Tensor, loose: Sequence[Tensor]) -> Tensor:
    """Makes ``x`` depend on tensors that are not returned, without changing a bit of it."""
    never = x.new_zeros((1, 1, 1), dtype=torch.bool)
    for tensor in loose:
        x = torch.where(never, tensor.sum().to(x.dtype), x)
    return x
