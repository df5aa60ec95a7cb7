"""Means, spreads and areas over the rows of a robustness evaluation."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from modimpute._cells import split_names

Rows = Sequence[Mapping[str, Any]]


def summarize(rows: Rows, metric: str) -> Iterator[dict[str, Any]]:
    for kind, key in (("pattern", "available"), ("rate", "rate")):
        group = [row for row in rows if row["kind"] == kind]
        for value in dict.fromkeys(row[key] for row in group):
            same = [row for row in group if row[key] == value]
            reached = fmean(row["rate_reached"] for row in same)
            facts = {key: value, "rate_reached": reached}
            facts["patterns_possible"] = same[0].get("patterns_possible")
            yield _statistics(kind, metric, [row[metric] for row in same], **facts)
    partial = [row for row in rows if row["kind"] == "pattern" and not _is_complete(row)]
    if partial:
        values = [_mean([row[metric] for row in group]) for group in _by_seed(partial)]
        count = len({row["available"] for row in partial})
        facts = {"patterns": count, "patterns_possible": partial[0]["patterns_possible"] - 1}
        yield _statistics("incomplete", metric, values, **facts)
    rates = [row for row in rows if row["kind"] == "rate"]
    if rates:
        yield _statistics("auc", metric, [_area(group, metric) for group in _by_seed(rates)])


def _statistics(
    kind: str,
    metric: str,
    values: Sequence[float | None],
    **facts: Any,  # noqa: ANN401
) -> dict[str, Any]:
    columns = ("available", "rate", "rate_reached", "patterns", "patterns_possible")
    known = [value for value in values if value is not None]
    std = stdev(known) if len(known) == len(values) > 1 else None
    return {
        "kind": kind,
        **{column: facts.get(column) for column in columns},
        "metric": metric,
        "runs": len(values),
        "mean": _mean(values),
        "std": std,
        "standard_error": None if std is None else std / math.sqrt(len(values)),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    # A mean over the seeds at which the metric happens to exist would flatter.
    return fmean(known) if known and len(known) == len(values) else None


def _area(rows: Rows, metric: str) -> float | None:
    points = sorted((row["rate_reached"], row["rate"], row[metric]) for row in rows)
    if any(y is None for *_, y in points) or points[-1][0] == points[0][0]:
        return None
    area = sum((right[0] - left[0]) * (right[2] + left[2]) / 2 for left, right in pairwise(points))
    return float(area / (points[-1][0] - points[0][0]))


def _by_seed(rows: Rows) -> list[Rows]:
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return [[row for row in rows if row["seed"] == seed] for seed in seeds]


def _is_complete(row: Mapping[str, Any]) -> bool:
    names = len(split_names(row["available"]))
    return bool(2**names - 1 == row["patterns_possible"])
