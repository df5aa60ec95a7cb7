"""Means and spreads over seeds: tables, a file, pictures."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from modimpute.plotting import plot_robustness

OURS = "imputer"


def statistics(values: Iterable[float]) -> dict[str, float | None]:
    """Mean and standard deviation over the seeds."""
    x = np.array(list(values), dtype=np.float64)
    return {"mean": float(x.mean()), "std": float(x.std(ddof=1)) if len(x) > 1 else None}


def merge(runs: Sequence[Any]) -> Any:
    """Statistics over equally nested mappings of numbers."""
    if not isinstance(runs[0], Mapping):
        return statistics(runs)
    return {key: merge([run[key] for run in runs]) for key in runs[0]}


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: merge([run[key] for run in runs]) for key in ("half", "gaps", "cpu_seconds")}


def half_table(summary: Mapping[str, Any], title: str) -> Table:
    out = Table(title=title, title_justify="left")
    for column in ("filled with", "accuracy", "MSE"):
        out.add_column(column, justify="left" if column == "filled with" else "right")
    for name, row in summary["half"].items():
        mse = _cell(row["mse"]) if "mse" in row else ""
        out.add_row(name, _cell(row["accuracy"]), mse, style="bold" if name == OURS else None)
    return out


def gap_table(summary: Mapping[str, Any], title: str) -> Table:
    """MSE by method (rows) and length of the blocks (columns)."""
    gaps = summary["gaps"]
    out = Table(title=title, title_justify="left")
    out.add_column("block length")
    for length in gaps:
        out.add_column(length, justify="right")
    for name in next(iter(gaps.values())):
        cells = (_cell(by_method[name]["mean"]) for by_method in gaps.values())
        out.add_row(name, *cells, style="bold" if name == OURS else None)
    return out


def _cell(value: Mapping[str, float | None]) -> str:
    text = f"{value['mean']:.3f}"
    return text if value["std"] is None else f"{text} ± {value['std']:.3f}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes all or nothing: an interrupted run leaves the file of the last finished seed."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def draw(folder: Path, rows: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> list[Path]:
    """Draws accuracy and error against the missing rate, and accuracy over the patterns."""
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_robustness(rows, metric="accuracy", ax=left)
    # Where nothing is missing there is no error.
    hurt = {m: [row for row in part if row["mse"] is not None] for m, part in rows.items()}
    plot_robustness(hurt, metric="mse", label="MSE of what is filled in", ax=right)
    right.set_ylim(0, min(right.get_ylim()[1], 3))  # zeros may lie far above
    figure.suptitle(title)
    patterns = plot_robustness(rows, kind="pattern", metric="accuracy").figure
    paths = [folder / "rates.png", folder / "patterns.png"]
    for path, picture in zip(paths, (figure, patterns), strict=True):
        partial = path.with_name("part." + path.name)  # the ending says which format
        picture.savefig(partial, dpi=120)
        os.replace(partial, path)
    return paths
