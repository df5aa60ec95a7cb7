"""How a retrieval translator is trained: no example sees itself in the memory."""

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modimpute._table import Table

if TYPE_CHECKING:
    from modimpute.retrieval import RetrievalTranslator

COMPLETE = 0.5  # of the training steps, the share in which no source is dropped
EVALUATIONS = 12
AVERAGING = 0.98
WARMUP = 20  # steps
SAMPLE, NEAR = 512, 12  # examples that set the scale, by so many of each one's neighbours


def learn(
    module: "RetrievalTranslator",
    table: Table,
    held: Table | None,
    generator: torch.Generator,
) -> None:
    """Learns the parameters in place, in ``float32`` at least: half precision is too coarse."""
    dtype = torch.promote_types(table.x.dtype, torch.float32)
    learner, table = copy.deepcopy(module).to(dtype), table.to(dtype)
    kept = table.some(module.memory_size, generator)
    start(learner, kept.x, generator.initial_seed())
    judged = None
    if held is not None and len(held):
        judged = held.to(dtype).some(module.memory_size, generator)
    train_leave_one_out(learner, table, kept, judged, generator)
    for own, learned in zip(module.parameters(), learner.parameters(), strict=True):
        own.copy_(learned)


def train_leave_one_out(
    module: "RetrievalTranslator",
    table: Table,
    kept: Table,
    held: Table | None,
    generator: torch.Generator,
) -> None:
    """Leaves the averaged weights in place; if examples are held, those that err least on them."""
    trained = copy.deepcopy(module).train()
    learned, averages = dict(trained.named_parameters()), dict(module.named_parameters())
    optimizer = torch.optim.AdamW(learned.values(), lr=module.learning_rate, weight_decay=1e-2)

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / WARMUP)
        return warm * 0.5 * (1 + math.cos(math.pi * step / module.steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    best, least = None, math.inf
    every = max(1, module.steps // EVALUATIONS)
    for step in range(1, module.steps + 1):
        with torch.enable_grad():
            error = loss(trained, table, kept, generator)
            optimizer.zero_grad()
            error.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        share = 1 - min(AVERAGING, step / (step + 10))
        for name, average in averages.items():
            average.lerp_(learned[name].detach(), share)
        if held is not None and (step % every == 0 or step == module.steps):
            now = held_error(module, held, kept)
            if now < least:
                least, best = now, {n: p.detach().clone() for n, p in averages.items()}
    for name, value in (best or {}).items():
        averages[name].copy_(value)


def start(module: "RetrievalTranslator", x: Tensor, seed: int) -> None:
    """Sets the keys to principal components, and the sharpness to the distance of neighbours."""
    some, weight = x[:SAMPLE], module.keys.straight.weight
    with torch.random.fork_rng(devices=[]):  # the caller's draws go on as before
        torch.manual_seed(seed)
        module.reset_parameters()
        weight.copy_(1e-3 * torch.randn(weight.shape).to(weight))
    basis = torch.linalg.svd(some - some.mean(0), full_matrices=False)[2][: module.key_dim]
    weight[: len(basis)] = basis
    z = module.keys(some)
    near = torch.cdist(z, z).square().topk(min(NEAR, len(z)), largest=False).values[:, 1:]
    module.sharpness.add_(torch.log(1.5 / near.mean().clamp(min=1e-6)))


def loss(
    module: "RetrievalTranslator", table: Table, kept: Table, generator: torch.Generator
) -> Tensor:
    """Returns the error of some examples in noise, often with some of the sources only."""

    def noisy(x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        return x + module.noise * noise * (x != 0)  # zero: nothing there

    count = min(module.batch_size, len(table))
    rows = torch.randperm(len(table), generator=generator)[:count].to(table.x.device)
    number = 0
    if torch.rand((), generator=generator) > COMPLETE:
        number = int(torch.randint(len(module._subsets), (), generator=generator))
    batch = table.pick(rows)
    memory = Table(noisy(kept.x), kept.y, kept.weight, kept.has, kept.owner)
    y = module._told(noisy(batch.x), number, memory, batch.owner)
    weight = batch.weight * batch.has[:, module._columns(number)].all(-1, keepdim=True)
    return (weight * (y - batch.y).square()).sum() / weight.sum().clamp(min=1)


def held_error(module: "RetrievalTranslator", held: Table, kept: Table) -> float:
    """Returns the error of held examples, read with the largest subset that all of them have."""
    numbers = range(len(module._subsets))
    number = next((n for n in numbers if held.has[:, module._columns(n)].all()), 0)
    y = module._told(held.x, number, kept, None)
    error = (held.weight * (y - held.y).square()).sum()
    return float(error / held.weight.sum().clamp(min=1))
