"""The model with one part changed at a time."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from examples.mosi_sentiment import report
from examples.mosi_sentiment.checkpoint import read_json, write_json
from examples.mosi_sentiment.comparators import ALL, COMPARATORS, LV, OURS, Comparator, View
from examples.mosi_sentiment.config import TrainingConfig
from examples.mosi_sentiment.evaluation import labelled
from examples.mosi_sentiment.jobs import Job, how_many, run_all, slug
from examples.mosi_sentiment.metrics import errors_of
from examples.mosi_sentiment.presets import preset_for
from examples.mosi_sentiment.runs import open_data
from examples.mosi_sentiment.statistics import groups_of, paired_difference, spread

VIEW = (View("audio missing", LV),)
BASE = OURS


def _changed(name: str, about: str, model=None, training=None) -> Comparator:
    return Comparator(name, about, VIEW, model or {}, training or {})


ABLATIONS = (
    _changed(BASE, "nothing changed"),
    _changed("V to A only", "one translator, from vision", {"sources": ("vision",)}),
    _changed("L to A only", "one translator, from text", {"sources": ("text",)}),
    _changed(
        "no further transformer",
        "translations concatenated, then a linear map",
        {"further_transformer": False},
    ),
    _changed("L1", "consistency loss by absolute distance", None, {"consistency": "l1"}),
    _changed("no consistency", "no consistency loss", None, {"consistency": "none"}),
    *(
        _changed(f"weight {weight}", f"consistency loss times {weight}", None, {"weight": weight})
        for weight in (0.01, 0.1, 1.0, 10.0)
    ),
    _changed("concatenation", "no attention between modalities", {"attention": False}),
    _changed(
        "projected target",
        "compared in a fixed random projection, not in the standardised features",
        {"target": "projected"},
    ),
    _changed(
        "real audio in training",
        "the prediction is trained on real audio, and reads the reconstruction only in the test",
        {"reads": ALL},
        {"validate_without": ("audio",)},
    ),
)


def ablations(training: TrainingConfig) -> tuple[Comparator, ...]:
    """All of them, and the phases that the preset does not have."""
    if training.translate_first:
        phases = _changed("one phase", "everything at once", None, {"translate_first": 0})
    else:
        about = "translators first, for 10 of the epochs"
        phases = _changed("two phases", about, None, {"translate_first": 10})
    return (*ABLATIONS, phases)


def run(data: str, out: Path, seeds: Iterable[int], jobs: int | None, threads: int) -> None:
    console, opened = Console(), open_data(data)
    folder = out / opened.name
    # The model without audio is no ablation of ours, but what each of them has to beat.
    chosen = [*ablations(preset_for(opened).training), COMPARATORS["L+V only"]]
    plan = [
        Job(data, comparator, seed, folder / "runs" / f"{slug(comparator.name)}-{seed}")
        for seed in seeds
        for comparator in chosen
    ]
    console.print(f"{opened.name}: {len(plan)} runs")
    run_all(plan, console, jobs or how_many(opened), threads)
    truth = labelled(opened.test.labels, opened.test)
    groups = np.repeat(groups_of(opened.test.ids), opened.test.label_valid.sum(1).numpy())
    metrics: dict[str, list[dict]] = {}
    errors: dict[str, list[np.ndarray]] = {}
    for job in plan:
        (view,) = job.comparator.views
        found = read_json(job.path / "metrics.json")["test"][view.name]
        metrics.setdefault(job.comparator.name, []).append(found)
        values = load_file(job.path / "predictions.safetensors")[view.name]
        predicted = labelled(values, opened.test)
        errors.setdefault(job.comparator.name, []).append(errors_of(predicted, truth))
    about = {c.name: c.about for c in chosen}
    rows, result = [], {}
    columns = report.columns_of({"": metrics[BASE][0]})[:4]
    for name, found in metrics.items():
        summary = {c: spread([m[c] for m in found]) for c in columns}
        quality = [m.get("reconstruction", {}).get("audio", {}).get("R²") for m in found]
        summary["R² of audio"] = spread(quality)
        paired = paired_difference(np.stack(errors[name]), np.stack(errors[BASE]), groups)
        result[name] = {"summary": summary, "difference": paired}
        cells = [report.cell(c, *summary[c].values()) for c in (*columns, "R² of audio")]
        interval = f"{paired['difference']:+.4f} [{paired['low']:+.4f}, {paired['high']:+.4f}]"
        rows.append([f"{name}: {about[name]}", *cells, interval if name != BASE else ""])
    header = ["", *columns, "R² of audio", f"error minus that of {BASE}, 95 % interval"]
    count = len(metrics[BASE])
    lines = [f"## {opened.name}: ablations, {count} seeds", "", *report.markdown(header, rows)]
    write_json(folder / "ablations.json", result)
    report.write_text(folder / "ablations.md", lines)
    screen = Table(title=f"{opened.name}: ablations, {count} seeds", title_justify="left")
    for column in ("", *columns[:2], "R² of audio"):
        screen.add_column(column, justify="right" if column else "left")
    for name, (_, *cells, _) in zip(metrics, rows, strict=True):
        screen.add_row(name, *cells[:2], cells[-1])
    console.print(screen)
    console.print(f"Saved {folder}, the whole table in {folder / 'ablations.md'}")
