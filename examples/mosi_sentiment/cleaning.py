"""From what a file holds to values that are finite, and to which of them are valid."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import torch

from examples.mosi_sentiment import checks
from examples.mosi_sentiment.data import Part
from examples.mosi_sentiment.layouts import Raw, RawPart

NOT_FINITE = {"-inf": np.isneginf, "+inf": np.isposinf, "NaN": np.isnan}


def clean(raw: Raw, aligned: bool) -> tuple[dict[str, Part], dict[str, Any]]:
    """Cleans the arrays in place; returns the parts, and what there was by modality and split.

    MulT sets -inf in audio to 0; we, whatever is not finite, in all modalities. Where no length
    is given, a step of zeros is not valid. A modality that is all zero is missing in any case.
    """
    counts = {split: _make_finite(part) for split, part in raw.parts.items()}
    names, first = tuple(raw.first.arrays), raw.first
    sides = {name: padding(first, name) for name in names}
    # An aligned set is padded on one side; a modality with many gaps may look otherwise.
    votes = {n: sum(sides.values()) if aligned else sides[n] for n in names}
    parts, report = {}, {name: _about(first, name, sides) for name in names}
    for split, raw_part in raw.parts.items():
        steps = {n: _steps(raw_part, n, left=votes[n][0] > votes[n][1]) for n in names}
        there = {n: (x != 0).any((1, 2)) for n, x in raw_part.arrays.items()}
        valid = {n: steps[n] & there[n][:, None] for n in names}
        for name, x in raw_part.arrays.items():
            report[name]["splits"][split] = counts[split][name] | {
                "beyond the length": int(np.count_nonzero(x[~steps[name]])),
                "valid steps": int(valid[name].sum()),
                "samples without": int((~valid[name].any(1)).sum()),
            }
            x[~valid[name]] = 0.0
        parts[split] = _part(raw, split, valid, steps)
    for name, facts in report.items():
        part = next(iter(parts.values()))
        x = part.modalities[name][part.valid[name]]
        same = (x == x[:1]).all(0) if len(x) else torch.ones(x.shape[1], dtype=torch.bool)
        facts["constant columns"] = same.nonzero().flatten().tolist()
    return parts, report


def padding(part: RawPart, name: str) -> np.ndarray:
    """How many sequences begin, and how many end, with padding: with a step of zeros."""
    there = part.valid.get(name, (part.arrays[name] != 0).any(-1))
    there = there[there.any(1)]
    return np.array([(~there[:, 0]).sum(), (~there[:, -1]).sum()])


def _make_finite(part: RawPart) -> dict[str, dict[str, int]]:
    counts = {
        name: {kind: int(test(x).sum()) for kind, test in NOT_FINITE.items()}
        for name, x in part.arrays.items()
    }
    for x in part.arrays.values():
        np.nan_to_num(x, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return counts


def _about(first: RawPart, name: str, sides: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What is the same in all splits."""
    known = {(False, False): "none", (True, False): "left", (False, True): "right"}
    side = known.get(tuple((sides[name] > 0).tolist()), "left and right")
    given = "a mask" if name in first.valid else "lengths" if name in first.lengths else None
    _, steps, features = first.arrays[name].shape
    return {
        "steps": steps,
        "features": features,
        "padding": side,
        "valid from": given or "steps that are not all zero",
        "splits": {},
    }


def _steps(part: RawPart, name: str, left: bool) -> np.ndarray:
    """The steps that a sequence has: by its mask, else by its length, else by its values."""
    x = part.arrays[name]
    if name in part.valid:
        return part.valid[name]
    if name not in part.lengths:
        return (x != 0).any(-1)
    steps = np.arange(x.shape[1]) < part.lengths[name][:, None]
    return steps[:, ::-1] if left else steps


def _part(
    raw: Raw, split: str, valid: Mapping[str, np.ndarray], steps: Mapping[str, np.ndarray]
) -> Part:
    part, place = raw.parts[split], checks.Place(raw.path, split, raw.label_field)
    label_valid = np.ones((len(part.ids), 1), bool)
    if part.labels is None:
        label_valid = np.zeros_like(label_valid)
        labels = np.zeros((*label_valid.shape, 1), np.float32)
    elif raw.task == "emotions":
        labels = checks.pairs(place, part.labels)
    else:
        if part.labels.shape[1] > 1:
            label_valid = reduce(np.logical_or, steps.values())
        labels = checks.regression(place, part.labels, label_valid)
    return Part(
        {name: torch.from_numpy(x) for name, x in part.arrays.items()},
        {name: torch.from_numpy(v.copy()) for name, v in valid.items()},
        torch.from_numpy(labels),
        torch.from_numpy(label_valid.copy()),
        part.ids,
    )
