"""What an ensemble knows of its members, and how it takes in what they say."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modimpute._checks import (
    check_batch,
    check_lengths,
    check_names,
    check_sizes,
    check_steps,
    check_target_length,
    check_valid,
    check_valids,
)
from modimpute._product import product
from modimpute._valid import any_source, keep

KEYWORDS = ("valid", "target_length")


@dataclass(frozen=True)
class Member:
    """The facts of one member: which sources it reads, how wide it is, what it takes."""

    name: str
    dims: Mapping[str, int | None]  # of the sources that it reads; None: not known
    joint: bool
    width: int
    aligned: bool
    takes_target_valid: bool

    @classmethod
    def of(cls, name: str, module: object, target_dim: int) -> "Member":
        """Reads the facts off a module, and refuses one that cannot be a member."""
        label = f"translators[{name!r}]"
        if not isinstance(module, nn.Module):
            raise TypeError(f"{label} must be a Module, however: {type(module).__name__}")
        keywords = _keywords(label, module)
        width = getattr(module, "target_dim", target_dim)
        check_sizes(**{f"{label}.target_dim": width})
        modalities = getattr(module, "modalities", None)
        dims: dict[str, int | None] = {name: getattr(module, "source_dim", None)}
        if modalities is not None:
            check_names(f"{label}.modalities", dict.fromkeys(modalities))
            known = getattr(module, "modality_dims", {})
            dims = {source: known.get(source) for source in sorted(modalities)}
        return cls(
            name=name,
            dims=dims,
            joint=modalities is not None,
            width=width,
            aligned=bool(getattr(module, "aligned", True)),
            takes_target_valid="target_valid" in keywords,
        )

    def call(
        self,
        module: nn.Module,
        sources: Mapping[str, Tensor],
        valid: Mapping[str, Tensor],
        target_length: int,
        target_valid: Tensor | None,
    ) -> object:
        """Runs the member on the sources that it reads, of those that there are."""
        options: dict[str, object] = {"target_length": target_length}
        if self.takes_target_valid:
            options["target_valid"] = target_valid
        if not self.joint:
            return module(sources[self.name], valid=valid.get(self.name), **options)
        own = {s: x for s, x in sources.items() if s in self.dims}
        own_valid = {s: v for s, v in valid.items() if s in self.dims}
        return module(own, valid=own_valid or None, **options)

    def heard(self, sources: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> Tensor | None:
        """Returns ``(B, 1)`` or ``(B, L)``: where this member says something. None: everywhere.

        One that is told the target's steps fills gaps itself and says something at every step
        of a sample that has any source; another one only where its source has a value.
        """
        valids = []
        for source in self.dims:
            if source in sources:
                x = sources[source]
                if source not in valid and x.shape[1]:
                    return None
                # A sequence of no steps says nothing.
                none = x.new_zeros(x.shape[:2], dtype=torch.bool)
                valids.append(valid.get(source, none))
        if self.takes_target_valid or not self.aligned:
            valids = [v.any(-1, keepdim=True) for v in valids]
        heard = valids[0]
        for other in valids[1:]:
            heard = heard | other
        return heard

    def dummy(self, like: Tensor) -> tuple[Tensor | dict[str, Tensor], ...] | None:
        """Returns one missing step of each source and its ``valid``, if the sizes are known."""
        sources = {}
        for source, dim in self.dims.items():
            if dim is None:
                return None
            sources[source] = like.new_zeros((1, 1, dim))
        valid = {s: like.new_zeros((1, 1), dtype=torch.bool) for s in sources}
        if self.joint:
            return sources, valid
        return sources[self.name], valid[self.name]


class Input(nn.Module):
    """One translation's share of the input of the further transformer."""

    def __init__(
        self,
        width: int,
        model_dim: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(model_dim, width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(model_dim, device=device, dtype=dtype))
        self.missing = nn.Parameter(torch.empty(model_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.zeros_(self.missing)

    def forward(self, translation: Tensor | None, heard: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the projected translation, and the vector to add to it."""
        if translation is None:
            translation = self.weight.new_zeros((1, 1, self.weight.shape[1]))
            heard = self.weight.new_zeros((1, 1), dtype=torch.bool)
        projected = product(keep(heard, translation.to(self.weight.dtype)), self.weight)
        # All parameters take part, also where every source is heard: see modimpute._valid.choose.
        where = self.weight.new_ones((1, 1), dtype=torch.bool) if heard is None else heard
        return projected, torch.where(where.unsqueeze(-1), self.bias, self.missing)


def source_dims(members: list[Member]) -> dict[str, int | None]:
    """Returns the size of every source that a member reads, and refuses two sizes of one."""
    dims: dict[str, int | None] = {}
    for member in members:
        for source, dim in member.dims.items():
            known = dims.get(source)
            if known is not None and dim is not None and known != dim:
                rule = f"all members must read {source!r} with the same number of features"
                raise ValueError(f"{rule}, however: {known} and {dim}")
            dims[source] = dim if known is None else known
    return {source: dims[source] for source in sorted(dims)}


def check_sources(
    members: list[Member],
    sources: Mapping[str, Tensor],
    valid: Mapping[str, Tensor] | None,
    target_length: int | None,
    target_valid: Tensor | None,
    device: torch.device,
) -> tuple[int, Tensor | None]:
    """Checks a call and returns the number of target steps and which of them exist."""
    size = check_batch("sources", sources, source_dims(members), device)
    check_valids(valid, "sources", sources)
    aligned = all(member.aligned for member in members)
    if target_length is not None:
        check_target_length(target_length)
    elif target_valid is not None:
        target_length = check_steps("target_valid", target_valid).shape[1]
    elif not aligned:
        rule = "target_length or target_valid must be given (a translator is not aligned)"
        raise ValueError(f"{rule}, however: both are None")
    stepwise = {source for member in members if member.aligned for source in member.dims}
    fixed = {name: x for name, x in sources.items() if name in stepwise}
    length = check_lengths("sources", fixed, target_length)
    if target_valid is not None:
        check_valid("target_valid", target_valid, (size, length), device)
    elif aligned:
        target_valid = any_source(sources, valid)
    elif valid:  # all steps: aligned members are told, too
        some = sources[sorted(sources)[0]]
        target_valid = some.new_ones((size, length), dtype=torch.bool)
    return length, target_valid


def _keywords(label: str, module: nn.Module) -> tuple[str, ...]:
    signature = inspect.signature(module.forward)
    kinds = {name: p.kind for name, p in signature.parameters.items()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds.values()
    lacking = [k for k in KEYWORDS if k not in kinds and not takes_any]
    if lacking:
        rule = f"{label} must have forward(source, *, valid=None, target_length=None)"
        raise TypeError(f"{rule}, however: forward{signature} lacks {lacking}")
    return (*kinds, "target_valid") if takes_any else tuple(kinds)
