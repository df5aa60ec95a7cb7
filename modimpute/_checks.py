"""Checks of names, shapes, dtypes and devices, and their wording.

Never of values: a check that reads data would stop a GPU and break ``torch.export``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def check_sizes(least: int = 1, /, **sizes: object) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{name} must be an int, however: {name}={size!r}")
        if size < least:
            raise ValueError(f"{name} must be at least {least}, however: {name}={size}")


def check_rates(**rates: object) -> None:
    for name, rate in rates.items():
        if not isinstance(rate, (int, float)) or isinstance(rate, bool):
            raise TypeError(f"{name} must be a float, however: {name}={rate!r}")
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"{name} must be in [0, 1), however: {name}={rate}")


def check_transformer(
    model_dim: int,
    num_heads: int,
    num_layers: int,
    feedforward_dim: int | None,
    num_places: int,
    **rates: float,
) -> None:
    check_sizes(model_dim=model_dim, num_heads=num_heads, num_layers=num_layers)
    check_sizes(0, num_places=num_places)
    if feedforward_dim is not None:
        check_sizes(feedforward_dim=feedforward_dim)
    check_rates(**rates)
    if model_dim % num_heads:
        rule = "model_dim must be a multiple of num_heads"
        raise ValueError(f"{rule}, however: model_dim={model_dim}, num_heads={num_heads}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, however: {name}={value!r}")


def check_names(argument: str, mapping: object, *, least: int = 1) -> None:
    if not isinstance(mapping, Mapping):
        fact = f"type({argument})={type(mapping).__name__}"
        raise TypeError(f"{argument} must be a mapping of modality names, however: {fact}")
    for name in mapping:
        if not isinstance(name, str):
            raise TypeError(f"{argument} must have str names, however: {name!r}")
        if not name:
            raise ValueError(f"{argument} must have non-empty names, however: {name!r}")
    if len(mapping) < least:
        rule = f"{argument} must hold at least {least} modalit{'y' if least == 1 else 'ies'}"
        raise ValueError(f"{rule}, however: its names are {sorted(mapping)}")


def check_modality_dims(modality_dims: Mapping[str, int], *, least: int = 1) -> None:
    check_names("modality_dims", modality_dims, least=least)
    check_sizes(**{f"modality_dims[{name!r}]": dim for name, dim in modality_dims.items()})


def check_tensor(
    name: str, x: object, advice: str = "leave the key out, or mark its rows False in valid"
) -> Tensor:
    if x is None:
        raise TypeError(f"{name} must be a Tensor ({advice}), however: {name}=None")
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a Tensor, however: type({name})={type(x).__name__}")
    return x


def check_sequence(name: str, x: Tensor, dim: int | None = None, dim_name: str = "") -> None:
    """Raises unless ``x`` is a floating ``(B, L, dim)`` tensor."""
    check_tensor(name, x)
    if not x.is_floating_point():
        rule = f"{name} must be floating (embed tokens first)"
        raise TypeError(f"{rule}, however: {name}.dtype={x.dtype}")
    if x.dim() != 3:
        rule = f"{name} must have shape (B, L, {dim or 'D'})"
        if x.dim() == 2:
            rule += ", for one vector per sample (B, 1, D): call unsqueeze(1)"
        raise ValueError(f"{rule}, however: {name}.shape={tuple(x.shape)}")
    if dim is not None and x.shape[-1] != dim:
        rule = f"{name} must have {dim} features ({dim_name}) in its last dimension"
        raise ValueError(f"{rule}, however: {name}.shape={tuple(x.shape)}")


def check_valid(name: str, valid: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    """Raises unless ``valid`` is a bool tensor of this shape, on this device."""
    check_tensor(name, valid)
    if valid.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, however: {name}.dtype={valid.dtype}")
    if tuple(valid.shape) != tuple(shape):
        rule = f"{name} must have shape {tuple(shape)}"
        raise ValueError(f"{rule}, however: {name}.shape={tuple(valid.shape)}")
    check_device(name, valid, device)


def check_device(name: str, x: Tensor, device: torch.device) -> None:
    if x.device != device:
        raise ValueError(f"{name} must be on {device}, however: {name}.device={x.device}")


def check_known(
    argument: str, mapping: Mapping[str, object], known: tuple[str, ...], of: str = ""
) -> None:
    for name in mapping:
        if name not in known:
            raise ValueError(f"{argument} must have names of {known}{of}, however: {name!r}")


def check_batch(
    argument: str,
    modalities: Mapping[str, Tensor],
    dims: Mapping[str, int] | Mapping[str, int | None],
    device: torch.device,
) -> int:
    """Checks the tensors of a batch and returns the batch size.

    ``dims`` has every name that the module knows, with its number of features or, where the
    module does not know that, ``None``.
    """
    check_names(argument, modalities)
    check_known(argument, modalities, tuple(sorted(dims)))
    first: str | None = None
    for name in sorted(modalities):
        x, label = modalities[name], f"{argument}[{name!r}]"
        check_sequence(label, x, dims[name], f"the size of {name!r}")
        check_device(label, x, device)
        first = first or name
        if x.shape[0] != modalities[first].shape[0]:
            fact = f"{first!r} has {modalities[first].shape[0]} and {name!r} has {x.shape[0]}"
            raise ValueError(f"{argument} must have one batch size, however: {fact}")
    return modalities[sorted(modalities)[0]].shape[0]


def check_valids(
    valid: Mapping[str, Tensor] | None,
    batch: str,
    modalities: Mapping[str, Tensor],
    *,
    argument: str = "valid",
) -> None:
    """Checks ``valid`` against the batch that it describes."""
    if valid is None:
        return
    check_names(argument, valid, least=0)
    check_known(argument, valid, tuple(sorted(modalities)), f" ({batch})")
    for name in sorted(valid):
        x = modalities[name]
        label = f"{argument}[{name!r}]"
        check_valid(label, valid[name], (x.shape[0], x.shape[1]), x.device)


def check_steps(name: str, x: object) -> Tensor:
    """Raises unless ``x`` is a tensor ``(B, L)``, before anyone reads a length off it."""
    x = check_tensor(name, x)
    if x.dim() != 2:
        rule = f"{name} must have shape (B, L)"
        raise ValueError(f"{rule}, however: {name}.shape={tuple(x.shape)}")
    return x


def check_shape(name: str, x: object, shape: tuple[int, ...]) -> Tensor:
    x = check_tensor(name, x)
    if tuple(x.shape) != tuple(shape):
        rule = f"{name} must have shape {tuple(shape)}"
        raise ValueError(f"{rule}, however: {name}.shape={tuple(x.shape)}")
    return x


def check_lengths(
    argument: str, modalities: Mapping[str, Tensor], length: int | None = None
) -> int:
    """Checks that aligned modalities have one length (this one, if given) and returns it."""
    names = sorted(modalities)
    if length is None:
        length = modalities[names[0]].shape[1]
    for name in names:
        if modalities[name].shape[1] != length:
            lengths = {name: modalities[name].shape[1] for name in names}
            rule = f"aligned {argument} must all have length {length}"
            raise ValueError(f"{rule}, however: {lengths}")
    return length


def check_target_length(target_length: object) -> None:
    if not isinstance(target_length, (int, torch.SymInt)) or isinstance(target_length, bool):
        raise TypeError(
            f"target_length must be an int, however: type={type(target_length).__name__}"
        )
    if target_length < 0:
        raise ValueError(f"target_length must not be negative, however: {target_length}")
