"""All rows of a data set in one command: comparators, seeds, intervals, table, plots."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from examples.mosi_sentiment import report
from examples.mosi_sentiment.checkpoint import read_json, versions, write_json
from examples.mosi_sentiment.comparators import COMPARATORS
from examples.mosi_sentiment.data import DataSet
from examples.mosi_sentiment.evaluation import floors, labelled
from examples.mosi_sentiment.jobs import ROWS, Job, run_all, slug
from examples.mosi_sentiment.metrics import errors_of
from examples.mosi_sentiment.presets import preset_for
from examples.mosi_sentiment.published import PUBLISHED, notes
from examples.mosi_sentiment.robustness import FILLS
from examples.mosi_sentiment.runs import PLANTED, open_data
from examples.mosi_sentiment.statistics import groups_of, paired_difference, spread
from examples.mosi_sentiment.synthetic import NAMES
from modimpute import summarize_robustness

OURS = "reconstruction"
PAIRS = (  # what is compared with what, sample by sample
    (OURS, "L+V only"),
    (OURS, "full, mean"),
    (OURS, "full, zeros"),
    (OURS, "full"),
    (OURS, "text only"),
    ("without text", "V only"),
)


def run(data: str, out: Path, seeds: Iterable[int], jobs: int, threads: int) -> None:
    console = Console()
    seeds = list(seeds)
    names = [PLANTED + name for name in NAMES] if data == "synthetic" else [data]
    for name in names:
        opened = open_data(name)
        folder = out / opened.name
        chosen = plan(name, folder, seeds, planted=bool(opened.card.get("made")))
        console.print(f"{opened.name}: {len(chosen)} runs, {len(seeds)} seeds")
        run_all(chosen, console, jobs, threads)
        result = collect(opened, chosen)
        write_json(folder / "report.json", result)
        lines = table(opened, result)
        report.write_text(folder / "table.md", lines)
        draw(folder, result)
        for part in screen(opened, result):
            console.print(part)
        console.print(f"Saved {folder}, the whole table in {folder / 'table.md'}")


def plan(data: str, folder: Path, seeds: Iterable[int], planted: bool) -> list[Job]:
    """Seed by seed, so that an interrupted command leaves whole seeds."""
    comparators = [c for c in COMPARATORS.values() if c.planted or not planted]
    return [
        Job(
            data,
            c,
            seed,
            folder / "runs" / f"{slug(c.name)}-{seed}",
            robust=c.name in FILLS and not planted,
        )
        for seed in seeds
        for c in comparators
    ]


def collect(data: DataSet, jobs: Iterable[Job]) -> dict[str, Any]:
    """Reads all runs: metrics by view and seed, their spread, paired differences."""
    metrics: dict[str, dict[int, Any]] = {}
    errors: dict[str, list[np.ndarray]] = {}
    histories: dict[str, list[Any]] = {}
    parameters: dict[str, int] = {}
    rows: dict[str, list[Any]] = {}
    truth = labelled(data.test.labels, data.test)
    for job in jobs:
        found = read_json(job.path / "metrics.json")
        predictions = load_file(job.path / "predictions.safetensors")
        histories.setdefault(job.comparator.name, []).append(found["history"])
        for view, values in found["test"].items():
            metrics.setdefault(view, {})[job.seed] = values
            parameters[view] = found["parameters"]
            predicted = labelled(predictions[view], data.test)
            errors.setdefault(view, []).append(errors_of(predicted, truth))
        if job.robust:
            rows.setdefault(job.comparator.name, []).extend(read_json(job.path / ROWS))
    steps = data.test.label_valid.sum(1).numpy()
    groups = np.repeat(groups_of(data.test.ids), steps)
    return {
        "data": {"name": data.name, "made": data.card.get("made"), "card": data.card},
        "preset": preset_for(data).name,
        "versions": versions(),
        "seeds": sorted({job.seed for job in jobs}),
        "metrics": metrics,
        "summary": {view: summarize(list(by_seed.values())) for view, by_seed in metrics.items()},
        "parameters": parameters,
        "floors": floors(data, data.test),
        "differences": {
            f"{a} minus {b}": paired_difference(np.stack(errors[a]), np.stack(errors[b]), groups)
            for a, b in PAIRS
            if a in errors and b in errors
        },
        "histories": histories,
        "robustness": rows,
    }


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    keys = [key for key in runs[0] if key != "reconstruction"]
    summary = {key: spread([run[key] for run in runs]) for key in keys}
    for name in runs[0].get("reconstruction", {}):
        for what in ("MSE", "R²", "cosine"):
            values = [run["reconstruction"][name][what] for run in runs]
            summary[f"{what} {name}"] = spread(values)
    return summary


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


def draw(folder: Path, result: Mapping[str, Any]) -> None:
    report.draw_curves(folder / "curves.png", result["histories"])
    models = result["robustness"]
    if models:
        main = "MAE" if "MAE" in next(iter(result["floors"].values())) else "macro F1"
        named = {f"{n}, mean filling" if n == "full" else n: rows for n, rows in models.items()}
        report.draw_robustness(folder, named, main)
