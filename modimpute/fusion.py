from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._checks import (
    check_batch,
    check_choice,
    check_lengths,
    check_modality_dims,
    check_sizes,
    check_transformer,
    check_valids,
)
from modimpute._cross import Shares, cross_attention
from modimpute._latents import Latents
from modimpute._names import ModuleMapping
from modimpute._positions import clock_positions, rotation, step_positions
from modimpute._product import of_module
from modimpute._tower import POOLS, Tower
from modimpute._valid import any_source, keep

__all__ = ["CrossModalAttentionFusion"]


class CrossModalAttentionFusion(nn.Module):
    r"""Fuses modalities into one vector per sample by attention between them.

    In each block the steps of every modality :math:`m` attend to the valid steps of all other
    modalities, and then pass a feed-forward part, both pre-norm with residual paths:

    .. math:: x_m \leftarrow x_m + \mathrm{Attention}\big(Q_m x_m,\; [K_n x_n]_{n \neq m},\;
              [V_n x_n]_{n \neq m}\big), \qquad x_m \leftarrow x_m + \mathrm{FFN}_m(x_m)

    Keys and values of a modality are projected once for all that read them. Each modality is
    then pooled over its valid steps, and the slots are concatenated in the order of
    ``modalities`` (sorted names). The slot of a missing modality is a learned vector, zero
    at first. A reconstructed modality goes in like an observed one.

    With ``num_latents`` the modalities meet in a few latents :math:`z`, spread over their span:
    in each block the latents attend to the valid steps of all modalities, then each modality to
    the latents (its own steps among what they hold). The cost then grows linearly with the
    number of modalities:

    .. math:: z \leftarrow \mathrm{Block}\big(z,\; [K_n x_n]_n,\; [V_n x_n]_n\big), \qquad
              x_m \leftarrow x_m + \mathrm{Attention}(Q_m x_m,\; K z,\; V z), \qquad \dots

    With ``aligned=False`` modalities may have different lengths and rates: attention compares
    how far a step lies between the first and the last valid step of its modality. With
    ``aligned=True`` step :math:`t` of one modality belongs to step :math:`t` of every other,
    also where a modality begins with a gap.

    Args:
        modality_dims: The number of features :math:`D_m` of each modality by its name; two or
            more.
        model_dim: The width :math:`D` of the transformer.
        num_heads: The number of attention heads; they share ``model_dim``.
        num_layers: The number of blocks.
        feedforward_dim: The hidden width of the feed-forward parts. Default: ``4 * model_dim``.
        dropout: The dropout rate of residual and feed-forward parts.
        attention_dropout: The dropout rate of the attention weights. Above 0 the attention
            matrix is materialised.
        num_places: The number of first steps with a learned vector of their own, as in
            :class:`ModalityTranslator`. They are counted from the first valid step of a modality
            or, if aligned, of any modality.
        num_latents: The number of latents in which the modalities meet; for many modalities or
            long sequences, where 16 to 64 are enough. 0: all attend to all others.
        pool: ``"mean"``, ``"last"`` (the last valid step) or ``"attention"`` (weights from a
            learned query; the mean at first).
        aligned: Whether all modalities share their steps.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Shape:
        - modalities: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - valid: mapping of names to :math:`(B, L_m)`, bool; ``False``: padding or missing,
          never read
        - Output: :math:`(B, M D)`, ``output_dim`` wide, in the dtype of the parameters,
          under autocast too

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a name, size, shape or device does not fit, or no modality is given.

    References:
        Liu et al., arXiv 2401.10747 (the abstract: cross-modality attention keeps what
        reconstructed and observed modalities hold). Tsai et al., Multimodal Transformer for
        Unaligned Multimodal Language Sequences, 2019, has one attention per pair; one attention
        over all others, the learned vectors and the clock are our choice.

    Example:
        >>> fusion = CrossModalAttentionFusion({"text": 300, "audio": 74})
        >>> batch = {"text": torch.randn(2, 50, 300), "audio": torch.randn(2, 375, 74)}
        >>> fusion(batch).shape  # audio, text: 64 each
        torch.Size([2, 128])
        >>> valid = {"audio": torch.tensor([[True] * 375, [False] * 375])}
        >>> fusion(batch, valid=valid)[1, :64].abs().sum().item()  # the learned vector
        0.0
    """

    def __init__(
        self,
        modality_dims: Mapping[str, int],
        *,
        model_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        feedforward_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        num_places: int = 0,
        num_latents: int = 0,
        pool: str = "mean",
        aligned: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_modality_dims(modality_dims, least=2)
        rates = {"dropout": dropout, "attention_dropout": attention_dropout}
        check_transformer(model_dim, num_heads, num_layers, feedforward_dim, num_places, **rates)
        check_sizes(0, num_latents=num_latents)
        check_choice("pool", pool, POOLS)
        super().__init__()
        self.modality_dims = {name: modality_dims[name] for name in sorted(modality_dims)}
        self.modalities = tuple(self.modality_dims)
        self.model_dim, self.num_heads, self.num_layers = model_dim, num_heads, num_layers
        self.feedforward_dim = feedforward_dim
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.num_places, self.num_latents = num_places, num_latents
        self.pool, self.aligned = pool, aligned
        sizes = (model_dim, num_heads, num_layers, feedforward_dim, dropout, attention_dropout)
        options = (device, dtype)
        self.towers = ModuleMapping(
            {
                name: Tower(dim, *sizes, num_places, pool, *options)
                for name, dim in self.modality_dims.items()
            }
        )
        self.latents = Latents(num_latents, *sizes, *options) if num_latents else None

    @property
    def output_dim(self) -> int:
        """The width of the output, ``len(modalities) * model_dim``."""
        return len(self.modalities) * self.model_dim

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        return (
            f"modality_dims={self.modality_dims}, model_dim={self.model_dim}, "
            f"num_heads={self.num_heads}, pool={self.pool!r}, aligned={self.aligned}"
        )

    def forward(
        self, modalities: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Returns the fused vectors ``(B, output_dim)``.

        Args:
            modalities: The modalities that there are.
            valid: Which of their steps hold a real value. Default: all.
        """
        x, valids = self._encode(modalities, valid)
        slots = [self.towers[name].pool(x[name], valids[name]) for name in self.modalities]
        return torch.cat(slots, -1)

    def attend(
        self, modalities: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Returns the sequences ``(B, L_m, model_dim)`` before pooling, of the modalities given.

        Zero at steps that are not valid. For use inside a module of your own: wrappers such as
        DistributedDataParallel see ``forward`` only.
        """
        x, _ = self._encode(modalities, valid)
        return {name: x[name][:, : modalities[name].shape[1]] for name in sorted(modalities)}

    @torch.no_grad()
    def attention_weights(
        self, modalities: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None
    ) -> dict[str, dict[str, Tensor]]:
        """Returns the share of its attention that each step gives to each other modality.

        ``weights["text"]["audio"]`` is ``(B, L_text)``, the mean over blocks and heads; over the
        modalities that are read, the shares of a valid step sum to 1. Zero at steps that are not
        valid and where no other modality has a valid step. With ``num_latents``: what a step
        reads through the latents of each block; the rest is its own modality's. For pictures:
        eager, without gradients, in chunks of steps.
        """
        shares: Shares = {name: {} for name in self.modalities}
        _, valids = self._encode(modalities, valid, shares)
        names = [name for name in self.modalities if name in modalities]

        def told(name: str, other: str) -> Tensor:
            share = shares[name][other].unsqueeze(-1) / self.num_layers
            share = keep(valids[name], share.to(self.towers[name].missing.dtype))
            return share[:, : modalities[name].shape[1], 0]

        return {
            name: {other: told(name, other) for other in names if other != name} for name in names
        }

    def _encode(
        self,
        modalities: Mapping[str, Tensor],
        valid: Mapping[str, Tensor] | None,
        shares: Shares | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
        like = self.towers[self.modalities[0]].missing
        size = check_batch("modalities", modalities, self.modality_dims, like.device)
        check_valids(valid, "modalities", modalities)
        if self.aligned:
            check_lengths("modalities", modalities)
        # Aligned modalities count from the first step that any of them has.
        shared = any_source(modalities, valid) if self.aligned else None
        valids: dict[str, Tensor | None] = {}
        x, by = {}, {}
        together: Tensor | None = None  # aligned modalities are turned alike
        for name in self.modalities:
            tower = self.towers[name]
            given, known = modalities.get(name), valid.get(name) if valid else None
            if given is None or given.shape[1] == 0:  # as one step that is not valid
                given = like.new_zeros((size, 1, self.modality_dims[name]))
                known = like.new_zeros((size, 1), dtype=torch.bool)
            valids[name] = known
            h = of_module(tower.input, keep(known, given).to(like.dtype))
            here = self.aligned and name in modalities
            exists = shared if here else known
            x[name] = tower.places(h, exists)
            if here and together is not None:
                by[name] = together
                continue
            # Latents stand on a clock, on which aligned modalities share a span.
            steps = self.aligned and self.latents is None
            positions = step_positions(h) if steps else clock_positions(h, exists)
            by[name] = rotation(positions, self.model_dim, self.num_heads)
            together = by[name] if here else together
        meet = cross_attention if self.latents is None else self.latents
        x = meet(self.towers, x, valids, by, shares)
        norms = {name: self.towers[name].norm for name in self.modalities}
        return {name: keep(valids[name], norm(x[name])) for name, norm in norms.items()}, valids
