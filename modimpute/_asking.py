"""What an ensemble's members say, and which samples they say it of."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._checks import check_batch, check_shape, check_valid, check_valids
from modimpute._members import Member, check_sources, source_dims
from modimpute._subsets import who_has
from modimpute._valid import keep
from modimpute._weights import DONORS, MEAN
from modimpute.donor import DonorMatching


def check_widths(members: list[Member], target_dim: int) -> None:
    """Raises unless members can be added up."""
    for member in members:
        if member.name in (DONORS, MEAN):
            rule = f"translators must have other names than {DONORS!r} and {MEAN!r}, whose shares"
            raise ValueError(f"{rule} are shown beside theirs, however: {member.name!r}")
        if member.width != target_dim:
            rule = f'translators must have target_dim={target_dim} (combination="weights")'
            raise ValueError(f"{rule}, however: {member.name!r} has {member.width}")


def check_donors(
    donors: object, target_dim: int, combination: str, dims: Mapping[str, int | None]
) -> None:
    """Raises unless the donors' values can stand for the weighted sum of the members."""
    if donors is None:
        return
    if not isinstance(donors, DonorMatching):
        rule = "donors must be a DonorMatching, or None"
        raise TypeError(f"{rule}, however: {type(donors).__name__}")
    for name, dim in donors.source_dims.items():
        if name not in dims or dims[name] not in (None, dim):
            rule = f"donors.source_dims must be among the sources {dims}"
            raise ValueError(f"{rule}, however: {name!r} with {dim} features")
    if combination != "weights" or donors.target_dim != target_dim:
        rule = f'donors must have target_dim={target_dim}, beside combination="weights"'
        fact = f"target_dim={donors.target_dim}, combination={combination!r}"
        raise ValueError(f"{rule}, however: {fact}")


def check_said(
    members: list[Member],
    said: Mapping[str, Tensor],
    available: Mapping[str, Tensor] | None,
    target_valid: Tensor | None,
    device: torch.device,
) -> None:
    """Checks translations, where each one says something, and which target steps exist."""
    widths = {member.name: member.width for member in members}
    size = check_batch("translations", said, widths, device)
    length = said[sorted(said)[0]].shape[1]
    for name, x in said.items():
        check_shape(f"translations[{name!r}]", x, (size, length, widths[name]))
    check_valids(available, "translations", said, argument="available")
    if target_valid is not None:
        check_valid("target_valid", target_valid, (size, length), device)


def ask(
    members: list[Member],
    modules: Mapping[str, nn.Module],
    sources: Mapping[str, Tensor],
    valid: Mapping[str, Tensor] | None,
    target_length: int | None,
    target_valid: Tensor | None,
    like: Tensor,
    *,
    fill: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor | None], Tensor | None]:
    """Returns what members say, where, and which target steps exist.

    ``fill``: a member without a source is run on a dummy.
    """
    call = (sources, valid, target_length, target_valid)
    length, target_valid = check_sources(members, *call, like.device)
    valid = valid or {}
    kept = {name: keep(valid.get(name), sources[name]).to(like.dtype) for name in sorted(sources)}
    said: dict[str, Tensor] = {}
    heard: dict[str, Tensor | None] = {}
    for member in members:
        name, module = member.name, modules[member.name]
        given = [source for source in member.dims if source in kept]
        if given:
            x = member.call(module, kept, valid, length, target_valid)
            shape = (kept[given[0]].shape[0], length, member.width)
            said[name] = check_shape(f"translators[{name!r}](...)", x, shape)
            heard[name] = member.heard(kept, valid)
        elif fill and (dummy := member.dummy(like)) is not None:
            said[name] = module(dummy[0], valid=dummy[1], target_length=1)
            heard[name] = like.new_zeros((1, 1), dtype=torch.bool)
    return said, heard, target_valid


def who_is_heard(
    members: list[Member], said: Mapping[str, Tensor], available: Mapping[str, Tensor]
) -> dict[str, Tensor | bool]:
    """Returns which samples have each source: those in which anyone who reads it is heard."""
    speaks = who_has([member.name for member in members], said, available)
    has: dict[str, Tensor | bool] = dict.fromkeys(source_dims(members), False)
    for member in members:
        for source in member.dims:
            mine, others = speaks[member.name], has[source]
            if isinstance(mine, Tensor) and isinstance(others, Tensor):
                has[source] = mine | others
            elif others is not True and mine is not False:
                has[source] = mine
    return has
