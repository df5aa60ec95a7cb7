"""A bar that shows how far a fit has come."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(show: bool, total: int) -> Iterator[Callable[[str], None]]:
    if not show or importlib.util.find_spec("rich") is None:
        yield lambda name: None  # noqa: ARG005
        return
    from rich.progress import Progress

    with Progress() as bar:
        task, done = bar.add_task("", total=total), iter(range(total))
        yield lambda name: bar.update(task, completed=next(done), description=name)
        bar.update(task, completed=total)
