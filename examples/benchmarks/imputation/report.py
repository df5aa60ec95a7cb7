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
from examples.benchmarks.imputation.sets import SETS

Rows = Sequence[Mapping[str, Any]]


def summarize(
    report: Mapping[str, Any], groups: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Ours against the best other method, for each target and over all of them.

    ``groups``: those of the samples that are scored, for each target, if samples have any.
    """
    groups = groups or {}
    single = _compare(report["rows"], report["samples"], groups)
    several = _compare(report["several"], report["samples"], groups)
    ratios = [row["ratio"] for row in single.values() if row["ratio"] is not None]
    mean = float(np.exp(np.mean(np.log(ratios)))) if ratios else None
    return {"geometric_mean": mean, "targets": single, "several": several}


def _compare(
    rows: Rows, samples: Mapping[str, str], groups: Mapping[str, np.ndarray]
) -> dict[str, Any]:
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
            result |= {
                "best_score": rival,
                "score_difference": float(difference.mean()),
                "standard_error": standard_error(difference, groups.get(target)),
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


def markdown(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Two tables of all sets: errors and scores."""
    parts = []
    for value, what in (("mse", "Test MSE"), ("score", "Score of the fixed linear model")):
        names = [
            n
            for n in METHODS
            if any(n == r["method"] for x in reports.values() for r in x["rows"])
        ]
        last = (
            ["ratio to the best other"] if value == "mse" else ["less the best other", "complete"]
        )
        head = ["set", "missing", *names, *last]
        lines = [f"{what}:", "", "| " + " | ".join(head) + " |"]
        lines.append("|" + "---|" * 2 + "---:|" * (len(head) - 2))
        for data, report in reports.items():
            targets = dict.fromkeys(row["target"] for row in report["rows"])
            for target in targets:
                cells = values(report["rows"], target, value)
                texts = [
                    with_spread(cells[n]) if n in cells and None not in cells[n] else ""
                    for n in names
                ]
                ours = report["summary"]["targets"][target]
                if value == "mse":
                    texts.append("" if ours["ratio"] is None else f"{ours['ratio']:.2f}")
                else:
                    complete = report["complete"][target]
                    texts.append(_difference(ours))
                    texts.append("" if complete is None else f"{complete:.3f}")
                lines.append("| " + " | ".join([data, target, *texts]) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *_closing(reports)]) + "\n"


def _difference(compared: Mapping[str, Any]) -> str:
    """Ours less the best other method, and its standard error."""
    if "score_difference" not in compared:
        return ""
    return f"{compared['score_difference']:+.3f} ± {compared['standard_error']:.3f}"


def _closing(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    ratios = [
        target["ratio"]
        for name, report in reports.items()
        for target in report["summary"]["targets"].values()
        if target["ratio"] is not None and name in SETS and SETS[name].signal
    ]
    if ratios:
        mean = np.exp(np.mean(np.log(ratios)))
        lines.append(f"Geometric mean of the ratios, sets with signal: {mean:.3f}")
    skipped = {name: why for report in reports.values() for name, why in report["skipped"].items()}
    ran = {row["method"] for report in reports.values() for row in report["rows"]}
    lines += [f"{name} did not run: {why}" for name, why in skipped.items() if name not in ran]
    return lines


def with_spread(x: Sequence[float]) -> str:
    deviation = spread(x)
    mean = f"{np.mean(x):.3f}"
    return mean if not deviation else f"{mean} ± {deviation:.3f}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes all or nothing: a killed run leaves the file of the last finished cell."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
