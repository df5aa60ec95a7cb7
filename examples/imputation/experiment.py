"""The whole job: for every seed train an imputer, compare it, save."""

import argparse
import platform
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import modimpute
from examples.imputation.data import DataSet, load
from examples.imputation.evaluation import Classifier, compare, gaps, half_missing
from examples.imputation.methods import Neighbours, imputing, interpolate, means, own_mean, zeros
from examples.imputation.recipe import train_imputer
from examples.imputation.report import draw, gap_table, half_table, summarize, write_json

STEPS = 900
QUICK_STEPS = 60


def model_options(data: DataSet, quick: bool) -> dict[str, Any]:
    """Vectors cost next to nothing, so they may have a wider model than sequences."""
    width = 128 if len(data.sequences) == 0 else 64
    width = 32 if quick else width
    sizes = {"model_dim": width, "num_heads": 4, "num_layers": 1, "feedforward_dim": 2 * width}
    # A learned vector for each place, where sequences are short and begin alike.
    return sizes | {"aligned": data.aligned, "num_places": data.num_places}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all seeds; the report on disk always holds every seed that is finished."""
    torch.set_num_threads(options.threads)
    console = Console()
    folder = options.out / options.data_name
    folder.mkdir(parents=True, exist_ok=True)
    steps = QUICK_STEPS if options.quick else STEPS
    part = "validation" if options.validation else "test"
    report: dict[str, Any] = {
        "data": options.data_name,
        "evaluated_on": part,
        "quick": options.quick,
        "device": options.device,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "modimpute": modimpute.__version__,
        },
        "steps": steps,
        "seeds": [],
        "rows": {},
    }
    seeds = range(options.seed, options.seed + options.seeds)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        bar = progress.add_task("", total=len(seeds) * steps)
        for i, seed in enumerate(seeds):

            def say(what: str, seed: int = seed) -> None:
                progress.update(bar, description=f"seed {seed}: {what}")

            run_seed(seed, options, report, say, lambda: progress.advance(bar))
            progress.update(bar, completed=(i + 1) * steps)  # it may have stopped early
            report["summary"] = summarize(report["seeds"])
            paths = draw(folder, report["rows"], f"{options.data_name} ({part})")
            write_json(folder / "report.json", report)
    what = f"{part}, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    title = f"{options.data_name}: half of the modalities missing ({what})"
    console.print(half_table(report["summary"], title))
    if report["summary"]["gaps"]:
        title = f"{options.data_name}: half of the steps of one modality missing, MSE ({what})"
        console.print(gap_table(report["summary"], title))
    seconds = report["summary"]["cpu_seconds"]["train"]["mean"]
    console.print(f"Training: {seconds:.0f} s of CPU for each seed", highlight=False)
    console.print("Saved", *(str(path) for path in (folder / "report.json", *paths)))
    return report


def run_seed(seed, options, report, say, on_step) -> None:
    start = time.process_time()
    data = load(options.data, options.folder, seed, options.modalities)
    say("training")
    torch.manual_seed(seed)
    device = torch.device(options.device)
    report["model"] = model_options(data, options.quick)
    imputer = modimpute.ModalityImputer(data.dims, **report["model"])
    train, held_out = data.train.to(device), data.validation.to(device)
    history = train_imputer(
        imputer.to(device),
        (train.modalities, train.valid),
        (held_out.modalities, held_out.valid),
        steps=report["steps"],
        on_step=on_step,
    )
    trained = time.process_time()
    say("neighbours")
    neighbours = Neighbours(data)
    methods = {
        "zeros": zeros(data),
        "means": means(data),
        "kNN": neighbours,
        "imputer": imputing(imputer),
    }
    classifier = Classifier(data)
    part = data.validation if options.validation else data.test
    for name, method in methods.items():
        say(f"comparing {name}")
        rows = compare(method, classifier, part, seed, options.quick)
        report["rows"].setdefault(name, []).extend(rows)
    say("gaps")
    lines = {"means": methods["means"], "own mean": own_mean, "interpolation": interpolate}
    lines |= {"kNN": neighbours, "imputer": methods["imputer"]}
    result = {
        "seed": seed,
        "half": half_missing(methods, classifier, part, seed),
        "gaps": gaps(lines, part, data.sequences, seed),
        "cpu_seconds": {
            "train": round(trained - start, 1),
            "all": round(time.process_time() - start, 1),
        },
        "neighbours": neighbours.k,
        "history": history,
    }
    report["seeds"].append(result)
