"""How the scales of a kernel are learned: by what each example is told by all others."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from modimpute._mixture import Mixture
from modimpute._ridge import centred, mean_error, wide
from modimpute._table import Table

WARMUP = 10  # steps
SLOW = 0.1  # the projection's share of the learning rate
FLOOR = 1e-4  # of the penalty, so that single precision suffices
EVALUATIONS = 10
JUDGED = 1000  # examples that judge, and by which they are told


class Learning(NamedTuple):
    """How long, of how many examples each time, how fast, in how much noise."""

    steps: int
    batch_size: int
    learning_rate: float
    noise: float


def learn(
    mixture: Mixture,
    rows: Table,
    held: Table | None,
    learning: Learning,
    generator: torch.Generator,
) -> None:
    """Leaves in place what was learned last or, if examples are held, what errs least on them.

    In double precision from where single precision no longer suffices.
    """
    y = centred(rows.y, rows.weight)[0]
    dtype = y.dtype
    sizes = torch.tensor(mixture.sizes, device=mixture.scale.device)
    # A step moves the sources as wholes, too: which one matters is found before which feature.
    leaves = {"feature": mixture.scale.clone(), "source": y.new_zeros(3, len(mixture.sizes))}
    leaves |= {name: x.clone() for name, x in mixture.named_buffers() if name != "scale"}
    for leaf in leaves.values():
        leaf.requires_grad_()

    def current() -> dict[str, Tensor]:
        source = leaves["source"].repeat_interleave(sizes, -1)
        others = {name: x for name, x in leaves.items() if name not in ("feature", "source")}
        return {"scale": leaves["feature"] + source} | others

    slow = {"projection": SLOW * learning.learning_rate}
    groups = [
        {"params": [x], "lr": slow.get(n, learning.learning_rate)} for n, x in leaves.items()
    ]
    optimizer = torch.optim.Adam(groups)

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / WARMUP)
        return warm * 0.5 * (1 + math.cos(math.pi * step / learning.steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    every, least = max(1, learning.steps // EVALUATIONS), math.inf
    if held is not None:
        held, told_by = held.some(JUDGED, generator), rows.some(JUDGED, generator)
        least = held_error(mixture, told_by, held)
    count = min(learning.batch_size, len(rows))
    for step in range(1, learning.steps + 1):
        some = torch.randperm(len(rows), generator=generator)[:count].to(y.device)
        part, answer = rows.pick(some), y[some]
        noise = torch.randn(part.x.shape, generator=generator, dtype=dtype).to(y.device)
        x = part.x + learning.noise * noise * (part.x != 0)  # zero: nothing there
        with torch.enable_grad():
            now = current()
            kernel = functional_call(mixture, now, (x, x))
            told = left_out(kernel, now["noise"].exp(), answer, part.owner)
            error = (part.weight * told.square()).sum() / part.weight.sum().clamp(min=1)
        if bool(error.isfinite()):
            optimizer.zero_grad()
            error.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        else:  # the matrix was not definite: another batch, wider
            rows, y = rows.wide(), wide(y)
            if held is not None:
                told_by, held = told_by.wide(), held.wide()
        if held is None and step == learning.steps:
            put(mixture, current())
        elif held is not None and (step % every == 0 or step == learning.steps):
            before = {name: x.clone() for name, x in mixture.named_buffers()}
            put(mixture, current())
            if (now_error := held_error(mixture, told_by, held)) < least:
                least = now_error
            else:
                put(mixture, before)


def left_out(kernel: Tensor, penalty: Tensor, y: Tensor, owner: Tensor) -> Tensor:
    """Returns by how much each example errs that is told by those of other samples only.

    NaN, where rounding left a matrix that is not definite.
    """
    eye = torch.eye(len(y), dtype=y.dtype, device=y.device)
    factor, failed = torch.linalg.cholesky_ex(kernel + (penalty + FLOOR) * eye)
    inverse = torch.cholesky_inverse(torch.where(failed > 0, eye, factor))  # else it raises
    own = inverse * (owner.unsqueeze(-1) == owner)
    factor, failed_too = torch.linalg.cholesky_ex(own)
    told = torch.cholesky_solve(inverse @ y, factor)
    return torch.where(failed + failed_too > 0, math.nan, told)


@torch.no_grad()
def held_error(mixture: Mixture, rows: Table, held: Table) -> float:
    """Returns the mean squared error of held examples."""
    y, mean = centred(rows.y, rows.weight)
    eye = torch.eye(len(y), dtype=y.dtype, device=y.device)
    kernel = mixture(rows.x, rows.x) + (mixture.noise.exp() + FLOOR) * eye
    factor, failed = torch.linalg.cholesky_ex(kernel)
    if bool(failed):
        return math.inf
    told = mean + mixture(held.x, rows.x) @ torch.cholesky_solve(y, factor)
    return mean_error(told, held.y, held.weight)


@torch.no_grad()
def put(mixture: Mixture, values: dict[str, Tensor]) -> None:
    """Writes the values into the kernel."""
    for name, x in mixture.named_buffers():
        x.copy_(values[name])
