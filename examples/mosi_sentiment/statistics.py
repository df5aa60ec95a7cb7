"""Means over seeds, and paired differences with bootstrap intervals."""

import re
from collections.abc import Sequence

import numpy as np

RESAMPLES = 5000
# Video and clip as MMSA, MulT (by its time) and CMU-MOSI name them.
CLIP = re.compile(r"^(.+?)(?:\$_\$\d+|_\d+\.\d+_\d+\.\d+|_\d+)$")
LEAST_GROUPS = 10


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation; none of a metric that does not exist in some run."""
    known = np.array([v for v in values if v is not None], dtype=np.float64)
    if len(known) < len(values) or not len(known):
        return {"mean": None, "std": None}
    return {
        "mean": float(known.mean()),
        "std": float(known.std(ddof=1)) if len(known) > 1 else None,
    }


def groups_of(ids: Sequence[str]) -> np.ndarray:
    """The number of the video of each sample; each sample by itself, where ids do not tell."""
    matches = [CLIP.match(name) for name in ids]
    videos = [m[1] if m else name for m, name in zip(matches, ids, strict=True)]
    if len(set(videos)) < LEAST_GROUPS:
        videos = list(range(len(ids)))
    return np.unique(np.array(videos), return_inverse=True)[1]


def paired_difference(
    ours: np.ndarray, other: np.ndarray, groups: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """Mean of ``ours - other`` with a 95 % interval; both are errors ``(seeds, samples)``.

    Both seeds and videos are drawn with replacement: the interval speaks of other seeds *and*
    other videos. Utterances of a video are alike, so they are drawn together.
    """
    difference = ours - other
    count = int(groups.max()) + 1
    sums = np.stack([np.bincount(groups, row, count) for row in difference])
    sizes = np.bincount(groups, minlength=count)
    generator = np.random.default_rng(seed)
    runs = len(difference)
    seeds = generator.multinomial(runs, np.full(runs, 1 / runs), RESAMPLES)
    videos = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    means = ((seeds @ sums) * videos).sum(1) / (runs * (videos @ sizes))
    low, high = np.percentile(means, [2.5, 97.5])
    return {"difference": float(difference.mean()), "low": float(low), "high": float(high)}
