from collections.abc import Mapping, Sequence
from typing import Any

import torch

from modimpute._checks import check_names, check_sizes
from modimpute._defaults import Shape, default_donors, default_translators
from modimpute.donor import DonorMatching
from modimpute.ensemble import TranslatorEnsemble

__all__ = ["default_ensemble"]


def default_ensemble(
    source_shapes: Mapping[str, Sequence[int]],
    target_shape: Sequence[int],
    num_samples: int,
    *,
    donors: DonorMatching | None = None,
    memory_size: int | None = None,
    aligned: bool | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> TranslatorEnsemble:
    """Returns the ensemble that :func:`fit_ensemble` fits by default, before it is fitted.

    Its members depend on what they are fitted to: how long and how wide the modalities are, and
    how many samples there are to remember. Told the same, the state of the fitted ensemble loads
    into it, from a ``state_dict`` or a ``.safetensors`` file, where no training samples are.

    Args:
        source_shapes: The steps and features :math:`(L_m, D_m)` of each source, as padded.
        target_shape: The steps and features :math:`(L, D)` of the target, as padded.
        num_samples: The number of training samples, with those that lack the target.
        donors: As given to :func:`fit_ensemble`.
        memory_size: As given to :func:`fit_ensemble`.
        aligned: As given to :func:`fit_ensemble`. Default: if all modalities have one length.
        device: The device of parameters and memory.
        dtype: The dtype of parameters and memory.

    Returns:
        The ensemble, in training mode, as any new module.

    Shape:
        - sources of the ensemble: mapping of names to :math:`(B, L_m, D_m)`
        - its output: :math:`(B, L, D)`

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name or size does not fit.

    References:
        Our choice: the members, their settings, and by which sizes they are chosen.

    Example:
        >>> shapes = {"text": (1, 8), "vision": (1, 6)}
        >>> ensemble = default_ensemble(shapes, (1, 4), 1000)
        >>> sorted(ensemble.translators)
        ['kernel', 'projected kernel', 'retrieval', 'transformer']
    """
    check_names("source_shapes", source_shapes)
    shapes = {n: _shape(f"source_shapes[{n!r}]", source_shapes[n]) for n in sorted(source_shapes)}
    target, place = _shape("target_shape", target_shape), {"device": device, "dtype": dtype}
    check_sizes(num_samples=num_samples)
    if memory_size is not None:
        check_sizes(memory_size=memory_size)
    if aligned is None:
        aligned = all(shape[0] == target[0] for shape in shapes.values())
    of: tuple[Any, ...] = (shapes, target, num_samples, memory_size, aligned, place)
    members, donors = default_translators(*of), donors or default_donors(*of)
    options: dict[str, Any] = {"combination": "weights", "donors": donors, **place}
    return TranslatorEnsemble(members, target[1], **options)


def _shape(name: str, shape: object) -> Shape:
    if not isinstance(shape, Sequence) or len(shape) != 2:
        raise TypeError(f"{name} must be two sizes, steps and features, however: {shape!r}")
    length, dim = shape
    check_sizes(**{f"{name}[0]": length, f"{name}[1]": dim})
    return length, dim
