from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modimpute._checks import (
    check_known,
    check_names,
    check_sequence,
    check_sizes,
    check_tensor,
    check_valids,
)
from modimpute.batching import valid_from_lengths

__all__ = ["run_by_length"]

SOURCE, TARGET = "source", ""  # where there are no names; no modality is named ""


def run_by_length(
    module: Callable[..., Any],
    modalities: Tensor | Mapping[str, Tensor],
    *,
    lengths: Tensor | Mapping[str, Tensor],
    valid: Tensor | Mapping[str, Tensor] | None = None,
    target_lengths: Tensor | Mapping[str, Tensor] | None = None,
    num_buckets: int = 4,
    **options: object,
) -> Any:  # noqa: ANN401, as nn.Module: a tensor or a dict of tensors
    r"""Runs a layer on samples of similar length together, so that little padding is computed.

    The samples are sorted by length and split into buckets of equal size, each of which is cut
    to its own longest sample; the results are padded with zeros and put back in order. They are
    those of one call on the padded batch, up to rounding (and to the random numbers of dropout).
    For sequences that are padded at the end, of lengths that differ much: attention costs the
    square of the padded length. On a GPU only where each bucket fills it: else it waits for more
    calls.

    Lengths are read on the CPU, where a data loader makes them, so that no device is waited
    for; for the same reason this is not for ``torch.compile`` and ``torch.export``. Use it in
    the ``forward`` of a module of your own: one backward pass follows from all buckets.

    Args:
        module: Any layer of this package, or a callable with the same arguments; not an ensemble
            of which only some members are aligned.
        modalities: What it reads: a tensor or a mapping.
        lengths: The number of steps of each sample before the padding; by name if
            ``modalities`` is a mapping, or one tensor for all of it if aligned.
        valid: Which of these steps hold a real value. Default: all.
        target_lengths: The number of steps of the target that exist (by name for an imputer);
            the layer is then given ``target_valid``. An unaligned translator needs them, and
            an imputer for every target that it is given: these steps are filled.
        num_buckets: The number of buckets, at most one per sample.
        options: Further arguments of the layer.

    Shape:
        - modalities: :math:`(B, L_m, D_m)` each
        - lengths, target_lengths: :math:`(B)` each, integer, on the CPU
        - valid: :math:`(B, L_m)` each, bool
        - Output: as that of ``module``; of an unaligned target, as long as the longest one

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a name, size, shape or device does not fit.

    References:
        Our choice; batches of similar length are common practice.

    Example:
        >>> translator, audio = ModalityTranslator(74, 35), torch.randn(4, 500, 74)
        >>> lengths = torch.tensor([500, 20, 60, 8])
        >>> run_by_length(translator, audio, lengths=lengths, num_buckets=2).shape
        torch.Size([4, 500, 35])
    """
    check_sizes(num_buckets=num_buckets)
    single = isinstance(modalities, Tensor)
    batch = {SOURCE: modalities} if isinstance(modalities, Tensor) else dict(modalities)
    known = {SOURCE: valid} if isinstance(valid, Tensor) else dict(valid or {})
    check_names("modalities", batch)
    for name in sorted(batch):
        check_sequence("modalities" if single else f"modalities[{name!r}]", batch[name])
    check_valids(known, "modalities", batch)
    size = batch[min(batch)].shape[0]
    shared = dict.fromkeys(batch, lengths) if isinstance(lengths, Tensor) else dict(lengths)
    check_known("lengths", shared, tuple(sorted(batch)), " (modalities)")
    for name in sorted(batch):
        if name not in shared:
            raise ValueError(f"lengths must name all of {sorted(batch)}, however: no {name!r}")
        _check_lengths(f"lengths[{name!r}]", shared[name], size, batch[name].shape[1])
    if isinstance(target_lengths, Tensor):
        target_lengths = {TARGET: target_lengths}
    asked = dict(target_lengths or {})
    for name in getattr(module, "targets", ()):
        if name in batch and name not in asked:
            rule = "target_lengths must say how many steps of every modality exist, to be filled"
            raise ValueError(f"{rule}, however: no {name!r}")
    for name in sorted(asked):
        most = batch[name].shape[1] if name in batch else None
        _check_lengths("target_lengths" + f"[{name!r}]" * bool(name), asked[name], size, most)

    cuts = _cuts(batch, shared, asked, bool(getattr(module, "aligned", True)))
    order = torch.stack([cuts[name] for name in sorted(cuts)]).sum(0).argsort()
    results: list[Any] = []
    device = batch[min(batch)].device
    for rows in order.tensor_split(min(num_buckets, max(len(order), 1))):
        ends = {name: int(cut[rows].max()) if size else 0 for name, cut in cuts.items()}
        x, there = {}, {}
        for name, given in batch.items():
            index, end = rows.to(given.device), ends[name]
            x[name] = given[:, :end].index_select(0, index)
            there[name] = valid_from_lengths(shared[name][rows], end).to(given.device)
            if name in known:
                there[name] &= known[name][:, :end].index_select(0, index)
        exists = {
            name: valid_from_lengths(span[rows], ends[name]).to(device)
            for name, span in asked.items()
        }
        if asked:
            options = options | {"target_valid": exists.get(TARGET, exists)}
        read = (x[SOURCE], there[SOURCE]) if single else (x, there)
        results.append(module(read[0], valid=read[1], **options))

    whole = {name: x.shape[1] for name, x in batch.items()}
    whole |= {n: int(cut.max()) if size else 0 for n, cut in cuts.items() if n not in whole}
    back = order.argsort()
    if isinstance(results[0], Tensor):
        return _restore(results, back, whole.get(TARGET, whole[min(batch)]))
    names = list(results[0])
    return {n: _restore([part[n] for part in results], back, whole[n]) for n in names}


def _restore(parts: list[Tensor], back: Tensor, length: int) -> Tensor:
    """Pads sequences to one length and puts the samples back in order."""
    if parts[0].dim() == 3:
        parts = [F.pad(part, (0, 0, 0, length - part.shape[1])) for part in parts]
    whole = torch.cat(parts)
    return whole.index_select(0, back.to(whole.device))


def _check_lengths(name: str, lengths: Tensor, size: int, most: int | None) -> None:
    check_tensor(name, lengths)
    if lengths.device.type != "cpu":
        rule = f"{name} must be on the CPU (elsewhere reading them would stop the device)"
        raise ValueError(f"{rule}, however: {name}.device={lengths.device}")
    valid_from_lengths(lengths, 0)  # the checks of type and shape
    if lengths.shape[0] != size:
        rule = f"{name} must be one for each of {size} samples"
        raise ValueError(f"{rule}, however: {name}.shape={tuple(lengths.shape)}")
    least, longest = (int(lengths.min()), int(lengths.max())) if size else (0, 0)
    if least < 0 or (most is not None and longest > most):
        rule = f"{name} must be at least 0" + ("" if most is None else f" and at most {most}")
        raise ValueError(f"{rule}, however: from {least} to {longest}")


def _cuts(
    batch: Mapping[str, Tensor],
    lengths: Mapping[str, Tensor],
    asked: Mapping[str, Tensor],
    aligned: bool,
) -> dict[str, Tensor]:
    """Returns to how many steps each sample can be cut."""
    cuts = {name: lengths[name] for name in sorted(batch)}
    for name, steps in asked.items():
        cuts[name] = torch.maximum(cuts.get(name, steps), steps)
    if aligned:  # one length for all
        longest = torch.stack(list(cuts.values())).amax(0)
        if len(batch) > 1 and not asked:  # a sample without a source is answered at every step
            longest = longest.masked_fill(longest == 0, batch[min(batch)].shape[1])
        cuts = dict.fromkeys(cuts, longest)
    return cuts
