from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._checks import check_choice
from modimpute._draws import all_valid, check_share, one_of

__all__ = ["ModalityDropout"]


class ModalityDropout(nn.Module):
    r"""Hides modalities, or single steps, at random in training; never the last of a sample.

    With :math:`u_{bi}` uniform in :math:`[0, 1)`, drawn anew in every call for what the sample
    :math:`b` has (its modalities or, with ``level="step"``, all its valid steps),

    .. math:: \text{kept}_{bi} = [u_{bi} \ge \text{rate}] \;\vee\;
              [i = \arg\max\nolimits_j u_{bj}]

    so each is dropped by itself at ``rate``, and a sample that would lose everything keeps one,
    each of its modalities (steps) with equal chance. Rate 0 drops nothing; rate 1 leaves
    exactly one modality (one step) of each sample. What a sample lacks is neither drawn nor
    kept.

    Only ``valid`` is changed, never the data: give the result to a layer as its ``valid``, and
    the complete one to :class:`ModalityImputer` as ``target_valid``. In eval mode ``valid``
    comes back as it is.

    Args:
        rate: The chance of each modality (step) to be dropped, in [0, 1].
        level: ``"sample"``: whole modalities of a sample; ``"step"``: single steps.

    Shape:
        - modalities: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype, never read
        - valid: mapping of names to :math:`(B, L_m)`, bool. Default: all steps are valid
        - generator: a generator for the draw, also on another device: one on the CPU draws
          the same for every device. Not under ``torch.compile``. Default: the one that
          ``torch.manual_seed`` seeds
        - Output: ``valid`` of every modality given, by sorted name, :math:`(B, L_m)`, bool

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If ``rate`` is not in [0, 1], ``level`` is unknown, or a name, shape or
            device does not fit.

    References:
        Neverova et al., ModDrop: Adaptive Multi-Modal Gesture Recognition, 2016 (each modality
        is dropped by itself). Differences: it may drop all of them, and sets the data to zero.
        For a given share of missing modalities see :func:`drop_at_rate`.

    Example:
        >>> dropout = ModalityDropout(1.0)
        >>> batch = {"text": torch.randn(4, 1, 300), "audio": torch.randn(4, 1, 74)}
        >>> valid = dropout(batch)
        >>> (valid["audio"] ^ valid["text"]).all()  # one of the two, in each sample
        tensor(True)
        >>> dropout.eval()(batch)["text"].all()
        tensor(True)
    """

    def __init__(self, rate: float, *, level: str = "sample") -> None:
        check_share("rate", rate)
        check_choice("level", level, ("sample", "step"))
        super().__init__()
        self.rate, self.level = rate, level

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        return f"rate={self.rate}, level={self.level!r}"

    def forward(
        self,
        modalities: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Returns a new ``valid``, with fewer steps."""
        complete = all_valid(modalities, valid)
        if not self.training:
            return complete
        steps = list(complete.values())
        if self.level == "sample":
            has = torch.stack([v.any(-1) for v in steps], -1)
            kept = torch.split(self._keep(has, generator), 1, -1)
        else:
            lengths = [v.shape[1] for v in steps]
            kept = torch.split(self._keep(torch.cat(steps, -1), generator), lengths, -1)
        return {name: v & k for (name, v), k in zip(complete.items(), kept, strict=True)}

    def _keep(self, available: Tensor, generator: torch.Generator | None) -> Tensor:
        device = available.device if generator is None else generator.device
        u = torch.rand(available.shape, generator=generator, device=device, dtype=torch.float32)
        u = u.to(available.device)
        return (u >= self.rate) | one_of(available, u)
