from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from modimpute._checks import check_modality_dims, check_rates, check_sizes, check_transformer
from modimpute._coders import Decoder, Encoder
from modimpute._hub import Hub
from modimpute._imputing import Call, check_call, check_targets, filled, tie
from modimpute._names import ModuleMapping
from modimpute._valid import any_valid, keep

__all__ = ["ModalityImputer"]


class ModalityImputer(nn.Module):
    r"""Fills in whatever is missing: any modality from any others, whole or in part.

    Each modality :math:`n` is encoded once, by a transformer over its valid steps,
    :math:`e_n = \mathrm{Encoder}_n(x_n)`. For a target :math:`m`, what the other modalities say
    is summed and handed, with the target's own encoding, to a light decoder:

    .. math:: \hat{x}_m = \mathrm{Decoder}_m\Big(e_m,\; \mathrm{Norm}\Big(\sum_{n \neq m}
              \begin{cases} c(e_n) & \text{sample has } n \\ u_n & \text{otherwise} \end{cases}
              \Big)\Big)

              y_{m,t} = \begin{cases} x_{m,t} & v_{m,t} \\ \hat{x}_{m,t} & \text{otherwise}
              \end{cases}

    with a learned vector :math:`u_n`, zero at first. With ``aligned=True`` the modalities share
    their steps and :math:`c` is the identity; otherwise :math:`c` reads an encoding into
    ``num_slots`` slots on a clock, from the first to the last step that exists. The cost grows
    linearly with the number of modalities.

    Valid values are returned bit for bit. A sample with nothing valid gets a learned, finite
    answer.

    Two ways to train, neither of which ever needs a missing value: hide some of what is there
    and ask for it (``kept`` from :class:`ModalityDropout`; then
    ``imputer(x, valid=kept, target_valid=valid)`` and a loss where ``valid & ~kept``), or
    predict every modality from the others (``reconstruct=True``).

    Args:
        modality_dims: The number of features :math:`D_m` of each modality by its name; two or
            more.
        targets: The names of the modalities that may have to be filled. Default: all.
        model_dim: The width of the transformers.
        num_heads: The number of attention heads; they share ``model_dim``.
        num_layers: The number of blocks of each encoder; a decoder has one.
        feedforward_dim: The hidden width of the feed-forward parts. Default: ``4 * model_dim``.
        dropout: The dropout rate of residual and feed-forward parts.
        attention_dropout: The dropout rate of the attention weights. Above 0 the attention
            matrix is materialised.
        num_places: The number of first steps with a learned vector of their own, as in
            :class:`ModalityTranslator`.
        aligned: Whether all modalities share their steps; also for vectors, all of one step.
        num_slots: The number of slots on the clock, if not aligned.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Shape:
        - modalities: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - valid: mapping of names to :math:`(B, L_m)`, bool; ``False``: padding or missing,
          never read
        - target_valid: mapping of names of targets to :math:`(B, L_m)`, bool; ``False``: the
          step does not exist
        - rows: :math:`(R)`, int64, on the CPU
        - Output: mapping of names to :math:`(B, L_m, D_m)`, in the dtype of the modality given,
          else of the parameters

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a name, size, shape or device does not fit, or no modality is given.

    References:
        Our choice. The paper behind the other layers (Liu et al., arXiv 2401.10747)
        reconstructs one modality, audio. Slots that all modalities write to and read from:
        compare Jaegle et al., Perceiver IO, 2021.

    Example:
        >>> imputer = ModalityImputer({"text": 300, "audio": 74})
        >>> batch = {"text": torch.randn(2, 50, 300), "audio": torch.randn(2, 375, 74)}
        >>> valid = {"audio": torch.tensor([[True] * 375, [False] * 375])}
        >>> imputed = imputer(batch, valid=valid)
        >>> torch.equal(imputed["audio"][0], batch["audio"][0]), imputed["audio"].shape
        (True, torch.Size([2, 375, 74]))
        >>> exists = {"audio": torch.ones(2, 400, dtype=torch.bool)}
        >>> imputer({"text": batch["text"]}, target_valid=exists)["audio"].shape
        torch.Size([2, 400, 74])
    """

    def __init__(
        self,
        modality_dims: Mapping[str, int],
        *,
        targets: Sequence[str] | None = None,
        model_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        feedforward_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        num_places: int = 0,
        aligned: bool = False,
        num_slots: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_modality_dims(modality_dims, least=2)
        check_rates(dropout=dropout, attention_dropout=attention_dropout)
        check_transformer(model_dim, num_heads, num_layers, feedforward_dim, num_places)
        check_sizes(num_slots=num_slots)
        super().__init__()
        self.modality_dims = {name: modality_dims[name] for name in sorted(modality_dims)}
        self.modalities = tuple(self.modality_dims)
        self.targets = check_targets(targets, self.modalities)
        self.model_dim, self.num_heads, self.num_layers = model_dim, num_heads, num_layers
        self.feedforward_dim = feedforward_dim
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.num_places = num_places
        self.aligned, self.num_slots = aligned, num_slots

        sizes = (model_dim, num_heads, num_layers, feedforward_dim)
        rates = (dropout, attention_dropout)
        self.encoders = ModuleMapping(
            {
                name: Encoder(dim, sizes, *rates, num_places, device, dtype)
                for name, dim in self.modality_dims.items()
            }
        )
        self.decoders = ModuleMapping(
            {
                name: Decoder(
                    modality_dims[name], sizes, *rates, num_places, aligned, device, dtype
                )
                for name in self.targets
            }
        )
        self.hub = Hub(None if aligned else num_slots, sizes, *rates, device, dtype)

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        return (
            f"modality_dims={self.modality_dims}, targets={self.targets}, "
            f"model_dim={self.model_dim}, num_heads={self.num_heads}, aligned={self.aligned}"
        )

    def forward(
        self,
        modalities: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        target_valid: Mapping[str, Tensor] | None = None,
        reconstruct: bool = False,
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns every modality given, and every one named in ``target_valid``, filled in.

        Args:
            modalities: The modalities that there are.
            valid: Which of their steps hold a real value. Default: all.
            target_valid: Which steps of a target exist: those that are not valid are filled, and
                steps that do not exist are zero. It gives a modality that is absent its length.
                Default: all steps of the modalities given, so ragged batches name every target.
            reconstruct: Predict every existing step from the *other* modalities, and copy
                nothing; only targets are returned.
            rows: The samples that lack something, as int64 indices on the CPU: only they are
                run, the others are returned as they are. Eager only.
        """
        facts = (self.modality_dims, self.targets, self.aligned, self.hub.norm.weight)
        call = check_call(*facts, modalities, valid, target_valid, rows)
        if rows is None:
            return self._impute(call, reconstruct)
        names = [n for n in call.lengths if n in self.targets or not reconstruct]
        whole = {n: call.left(n, reconstruct, self.modality_dims[n]) for n in names}
        if rows.shape[0]:
            index = rows.to(call.like.device)
            for name, part in self._impute(call.take(index), reconstruct).items():
                whole[name] = whole[name].index_copy(0, index, part)
        elif self.training:  # every parameter takes part
            loose = list(self._impute(call.dummy(), reconstruct).values())
            whole = {name: tie(x, loose) for name, x in whole.items()}
        return whole

    def _impute(self, call: Call, reconstruct: bool) -> dict[str, Tensor]:
        counted = call.counted(self.aligned, self.targets)
        encoded, valids, clocks = self._encode(call, counted)
        missing = {name: self.encoders[name].missing for name in self.modalities}
        others = self.hub(call.size, encoded, valids, clocks, missing)
        by = self.hub.rotation()
        result: dict[str, Tensor] = {}
        loose: list[Tensor] = []  # computed for no output: they only take part
        for name in self.modalities:
            given, valid, exists = (
                part.get(name) for part in (call.modalities, call.valid, call.exists)
            )
            own = encoded.get(name)
            alone = reconstruct or given is None or not given.shape[1]
            if own is not None and (alone or name not in self.targets):
                loose, own = [*loose, own], None
            if name not in self.targets:
                loose.append(others[name])
                if given is not None and not reconstruct:
                    result[name] = keep(valid, given)
            elif name in call.lengths and self._is_asked(name, call, reconstruct):
                shape = (call.size, call.lengths[name])
                steps = (counted.get(name), exists, shape)
                x = self.decoders[name](own, any_valid(valid), others[name], by, *steps)
                if reconstruct:
                    dtype = x.dtype if given is None else given.dtype
                    result[name] = keep(exists, x).to(dtype)
                else:
                    result[name] = filled(given, valid, exists, x)
            elif given is not None:
                result[name] = given
            elif self.training:
                x = others[name][:1, :1] if self.aligned else others[name][:1]
                steps = (None, None, (x.shape[0], 1))
                loose.append(self.decoders[name](None, None, x, by, *steps))
        return {name: tie(x, loose) for name, x in result.items()} if self.training else result

    def _is_asked(self, name: str, call: Call, reconstruct: bool) -> bool:
        # In training also where nothing is missing: the decoder takes part.
        return reconstruct or self.training or name in call.valid or name not in call.modalities

    def _encode(self, call: Call, counted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
        """Returns the encodings ``(B, L, model_dim)``, their valid and their counted steps."""
        encoded, valids, clocks = {}, dict(call.valid), dict(counted)
        for name in self.modalities:
            x, known = call.modalities.get(name), counted.get(name)
            if x is None or x.shape[1] == 0:  # one step that is not valid, to take part
                x, known = self.hub.norm.weight.new_zeros((1, 1, self.modality_dims[name])), None
                valids[name] = x.new_zeros((1, 1), dtype=torch.bool)
                clocks.pop(name, None)
                if not self.training:
                    continue
            encoded[name] = self.encoders[name](x, valids.get(name), known)
        return encoded, valids, clocks
