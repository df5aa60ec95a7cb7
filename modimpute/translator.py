import torch
from torch import Tensor, nn

from modimpute._checks import (
    check_device,
    check_sequence,
    check_sizes,
    check_steps,
    check_target_length,
    check_transformer,
    check_valid,
)
from modimpute._positions import Places, clock_positions, rotation, step_positions, waves
from modimpute._product import of_module
from modimpute._transformer import Transformer
from modimpute._valid import any_valid, attention_mask, blend, keep

__all__ = ["ModalityTranslator"]


class ModalityTranslator(nn.Module):
    r"""Translates the sequence of one modality into that of another with a transformer.

    With ``aligned=True``, step :math:`t` of the target belongs to step :math:`t` of the source,
    and a pre-norm encoder with rotary positions reads the valid source steps:

    .. math:: \hat{y}_t = W_o \, \mathrm{Encoder}(h)_t + b_o, \qquad
              h_t = p_t + \begin{cases} W_i x_t + b_i & v_t \\ g & \text{otherwise} \end{cases}

    where :math:`g` is a learned vector: a step whose own source step is a gap is answered from
    its neighbours; :math:`p_t` is zero or, with ``num_places``, a learned vector for the place
    of the step, counted from the first step that exists (``target_valid`` if aligned and given,
    else the first valid step). With ``aligned=False``, lengths and rates may differ: one query
    for each target step attends to the encoded source,

    .. math:: \hat{y}_t = W_o \, \mathrm{Decoder}(W_q\, s_t + b_q, \mathrm{Encoder}(h))_t + b_o,

    where :math:`s_t` are sinusoidal features of how far step :math:`t` lies between the first
    and the last step that exists (``target_valid``). On the same clock, from the first to the
    last valid step of the source, the queries find the steps of their own time. Padding at
    either end changes nothing, and lengths never seen in training work.

    A sample with no valid source step is answered with zeros: no opinion.

    Args:
        source_dim: The number of source features :math:`D_s`.
        target_dim: The number of features of the output :math:`D_t`. A member of a
            :class:`TranslatorEnsemble` may be wider than the target.
        model_dim: The width of the transformer.
        num_heads: The number of attention heads; they share ``model_dim``. Few and wide heads
            (8 features or more) are faster.
        num_layers: The number of blocks of the encoder and, if unaligned, of the decoder.
        feedforward_dim: The hidden width of the feed-forward parts. Default: ``4 * model_dim``.
        dropout: The dropout rate of residual and feed-forward parts.
        attention_dropout: The dropout rate of the attention weights. Above 0 the attention
            matrix is materialised: slower, and far more memory for long sequences.
        num_places: The number of first steps with a learned vector of their own, counted from
            the first step that exists; later steps share the last one. 0: only differences of
            positions count. Use it where a step has a meaning of its own, as the rows of an
            image; the longest length seen in training is the most that makes sense.
        aligned: Whether target step :math:`t` belongs to source step :math:`t`.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Shape:
        - source: :math:`(B, L_s, D_s)`, any floating dtype
        - valid: :math:`(B, L_s)`, bool; ``False``: padding or missing, never read
        - target_valid: :math:`(B, L_t)`, bool; ``False``: the step does not exist
        - Output: :math:`(B, L_t, D_t)`, in the dtype of the parameters, under autocast too;
          aligned: :math:`L_t = L_s`

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a size, shape or device does not fit, or an unaligned translator is not
            told the length of the target.

    References:
        Liu, Zhan, Chen and Lv, Multimodal Sentiment Analysis with Missing Modality: A
        Knowledge-Transfer Approach, arXiv 2401.10747 (the abstract: modalities are translated
        to reconstruct the missing one). Inside, a pre-norm transformer (Vaswani et al., 2017)
        with rotary positions (Su et al., 2021). Our choice: the learned vectors, the clock and
        the two ways of alignment.

    Example:
        >>> text = torch.randn(2, 50, 300)
        >>> translator = ModalityTranslator(300, 74)
        >>> translator(text).shape
        torch.Size([2, 50, 74])
        >>> translator = ModalityTranslator(300, 74, aligned=False)
        >>> translator(text, target_length=375).shape
        torch.Size([2, 375, 74])
    """

    def __init__(
        self,
        source_dim: int,
        target_dim: int,
        *,
        model_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        feedforward_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        num_places: int = 0,
        aligned: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_sizes(source_dim=source_dim, target_dim=target_dim)
        rates = {"dropout": dropout, "attention_dropout": attention_dropout}
        check_transformer(model_dim, num_heads, num_layers, feedforward_dim, num_places, **rates)
        super().__init__()
        self.source_dim, self.target_dim = source_dim, target_dim
        self.model_dim, self.num_heads, self.num_layers = model_dim, num_heads, num_layers
        self.feedforward_dim = feedforward_dim
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.num_places = num_places
        self.aligned = aligned

        sizes = (model_dim, num_heads, num_layers, feedforward_dim)
        options = (dropout, attention_dropout, device, dtype)
        self.input = nn.Linear(source_dim, model_dim, device=device, dtype=dtype)
        self.gap = nn.Parameter(torch.empty(model_dim, device=device, dtype=dtype))
        self.places = Places(num_places, model_dim, device, dtype)
        self.encoder = Transformer(*sizes, *options)
        if not aligned:
            self.query = nn.Linear(model_dim, model_dim, device=device, dtype=dtype)
            self.decoder = Transformer(*sizes, *options)
        self.output = nn.Linear(model_dim, target_dim, device=device, dtype=dtype)

        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the vector that stands at gaps to zero. The layers inside have their own reset."""
        nn.init.zeros_(self.gap)

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        return (
            f"source_dim={self.source_dim}, target_dim={self.target_dim}, "
            f"model_dim={self.model_dim}, num_heads={self.num_heads}, aligned={self.aligned}"
        )

    def forward(
        self,
        source: Tensor,
        *,
        valid: Tensor | None = None,
        target_length: int | None = None,
        target_valid: Tensor | None = None,
    ) -> Tensor:
        """Returns the translation ``(B, L_target, target_dim)``.

        Args:
            source: The sequence of the source modality.
            valid: Which source steps hold a real value. Default: all.
            target_length: The number of target steps; an unaligned translator needs it or
                ``target_valid``.
            target_valid: Which target steps exist; the others are zero. Default: ``valid`` if
                aligned, else all.
        """
        length = self._check(source, valid, target_length, target_valid)
        if not self.aligned and source.shape[1] == 0:  # nothing to attend to: one missing step
            source = source.new_zeros((source.shape[0], 1, self.source_dim))
            valid = source.new_zeros(source.shape[:2], dtype=torch.bool)
        exists = target_valid
        if exists is None and self.aligned:
            exists = valid

        x = of_module(self.input, keep(valid, source).to(self.input.weight.dtype))
        x = blend(valid, x, self.gap)
        x = self.places(x, exists if self.aligned else valid)
        mask = attention_mask(valid, x)
        by = rotation(step_positions(x), self.model_dim, self.num_heads)
        x = self.encoder(x, by, mask)
        if not self.aligned:
            x = self._decode(x, valid, mask, exists, length)

        out = of_module(self.output, x).to(self.output.weight.dtype)  # autocast lowers it
        readable = None if exists is valid else any_valid(valid)  # the valid steps are readable
        if readable is not None:
            exists = readable if exists is None else exists & readable
        return keep(exists, out)

    def _decode(
        self,
        encoded: Tensor,
        valid: Tensor | None,
        mask: Tensor | None,
        exists: Tensor | None,
        length: int,
    ) -> Tensor:
        sizes = (self.model_dim, self.num_heads)
        steps = encoded.new_empty((encoded.shape[0], length, 0))
        clock = clock_positions(steps, exists)
        features = waves(clock, self.model_dim).to(self.query.weight.dtype)
        queries = of_module(self.query, features).expand(encoded.shape[0], -1, -1)
        by = rotation(clock, *sizes)
        context_by = rotation(clock_positions(encoded, valid), *sizes)
        decoded: Tensor = self.decoder(queries, by, mask, encoded, context_by)
        return decoded

    def _check(
        self,
        source: Tensor,
        valid: Tensor | None,
        target_length: int | None,
        target_valid: Tensor | None,
    ) -> int:
        check_sequence("source", source, self.source_dim, "source_dim")
        check_device("source", source, self.output.weight.device)
        if valid is not None:
            check_valid("valid", valid, (source.shape[0], source.shape[1]), source.device)
        if target_length is not None:
            check_target_length(target_length)
        if self.aligned:
            length = source.shape[1]
            if target_length is not None and target_length != length:
                rule = "target_length must be the length of the source (aligned=True)"
                raise ValueError(f"{rule}, however: {target_length}, source has {length}")
        elif target_length is not None:
            length = target_length
        elif target_valid is not None:
            length = check_steps("target_valid", target_valid).shape[1]
        else:
            rule = "target_length or target_valid must be given (aligned=False)"
            raise ValueError(f"{rule}, however: both are None")
        if target_valid is not None:
            check_valid("target_valid", target_valid, (source.shape[0], length), source.device)
        return length
