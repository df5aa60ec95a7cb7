"""Progress on the screen: steps, time left, and the losses of the last epoch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from examples.mosi_sentiment.training import Record


def bar(console: Console, disable: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
        console=console,
        disable=disable,
    )


def line(record: Record) -> str:
    """The losses of an epoch: train/valid of each part."""
    parts = (f"{k} {v:.3f}/{record['valid'][k]:.3f}" for k, v in record["train"].items())
    return "  ".join(parts)


@contextmanager
def epochs(
    console: Console, title: str, steps: int, total: int, disable: bool = False
) -> Iterator[tuple[Callable[[], object], Callable[[Record], object]]]:
    """A bar over the steps of ``total`` epochs: callbacks for each step and each epoch."""
    with bar(console, disable) as progress:
        task = progress.add_task(title, total=steps * total, losses="")

        def on_epoch(record: Record) -> None:
            progress.update(task, completed=record["epoch"] * steps, losses=line(record))

        yield lambda: progress.advance(task), on_epoch
        progress.update(task, total=progress.tasks[0].completed)


@contextmanager
def tensorboard(folder: Path | None) -> Iterator[Callable[[Record], object]]:
    """Curves for TensorBoard, where it is asked for; the extra ``mosi`` does not install it."""
    if folder is None:
        yield lambda _: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        rule = "--tensorboard must have tensorboard (pip install tensorboard)"
        raise ValueError(f"{rule}, however: {error}") from None
    with SummaryWriter(folder) as writer:

        def on_epoch(record: Record) -> None:
            for split in ("train", "valid"):
                for name, value in record[split].items():
                    writer.add_scalar(f"{name}/{split}", value, record["epoch"])
            writer.add_scalar("learning rate", record["learning_rate"], record["epoch"])

        yield on_epoch
