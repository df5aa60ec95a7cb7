"""The report of a data set in Markdown, and the part of it that fits a screen."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from examples.mosi_sentiment import report
from examples.mosi_sentiment.comparators import COMPARATORS, OURS
from examples.mosi_sentiment.data import DataSet
from examples.mosi_sentiment.presets import preset_for
from examples.mosi_sentiment.published import PUBLISHED, notes
from modimpute import summarize_robustness


def table(data: DataSet, result: Mapping[str, Any]) -> list[str]:
    """The whole report in Markdown."""
    summary = result["summary"]
    columns = report.columns_of(result["floors"])
    header = ["", *columns, "R² of audio"]
    rows = []
    for comparator in COMPARATORS.values():
        for view in comparator.views:
            if view.name in summary:
                values = summary[view.name]
                cells = [report.cell(c, *values[c].values()) for c in columns]
                quality = values.get("R² audio", {"mean": None, "std": None})
                label = f"**{view.name}**" if view.name == OURS else view.name
                cells.append(report.cell("R²", *quality.values()))
                rows.append([f"{label}: {view.about}", *cells])
    for name, values in result["floors"].items():
        rows.append([name, *(report.cell(c, values[c]) for c in columns), "n/a"])
    count = len(result["seeds"])
    kind = "made data" if result["data"]["made"] else "test"
    lines = [
        f"## {data.name} ({kind}, {count} seeds, mean ± standard deviation)",
        "",
        *report.markdown(header, rows),
        "",
        *differences(data, result),
        "",
        *published(data, columns),
        *extension(result),
        " ".join(notes(data.card, preset_for(data).training.select)),
    ]
    return lines


def screen(data: DataSet, result: Mapping[str, Any]) -> list[Table]:
    """The columns that matter most, for a screen of 80 columns."""
    columns = report.columns_of(result["floors"])[:3]
    metrics = Table(title=f"{data.name}, test, {len(result['seeds'])} seeds", title_justify="left")
    for name in ("", *columns, "R² of audio"):
        metrics.add_column(name, justify="right" if name else "left")
    for view, values in result["summary"].items():
        quality = values.get("R² audio", {"mean": None, "std": None})
        cells = [report.cell(c, *values[c].values()) for c in columns]
        style = "bold" if view == OURS else None
        metrics.add_row(view, *cells, report.cell("R²", *quality.values()), style=style)
    for name, values in result["floors"].items():
        metrics.add_row(name, *(report.cell(c, values[c]) for c in columns), "n/a")
    paired = Table(title="Paired differences of the error", title_justify="left")
    for name in ("", "mean", "95 % interval"):
        paired.add_column(name, justify="right" if name else "left")
    for name, d in result["differences"].items():
        interval = f"{d['low']:+.4f} to {d['high']:+.4f}"
        paired.add_row(name, f"{d['difference']:+.4f}", interval)
    return [metrics, paired]


def differences(data: DataSet, result: Mapping[str, Any]) -> list[str]:
    what = "absolute error" if data.task == "regression" else "share of wrong joint choices"
    header = [f"difference of the {what}", "mean", "95 % interval", ""]
    rows = []
    for name, d in result["differences"].items():
        if d["low"] <= 0 <= d["high"]:
            verdict = "includes zero"
        else:
            verdict = "the first is better" if d["high"] < 0 else "the second is better"
        interval = f"[{d['low']:+.4f}, {d['high']:+.4f}]"
        rows.append([name, f"{d['difference']:+.4f}", interval, verdict])
    note = "Paired by seed and sample; the bootstrap draws both seeds and samples (videos)."
    return [*report.markdown(header, rows), "", note]


def published(data: DataSet, columns: tuple[str, ...]) -> list[str]:
    way = "aligned" if data.aligned else "unaligned"
    found = PUBLISHED.get(f"{data.card.get('data set')}-{way}", ())
    if not found or data.card.get("layout") == "npz":
        return []
    rows = [
        [row.who, *(str(row.metrics.get(c, "n/a")) for c in columns), row.source, row.note]
        for row in found
    ]
    header = ["published", *columns, "source", "features"]
    return [*report.markdown(header, rows), ""]


def extension(result: Mapping[str, Any]) -> list[str]:
    """Beyond the paper: patterns and rates."""
    models = result["robustness"]
    if not models:
        return []
    main = "MAE" if "MAE" in next(iter(result["floors"].values())) else "macro F1"
    summaries = {
        name: [line for line in summarize_robustness(rows) if line["metric"] == main]
        for name, rows in models.items()
    }
    names = {name: "extension" if name == "extension" else "full, mean filling" for name in models}
    lines: dict[str, list[str]] = {}
    for rows in summaries.values():
        for line in rows:
            if line["kind"] in ("pattern", "rate"):
                label = (
                    f"only {line['available']}"
                    if line["kind"] == "pattern"
                    else f"rate {line['rate']:.1f} (reached {line['rate_reached']:.3f})"
                )
                lines.setdefault(label, []).append(report.cell(main, line["mean"], line["std"]))
    header = [f"*extension*, {main}", *(names[name] for name in summaries)]
    return [*report.markdown(header, [[k, *v] for k, v in lines.items()]), ""]
