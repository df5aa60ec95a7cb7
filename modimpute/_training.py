"""How the recipe trains a member that is a network: any module that has no ``fit`` of its own."""

import copy
import inspect
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modimpute._data import Data
from modimpute._evidence import moments
from modimpute.consistency import consistency_loss

STEPS, MOST = 1500, 6000  # at least, and at most; fewer of sequences that are longer than LONG
LONG = 16
SEEN, EPOCHS = 90, 16  # epochs within these bounds, and at least, whatever the bounds
BATCH, READ = 128, 5120  # samples, and steps, of a batch at most
CHUNK = 1024  # samples judged at once
EVALUATIONS, PATIENCE = 25, 8
MANY = 50_000  # samples, from which on noise and dropout only hold a network back
NOISE = 0.2  # of a feature's deviation
AVERAGING = 0.99


def train(
    module: nn.Module, data: Data, rows: Tensor, held: Tensor, seed: int, stop: int | None = None
) -> int:
    """Trains in place and returns the number of steps whose averaged weights are kept.

    Those that err least on the held samples; with ``stop``, those after so many steps.
    """
    device, generator = data.target.device, torch.Generator().manual_seed(seed)
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        return 0
    options = inspect.signature(module.forward).parameters
    told = "target_valid" in options
    fitted = data.pick(rows)
    # Errors are relative to the target's deviation, and noise to a feature's.
    scale = moments(fitted.target, fitted.there, data.alike)[1]
    noise = None
    if len(data) < MANY:
        noise = {n: NOISE * moments(x, fitted.valid[n])[1] for n, x in fitted.sources.items()}

    def loss(part: Data, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        guess = (part.noisy(noise) if noise else part).ask(module, told)
        return consistency_loss(guess / scale, part.target / scale, valid=part.there)

    longest = max(x.shape[1] for x in (data.target, *data.sources.values()))
    batch = max(1, min(BATCH, READ // longest))
    shorter = min(1.0, LONG / longest) ** 0.5
    seen = min(MOST * shorter, SEEN * len(rows) / batch)
    steps = int(max(STEPS * shorter, seen, EPOCHS * len(rows) / batch))
    every = max(1, steps // EVALUATIONS)
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.05)

    def rate(step: int) -> float:
        return min(1.0, 20 * (step + 1) / steps) * 0.5 * (1 + math.cos(math.pi * step / steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    average = [p.detach().clone() for p in parameters]
    best, least, since, kept_step = copy.deepcopy(average), math.inf, 0, 0
    for step in range(1, steps + 1):
        some = torch.randperm(len(fitted), generator=generator)[:batch].to(device)
        module.train()
        optimizer.zero_grad()
        with torch.enable_grad():
            loss(fitted.pick(some), noise).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        share = 1 - min(AVERAGING, step / (step + 10))
        for mean, parameter in zip(average, parameters, strict=True):
            mean.lerp_(parameter.detach(), share)
        if step == stop:
            best, kept_step = average, step
            break
        if stop is None and (step % every == 0 or step == steps):
            current = [p.detach().clone() for p in parameters]
            _put(parameters, average)
            module.eval()
            with torch.no_grad():
                parts = [data.pick(some) for some in torch.split(held, CHUNK)]
                error = sum(float(loss(part)) * float(part.there.sum()) for part in parts)
            _put(parameters, current)
            if error < least:
                least, best, since = error, [x.clone() for x in average], 0
                kept_step = step
            else:
                since += 1
                if since >= PATIENCE:
                    break
    _put(parameters, best)
    module.eval()
    return kept_step


@torch.no_grad()
def _put(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
