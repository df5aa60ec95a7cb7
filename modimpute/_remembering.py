"""What members that are fitted to examples share: arguments, checks, examples and their fit."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from modimpute._checks import (
    check_batch,
    check_lengths,
    check_modality_dims,
    check_sequence,
    check_sizes,
    check_steps,
    check_target_length,
    check_valid,
    check_valids,
)
from modimpute._examples import Examples
from modimpute._subsets import candidates, first_served, solved_subsets, who_has
from modimpute._valid import any_source, keep

HELD = 5  # without validation rows, every fifth sample judges windows


@dataclass(frozen=True)
class Table:
    """Examples as rows: features, targets, which of them exist, which sources are there, whose."""

    x: Tensor  # (n, F)
    y: Tensor  # (n, Q)
    weight: Tensor  # (n, Q), 1 where the target exists
    has: Tensor  # (n, M) bool
    owner: Tensor  # (n,) int64, the sample's number

    def __len__(self) -> int:
        return len(self.x)

    def pick(self, rows: Tensor) -> "Table":
        return Table(*(part[rows] for part in vars(self).values()))

    def some(self, most: int, generator: torch.Generator) -> "Table":
        """Returns at most so many examples, drawn at random, in their order."""
        if len(self) <= most:
            return self
        chosen = torch.randperm(len(self), generator=generator)[:most]
        return self.pick(chosen.sort().values.to(self.x.device))


class Remembering(nn.Module):
    """A member of :class:`TranslatorEnsemble` that is fitted to training examples."""

    def __init__(
        self,
        source_dim: int | Mapping[str, int],
        target_dim: int,
        source_places: int | Mapping[str, int],
        target_places: int,
        window: int | None,
        patch: int,
        aligned: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_sizes(target_dim=target_dim, target_places=target_places)
        check_sizes(0, patch=patch, **({} if window is None else {"window": window}))
        self.joint = isinstance(source_dim, Mapping)
        if isinstance(source_dim, Mapping):
            check_modality_dims(source_dim)
            source_dim = {name: source_dim[name] for name in sorted(source_dim)}
            self.modality_dims, self.modalities = source_dim, tuple(source_dim)
            dims = source_dim
        else:
            check_sizes(source_dim=source_dim)
            dims = {"source": source_dim}
        if isinstance(source_places, Mapping):
            source_places = {name: source_places[name] for name in sorted(source_places)}
            if tuple(source_places) != tuple(dims):
                rule = f"source_places must have the names {tuple(dims)}"
                raise ValueError(f"{rule}, however: {tuple(source_places)}")
            places = source_places
        else:
            places = dict.fromkeys(dims, source_places)
        check_sizes(**{f"source_places[{name!r}]": size for name, size in places.items()})
        self.source_dim, self.target_dim = source_dim, target_dim
        self.source_places, self.target_places = source_places, target_places
        self.window, self.patch, self.aligned = window, patch, aligned
        self._dims = dims
        self._subsets = solved_subsets(tuple(dims))
        options = (aligned, device, dtype)
        self.examples = Examples(dims, target_dim, places, target_places, window, patch, *options)

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        view = f"window={self.window}, patch={self.patch}"
        if self.window is None:
            view = f"source_places={self.source_places}, target_places={self.target_places}"
        return (
            f"source_dim={self.source_dim}, target_dim={self.target_dim}, {view}, "
            f"aligned={self.aligned}"
        )

    def forward(
        self,
        source: Tensor | Mapping[str, Tensor],
        *,
        valid: Tensor | Mapping[str, Tensor] | None = None,
        target_length: int | None = None,
        target_valid: Tensor | None = None,
    ) -> Tensor:
        """Returns the translation ``(B, L_target, target_dim)``.

        Args:
            source: The source; of a joint member, a mapping of the sources that there are.
            valid: Which source steps hold a real value. Default: all.
            target_length: The number of target steps; if not aligned, this or ``target_valid``
                is needed.
            target_valid: Which target steps exist; the others are zero. Default: if aligned,
                those of the sources, else all.
        """
        return self._translate(source, valid, target_length, target_valid, None)

    def _translate(
        self,
        source: Tensor | Mapping[str, Tensor],
        valid: Tensor | Mapping[str, Tensor] | None,
        target_length: int | None,
        target_valid: Tensor | None,
        index: Tensor | None,
    ) -> Tensor:
        sources, valids = self._named(source, valid)
        length, exists = self._check(sources, valids, target_length, target_valid)
        some = sources[min(sources)]
        has = who_has(tuple(self._dims), sources, valids)
        # Also where nobody has anything, all parameters take part: distributed training waits.
        nobody = [(0, some.new_zeros((some.shape[0], 1), dtype=torch.bool))]
        chosen = candidates(self._subsets, has) or nobody
        # Distances and long sums are lost in half precision.
        with torch.autocast(some.device.type, enabled=False):
            x = self.examples.features(sources, valids, length, exists)
            answers = [
                (served, self._answer(self._masked(x, number), number, index))
                for number, served in chosen
            ]
            y = x.new_zeros(*x.shape[:2], self.examples.target_size)
            y = first_served(answers, y)
            y = self.examples.answers(y, length, exists)
        if not any(who is True for who in has.values()):  # no source: no opinion
            heard = some.new_zeros((some.shape[0], 1), dtype=torch.bool)
            for who in has.values():
                heard = heard | who
            exists = heard if exists is None else exists & heard
        return keep(exists, y)

    @torch.no_grad()
    def fit(
        self,
        source: Tensor | Mapping[str, Tensor],
        target: Tensor,
        *,
        valid: Tensor | Mapping[str, Tensor] | None = None,
        target_valid: Tensor | None = None,
        validation: Tensor | None = None,
        seed: int = 0,
    ) -> Self:
        """Chooses everything that is to be chosen, and remembers the training samples.

        Args:
            source: The source; of a joint member, a mapping of names to tensors.
            target: The target modality, ``(B, L_target, target_dim)``.
            valid: Which source steps hold a real value. Default: all.
            target_valid: Which target steps hold a real value. Default: all.
            validation: ``(B,)``, bool: samples that help to choose and are not remembered
                (until :meth:`remember` is given them, too). Default: none; choices are made by
                leave-one-out or, with a window, on every fifth sample.
            seed: The seed of what is drawn.

        Returns:
            The module itself.
        """
        sources, valids = self._named(source, valid)
        self._check_fit(sources, valids, target, target_valid)
        size = target.shape[0]
        if validation is None:
            validation = torch.zeros(size, dtype=torch.bool, device=target.device)
        elif validation.dtype != torch.bool or tuple(validation.shape) != (size,):
            rule = f"validation must be bool, of shape {(size,)}"
            raise ValueError(f"{rule}, however: {validation.dtype}, {tuple(validation.shape)}")
        rows = (~validation).nonzero().squeeze(-1)
        if not len(rows):
            raise ValueError(
                "validation must leave samples to fit, however: it is True everywhere"
            )
        picked = {name: x[rows] for name, x in sources.items()}
        picked_valid = {name: v[rows] for name, v in valids.items()}
        picked_target = None if target_valid is None else target_valid[rows]
        self.examples.observe(picked, picked_valid, target[rows], picked_target)
        table = self._table(sources, valids, target, target_valid)
        held = validation[table.owner]
        judged: Table | None = table.pick(held) if bool(held.any()) else None
        generator = torch.Generator().manual_seed(seed)
        fitted = table.pick(~held)
        if judged is None and self.window is not None and len(rows) >= HELD:
            fifth = fitted.owner % HELD == 0
            self._choose(fitted.pick(~fifth), fitted.pick(fifth), generator)
        else:
            self._choose(fitted, judged, generator)
        self._remember(fitted, generator)
        return self

    @torch.no_grad()
    def remember(
        self,
        source: Tensor | Mapping[str, Tensor],
        target: Tensor,
        *,
        valid: Tensor | Mapping[str, Tensor] | None = None,
        target_valid: Tensor | None = None,
        seed: int = 0,
    ) -> Self:
        """Remembers these samples instead of those before; what :meth:`fit` chose stays.

        Args:
            source: As of :meth:`fit`.
            target: As of :meth:`fit`.
            valid: As of :meth:`fit`.
            target_valid: As of :meth:`fit`.
            seed: The seed of what is drawn where there are more examples than are kept.

        Returns:
            The module itself.
        """
        sources, valids = self._named(source, valid)
        self._check_fit(sources, valids, target, target_valid)
        table = self._table(sources, valids, target, target_valid)
        self._remember(table, torch.Generator().manual_seed(seed))
        return self

    @abstractmethod
    def _answer(self, x: Tensor, number: int, index: Tensor | None) -> Tensor:
        """Returns what a subset's solution says of examples ``(B, E, F)``: ``(B, E, Q)``."""

    @abstractmethod
    def _choose(self, table: Table, held: Table | None, generator: torch.Generator) -> None:
        """Chooses hyperparameters by what is left out and by what is held out."""

    @abstractmethod
    def _remember(self, table: Table, generator: torch.Generator) -> None:
        """Fits with the chosen hyperparameters."""

    def _masked(self, x: Tensor, number: int) -> Tensor:
        """Puts zero at the features of the sources that are not in the subset."""
        subset = self._subsets[number]
        if len(subset) == len(self._dims):
            return x
        blocks = torch.split(x, [self.examples.sizes[name] for name in self._dims], -1)
        kept = [
            block if name in subset else torch.zeros_like(block)
            for name, block in zip(self._dims, blocks, strict=True)
        ]
        return torch.cat(kept, -1)

    def _columns(self, number: int) -> list[int]:
        """Returns the places of the subset's sources among all."""
        return [i for i, name in enumerate(self._dims) if name in self._subsets[number]]

    def _table(
        self,
        sources: Mapping[str, Tensor],
        valids: Mapping[str, Tensor],
        target: Tensor,
        target_valid: Tensor | None,
    ) -> Table:
        size, length = target.shape[0], target.shape[1]
        x = self.examples.features(sources, valids, length, target_valid)
        y, there = self.examples.targets(target, target_valid)
        has = []
        for who in who_has(tuple(self._dims), sources, valids).values():
            full = torch.full((size, 1), who is True, dtype=torch.bool, device=x.device)
            has.append(who if isinstance(who, Tensor) else full)
        count = x.shape[1]
        owner = torch.arange(size, device=x.device).repeat_interleave(count)
        weight = there.unsqueeze(-1).expand(*there.shape, self.target_dim)
        table = Table(
            x.flatten(0, 1),
            y.flatten(0, 1).flatten(1),
            weight.flatten(0, 1).flatten(1).to(y.dtype),
            torch.cat(has, -1).repeat_interleave(count, 0),
            owner,
        )
        return table.pick((table.weight.any(-1) & table.has.any(-1)).nonzero().squeeze(-1))

    def _named(
        self,
        source: Tensor | Mapping[str, Tensor],
        valid: Tensor | Mapping[str, Tensor] | None,
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        device = self.examples.target.mean.device
        if self.joint:
            check_batch("source", source, self._dims, device)  # type: ignore[arg-type]
            check_valids(valid, "source", source)  # type: ignore[arg-type]
            return source, valid or {}  # type: ignore[return-value]
        check_sequence("source", source, self._dims["source"], "source_dim")  # type: ignore[arg-type]
        sources = {"source": source}
        check_batch("source", sources, self._dims, device)  # type: ignore[arg-type]
        if valid is None:
            return sources, {}  # type: ignore[return-value]
        check_valid("valid", valid, tuple(source.shape[:2]), source.device)  # type: ignore
        return sources, {"source": valid}  # type: ignore[dict-item, return-value]

    def _check(
        self,
        sources: Mapping[str, Tensor],
        valids: Mapping[str, Tensor],
        target_length: int | None,
        target_valid: Tensor | None,
    ) -> tuple[int, Tensor | None]:
        """Checks a call and returns the number of target steps and which of them exist."""
        some = sources[min(sources)]
        if target_length is not None:
            check_target_length(target_length)
        elif target_valid is not None:
            target_length = check_steps("target_valid", target_valid).shape[1]
        elif not self.aligned:
            rule = "target_length or target_valid must be given (aligned=False)"
            raise ValueError(f"{rule}, however: both are None")
        if self.aligned:
            target_length = check_lengths("sources", sources, target_length)
        assert target_length is not None
        if target_valid is not None:
            check_valid("target_valid", target_valid, (some.shape[0], target_length), some.device)
        elif self.aligned:
            target_valid = any_source(sources, valids)
        return target_length, target_valid

    def _check_fit(
        self,
        sources: Mapping[str, Tensor],
        valids: Mapping[str, Tensor],
        target: Tensor,
        target_valid: Tensor | None,
    ) -> None:
        check_sequence("target", target, self.target_dim, "target_dim")
        size = sources[min(sources)].shape[0]
        if target.shape[0] != size:
            rule = "source and target must have one batch size"
            raise ValueError(f"{rule}, however: {size} and {target.shape[0]}")
        self._check(sources, valids, target.shape[1], target_valid)
