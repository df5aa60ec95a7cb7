from collections.abc import Mapping

from torch import Tensor

from modimpute._checks import check_known, check_names, check_sizes
from modimpute._draws import Draws, all_valid, check_share, rank

__all__ = ["drop_blocks", "drop_frames"]


def drop_frames(
    modalities: Mapping[str, Tensor],
    rate: float | Mapping[str, float],
    *,
    valid: Mapping[str, Tensor] | None = None,
    seed: int | None = None,
    index: Tensor | None = None,
) -> dict[str, Tensor]:
    r"""Returns ``valid`` with each valid step dropped by itself, at a rate.

    Rate 0 drops nothing; rate 1 drops every step, so that the sample lacks the modality. What
    is drawn depends on the seed, the ``index``, the name and the place of the step among the
    valid ones alone.

    Args:
        modalities: The batch. Its data are never read.
        rate: The chance of a valid step to be dropped, in [0, 1]: one for all modalities, or by
            name; a modality that is not named keeps its steps.
        valid: Which steps are valid before. Default: all are.
        seed: As of :func:`drop_at_rate`.
        index: As of :func:`drop_at_rate`.

    Shape:
        - modalities: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - valid: mapping of names to :math:`(B, L_m)`, bool
        - index: :math:`(B)`, integer
        - Output: ``valid`` of every modality given, by sorted name, :math:`(B, L_m)`, bool

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a rate is not in [0, 1], or a name, shape or device does not fit.

    References:
        Yuan et al., TFR-Net, 2021: one rate for all modalities, from 0 to 1. Differences: it
        sets frames to zero and words to an unknown token, and spares a text's first and last.

    Example:
        >>> import torch
        >>> batch = {"text": torch.randn(100, 50, 300), "audio": torch.randn(100, 50, 74)}
        >>> valid = drop_frames(batch, {"audio": 0.2}, seed=0)
        >>> {name: round(v.float().mean().item(), 1) for name, v in valid.items()}
        {'audio': 0.8, 'text': 1.0}
    """
    complete = all_valid(modalities, valid)
    rates = _rates(rate, complete)
    draws = Draws(seed, index, complete[min(complete)])
    return {
        name: v & (draws.uniform(name, "drop", rank(v)) >= rates[name]) if name in rates else v
        for name, v in complete.items()
    }


def drop_blocks(
    modalities: Mapping[str, Tensor],
    rate: float | Mapping[str, float],
    *,
    block_length: int,
    valid: Mapping[str, Tensor] | None = None,
    seed: int | None = None,
    index: Tensor | None = None,
) -> dict[str, Tensor]:
    r"""Returns ``valid`` with a share of the valid steps dropped in blocks of one length.

    Of :math:`n` valid steps :math:`\text{rate} \cdot n` are dropped; if that is no whole
    number, one more or not, by chance. They lie in blocks of ``block_length`` valid steps; if
    these do not add up, one block is shorter. Blocks never overlap, and where enough steps are
    left they do not touch, so that the gaps are as long as said; every such placing is equally
    likely, which spares the steps near either end more often. Rate 0 drops nothing; rate 1 drops
    every step, so that the sample lacks the modality.

    Args:
        modalities: The batch. Its data are never read.
        rate: The share of the valid steps that is dropped, in [0, 1]: one for all modalities,
            or by name; a modality that is not named keeps its steps.
        block_length: The number of steps of a block.
        valid: Which steps are valid before. Default: all are.
        seed: As of :func:`drop_at_rate`.
        index: As of :func:`drop_at_rate`.

    Shape:
        - modalities: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - valid: mapping of names to :math:`(B, L_m)`, bool
        - index: :math:`(B)`, integer
        - Output: ``valid`` of every modality given, by sorted name, :math:`(B, L_m)`, bool

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a rate is not in [0, 1], ``block_length`` is not positive, or a name,
            shape or device does not fit.

    References:
        Our choice: a sensor that fails does so for a while.

    Example:
        >>> import torch
        >>> batch = {"gyroscope": torch.randn(1, 12, 3), "accelerometer": torch.randn(1, 12, 3)}
        >>> valid = drop_blocks(batch, {"gyroscope": 0.5}, block_length=3, seed=0)
        >>> valid["gyroscope"].int()
        tensor([[0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]], dtype=torch.int32)
    """
    check_sizes(block_length=block_length)
    complete = all_valid(modalities, valid)
    rates = _rates(rate, complete)
    draws = Draws(seed, index, complete[min(complete)])
    return {
        name: draws.between_blocks(name, v, rates[name], block_length) if name in rates else v
        for name, v in complete.items()
    }


def _rates(rate: float | Mapping[str, float], valid: Mapping[str, Tensor]) -> dict[str, float]:
    if not isinstance(rate, Mapping):
        check_share("rate", rate)
        return dict.fromkeys(valid, rate)
    check_names("rate", rate, least=0)
    check_known("rate", rate, tuple(valid), " (modalities)")
    for name, share in rate.items():
        check_share(f"rate[{name!r}]", share)
    return dict(rate)
