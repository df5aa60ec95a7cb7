import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._asking import ask, check_donors, check_said, check_widths, who_is_heard
from modimpute._checks import check_choice, check_names, check_sizes, check_transformer
from modimpute._members import Input, Member, source_dims
from modimpute._names import ModuleMapping
from modimpute._positions import Places, rotation, step_positions
from modimpute._product import of_module
from modimpute._subsets import who_has
from modimpute._transformer import Transformer
from modimpute._valid import attention_mask, keep
from modimpute._weighable import Weighable
from modimpute._weights import Weights
from modimpute.donor import DonorMatching

__all__ = ["TranslatorEnsemble"]

COMBINATIONS = ("transformer", "weights")


class TranslatorEnsemble(Weighable):
    r"""Reconstructs a modality from several others: translators, and a combination of them.

    By default, the translations :math:`z_m` of the sources :math:`m` are concatenated over their
    features and passed through a further transformer. A learned vector :math:`u_m` stands where
    source :math:`m` says nothing:

    .. math:: \hat{y} = W_o \, \mathrm{Transformer}\Big(p + \sum_m \begin{cases}
              W_m z_m + b_m & \text{the source says something} \\ u_m & \text{otherwise}
              \end{cases}\Big) + b_o

    (one :math:`W_m` per source, summed, is one matrix on the concatenation; :math:`p` is zero
    or, with ``num_places``, a learned vector for the place of a step, counted from the first
    step of ``target_valid``). Any subset of the sources may be missing, by key or by row; a
    sample with none left gets a learned, finite answer at every step.

    With ``combination="weights"`` members of the target's width are added up,

    .. math:: \hat{y} = \mu + c_S \sum_m w_{S,m} (z_m - \mu) + a_S v, \qquad w_{S,m} \ge 0, \quad
              \sum_m w_{S,m} \le 1 \le c_S

    where :math:`\mu` is the mean of the target, with what is left of one, each subset :math:`S`
    of the sources has weights of its own (beyond 6: each number of them), and :math:`v` is a wave
    over the steps; :math:`c` is 1 and :math:`a` 0 unless answers are to vary more.
    :meth:`fit_weights` chooses on held-out samples (before, all members count alike),
    :attr:`weights`, :attr:`inflation`, :attr:`variation` show it, :func:`fit_ensemble` does all of
    it. Without sources the answer is :math:`\mu + a v`. ``donors`` draw it to real values like it.

    A member is any module with ``forward(source, *, valid=None, target_length=None)``; one that
    also takes ``target_valid`` is given it. Members are handed zeros at steps that are not valid;
    what they answer for a source that says nothing is not read. ``member.aligned`` (``True`` if
    absent), ``target_dim`` (ours) and ``source_dim`` (any) are respected. A *joint* member has
    ``modalities``, a sorted tuple of its sources: it is given mappings.

    Args:
        translators: The members by the name of their source (a joint one by a name of its own).
        target_dim: The number of target features :math:`D`.
        combination: ``"transformer"`` or ``"weights"``, to which the sizes below mean nothing.
        model_dim: The width of the further transformer.
        num_heads: The number of attention heads; they share ``model_dim``.
        num_layers: The number of blocks of the further transformer.
        feedforward_dim: The hidden width of the feed-forward parts. Default: ``4 * model_dim``.
        dropout: The dropout rate of residual and feed-forward parts.
        attention_dropout: The dropout rate of the attention weights (above 0: slow).
        num_places: How many first steps have a learned vector (as in :class:`ModalityTranslator`).
        donors: With weights: draws the sum towards real values of the target.
        device: The device of the parameters (not of the members, not of the donors).
        dtype: The dtype of the parameters (not of the members, not of the donors).

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
        language are concatenated and passed through a further transformer). Breiman, Stacked
        Regressions, 1996 (non-negative weights). Our choice: the learned vectors, members wider
        than the target, the mean's share, weights per subset.

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
        combination: str = "transformer",
        model_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        feedforward_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        num_places: int = 0,
        donors: DonorMatching | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_names("translators", translators)
        check_sizes(target_dim=target_dim)
        rates = {"dropout": dropout, "attention_dropout": attention_dropout}
        check_transformer(model_dim, num_heads, num_layers, feedforward_dim, num_places, **rates)
        check_choice("combination", combination, COMBINATIONS)
        members = [Member.of(n, translators[n], target_dim) for n in sorted(translators)]
        if combination == "weights":
            check_widths(members, target_dim)
        check_donors(donors, target_dim, combination, source_dims(members))
        super().__init__()
        self.target_dim, self.combination = target_dim, combination
        self.model_dim, self.num_heads, self.num_layers = model_dim, num_heads, num_layers
        self.feedforward_dim = feedforward_dim
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.num_places = num_places
        self._members, self.modality_dims = members, source_dims(members)
        self.modalities = tuple(self.modality_dims)
        self.aligned = all(member.aligned for member in members)

        self.translators = ModuleMapping(translators)
        if combination == "weights":
            names = [member.name for member in members]
            self.weighing = Weights(names, self.modalities, target_dim, donors, device, dtype)
            return
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
            f"target_dim={self.target_dim}, combination={self.combination!r}, model_dim="
            f"{self.model_dim}, num_heads={self.num_heads}, modalities={self.modalities}"
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
        # A source that is absent still takes part in training: DDP and FSDP2 wait for it.
        call = (self._members, self.translators, sources, valid, target_length, target_valid)
        said, heard, target_valid = ask(*call, self._like, fill=self.training)
        has = who_has(self.modalities, sources, valid or {})
        return self._combine(said, heard, has, target_valid, sources, valid)

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
        call = (self._members, self.translators, sources, valid, target_length, target_valid)
        said, heard, _ = ask(*call, self._like, fill=False)
        return {name: keep(heard[name], x) for name, x in said.items()}

    def combine(
        self,
        translations: Mapping[str, Tensor],
        *,
        available: Mapping[str, Tensor] | None = None,
        target_valid: Tensor | None = None,
        sources: Mapping[str, Tensor] | None = None,
        valid: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Returns the reconstruction ``(B, L, target_dim)`` from translations.

        For use inside a module of your own, as ``translate``.

        Args:
            translations: Translations by the name of their member, ``(B, L, width)``.
            available: Where each one says something, ``(B, L)``. Default: everywhere.
            target_valid: Which target steps exist; the others are zero. Default: all.
            sources: What was translated, for ``donors`` that compare it.
            valid: Which of its steps hold a real value. Default: all.
        """
        check_said(self._members, translations, available, target_valid, self._like.device)
        has = who_is_heard(self._members, translations, available or {})
        return self._combine(translations, available or {}, has, target_valid, sources, valid)

    @property
    def _like(self) -> Tensor:
        """A tensor of our device and dtype."""
        return self.weighing.mean if self.combination == "weights" else self.output.weight

    def _combine(
        self,
        said: Mapping[str, Tensor],
        heard: Mapping[str, Tensor | None],
        has: Mapping[str, Tensor | bool],
        target_valid: Tensor | None,
        sources: Mapping[str, Tensor] | None,
        valid: Mapping[str, Tensor] | None,
    ) -> Tensor:
        if self.combination == "weights":
            y: Tensor = self.weighing(said, heard, has, target_valid, sources, valid)
            return keep(target_valid, y.to(self._like.dtype))
        parts = [self.inputs[n](said.get(n), heard.get(n)) for n in self.inputs.names]
        x = functools.reduce(torch.add, [vector for _, vector in parts])
        x = functools.reduce(torch.add, [projected for projected, _ in parts], x)
        x = self.places(x, target_valid)
        by = rotation(step_positions(x), self.model_dim, self.num_heads)
        x = of_module(self.output, self.transformer(x, by, attention_mask(target_valid, x)))
        return keep(target_valid, x.to(self._like.dtype))  # autocast lowers it
