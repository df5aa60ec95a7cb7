"""The members and donors of the default ensemble: the same for all data."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from modimpute._subsets import solved_subsets
from modimpute._training import MANY
from modimpute.donor import DonorMatching
from modimpute.ensemble import TranslatorEnsemble
from modimpute.kernel import KernelTranslator
from modimpute.retrieval import RetrievalTranslator
from modimpute.translator import ModalityTranslator

MEMORY = 2048  # examples
COST = 5e11  # products of two numbers, for which kernels may remember more
WIDE = 16384  # features of the sources, and of the target, up to which a sample is one example
LEARNED = 4096  # up to which a kernel learns their scales (in so many steps), and donors compare
STEPS = 200
LONG = 16  # steps from which windows are read, and up to which steps have places of their own
WIDTH, ENOUGH = 64, 5000  # of the transformers; twice as wide for so many vectors
TOWARDS, AWAY = 0.0025, 0.01  # tolerances: for donors, and for distance from the mean
KEYS, NOISE = 64, 0.3  # of the projected kernel

Shape = tuple[int, int]  # steps, features


def default_translators(
    sources: Mapping[str, Shape],
    target: Shape,
    size: int,
    memory: int | None,
    aligned: bool,
    place: Mapping[str, Any],
) -> dict[str, nn.Module]:
    dims = {name: shape[1] for name, shape in sources.items()}
    lengths = {name: shape[0] for name, shape in sources.items()}
    length, dim = target
    whole = {"source_places": lengths, "target_places": length, "aligned": aligned, **place}
    windows = aligned and length >= LONG
    members: dict[str, nn.Module] = {}
    widest = _widest(sources, target)
    if windows:
        options = {"patch": 2, "memory_size": min(size * length, memory or MEMORY), **place}
        members["kernel window"] = KernelTranslator(dims, dim, window=5, **options)
        members["retrieval window"] = RetrievalTranslator(
            dims, dim, window=2, steps=150, **options
        )
    elif widest <= WIDE:
        options = {"steps": STEPS if widest <= LEARNED else 0, **whole}
        options["memory_size"] = _remembered(sources, target, size, memory)
        members["kernel"] = KernelTranslator(dims, dim, **options)
        members["projected kernel"] = KernelTranslator(
            dims, dim, key_dim=KEYS, noise=NOISE, **options
        )
        # It reads the whole memory in each step of its training.
        options = {"memory_size": min(size, memory or MEMORY), **whole}
        members["retrieval"] = RetrievalTranslator(dims, dim, **options)
    members["transformer"] = _transformer(sources, target, size, aligned, place)
    if not windows and max(length, *lengths.values()) > 1:
        # Where steps are compared, two networks disagree enough to be worth their time.
        members["second transformer"] = _transformer(sources, target, size, aligned, place)
    return members


def default_donors(
    sources: Mapping[str, Shape],
    target: Shape,
    size: int,
    memory: int | None,
    aligned: bool,
    place: Mapping[str, Any],
) -> DonorMatching | None:
    """Whole samples are donors: no long ones, of which no two are alike."""
    length, dim = target
    if length >= LONG or length * dim > WIDE:
        return None
    few = _features(sources) <= LEARNED
    return DonorMatching(
        dim,
        source_dims={name: shape[1] for name, shape in sources.items()} if few else None,
        source_places={name: shape[0] for name, shape in sources.items()} if few else 1,
        memory_size=_remembered(sources, target, size, memory),
        target_places=length,
        aligned=aligned,
        **place,
    )


def default_tolerance(donors: DonorMatching | None, own: bool) -> float:
    """What the error may grow by: members of one's own are not drawn anywhere unasked."""
    if donors is not None:
        return TOWARDS
    return 0.0 if own else AWAY


def _features(sources: Mapping[str, Shape]) -> int:
    """The number of features of a sample's sources, over all of their steps."""
    return sum(math.prod(shape) for shape in sources.values())


def _widest(sources: Mapping[str, Shape], target: Shape) -> int:
    """The number of features of a sample's sources, or of its target if those are more."""
    return max(_features(sources), math.prod(target))


def _remembered(sources: Mapping[str, Shape], target: Shape, size: int, memory: int | None) -> int:
    """How many samples kernels and donors remember: all, or as many as is worth the time."""
    if memory is None:
        each = size * len(solved_subsets(tuple(sources)))
        wide = _widest(sources, target) > LEARNED
        memory = MEMORY if wide else max(MEMORY, int((COST / each) ** 0.5))
    return min(size, memory)


def _transformer(
    sources: Mapping[str, Shape],
    target: Shape,
    size: int,
    aligned: bool,
    place: Mapping[str, Any],
) -> TranslatorEnsemble:
    """The paper's ensemble, itself a member: it reads all sources."""
    length, dim = target
    vectors = max(length, *(shape[0] for shape in sources.values())) == 1
    width = 2 * WIDTH if vectors and size >= ENOUGH else WIDTH
    options: dict[str, Any] = {
        "feedforward_dim": 2 * width,
        "dropout": 0.1 if size < MANY else 0.0,
        "num_places": length if 1 < length <= LONG else 0,
        **place,
    }
    translators = {
        name: ModalityTranslator(source_dim, width, num_layers=1, aligned=aligned, **options)
        for name, (_, source_dim) in sources.items()
    }
    return TranslatorEnsemble(translators, dim, num_layers=2, **options)
