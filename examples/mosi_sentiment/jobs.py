"""Many runs: one after another with progress, or several at a time in processes of their own."""

import multiprocessing
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from examples.mosi_sentiment import progress, runs
from examples.mosi_sentiment.checkpoint import write_json
from examples.mosi_sentiment.comparators import Comparator
from examples.mosi_sentiment.data import DataSet
from examples.mosi_sentiment.robustness import robustness

ROWS = "robustness.json"
SMALL = 10_000_000  # values


@dataclass(frozen=True)
class Job:
    data: str
    comparator: Comparator
    seed: int
    path: Path
    robust: bool = False  # whether all patterns and rates are tested, too

    @property
    def done(self) -> bool:
        finished = (self.path / "metrics.json").is_file()
        return finished and (not self.robust or (self.path / ROWS).is_file())

    @property
    def title(self) -> str:
        return f"{self.comparator.name}, seed {self.seed}"


def how_many(data: DataSet) -> int:
    """How many runs at a time: two of a small set on a CPU; a GPU, or the memory, is for one."""
    values = sum(x.numel() for part in data.parts.values() for x in part.modalities.values())
    alone = torch.accelerator.is_available() or values > SMALL or (os.cpu_count() or 1) < 2
    return 1 if alone else 2


def slug(name: str) -> str:
    """A name for a folder."""
    return name.lower().replace(" ", "-").replace("+", "")


def run_all(jobs: Iterable[Job], console: Console, at_once: int, threads: int) -> None:
    """Does what is not done; every finished run is on disk, so nothing is done twice."""
    waiting = [job for job in jobs if not job.done]
    with progress.bar(console) as bar:
        task = bar.add_task("runs", total=len(waiting), losses="")

        def finished(title: str, record: dict[str, Any]) -> None:
            bar.update(task, advance=1, losses=f"{title}: {progress.line(record)}")

        if at_once == 1:
            for job in waiting:
                name = bar.add_task(job.title, total=None, losses="")

                def on_epoch(record: dict[str, Any], name=name) -> None:
                    losses = progress.line(record)
                    bar.update(name, completed=record["epoch"], losses=losses)

                finished(*run(job, on_epoch))
                bar.remove_task(name)
            return
        # "spawn": a fork of a process whose PyTorch has threads may hang.
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(at_once, max(len(waiting), 1)), _start, (threads,)) as pool:
            for result in pool.imap_unordered(run, waiting):
                finished(*result)


def run(job: Job, on_epoch: Any = lambda _: None) -> tuple[str, dict[str, Any]]:
    data = runs.open_data(job.data)
    accelerator = runs.make_accelerator()
    metrics = runs.train(data, job.comparator, job.seed, job.path, accelerator, on_epoch=on_epoch)
    if job.robust and not job.done:
        model, _ = runs.load_model(job.path)
        model.to(accelerator.device)
        cells = job.path / "robustness.jsonl"
        rows = robustness(model, data, job.comparator.name, job.seed, cells)
        write_json(job.path / ROWS, rows)
    return job.title, metrics["history"][-1]


def _start(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool
    torch.set_num_threads(threads)
