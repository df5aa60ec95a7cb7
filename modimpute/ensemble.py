import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._checks import (
    check_batch,
    check_names,
    check_shape,
    check_sizes,
    check_transformer,
    check_valid,
    check_valids,
)
from modimpute._members import Input, Member, check_sources, source_dims
from modimpute._names import ModuleMapping
from modimpute._positions import Places, rotation, step_positions
from modimpute._transformer import Transformer
from modimpute._valid import attention_mask, keep

__all__ = ["TranslatorEnsemble"]


class TranslatorEnsemble(nn.Module):
    r"""Reconstructs a modality from several others: translators, then a further transformer.

    The translations :math:`z_m` of the sources :math:`m` are concatenated over their features
    and passed through a transformer. A learned vector :math:`u_m` stands where source :math:`m`
    says nothing:

    .. math:: \hat{y} = W_o \, \mathrm{Transformer}\Big(p + \sum_m \begin{cases}
              W_m z_m + b_m & \text{the source says something} \\ u_m & \text{otherwise}
              \end{cases}\Big) + b_o

    (one :math:`W_m` per source, summed, is one matrix on the concatenation; :math:`p` is zero
    or, with ``num_places``, a learned vector for the place of a step, counted from the first
    step of ``target_valid``). Any subset of the sources may be missing, by key or by row; a
    sample with none left gets a learned, finite answer at every step.

    A member is any module with ``forward(source, *, valid=None, target_length=None)``; one that
    also takes ``target_valid`` is given it. Members are handed zeros at steps that are not
    valid, and what they answer for a source that says nothing is not read. ``member.aligned``
    (default ``True``), ``target_dim`` (default: ours) and ``source_dim`` (default: any) are
    respected. A *joint* member has ``modalities``, a sorted tuple of the sources that it reads:
    its ``source`` and ``valid`` are mappings.

    Args:
        translators: The members by the name of their source (a joint one by a name of its own).
        target_dim: The number of target features :math:`D`.
        model_dim: The width of the further transformer.
        num_heads: The number of attention heads; they share ``model_dim``.
        num_layers: The number of blocks of the further transformer.
        feedforward_dim: The hidden width of the feed-forward parts. Default: ``4 * model_dim``.
        dropout: The dropout rate of residual and feed-forward parts.
        attention_dropout: The dropout rate of the attention weights (above 0: slow).
        num_places: The number of first steps with a learned vector of their own, as in
            :class:`ModalityTranslator`.
        device: The device of the parameters (not of the members).
        dtype: The dtype of the parameters (not of the members).

    Shape:
        - sources: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - valid: mapping of names to :math:`(B, L_m)`, bool; ``False``: padding or missing,
          never read
        - target_valid: :math:`(B, L)`, bool; ``False``: the step does not exist
        - Output: :math:`(B, L, D)`, in the dtype of the parameters, under autocast too. If all
          members are aligned, all sources have length :math:`L`

    Raises:
        TypeError: If an argument has the wrong type or dtype, or a member lacks the keywords.
        ValueError: If a name, size, shape or device does not fit, or no source is given.

    References:
        Liu et al., arXiv 2401.10747 (as summarised: the reconstructions from vision and from
        language are concatenated and passed through a further transformer). Our choice: the
        learned vectors, members wider than the target.

    Example:
        >>> ensemble = TranslatorEnsemble(
        ...     {
        ...         "text": ModalityTranslator(300, 64, aligned=False),
        ...         "vision": ModalityTranslator(35, 64, aligned=False),
        ...     },
        ...     target_dim=74,
        ... )
        >>> sources = {"text": torch.randn(2, 50, 300), "vision": torch.randn(2, 500, 35)}
        >>> ensemble(sources, target_length=375).shape
        torch.Size([2, 375, 74])
    """

    def __init__(
        self,
        translators: Mapping[str, nn.Module],
        target_dim: int,
        *,
        model_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        feedforward_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        num_places: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_names("translators", translators)
        check_sizes(target_dim=target_dim)
        rates = {"dropout": dropout, "attention_dropout": attention_dropout}
        check_transformer(model_dim, num_heads, num_layers, feedforward_dim, num_places, **rates)
        members = [Member.of(n, translators[n], target_dim) for n in sorted(translators)]
        super().__init__()
        self.target_dim = target_dim
        self.model_dim, self.num_heads, self.num_layers = model_dim, num_heads, num_layers
        self.feedforward_dim = feedforward_dim
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.num_places = num_places
        self._members, self.modality_dims = members, source_dims(members)
        self.modalities = tuple(self.modality_dims)
        self.aligned = all(member.aligned for member in members)

        self.translators = ModuleMapping(translators)
        self.inputs = ModuleMapping(
            {m.name: Input(m.width, model_dim, device, dtype) for m in members}
        )
        self.places = Places(num_places, model_dim, device, dtype)
        sizes = (model_dim, num_heads, num_layers, feedforward_dim)
        self.transformer = Transformer(*sizes, dropout, attention_dropout, device, dtype)
        self.output = nn.Linear(model_dim, target_dim, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        return (
            f"target_dim={self.target_dim}, model_dim={self.model_dim}, "
            f"num_heads={self.num_heads}, modalities={self.modalities}"
        )

    def forward(
        self,
        sources: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        target_length: int | None = None,
        target_valid: Tensor | None = None,
    ) -> Tensor:
        """Returns the reconstruction ``(B, L, target_dim)``: ``combine`` of ``translate``.

        Args:
            sources: The source modalities that there are.
            valid: Which of their steps hold a real value. Default: all.
            target_length: The number of target steps. If a member is not aligned, this or
                ``target_valid`` is needed.
            target_valid: Which target steps exist; the others are zero. Default: if all members
                are aligned, the union of the sources' valid steps, and all steps for a sample
                that has none; otherwise all steps.
        """
        length, target_valid = check_sources(
            self._members, sources, valid, target_length, target_valid, self.output.weight.device
        )
        # A source that is absent still takes part in training: DDP and FSDP2 wait for it.
        said = self._translate(sources, valid, length, target_valid, fill=self.training)
        return self._combine(*said, target_valid)

    def translate(
        self,
        sources: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        target_length: int | None = None,
        target_valid: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns each member's translation ``(B, L, width)``; zero where it says nothing.

        For use inside a module of your own: wrappers such as DistributedDataParallel see
        ``forward`` only. A member without any source is left out.
        """
        length, target_valid = check_sources(
            self._members, sources, valid, target_length, target_valid, self.output.weight.device
        )
        said, heard = self._translate(sources, valid, length, target_valid, fill=False)
        return {name: keep(heard[name], x) for name, x in said.items()}

    def combine(
        self,
        translations: Mapping[str, Tensor],
        *,
        available: Mapping[str, Tensor] | None = None,
        target_valid: Tensor | None = None,
    ) -> Tensor:
        """Returns the reconstruction ``(B, L, target_dim)`` from translations.

        For use inside a module of your own, as ``translate``.

        Args:
            translations: Translations by the name of their member, ``(B, L, width)``.
            available: Where each one says something, ``(B, L)``. Default: everywhere.
            target_valid: Which target steps exist; the others are zero. Default: all.
        """
        widths = {m.name: m.width for m in self._members}
        size = check_batch("translations", translations, widths, self.output.weight.device)
        length = translations[sorted(translations)[0]].shape[1]
        for name, x in translations.items():
            check_shape(f"translations[{name!r}]", x, (size, length, widths[name]))
        check_valids(available, "translations", translations, argument="available")
        if target_valid is not None:
            check_valid("target_valid", target_valid, (size, length), self.output.weight.device)
        return self._combine(translations, available or {}, target_valid)

    def _translate(
        self,
        sources: Mapping[str, Tensor],
        valid: Mapping[str, Tensor] | None,
        length: int,
        target_valid: Tensor | None,
        *,
        fill: bool,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
        valid, dtype = valid or {}, self.output.weight.dtype
        kept = {name: keep(valid.get(name), sources[name]).to(dtype) for name in sorted(sources)}
        said: dict[str, Tensor] = {}
        heard: dict[str, Tensor | None] = {}
        for member in self._members:
            name, module = member.name, self.translators[member.name]
            given = [source for source in member.dims if source in kept]
            if given:
                x = member.call(module, kept, valid, length, target_valid)
                shape = (kept[given[0]].shape[0], length, member.width)
                said[name] = check_shape(f"translators[{name!r}](...)", x, shape)
                heard[name] = member.heard(kept, valid)
            elif fill and (dummy := member.dummy(self.output.weight)) is not None:
                said[name] = module(dummy[0], valid=dummy[1], target_length=1)
                heard[name] = self.output.weight.new_zeros((1, 1), dtype=torch.bool)
        return said, heard

    def _combine(
        self,
        said: Mapping[str, Tensor],
        heard: Mapping[str, Tensor | None],
        target_valid: Tensor | None,
    ) -> Tensor:
        parts = [self.inputs[n](said.get(n), heard.get(n)) for n in self.inputs.names]
        x = functools.reduce(torch.add, [vector for _, vector in parts])
        x = functools.reduce(torch.add, [projected for projected, _ in parts], x)
        x = self.places(x, target_valid)
        by = rotation(step_positions(x), self.model_dim // self.num_heads)
        x = self.transformer(x, by, attention_mask(target_valid))
        return keep(
            target_valid, self.output(x).to(self.output.weight.dtype)
        )  # autocast lowers it
