"""Means and spreads over seeds, as a table and as a file; pictures of the digits."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich.table import Table

from examples.digits.data import STRIPS, Part, fill
from examples.digits.evaluation import CLASSICAL, METHODS

BLUE = "#9ecae1"  # where a strip is missing


def statistics(values: Iterable[float]) -> dict[str, float | None]:
    """Mean, standard deviation over seeds and standard error of the mean."""
    x = np.array(list(values), dtype=np.float64)
    if len(x) < 2:  # one seed says nothing about the spread
        return {"mean": float(x.mean()), "std": None, "standard_error": None}
    std = float(x.std(ddof=1))
    return {"mean": float(x.mean()), "std": std, "standard_error": std / math.sqrt(len(x))}


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarizes what ``evaluate`` returned for each seed.

    "ratio" is our error divided by that of the best classical method of the same strip and seed.
    """
    strips: dict[str, Any] = {}
    ratios: dict[str, list[float]] = {}
    for missing in STRIPS:
        results = [run["strips"][missing] for run in runs]
        ratios[missing] = [
            result["methods"]["modimpute"]["mse"]
            / min(result["methods"][name]["mse"] for name in CLASSICAL)
            for result in results
        ]
        strips[missing] = {
            "methods": {
                name: {
                    what: statistics(result["methods"][name][what] for result in results)
                    for what in ("mse", "accuracy")
                }
                for name in METHODS
            },
            "ratio": statistics(ratios[missing]),
            "fusion_accuracy": statistics(result["fusion_accuracy"] for result in results),
            "shares": {
                name: statistics(result["shares"].get(name, 0.0) for result in results)
                for name in results[0]["shares"]
            },
        }
    per_seed = [geometric_mean(values) for values in zip(*ratios.values(), strict=True)]
    return {
        "strips": strips,
        "ratio_geometric_mean": statistics(per_seed),
        "complete_accuracy": statistics(run["complete_accuracy"] for run in runs),
        "seconds": statistics(run["seconds"] for run in runs),
    }


def table(summary: Mapping[str, Any], title: str) -> Table:
    """Two parts, error and accuracy, with a row per method and a column per missing strip."""
    strips = [summary["strips"][missing] for missing in STRIPS]
    out = Table(title=title, title_justify="left")
    out.add_column("missing strip")
    for missing in STRIPS:
        out.add_column(missing, justify="right")

    def add(name: str, values: Iterable[Mapping[str, float | None]], digits: int) -> None:
        style = "bold" if name == "modimpute" else None
        out.add_row(f"  {name}", *(_cell(value, digits) for value in values), style=style)

    out.add_row("reconstruction MSE")
    for name in METHODS:
        add(name, (strip["methods"][name]["mse"] for strip in strips), 4)
    add("modimpute / best classical", (strip["ratio"] for strip in strips), 3)
    out.add_section()
    out.add_row("accuracy")
    for name in METHODS:
        add(name, (strip["methods"][name]["accuracy"] for strip in strips), 3)
    add("fusion model itself", (strip["fusion_accuracy"] for strip in strips), 3)
    return out


def closing_lines(summary: Mapping[str, Any]) -> list[str]:
    shares = []
    for missing, strip in summary["strips"].items():
        said = [f"{share['mean']:.0%} {name}" for name, share in strip["shares"].items()]
        shares.append(f"Shares, {missing} strip: {', '.join(said)}")
    return [
        *shares,
        f"Geometric mean of the three ratios: {_cell(summary['ratio_geometric_mean'], 3)}",
        f"Accuracy of the classifier on complete images: {_cell(summary['complete_accuracy'], 3)}",
    ]


def _cell(value: Mapping[str, float | None], digits: int) -> str:
    text = f"{value['mean']:.{digits}f}"
    return text if value["std"] is None else f"{text} ± {value['std']:.{digits}f}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes all or nothing: an interrupted run leaves the file of the last finished seed."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)


def draw(path: Path, part: Part, reconstructions: Mapping[str, np.ndarray]) -> None:
    """Draws real, masked and reconstructed digits, one of each class, for every missing strip."""
    chosen = [int(np.flatnonzero(part.labels == digit)[0]) for digit in np.unique(part.labels)]
    real = part.images[chosen]
    figure = Figure(figsize=(0.6 * len(chosen) + 1.2, 6.2), layout="constrained")
    for axes, missing in zip(figure.subplots(len(STRIPS), 1), STRIPS, strict=True):
        hidden = fill(real, missing, np.full_like(reconstructions[missing][chosen], np.nan))
        filled = fill(real, missing, reconstructions[missing][chosen])
        axes.imshow(
            np.concatenate([_row(images) for images in (real, hidden, filled)]),
            cmap=colormaps["gray_r"].with_extremes(bad=BLUE),
            vmin=0,
            vmax=1,
        )
        axes.set_yticks([4, 13, 22], ["real", "masked", "reconstructed"])
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{missing} strip missing", loc="left", fontsize="medium")
    partial = path.with_name("part." + path.name)  # the ending says which format
    figure.savefig(partial, dpi=150, bbox_inches="tight")
    os.replace(partial, path)


def _row(images: np.ndarray) -> np.ndarray:
    """The images side by side, with a white pixel between and below them."""
    framed = np.pad(images, ((0, 0), (0, 1), (0, 1)), constant_values=0.0)
    return np.concatenate(list(framed), axis=1)
