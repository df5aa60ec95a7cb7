"""All rows of a data set in one command: comparators, seeds, intervals, table, plots."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors.torch import load_file

from examples.mosi_sentiment import report
from examples.mosi_sentiment.checkpoint import read_json, versions, write_json
from examples.mosi_sentiment.comparators import COMPARATORS, OURS
from examples.mosi_sentiment.data import DataSet
from examples.mosi_sentiment.evaluation import floors, labelled
from examples.mosi_sentiment.jobs import ROWS, Job, how_many, run_all, slug
from examples.mosi_sentiment.metrics import errors_of
from examples.mosi_sentiment.presets import preset_for
from examples.mosi_sentiment.robustness import FILLS
from examples.mosi_sentiment.runs import PLANTED, open_data
from examples.mosi_sentiment.statistics import groups_of, paired_difference, spread
from examples.mosi_sentiment.synthetic import NAMES
from examples.mosi_sentiment.tables import screen, table

PAIRS = (  # what is compared with what, sample by sample
    (OURS, "L+V only"),
    (OURS, "full, mean"),
    (OURS, "full, zeros"),
    (OURS, "full"),
    (OURS, "text only"),
    ("without text", "V only"),
)


def run(data: str, out: Path, seeds: Iterable[int], jobs: int | None, threads: int) -> None:
    console = Console()
    seeds = list(seeds)
    names = [PLANTED + name for name in NAMES] if data == "synthetic" else [data]
    for name in names:
        opened = open_data(name)
        folder = out / opened.name
        chosen = plan(name, folder, seeds, planted=bool(opened.card.get("made")))
        console.print(f"{opened.name}: {len(chosen)} runs, {len(seeds)} seeds")
        run_all(chosen, console, jobs or how_many(opened), threads)
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


def draw(folder: Path, result: Mapping[str, Any]) -> None:
    report.draw_curves(folder / "curves.png", result["histories"])
    models = result["robustness"]
    if models:
        main = "MAE" if "MAE" in next(iter(result["floors"].values())) else "macro F1"
        named = {f"{n}, mean filling" if n == "full" else n: rows for n, rows in models.items()}
        report.draw_robustness(folder, named, main)
