from collections.abc import Iterable, Mapping
from itertools import combinations

import torch
from torch import Tensor

from modimpute._checks import (
    check_known,
    check_names,
    check_steps,
    check_valid,
)
from modimpute._draws import Draws, all_valid, check_share, one_of

__all__ = ["drop_at_rate", "drop_pattern", "missing_patterns", "missing_rate"]


def missing_patterns(modalities: Iterable[str]) -> list[tuple[str, ...]]:
    r"""Returns every way in which some, but not all, of the modalities can be missing together.

    There are :math:`2^M - 2` for :math:`M` modalities: the fewest missing first, then in the
    order of the names. Nothing missing is the pattern ``()``, which is not among them.

    Args:
        modalities: The names, or any mapping by name.

    Shape:
        - Output: a list of tuples of the names of the *missing* modalities, each sorted

    Raises:
        TypeError: If a name is not a string, or all are one string.
        ValueError: If there is no name.

    References:
        Zhao et al., Missing Modality Imagination Network, 2021: the six patterns of three
        modalities. Such tables often name a pattern by what is *available*.

    Example:
        >>> missing_patterns(["text", "audio", "vision"])[:4]
        [('audio',), ('text',), ('vision',), ('audio', 'text')]
    """
    names = sorted(_names("modalities", modalities, least=1))
    return [m for size in range(1, len(names)) for m in combinations(names, size)]


def drop_pattern(
    modalities: Mapping[str, Tensor],
    missing: Iterable[str],
    *,
    valid: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    r"""Returns ``valid`` with the named modalities missing in every sample.

    Nothing is drawn: a sample that has only these modalities has nothing left.

    Args:
        modalities: The batch. Its data are never read.
        missing: The names of the modalities that are missing, as of :func:`missing_patterns`.
        valid: Which steps are valid before. Default: all are.

    Shape:
        - modalities: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - valid: mapping of names to :math:`(B, L_m)`, bool
        - Output: ``valid`` of every modality given, by sorted name, :math:`(B, L_m)`, bool

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a name, shape or device does not fit.

    References:
        Zhao et al., Missing Modality Imagination Network, 2021, which tests every sample under
        each pattern. Difference: it sets the data to zero; here they are not read.

    Example:
        >>> batch = {"text": torch.randn(2, 3, 300), "audio": torch.randn(2, 3, 74)}
        >>> valid = drop_pattern(batch, ["audio"])
        >>> {name: v.sum().item() for name, v in valid.items()}
        {'audio': 0, 'text': 6}
    """
    complete = all_valid(modalities, valid)
    names = _names("missing", missing, least=0)
    check_known("missing", names, tuple(complete), " (modalities)")
    return {name: torch.zeros_like(v) if name in names else v for name, v in complete.items()}


def drop_at_rate(
    modalities: Mapping[str, Tensor],
    rate: float,
    *,
    valid: Mapping[str, Tensor] | None = None,
    seed: int | None = None,
    index: Tensor | None = None,
) -> dict[str, Tensor]:
    r"""Returns ``valid`` with modalities missing at random, at a missing rate.

    The missing rate of :math:`N` samples is :math:`1 - \sum_i |\text{available}_i| / (N M)`.
    Each sample keeps one of its :math:`m` modalities, each with equal chance, and loses each
    other one with the chance :math:`\min(1, \text{rate} \cdot m / (m - 1))`. For complete
    samples (:math:`m = M`) the expected missing rate is ``rate``, up to :math:`1 - 1 / M`,
    where one modality is left: so also for every rate above, rate 1 included. Rate 0 drops
    nothing. :func:`missing_rate` tells what was reached.

    What is drawn for a sample depends on the seed, its ``index`` and the names alone: neither
    on the batch it is in, nor on the device, nor on padding.

    Args:
        modalities: The batch. Its data are never read.
        rate: The share of what a sample has that is dropped, in [0, 1].
        valid: Which steps are valid before. Default: all are.
        seed: The seed. Default: drawn from torch's generator (``torch.manual_seed``).
        index: The number of each sample in its data set; give it wherever there is more than
            one batch. Default: its place in the batch.

    Shape:
        - modalities: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - valid: mapping of names to :math:`(B, L_m)`, bool
        - index: :math:`(B)`, integer
        - Output: ``valid`` of every modality given, by sorted name, :math:`(B, L_m)`, bool

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If ``rate`` is not in [0, 1], or a name, shape or device does not fit.

    References:
        Zhang et al., CPM-Nets, 2019, and Lian et al., GCNet, 2022: one modality is kept, the
        others go by chance. Differences: they draw until the rate of the whole data set is
        met, we meet it in expectation; GCNet draws anew for every batch. Wang et al., IMDer,
        2023, has the same rate but draws for whole batches.

    Example:
        >>> batch = {name: torch.randn(1000, 1, 8) for name in ("text", "audio", "vision")}
        >>> rates = [missing_rate(drop_at_rate(batch, r, seed=0)).mean() for r in (0, 0.3, 1)]
        >>> [round(r.item(), 1) for r in rates]
        [0.0, 0.3, 0.7]
    """
    complete = all_valid(modalities, valid)
    check_share("rate", rate)
    draws = Draws(seed, index, complete[min(complete)])
    has = torch.stack([v.any(-1) for v in complete.values()], -1)
    score = torch.cat([draws.bits(name, "keep") for name in complete], -1)
    u = torch.cat([draws.uniform(name, "drop") for name in complete], -1)
    count = has.sum(-1, keepdim=True).to(torch.float32)
    keep = one_of(has, score) | (u >= rate * count / (count - 1).clamp(min=1))
    rows = torch.split(keep, 1, -1)
    return {name: v & row for (name, v), row in zip(complete.items(), rows, strict=True)}


def missing_rate(valid: Mapping[str, Tensor]) -> Tensor:
    r"""Returns the share of the modalities that each sample lacks; their mean is the rate.

    Args:
        valid: Which steps are valid, of *every* modality, as the ``drop_`` functions return it.

    Shape:
        - valid: mapping of names to :math:`(B, L_m)`, bool
        - Output: :math:`(B)`, ``float32``

    Raises:
        TypeError: If ``valid`` is not a mapping of bool tensors.
        ValueError: If it is empty, or a shape or device does not fit.

    References:
        Lian et al., GCNet, 2022: :math:`1 - \sum_i |\text{available}_i| / (N M)`.

    Example:
        >>> audio, text = torch.tensor([[True], [False]]), torch.tensor([[True], [True]])
        >>> missing_rate({"text": text, "audio": audio})
        tensor([0.0000, 0.5000])
    """
    check_names("valid", valid)
    first = check_steps(f"valid[{min(valid)!r}]", valid[min(valid)])
    for name in sorted(valid):
        label = f"valid[{name!r}]"
        length = check_steps(label, valid[name]).shape[1]
        check_valid(label, valid[name], (first.shape[0], length), first.device)
    lacks = torch.stack([~valid[name].any(-1) for name in sorted(valid)], -1)
    return lacks.to(torch.float32).mean(-1)


def _names(argument: str, names: Iterable[str], least: int) -> dict[str, None]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{argument} must be a sequence of names, however: {argument}={names!r}")
    unique = dict.fromkeys(names)
    check_names(argument, unique, least=least)
    return unique
