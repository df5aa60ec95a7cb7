"""What members that are fitted to examples share: arguments, checks, examples and their fit."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from modimpute._checks import check_sequence, check_sizes
from modimpute._examples import Examples
from modimpute._reading import Given, check_call, dims_and_places, named
from modimpute._subsets import candidates, first_served, solved_subsets, who_has
from modimpute._table import Table, table_of
from modimpute._valid import keep

HELD = 5  # without validation rows, every fifth sample judges windows


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
        dims, places = dims_and_places(source_dim, source_places)
        self.joint = isinstance(source_dim, Mapping)
        if self.joint:
            self.modality_dims, self.modalities = dict(dims), tuple(dims)
        # As given, with sorted names: a config rebuilds the module from them.
        self.source_dim = dict(dims) if self.joint else source_dim
        self.source_places = dict(places) if isinstance(source_places, Mapping) else source_places
        self.target_dim, self.target_places = target_dim, target_places
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
        source: Given,
        *,
        valid: Given | None = None,
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
        source: Given,
        valid: Given | None,
        target_length: int | None,
        target_valid: Tensor | None,
        index: Tensor | None,
    ) -> Tensor:
        sources, valids = self._named(source, valid)
        length, exists = check_call(sources, valids, target_length, target_valid, self.aligned)
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
        source: Given,
        target: Tensor,
        *,
        valid: Given | None = None,
        target_valid: Tensor | None = None,
        validation: Tensor | None = None,
        standardize_target: bool = True,
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
            standardize_target: As of :func:`fit_ensemble`.
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
        observed = (picked, picked_valid, target[rows], picked_target)
        self.examples.observe(*observed, standardize_target)
        table = table_of(self.examples, sources, valids, target, target_valid)
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
        source: Given,
        target: Tensor,
        *,
        valid: Given | None = None,
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
        table = table_of(self.examples, sources, valids, target, target_valid)
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

    def _named(
        self,
        source: Given,
        valid: Given | None,
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        device = self.examples.target.mean.device
        return named(source, valid, self._dims, self.joint, device)

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
        check_call(sources, valids, target.shape[1], target_valid, self.aligned)
