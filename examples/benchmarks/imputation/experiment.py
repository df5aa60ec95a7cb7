"""Every method on every missing modality. What is finished is kept in the file."""

import argparse
import hashlib
import itertools
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
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

from examples.benchmarks.imputation.data import DataSet, load
from examples.benchmarks.imputation.methods import METHODS, SEEDED, SLOW
from examples.benchmarks.imputation.report import (
    markdown,
    summarize,
    tables,
    write_json,
    write_text,
)
from examples.benchmarks.imputation.scoring import Scorer, error
from examples.benchmarks.imputation.sets import found, options_of
from examples.benchmarks.imputation.windows import Inapplicable

PROTOCOL = 1  # a file of another one is not continued
PACKAGES = ("modimpute", "torch", "scikit-learn", "numpy", "multivae")
DRAWS = 3


@dataclass(frozen=True)
class Case:
    """Modalities that are missing in every test sample."""

    targets: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        return "+".join(self.targets)


def cases(modalities: tuple[str, ...], targets: tuple[str, ...] = ()) -> list[Case]:
    """Each one alone; of four or more modalities also half of them, in three draws."""
    missing = [(name,) for name in targets or modalities]
    if len(modalities) >= 4:
        several = list(itertools.combinations(modalities, len(modalities) // 2))
        drawn = np.random.default_rng(0).permutation(len(several))[:DRAWS]
        missing += [several[i] for i in sorted(drawn)]
    return [Case(gone, tuple(n for n in modalities if n not in gone)) for gone in missing]


def run_all(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Runs all sets that are in the folder; writes their files, and a table for the docs."""
    here, missing = found(options.all)
    for name in missing:
        print(f"{name} is not in {options.all}: python -m examples.benchmarks.prepare {name}")
    if options.json:
        options.json.mkdir(parents=True, exist_ok=True)
    reports = {name: run(options_of(options, name, own)) for name, own in here.items()}
    text = markdown(reports)
    if options.json:
        write_text(options.json / "table.md", text)
        print(f"Saved {options.json / 'table.md'}")
    else:
        print(text)
    return reports


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Runs what the file does not have yet, and returns its content."""
    torch.set_num_threads(options.threads)
    console = Console()
    data = load(
        options.data, options.modalities, options.labels, options.groups, options.zeros_are_real
    )
    report = _resume(options, data)
    names = [n for n in options.methods or METHODS if not (options.quick and n in SLOW)]
    seeds = list(range(options.seed, options.seed + options.seeds))
    todo = cases(data.modalities, tuple(options.targets))
    scorer = Scorer(data)
    report["complete"] = {case.name: _complete(data, scorer, case) for case in todo}
    with _progress(console) as progress:
        bar = progress.add_task("", total=len(seeds) * len(names) * len(todo))
        for seed, name in itertools.product(seeds, names):
            for case in _cells(data, report, name, seed, todo, scorer):
                progress.update(bar, advance=1, description=f"{name}, seed {seed}: {case.name}")
                if options.json:
                    write_json(options.json, report)
    report["summary"] = summarize(report, _groups(data, todo))
    if options.json:
        write_json(options.json, report)
        console.print(f"Saved {options.json}")
    for table in tables(report):
        console.print(table)
    for name, reason in report["skipped"].items():
        console.print(f"{name} did not run: {reason}", highlight=False)
    return report


def _cells(
    data: DataSet, report: dict[str, Any], name: str, seed: int, todo: list[Case], scorer: Scorer
) -> Iterator[Case]:
    """Does what is not done, one case after the other."""
    method, (train, validation) = None, data.split(seed)
    for case in todo:
        key = "rows" if len(case.targets) == 1 else "several"
        same = [r for r in report[key] if (r["target"], r["method"]) == (case.name, name)]
        if any(row["seed"] == seed for row in same):
            yield case
            continue
        if same and name not in SEEDED:
            report[key].append(same[0] | {"seed": seed})
            yield case
            continue
        start = time.perf_counter()
        try:
            method = method or METHODS[name](data)
            method.fit(train, validation, case.sources, case.targets, seed)
            filled = method.predict(data.test.hide(case.targets))
        except (Inapplicable, NotImplementedError) as reason:
            report["skipped"][name] = str(reason)
            yield case
            continue
        if not all(x.isfinite().all() for x in filled.values()):
            raise ValueError(f"{name} must answer with finite values, however: {case.name}")
        rows = np.flatnonzero(data.test.has(case.targets))
        gains = scorer(data.test, filled, rows)
        row = {
            "target": case.name,
            "method": name,
            "seed": seed,
            "mse": error(data.test, filled, rows),
            "score": None if gains is None else float(gains.mean()),
        }
        report[key].append(row)
        report["seconds"][f"{case.name} {name} {seed}"] = round(time.perf_counter() - start, 2)
        if gains is not None:
            text = " ".join(f"{x:.5g}" for x in gains)
            report["samples"][f"{case.name} {name} {seed}"] = text
        yield case


def _complete(data: DataSet, scorer: Scorer, case: Case) -> float | None:
    """The score where nothing is missing."""
    gains = scorer(data.test, {}, np.flatnonzero(data.test.has(case.targets)))
    return None if gains is None else float(gains.mean())


def _groups(data: DataSet, todo: list[Case]) -> dict[str, np.ndarray]:
    """The groups of the samples that are scored."""
    groups = data.test.groups
    if groups is None:
        return {}
    return {case.name: groups[data.test.has(case.targets)] for case in todo}


def _resume(options: argparse.Namespace, data: DataSet) -> dict[str, Any]:
    settings = {
        "protocol": PROTOCOL,
        "data": data.name,
        "digest": data.digest,
        "modalities": list(data.modalities),
        "labels": options.labels,
        "groups": options.groups,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    report: dict[str, Any] = {"rows": [], "several": [], "skipped": {}, "seconds": {}}
    report |= {"samples": {}}
    if options.json and Path(options.json).exists():
        saved = json.loads(Path(options.json).read_text(encoding="utf-8"))
        if saved.get("hash") != digest:
            rule = f"{options.json} must be of the same data and settings, or not be there"
            raise ValueError(f"{rule}, however: it has {saved.get('settings')}")
        report |= {key: saved[key] for key in report if key != "skipped"}
        for key in ("rows", "several"):
            report[key] = [row for row in saved[key] if row["method"] not in options.again]
    return {"hash": digest, "settings": settings, "versions": _versions()} | report


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
