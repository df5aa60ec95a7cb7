"""Tables for the screen and in Markdown, and the plots."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from examples.mosi_sentiment.data import EMOTIONS
from modimpute import plot_robustness

REGRESSION = (
    "MAE",
    "Corr",
    "Acc-2 non0",
    "F1 non0",
    "Acc-2 has0",
    "F1 has0",
    "legacy F1",
    "Acc-7",
    "Acc-5",
)
EMOTION = ("joint Acc", "macro F1", *(f"{e} {m}" for e in EMOTIONS for m in ("Acc", "F1")))
IN_PERCENT = ("Acc", "F1")


def columns_of(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    return REGRESSION if "MAE" in next(iter(metrics.values())) else EMOTION


def metric_table(metrics: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """One run on the screen: a column per view."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for view in metrics:
        table.add_column(view, justify="right")
    for name in columns_of(metrics):
        table.add_row(name, *(cell(name, values[name]) for values in metrics.values()))
    quality = [v.get("reconstruction", {}).get("audio", {}).get("R²") for v in metrics.values()]
    table.add_row("R² of audio", *(cell("R²", value) for value in quality))
    return table


def cell(name: str, mean: float | None, std: float | None = None) -> str:
    """Accuracies and F1 in percent."""
    if mean is None:
        return "n/a"
    percent = any(part in name for part in IN_PERCENT)
    scale, digits = (100, 1) if percent else (1, 3)
    text = f"{scale * mean:.{digits}f}"
    return text if std is None else f"{text} ± {scale * std:.{digits}f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    align = ["---", *["--:"] * (len(header) - 1)]
    return ["| " + " | ".join(line) + " |" for line in (header, align, *rows)]


def draw_curves(path: Path, histories: Mapping[str, Sequence[Sequence[Mapping]]]) -> None:
    """Loss of the task against the epoch, for train and validation; a line per seed."""
    figure = Figure(figsize=(3.1 * len(histories), 3.2), layout="constrained")
    axes = figure.subplots(1, len(histories), squeeze=False, sharey=True)[0]
    for ax, (name, runs) in zip(axes, histories.items(), strict=True):
        for i, history in enumerate(runs):
            epochs = [record["epoch"] for record in history]
            for split, color in (("train", "#0072B2"), ("valid", "#D55E00")):
                losses = [record[split]["task"] for record in history]
                label = split if i == 0 else None
                ax.plot(epochs, losses, color=color, alpha=0.6, linewidth=1, label=label)
        ax.set_title(name, fontsize="medium")
        ax.set_xlabel("epoch")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("loss of the task")
    axes[0].legend(fontsize="small")
    save(figure, path)


def draw_robustness(folder: Path, rows: Mapping[str, Sequence[Mapping]], metric: str) -> None:
    save(plot_robustness(rows, metric=metric).figure, folder / "rates.png")
    patterns = plot_robustness(rows, kind="pattern", metric=metric).figure
    save(patterns, folder / "patterns.png")


def save(figure: Figure, path: Path) -> None:
    part = path.with_name("part." + path.name)  # the ending says which format
    figure.savefig(part, dpi=120)
    os.replace(part, path)


def write_text(path: Path, lines: Sequence[str]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(part, path)
