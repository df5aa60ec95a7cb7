"""Means over seeds, ratios to the best other method, tables and the file."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from examples.benchmarks.imputation.methods import METHODS, OURS
from examples.benchmarks.imputation.scoring import standard_error

Rows = Sequence[Mapping[str, Any]]


def summarize(report: Mapping[str, Any], groups: np.ndarray | None = None) -> dict[str, Any]:
    """Ours against the best other method, for each target and over all of them."""
    single = _compare(report["rows"], report["samples"], groups)
    several = _compare(report["several"], report["samples"], groups)
    ratios = [row["ratio"] for row in single.values() if row["ratio"] is not None]
    mean = float(np.exp(np.mean(np.log(ratios)))) if ratios else None
    return {"geometric_mean": mean, "targets": single, "several": several}


def _compare(rows: Rows, samples: Mapping[str, str], groups: np.ndarray | None) -> dict[str, Any]:
    results = {}
    for target in dict.fromkeys(row["target"] for row in rows):
        mse, score = values(rows, target, "mse"), values(rows, target, "score")
        others = {n: np.mean(x) for n, x in mse.items() if n != OURS}
        best = min(others, key=others.__getitem__) if others else None
        result: dict[str, Any] = {"best": best, "ratio": None, "ratio_std": None}
        if OURS in mse and best is not None:
            ratio = np.array(mse[OURS]) / others[best]
            result |= {"ratio": float(ratio.mean()), "ratio_std": spread(ratio)}
        others = {n: np.mean(x) for n, x in score.items() if n != OURS and None not in x}
        if OURS in score and others and None not in score[OURS]:
            rival = max(others, key=others.__getitem__)
            ours, theirs = (_samples(samples, rows, target, name) for name in (OURS, rival))
            difference = ours - theirs
            known = groups if groups is not None and len(groups) == len(difference) else None
            result |= {
                "best_score": rival,
                "score_difference": float(difference.mean()),
                "standard_error": standard_error(difference, known),
            }
        results[target] = result
    return results


def values(rows: Rows, target: str, key: str) -> dict[str, list[Any]]:
    """The values of each method, in the order of METHODS, a value for each seed."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        if row["target"] == target:
            found.setdefault(row["method"], []).append(row[key])
    return {name: found[name] for name in METHODS if name in found}


def spread(x: Sequence[float]) -> float | None:
    return float(np.std(x, ddof=1)) if len(x) > 1 else None


def _samples(samples: Mapping[str, str], rows: Rows, target: str, method: str) -> np.ndarray:
    """What each sample adds to the score: the mean over seeds."""
    keys = [f"{target} {method} {row['seed']}" for row in rows]
    return np.mean(
        [np.array(samples[k].split(), float) for k in dict.fromkeys(keys) if k in samples], 0
    )


def tables(report: Mapping[str, Any]) -> list[Table]:
    """A row for each target and a column for each method."""
    found = []
    for key, title in (("rows", "one modality missing"), ("several", "half of them missing")):
        rows = report[key]
        targets = list(dict.fromkeys(row["target"] for row in rows))
        for value, what in (("mse", "MSE"), ("score", "score of the fixed linear model")):
            cells = {target: values(rows, target, value) for target in targets}
            names = [n for n in METHODS if any(n in line for line in cells.values())]
            if not names or all(None in line[n] for line in cells.values() for n in line):
                continue
            out = Table(
                title=f"{report['settings']['data']}, {title}: {what}", title_justify="left"
            )
            out.add_column("missing")
            for name in names:
                out.add_column(name, justify="right", style="bold" if name == OURS else None)
            if value == "score":
                out.add_column("complete", justify="right")
            for target, line in cells.items():
                texts = ["" if n not in line else f"{np.mean(line[n]):.3f}" for n in names]
                complete = [f"{report['complete'][target]:.3f}"] if value == "score" else []
                out.add_row(target, *texts, *complete)
            found.append(out)
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes all or nothing: a killed run leaves the file of the last finished cell."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)
