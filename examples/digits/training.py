"""Trains on the training rows; the validation rows choose which weights are kept."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from examples.digits.data import STRIPS, Split
from examples.digits.model import ModelConfig, StripModel
from modimpute import ConsistencyLoss


@dataclass(frozen=True)
class TrainingConfig:
    steps: int = 800
    batch_size: int = 128
    matrix_learning_rate: float = 0.02
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of the steps
    averaging: float = 0.99
    consistency_weight: float = 30.0
    noise: float = 0.15  # standard deviation, pixels are in [0, 1]
    evaluations: int = 20


def train(
    split: Split,
    seed: int,
    sizes: ModelConfig,
    config: TrainingConfig,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[StripModel, list[dict[str, float]]]:
    """Returns the model with the best averaged weights, and the validation history."""
    torch.manual_seed(seed)
    model = StripModel(sizes).to(device)
    # A running mean of the weights errs less than the last ones do.
    averaged = AveragedModel(model, avg_fn=partial(_average, decay=config.averaging))
    optimizers = make_optimizers(model, config)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
        for optimizer in optimizers
    ]
    consistency = ConsistencyLoss("l2")

    strips = split.train.strips(device)
    labels = torch.as_tensor(split.train.labels, device=device)
    batches = _batches(len(labels), config.batch_size, torch.Generator().manual_seed(seed))
    every = max(1, config.steps // config.evaluations)
    history: list[dict[str, float]] = []
    best, best_score = copy.deepcopy(model.state_dict()), math.inf
    for step in range(1, config.steps + 1):
        rows = next(batches).to(device)
        batch = {name: x[rows] for name, x in strips.items()}
        # Noise in what is read, not in what is to be said: neighbours get similar answers.
        noisy = {name: x + config.noise * torch.randn_like(x) for name, x in batch.items()}
        model.train()
        reconstructed = {missing: model.reconstruct(noisy, missing) for missing in STRIPS}
        errors = [consistency(reconstructed[name], batch[name]) for name in STRIPS]
        # The classifier sees each image with one strip reconstructed, drawn at random.
        lacking = torch.randint(len(STRIPS), (len(rows), 1, 1), device=device)
        filled = {
            name: torch.where(lacking == i, reconstructed[name], noisy[name])
            for i, name in enumerate(STRIPS)
        }
        loss = F.cross_entropy(model.classify(filled), labels[rows])
        loss = loss + config.consistency_weight * torch.stack(errors).sum()
        model.zero_grad()
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        averaged.update_parameters(model)
        on_step()
        if step % every == 0 or step == config.steps:
            scores = validate(averaged.module, split, device)
            history.append({"step": step, **scores})
            if scores["relative_error"] < best_score:
                best_score = scores["relative_error"]
                best = copy.deepcopy(averaged.module.state_dict())
    model.load_state_dict(best)
    return model.eval(), history


@torch.no_grad()
def validate(model: StripModel, split: Split, device: torch.device) -> dict[str, float]:
    """Errors relative to the variance, so that no strip counts more than another."""
    model.eval()
    strips = split.validation.strips(device)
    labels = torch.as_tensor(split.validation.labels, device=device)
    scores, relative, hits = {}, 1.0, []
    for missing, target in strips.items():
        logits, reconstructed = model(strips, missing)
        error = F.mse_loss(reconstructed, target).item()
        scores[missing] = error
        relative *= error / target.var(dim=0).mean().item()
        hits.append((logits.argmax(-1) == labels).float().mean().item())
    scores["relative_error"] = relative ** (1 / len(strips))
    scores["fusion_accuracy"] = sum(hits) / len(hits)
    return scores


def make_optimizers(model: StripModel, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the ensembles' transformer blocks, AdamW for everything else.

    For the same number of steps Muon (Jordan et al., 2024) takes the error a good deal lower;
    it is meant for hidden matrices only.
    """
    parameters = model.ensembles.named_parameters()
    hidden = [x for name, x in parameters if ".blocks." in name and x.dim() == 2]
    known = {id(x) for x in hidden}
    others = [x for x in model.parameters() if id(x) not in known]
    return [
        torch.optim.Muon(hidden, lr=config.matrix_learning_rate, weight_decay=config.weight_decay),
        torch.optim.AdamW(others, lr=config.learning_rate, weight_decay=config.weight_decay),
    ]


def _average(average: Tensor, current: Tensor, count: Tensor | int, decay: float) -> Tensor:
    """An exponential mean that soon forgets the weights of the first steps."""
    count = int(count)
    return torch.lerp(average, current, 1 - min(decay, count / (count + 10)))


def _rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    progress = step / config.steps
    return min(1.0, progress / config.warmup) * 0.5 * (1 + math.cos(math.pi * progress))


def _batches(size: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        for rows in torch.randperm(size, generator=generator).split(batch_size):
            if len(rows) == batch_size or size < batch_size:
                yield rows
