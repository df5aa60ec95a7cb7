"""The whole job: for every seed split, train, compare, save."""

import argparse
import platform
import time
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import modimpute
from examples.digits.data import STRIPS, load_split
from examples.digits.evaluation import evaluate
from examples.digits.model import ModelConfig
from examples.digits.recipe import fit, impute
from examples.digits.report import closing_lines, draw, summarize, table, write_json
from examples.digits.training import TrainingConfig, train

FIT = 300  # steps of a progress bar that one strip's ensemble is worth
QUICK = (
    ModelConfig(model_dim=16, num_heads=2, ensemble_layers=1, fusion_dim=16),
    TrainingConfig(steps=40, evaluations=2),
)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all seeds; the report on disk always holds every seed that is finished."""
    # Tensors this small gain a quarter from a second thread on an idle machine, and lose far more
    # on a busy one. And the numbers then do not depend on the number of cores.
    torch.set_num_threads(options.threads)
    console = Console()
    options.out.mkdir(parents=True, exist_ok=True)
    paths = options.out / "report.json", options.out / "digits.png"
    sizes, config = QUICK if options.quick else (ModelConfig(), TrainingConfig())
    report: dict[str, Any] = {
        "evaluated_on": "validation" if options.validation else "test",
        "quick": options.quick,
        "device": options.device,
        "threads": options.threads,
        "tolerance": options.tolerance,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "modimpute": modimpute.__version__,
        },
        "model": asdict(sizes),
        "training": asdict(config),
        "seeds": [],
    }
    seeds = range(options.seed, options.seed + options.seeds)
    try:
        with _progress(console) as progress:
            bar = progress.add_task(
                "", total=len(seeds) * (config.steps + len(STRIPS) * (FIT + 1))
            )
            for seed in seeds:
                _run_seed(seed, options, sizes, config, report, progress, bar)
    except KeyboardInterrupt:
        done = f"{len(report['seeds'])} of {len(seeds)} seeds are finished"
        where = f" and saved in {paths[0]}" if report["seeds"] else ""
        raise KeyboardInterrupt(f"{done}{where}.") from None
    what = f"{report['evaluated_on']} images, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    console.print(table(report["summary"], f"Missing strips of handwritten digits, {what}"))
    for line in closing_lines(report["summary"]):
        console.print(line, highlight=False)
    console.print(f"Saved {paths[0]} and {paths[1]}")
    return report


def _run_seed(
    seed: int,
    options: argparse.Namespace,
    sizes: ModelConfig,
    config: TrainingConfig,
    report: dict[str, Any],
    progress: Progress,
    bar: TaskID,
) -> None:
    def advance() -> None:
        progress.advance(bar)

    start, device = time.perf_counter(), torch.device(options.device)
    split = load_split(seed, development=options.validation)
    part = split.test
    progress.update(bar, description=f"seed {seed}: training")
    model, history = train(split, seed, sizes, config, device, advance)
    ensembles = {}
    for missing in STRIPS:
        progress.update(bar, description=f"seed {seed}: fitting {missing}")
        ensembles[missing] = fit(
            split, missing, seed, device, tolerance=options.tolerance, quick=options.quick
        )
        progress.advance(bar, FIT)
    progress.update(bar, description=f"seed {seed}: comparing")
    results = evaluate(model, ensembles, split, part, device, advance)
    seconds = round(time.perf_counter() - start, 1)
    if not report["seeds"]:
        pixels = {name: impute(ensembles[name], part, name, device) for name in STRIPS}
        draw(options.out / "digits.png", part, pixels)
    report["seeds"].append({"seed": seed, "seconds": seconds, **results, "history": history})
    report["summary"] = summarize(report["seeds"])
    write_json(options.out / "report.json", report)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
