"""python -m examples.benchmarks.imputation.ablation: what is each part of the recipe worth?

Each target of the sets with signal is fitted once; a part is taken away by choosing the weights of
the others on what was said of the samples that were held out. "learned scales" is fitted anew: all
features of a source count alike then. "donors or inflation": neither of them, nor variation.
"sources of donors": donors are like the reconstruction alone. Beside the error stands the score of
the fixed linear model; a file of --json is continued.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from examples.benchmarks.imputation.data import DataSet, load
from examples.benchmarks.imputation.parts import join
from examples.benchmarks.imputation.report import write_json
from examples.benchmarks.imputation.scoring import Scorer, error
from examples.benchmarks.imputation.sets import SETS, found
from modimpute import KernelTranslator, TranslatorEnsemble, default_ensemble, fit_ensemble
from modimpute._data import Data
from modimpute._defaults import default_tolerance
from modimpute._evidence import Evidence
from modimpute._held_out import TEMPERATURES, HeldOut

# What is taken away: all members whose names begin so.
PARTS = {
    "kernel": ("kernel",),
    "projected kernel": ("projected",),
    "both kernels": ("kernel", "projected"),
    "retrieval": ("retrieval",),
    "second network": ("second",),
    "networks": ("transformer", "second"),
}
NOBODY = ()
DRAWN = "donors or inflation"
SOURCES = "sources of donors"
SCALES = "learned scales"
KEPT = "nothing"

Found = list[tuple[HeldOut, float]]  # and the tolerance


@contextmanager
def evidence() -> Iterator[Found]:
    """Keeps what weights and donors are chosen by."""
    kept: Found = []
    choose = HeldOut.choose

    def watched(
        self: HeldOut, ensemble: TranslatorEnsemble, data: Data, tolerance: float, seed: int
    ) -> None:
        kept.append((self, tolerance))
        choose(self, ensemble, data, tolerance, seed)

    HeldOut.choose = watched  # type: ignore[method-assign]
    try:
        yield kept
    finally:
        HeldOut.choose = choose  # type: ignore[method-assign]


@torch.no_grad()
def weigh_without(
    ensemble: TranslatorEnsemble,
    found: Found,
    prefixes: tuple[str, ...],
    *,
    inflated: bool = True,
) -> None:
    """Chooses the weights of the members that do not begin so; the others get none."""
    held, tolerance = found[-1]
    spent = tolerance if inflated and ensemble.donors is None else 0.0
    names = ensemble.weighing.members
    left = [i for i, name in enumerate(names) if not name.startswith(prefixes)]
    for row, known in held.members.items():
        some = Evidence(len(left), known.moments)
        some.products, some.moments = known.products[left][:, left], known.moments[left]
        some.power = known.power
        ensemble.weighing.weight[row] = 0.0
        chosen = some.weights(held.guard, spent)
        ensemble.weighing.weight[row, left] = chosen.to(ensemble.weighing.weight)


@torch.no_grad()
def share_without_sources(ensemble: TranslatorEnsemble, found: Found) -> None:
    """Chooses the share of donors that are like the reconstruction alone."""
    held, tolerance = found[-1]
    donors = ensemble.donors
    if donors is None or donors.source_memory is None or not donors.source_memory.tau.isfinite():
        return  # so they are
    donors.tau.mul_(TEMPERATURES[-1][0] / TEMPERATURES[0][0])
    donors.source_memory.tau.fill_(torch.inf)
    ensemble.weighing.choose_donors(held.donors[-1], held.guard, tolerance)


def ablate(data: DataSet, target: str, seed: int, scorer: Scorer) -> dict[str, dict[str, float]]:
    """Returns errors and scores with nothing taken away, and without each part."""
    train, validation = data.split(seed)
    part = join(train, validation)
    others = [name for name in sorted(part.modalities) if name != target]
    sources = {name: part.modalities[name] for name in others}
    options = {
        "valid": {name: part.valid[name] for name in others},
        "target_valid": part.valid[target],
        "validation": torch.arange(len(part)) >= len(train),
        "seed": seed,
    }
    rows = np.flatnonzero(data.test.has([target]))
    asked = {name: data.test.modalities[name] for name in others}
    there = {name: data.test.valid[name] for name in others}

    found_out: dict[str, dict[str, float]] = {"errors": {}, "scores": {}}

    @torch.no_grad()
    def measure(name: str, ensemble: TranslatorEnsemble) -> None:
        said = {target: ensemble(asked, valid=there, target_valid=data.test.exists[target])}
        found_out["errors"][name] = error(data.test, said, rows)
        gains = scorer(data.test, said, rows)
        if gains is not None:
            found_out["scores"][name] = float(gains.mean())

    with evidence() as found:
        ensemble = fit_ensemble(sources, part.modalities[target], **options)
    measure(KEPT, ensemble)
    for name, prefixes in PARTS.items():
        weigh_without(ensemble, found, prefixes)
        measure(name, ensemble)
    weigh_without(ensemble, found, NOBODY, inflated=False)
    if ensemble.donors is None:
        ensemble.weighing.variation.reset_parameters()
        measure(DRAWN, ensemble)
    else:
        share_without_sources(ensemble, found)
        measure(SOURCES, ensemble)
        ensemble.weighing.donors_share.zero_()
        measure(DRAWN, ensemble)
    torch.manual_seed(seed)
    shapes = {name: x.shape[1:] for name, x in sources.items()}
    shape = part.modalities[target].shape[1:]
    fresh = default_ensemble(shapes, shape, len(part), aligned=ensemble.aligned)
    members = dict(fresh.translators)
    for member in members.values():
        if isinstance(member, KernelTranslator):
            member.steps = 0
    tolerance = default_tolerance(fresh.donors, own=False)
    options |= {"translators": members, "donors": fresh.donors, "tolerance": tolerance}
    measure(SCALES, fit_ensemble(sources, part.modalities[target], **options))
    return found_out


def run(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    here, missing = found(options.all)
    for name in missing:
        print(f"{name} is not in {options.all}: python -m examples.benchmarks.prepare {name}")
    report: dict[str, Any] = {"rows": []}
    if options.json and options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))
    done = [(row["set"], row["target"], row["seed"]) for row in report["rows"]]
    for name in [name for name in here if SETS[name].signal]:
        own = here[name]
        zeros = own.get("zeros_are_real", False)
        data = load(own["data"], own.get("modalities", ()), "labels", None, zeros)
        scorer = Scorer(data)
        for target, seed in itertools.product(
            own.get("targets", data.modalities), range(options.seeds)
        ):
            if (name, target, seed) in done:
                continue
            found_out = ablate(data, target, seed, scorer)
            report["rows"].append({"set": name, "target": target, "seed": seed} | found_out)
            if options.json:
                write_json(options.json, report)
    Console().print(table(report["rows"]))
    return report


def table(rows: list[dict[str, Any]]) -> Table:
    """How many times larger the error is without each part: geometric mean and range.

    And by how much the score changes, its mean and range.
    """
    out = Table(title="error without a part / with all; score without less score with all")
    scores = ("score", "least", "most")
    for column in ("without", "geometric mean", "least", "most", *scores):
        out.add_column(column, justify="left" if column == "without" else "right")
    for name in (*PARTS, DRAWN, SOURCES, SCALES):
        having = [row for row in rows if name in row["errors"]]
        if not having:
            continue
        ratios = np.array([row["errors"][name] / row["errors"][KEPT] for row in having])
        values = (np.exp(np.log(ratios).mean()), ratios.min(), ratios.max())
        cells = [f"{value:.3f}" for value in values]
        gains = [r["scores"][name] - r["scores"][KEPT] for r in rows if name in r["scores"]]
        if gains:
            cells += [f"{value:+.3f}" for value in (np.mean(gains), min(gains), max(gains))]
        out.add_row(name, *cells)
    return out


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.imputation.ablation", description=__doc__
    )
    add = parser.add_argument
    add("--all", type=Path, default=Path("data"), help="folder of the sets (see prepare)")
    add("--seeds", type=int, default=1, help="how many seeds to run")
    add("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    add("--json", type=Path, metavar="OUT", help="file of errors and scores; a run continues it")
    run(parser.parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
