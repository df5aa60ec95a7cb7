from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from modimpute._checks import check_known, check_modality_dims, check_names, check_tensor

__all__ = ["collate_modalities", "valid_from_lengths"]


def valid_from_lengths(lengths: Tensor, length: int) -> Tensor:
    r"""Returns which steps of right-padded sequences are valid.

    .. math:: v_{bt} = [t < \ell_b], \qquad t = 0, \dots, L - 1

    Args:
        lengths: The number of valid steps :math:`\ell` of each sample; 0: it is missing.
        length: The padded length :math:`L`.

    Shape:
        - lengths: :math:`(B)`, integer
        - Output: :math:`(B, L)`, bool, on the device of ``lengths``

    Raises:
        TypeError: If ``lengths`` is not an integer tensor or ``length`` not an int.
        ValueError: If ``lengths`` is not of shape :math:`(B)` or ``length`` is negative.

    References:
        Our choice.

    Example:
        >>> valid_from_lengths(torch.tensor([3, 1, 0]), 3)
        tensor([[ True,  True,  True],
                [ True, False, False],
                [False, False, False]])
    """
    check_tensor("lengths", lengths)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be integer, however: lengths.dtype={lengths.dtype}")
    if lengths.dim() != 1:
        rule = "lengths must have shape (B,)"
        raise ValueError(f"{rule}, however: lengths.shape={tuple(lengths.shape)}")
    if not isinstance(length, (int, torch.SymInt)) or isinstance(length, bool):
        raise TypeError(f"length must be an int, however: length={length!r}")
    if length < 0:
        raise ValueError(f"length must not be negative, however: length={length}")
    return torch.arange(length, device=lengths.device) < lengths.unsqueeze(-1)


def collate_modalities(
    samples: Sequence[Mapping[str, Tensor]],
    modality_dims: Mapping[str, int],
    *,
    aligned: Sequence[str] = (),
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    r"""Collates samples of any lengths, with any modalities missing, into one batch.

    Sequences are padded with zeros at the end, to the longest of the batch. A modality that a
    sample lacks is a row of zeros whose ``valid`` is ``False``. Every modality is present in
    the result, also one that all samples lack (one step, not valid): a model then sees the same
    names in every batch, which compiled and distributed training needs. Use it as
    ``collate_fn`` of a ``torch.utils.data.DataLoader``, with ``functools.partial``.

    Args:
        samples: The samples, each a mapping of modality names to tensors; a key that is absent
            is a missing modality. A vector :math:`(D)` is one step.
        modality_dims: The number of features of every modality by its name.
        aligned: Names of modalities that share their steps: equal lengths within a sample, one
            padded length in the batch.

    Shape:
        - samples: :math:`(L_m, D_m)` or :math:`(D_m)` each
        - Output: modalities :math:`(B, L_m, D_m)` and ``valid`` :math:`(B, L_m)`, bool, by name

    Raises:
        TypeError: If a sample is not a mapping of floating tensors.
        ValueError: If there is no sample, a name is unknown, a shape does not fit, or aligned
            modalities of a sample differ in length.

    References:
        Our choice; ``torch.utils.data.default_collate`` raises or drops a modality if samples
        differ in their keys.

    Example:
        >>> samples = [
        ...     {"text": torch.ones(2, 4), "image": torch.ones(3)},
        ...     {"text": torch.ones(1, 4)},
        ... ]
        >>> modalities, valid = collate_modalities(samples, {"text": 4, "image": 3})
        >>> {name: tuple(x.shape) for name, x in modalities.items()}
        {'image': (2, 1, 3), 'text': (2, 2, 4)}
        >>> valid["text"], valid["image"].squeeze(1)
        (tensor([[ True,  True],
                [ True, False]]), tensor([ True, False]))
    """
    check_modality_dims(modality_dims)
    if isinstance(aligned, str):
        raise TypeError(f"aligned must be a sequence of names, however: aligned={aligned!r}")
    names = tuple(sorted(modality_dims))
    check_known("aligned", dict.fromkeys(aligned), names)
    if not samples:
        raise ValueError("samples must hold at least one sample, however: it is empty")
    rows = [_steps(i, sample, modality_dims, aligned) for i, sample in enumerate(samples)]
    longest = {name: max(len(row[name]) if name in row else 0 for row in rows) for name in names}
    shared = max((longest[name] for name in aligned), default=0)
    modalities, valid = {}, {}
    for name in names:
        length = max(shared if name in aligned else longest[name], 1)
        modalities[name], valid[name] = _pad(rows, name, length, modality_dims[name])
    return modalities, valid


def _pad(
    rows: Sequence[Mapping[str, Tensor]], name: str, length: int, dim: int
) -> tuple[Tensor, Tensor]:
    present = [row[name] for row in rows if name in row]
    like = present[0] if present else next((x for row in rows for x in row.values()), None)
    like = torch.zeros(()) if like is None else like
    dtype = like.dtype
    for x in present:
        dtype = torch.promote_types(dtype, x.dtype)
    padded = like.new_zeros((len(rows), length, dim), dtype=dtype)
    lengths = [len(row[name]) if name in row else 0 for row in rows]
    for i, row in enumerate(rows):
        if name in row:
            padded[i, : lengths[i]] = row[name]
    return padded, valid_from_lengths(torch.tensor(lengths, device=like.device), length)


def _steps(
    index: int,
    sample: Mapping[str, Tensor],
    modality_dims: Mapping[str, int],
    aligned: Sequence[str],
) -> dict[str, Tensor]:
    argument = f"samples[{index}]"
    check_names(argument, sample, least=0)
    check_known(argument, sample, tuple(sorted(modality_dims)))
    steps = {}
    for name in sorted(sample):
        x, label, dim = sample[name], f"{argument}[{name!r}]", modality_dims[name]
        check_tensor(label, x, "leave the key out")
        if not x.is_floating_point():
            rule = f"{label} must be floating (embed tokens first)"
            raise TypeError(f"{rule}, however: {label}.dtype={x.dtype}")
        if x.dim() not in (1, 2) or x.shape[-1] != dim:
            rule = f"{label} must have shape (L, {dim}) or ({dim},)"
            raise ValueError(f"{rule}, however: {label}.shape={tuple(x.shape)}")
        steps[name] = x.unsqueeze(0) if x.dim() == 1 else x
    lengths = {name: len(steps[name]) for name in aligned if name in steps}
    if len(set(lengths.values())) > 1:
        rule = f"aligned modalities of {argument} must have equal lengths"
        raise ValueError(f"{rule}, however: {lengths}")
    return steps
