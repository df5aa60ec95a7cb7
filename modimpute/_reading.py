"""What members that are fitted check of a call, single or joint."""

from collections.abc import Mapping

import torch
from torch import Tensor

from modimpute._checks import (
    check_batch,
    check_device,
    check_lengths,
    check_modality_dims,
    check_names,
    check_sequence,
    check_sizes,
    check_steps,
    check_target_length,
    check_tensor,
    check_valid,
    check_valids,
)
from modimpute._valid import any_source

Given = Tensor | Mapping[str, Tensor]


def dims_and_places(
    source_dim: int | Mapping[str, int], source_places: int | Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the features and the places of each source, by sorted name."""
    if isinstance(source_dim, Mapping):
        check_modality_dims(source_dim)
        dims = {name: source_dim[name] for name in sorted(source_dim)}
    else:
        check_sizes(source_dim=source_dim)
        dims = {"source": source_dim}
    if isinstance(source_places, Mapping):
        if sorted(source_places) != list(dims):
            rule = f"source_places must have the names {tuple(dims)}"
            raise ValueError(f"{rule}, however: {tuple(source_places)}")
        places = {name: source_places[name] for name in dims}
    else:
        places = dict.fromkeys(dims, source_places)
    check_sizes(**{f"source_places[{name!r}]": size for name, size in places.items()})
    return dims, places


def check_index(index: Tensor | None, source: Given) -> None:
    """Raises unless ``index`` has an int64 number for each sample."""
    if index is None:
        return
    some = next(iter(source.values())) if isinstance(source, Mapping) else source
    check_tensor("index", index)
    if index.dtype != torch.int64 or tuple(index.shape) != (some.shape[0],):
        rule = f"index must be int64, of shape {(some.shape[0],)}"
        raise ValueError(f"{rule}, however: {index.dtype}, {tuple(index.shape)}")
    check_device("index", index, some.device)


def named(
    source: Given,
    valid: Given | None,
    dims: Mapping[str, int],
    joint: bool,
    device: torch.device,
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Returns the sources and what is there of them by name; that of a single one is "source"."""
    if joint:
        check_names("source", source)
        assert isinstance(source, Mapping)
        check_batch("source", source, dims, device)
        if valid is None:
            return source, {}
        check_names("valid", valid, least=0)
        assert isinstance(valid, Mapping)
        check_valids(valid, "source", source)
        return source, valid
    advice = "a mapping is for members that read several sources"
    x = check_tensor("source", source, advice)
    check_sequence("source", x, dims["source"], "source_dim")
    check_batch("sources", {"source": x}, dims, device)
    if valid is None:
        return {"source": x}, {}
    v = check_tensor("valid", valid, advice)
    check_valid("valid", v, (x.shape[0], x.shape[1]), x.device)
    return {"source": x}, {"source": v}


def check_call(
    sources: Mapping[str, Tensor],
    valids: Mapping[str, Tensor],
    target_length: int | None,
    target_valid: Tensor | None,
    aligned: bool,
) -> tuple[int, Tensor | None]:
    """Checks a call and returns the number of target steps and which of them exist."""
    some = sources[min(sources)]
    if target_length is not None:
        check_target_length(target_length)
    elif target_valid is not None:
        target_length = check_steps("target_valid", target_valid).shape[1]
    elif not aligned:
        rule = "target_length or target_valid must be given (aligned=False)"
        raise ValueError(f"{rule}, however: both are None")
    length = check_lengths("sources", sources, target_length) if aligned else target_length
    assert length is not None
    if target_valid is not None:
        check_valid("target_valid", target_valid, (some.shape[0], length), some.device)
    elif aligned:
        target_valid = any_source(sources, valids)
    return length, target_valid
