"""python -m examples.benchmarks.learning_curve: which method wins with how many samples?

Vectors of three modalities from one hidden state, 10² to 10⁵ training samples; and the strips of
digits, 10² to all of them. Each modality in turn is missing; a fifth of the training samples is
for validation.
"""

import argparse
import itertools
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from examples.benchmarks.imputation.__main__ import INTERRUPTED, positive
from examples.benchmarks.imputation.data import DataSet, load, standardised
from examples.benchmarks.imputation.methods import METHODS
from examples.benchmarks.imputation.parts import Part
from examples.benchmarks.imputation.report import with_spread, write_json
from examples.benchmarks.imputation.scoring import error
from examples.benchmarks.imputation.windows import Inapplicable

COMPARED = ("mean", "ridge", "knn", "paper", "modimpute")
SIZES = {
    "synthetic": (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000),
    "digits": (100, 200, 400, 800, 1437),
}
TEST = 2_000
HIDDEN, WIDTH, NOISE = 6, 12, 0.3


def synthetic(size: int) -> DataSet:
    """Three views of a hidden state, each through a network of its own, and noise."""
    rng = np.random.default_rng(0)
    state = rng.normal(size=(size + TEST, HIDDEN))
    x = {}
    for name in ("one", "three", "two"):
        first, second = rng.normal(size=(HIDDEN, 32)), rng.normal(size=(32, WIDTH))
        view = np.sin(state @ first / HIDDEN**0.5 * 1.5) @ second / 4
        noisy = view + NOISE * rng.normal(size=view.shape)
        x[name] = torch.as_tensor(noisy, dtype=torch.float32).unsqueeze(1)
    valid = {name: torch.ones(values.shape[:2], dtype=torch.bool) for name, values in x.items()}
    whole = Part(x, valid, valid)
    parts = {
        "train": whole.rows(np.arange(size)),
        "test": whole.rows(np.arange(size, size + TEST)),
    }
    parts, zero = standardised(parts, sorted(x))
    return DataSet("synthetic", parts["train"], None, parts["test"], zero, "")


def some(data: DataSet, size: int, seed: int) -> DataSet:
    """The same test samples, and ``size`` of the training samples."""
    rows = np.random.default_rng(seed).permutation(len(data.train))[:size]
    return replace(data, train=data.train.rows(np.sort(rows)))


def run(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    console = Console()
    report: dict[str, Any] = {"rows": [], "skipped": {}}
    if options.json and options.json.exists():
        report["rows"] = json.loads(options.json.read_text(encoding="utf-8"))["rows"]
        report["rows"] = [r for r in report["rows"] if r["method"] not in options.again]
    makers = {
        "synthetic": lambda: synthetic(max(SIZES["synthetic"])),
        "digits": lambda: load("digits"),
    }
    for name in options.data:
        data = makers[name]()
        sizes = [size for size in SIZES[name] if size <= options.largest]
        for size, method, seed in itertools.product(sizes, options.methods, range(options.seeds)):
            key = {"data": name, "size": size, "method": method, "seed": seed}
            if any(key.items() <= row.items() for row in report["rows"]):
                continue
            start = time.perf_counter()
            with console.status(f"{name}, {size} samples: {method}, seed {seed}"):
                try:
                    mse = _mean_error(some(data, size, seed), method, seed)
                except (Inapplicable, NotImplementedError) as reason:
                    report["skipped"][method] = str(reason)
                    continue
            seconds = round(time.perf_counter() - start, 2)
            report["rows"].append(key | {"mse": mse, "seconds": seconds})
            if options.json:
                write_json(options.json, report)
        console.print(table(report["rows"], name))
    for name, reason in report["skipped"].items():
        console.print(f"{name} did not run: {reason}", highlight=False)
    return report


def _mean_error(data: DataSet, name: str, seed: int) -> float:
    """The test error, the mean over the modalities that may be missing."""
    method, (train, validation) = METHODS[name](data), data.split(seed)
    errors = []
    for target in data.modalities:
        sources = tuple(n for n in data.modalities if n != target)
        method.fit(train, validation, sources, (target,), seed)
        filled = method.predict(data.test.hide([target]))
        errors.append(error(data.test, filled, np.arange(len(data.test))))
    return float(np.mean(errors))


def table(rows: list[dict[str, Any]], data: str) -> Table:
    """A row for each size and a column for each method."""
    rows = [row for row in rows if row["data"] == data]
    out = Table(title=f"{data}: test MSE by the number of training samples", title_justify="left")
    out.add_column("samples", justify="right")
    names = [name for name in COMPARED if any(row["method"] == name for row in rows)]
    for name in names:
        out.add_column(name, justify="right")
    for size in sorted({row["size"] for row in rows}):
        at = [row for row in rows if row["size"] == size]
        cells = [[row["mse"] for row in at if row["method"] == name] for name in names]
        out.add_row(str(size), *(with_spread(x) if x else "" for x in cells))
    return out


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.learning_curve", description=__doc__
    )
    add = parser.add_argument
    add("--data", nargs="+", choices=tuple(SIZES), default=tuple(SIZES))
    add("--methods", nargs="+", choices=COMPARED, default=COMPARED)
    add("--again", nargs="+", choices=COMPARED, default=(), help="forget their saved results")
    add("--largest", type=positive, default=100_000, help="number of samples")
    add("--seeds", type=positive, default=1, help="how many seeds to run")
    add("--threads", type=positive, default=1, help="of PyTorch (default: 1)")
    add("--json", type=Path, metavar="OUT", help="file of the results; a run continues it")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        run(options)
    except KeyboardInterrupt:
        print("Interrupted: what is finished is saved, if --json is given.")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
