import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from modimpute._data import Data, check_rows, checked
from modimpute._defaults import LONG, default_tolerance
from modimpute._evidence import units_of
from modimpute._held_out import HeldOut
from modimpute._progress import progress_bar
from modimpute._training import train
from modimpute.default import default_ensemble
from modimpute.donor import DonorMatching
from modimpute.ensemble import TranslatorEnsemble
from modimpute.kernel import Choice, KernelTranslator

__all__ = ["fit_ensemble"]

ENOUGH = 600  # samples from which one held-out part is enough
PARTS = 5  # one of which is held out
HELD = 100  # validation samples from which they alone are held out
FOLDS = 3  # of fewer samples
FEW, MORE_FOLDS = 200, 6  # and of still fewer, if they are no sequences of many steps
GUARD = 0.2


@runtime_checkable
class Fitted(Protocol):
    """A member that is fitted by methods of its own."""

    fit: Callable[..., object]
    remember: Callable[..., object]


@torch.no_grad()
def fit_ensemble(
    sources: Mapping[str, Tensor],
    target: Tensor,
    *,
    valid: Mapping[str, Tensor] | None = None,
    target_valid: Tensor | None = None,
    validation: Tensor | None = None,
    groups: Tensor | None = None,
    translators: Mapping[str, nn.Module] | None = None,
    donors: DonorMatching | None = None,
    memory_size: int | None = None,
    aligned: bool | None = None,
    tolerance: float | None = None,
    standardize_target: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> TranslatorEnsemble:
    r"""Fits an ensemble that reconstructs a modality: kernels, retrieval and network.

    The members are fitted to most of the samples; on the others it is found how much each of
    them, and the mean of the target, is worth, for each subset of the sources. Then those that
    remember are given all samples, and networks are trained anew on all of them, for as many
    steps as were best before. The result is a :class:`TranslatorEnsemble` with
    ``combination="weights"``, in eval mode; ``ensemble.weights`` shows the shares.

    By default the members are two :class:`KernelTranslator`, one of which compares learned
    projections, and a :class:`RetrievalTranslator`, all of which read all sources of a sample at
    once; for sequences of 16 and more aligned steps, one of each that reads windows; and a
    :class:`TranslatorEnsemble` with a further transformer (two of other sequences), which gains
    the more samples there are. Their sum is drawn towards real values like it, or, where the
    target has 16 steps and more, away from the mean. Samples that lack the target are left out;
    what the sources lack is not read.

    Held out are the validation samples if there are 100 or more of them (or ``groups`` are
    given), else a fifth of 600 or more samples, else each third in turn (each sixth of fewer
    than 200 with fewer than 16 steps), and kernels keep the mean of what they chose each time.

    Args:
        sources: The source modalities of the training samples.
        target: The target modality.
        valid: Which source steps hold a real value. Default: all.
        target_valid: Which target steps hold a real value. Default: all.
        validation: Samples to hold out. Default: drawn.
        groups: The number of each sample's group (speaker, subject), if other groups are to come
            (not if the same ones do): whole groups are held out, and where less than a fifth of
            the variance is explained of them, the weights are shrunk in proportion.
        translators: Members of your own, not fitted, of the target's width: those with ``fit``
            and ``remember`` are fitted by these, others are trained on the consistency loss.
        donors: Draws the sum towards real values. Default: with members of your own, none.
        memory_size: How many samples (or windows) the default members and donors remember at
            most; more err less, and take more time and bytes. Default: 2048; kernels and donors
            of whole samples up to 7937, fewer of more sources, and of more samples than that.
        aligned: Whether steps belong together. Default: if all modalities have one length.
        tolerance: The share of the least squared error on the held-out samples that may be given
            up for answers that are plausible rather than averaged: drawn further towards donors
            (:class:`DonorMatching`), where they help, if large to real values only; without
            donors, further from the mean, and where little is told moved over the steps, if
            large until answers vary as much as the target (``ensemble.inflation``,
            ``ensemble.variation``). 0: none. Default: 0.0025 with donors, else 0.01 with the
            default members and 0 with your own.
        standardize_target: Whether the target's features count alike, each in units of its
            deviation. ``False``: errors count in the target's own units, as those of pixels.
        seed: The seed of what is drawn (on a CPU), not of your own members' first weights.
        progress: Whether to show a progress bar, if rich is installed.

    Returns:
        The ensemble, fitted.

    Shape:
        - sources: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype
        - target: :math:`(B, L, D)`, floating, as the ensemble (learned in ``float32`` or wider)
        - valid: mapping of names to :math:`(B, L_m)`, bool
        - target_valid: :math:`(B, L)`, bool
        - validation: :math:`(B)`, bool
        - groups: :math:`(B)`, int64

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a name, size, shape or device does not fit, or fewer than two samples (or
            groups) have the target.

    References:
        Breiman, Stacked Regressions, 1996. Von Storch, On the Use of "Inflation" in Statistical
        Downscaling, 1999 (its price, and noise in its place). Our choice: the members and all of
        their settings, the same for all data; the mean among them; the guard for groups; the
        tolerance; a wave in place of noise.

    Example:
        >>> image, sound = torch.randn(200, 1, 6), torch.randn(200, 1, 4)
        >>> text = torch.cat([image[..., :3], sound[..., :3]], -1)
        >>> members = {"linear": LinearTranslator({"image": 6, "sound": 4}, 6)}
        >>> sources = {"image": image, "sound": sound}
        >>> ensemble = fit_ensemble(sources, text, translators=members)
        >>> (ensemble(sources) - text).abs().max() < 0.01
        tensor(True)
        >>> {name: round(share, 1) for name, share in ensemble.weights["image", "sound"].items()}
        {'linear': 1.0, 'mean': 0.0}
    """
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance must be 0 or more, however: {tolerance}")
    if translators is not None and memory_size is not None:
        rule = "memory_size must be None with translators of your own"
        raise ValueError(f"{rule}, however: {memory_size}")
    with torch.random.fork_rng(devices=[]):  # the caller's draws go on as before
        torch.manual_seed(seed)
        data = checked(sources, target, valid, target_valid, standardize_target)
        options: dict[str, Any] = {"donors": donors, "device": target.device}
        options["dtype"] = data.target.dtype
        if translators is None:
            shapes, shape = {n: x.shape[1:] for n, x in sources.items()}, target.shape[1:]
            options |= {"memory_size": memory_size, "aligned": aligned}
            ensemble = default_ensemble(shapes, shape, len(target), **options)
        else:
            options["combination"] = "weights"
            ensemble = TranslatorEnsemble(translators, target.shape[-1], **options)
        if tolerance is None:
            tolerance = default_tolerance(ensemble.donors, translators is not None)
        if half := data.target.dtype != target.dtype:
            ensemble.to(data.target.dtype)  # your own members, too
        _fit_all(ensemble.eval(), data, validation, groups, tolerance, seed, progress)
        return (ensemble.to(target.dtype) if half else ensemble).eval()


def _fit_all(
    ensemble: TranslatorEnsemble,
    data: Data,
    validation: Tensor | None,
    groups: Tensor | None,
    tolerance: float,
    seed: int,
    progress: bool,
) -> None:
    check_rows("validation", validation, torch.bool, data.target)
    check_rows("groups", groups, torch.int64, data.target)
    parts = {member.name: data.of(member) for member in ensemble._members}
    rows = data.there.any(-1).nonzero().squeeze(-1)
    folds = _folds(rows, data.target, validation, groups, seed)
    fresh = {name: copy.deepcopy(m.state_dict()) for name, m in ensemble.translators.items()}
    steps: dict[str, int] = {}
    choices: dict[str, list[Choice]] = defaultdict(list)
    units = units_of(data.target[rows], data.there[rows], data.alike)
    found = HeldOut(units, 0.0 if groups is None else GUARD)
    with progress_bar(progress, (len(folds) + 1) * len(ensemble._members)) as advance:
        for number, held in enumerate(folds):
            for member in ensemble._members:
                advance(member.name)
                module = ensemble.translators[member.name]
                module.load_state_dict(fresh[member.name])
                steps[member.name] = _fit(module, parts[member.name], held, seed + number)
                if isinstance(module, KernelTranslator) and len(folds) > 1:
                    choices[member.name].append(module._choice())
            found.add(ensemble, data, held, seed)
        found.choose(ensemble, data, tolerance, seed)
        for member in ensemble._members:
            advance(member.name)
            module, own = ensemble.translators[member.name], parts[member.name]
            if isinstance(module, KernelTranslator) and member.name in choices:
                # What one fold of few samples chose is a matter of luck.
                module._average(choices[member.name])
            if isinstance(module, Fitted):
                own = own.pick(rows)
                options = {"valid": own.read_valid, "target_valid": own.there, "seed": seed}
                module.remember(own.read, own.target, **options)
            else:
                module.load_state_dict(fresh[member.name])
                train(module, own, rows, rows[:0], seed, stop=steps[member.name])


def _fit(module: nn.Module, own: Data, held: Tensor, seed: int) -> int:
    """Fits to what is not held out, and returns how many training steps were best."""
    there = own.there.any(-1)
    if not isinstance(module, Fitted):
        kept = (there & ~held).nonzero().squeeze(-1)
        return train(module, own, kept, held.nonzero().squeeze(-1), seed)
    rows = there.nonzero().squeeze(-1)
    own = own.pick(rows)
    options = {"valid": own.read_valid, "target_valid": own.there, "seed": seed}
    if not own.alike:
        options["standardize_target"] = False
    module.fit(own.read, own.target, validation=held[rows], **options)
    return 0


def _folds(
    rows: Tensor, target: Tensor, validation: Tensor | None, groups: Tensor | None, seed: int
) -> list[Tensor]:
    """Returns the samples that are held out, ``(B,)``, of each fold."""
    size, length = target.shape[:2]
    usable = torch.zeros(size, dtype=torch.bool, device=rows.device)
    usable[rows] = True
    if validation is not None:
        held = validation & usable
        few = groups is None and len(rows) < ENOUGH and int(held.sum()) < HELD
        if bool(held.any()) and bool((usable & ~held).any()) and not few:
            return [held]
    units, unit = torch.unique(rows if groups is None else groups[rows], return_inverse=True)
    if len(units) < 2:
        what = "samples must have the target" if groups is None else "groups must be there"
        raise ValueError(f"two or more {what}, however: {len(units)}")
    enough = len(rows) >= ENOUGH
    folds = FOLDS if len(rows) >= FEW or length >= LONG else MORE_FOLDS
    parts = min(PARTS if enough else folds, len(units))
    drawn = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed)) % parts
    number = torch.full((size,), -1, dtype=torch.int64, device=rows.device)
    number[rows] = drawn.to(rows.device)[unit]
    return [number == part for part in range(1 if enough else parts)]
