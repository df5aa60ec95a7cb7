"""The training loop: any device, precision and number of processes, and it can be killed."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from examples.mosi_sentiment.checkpoint import RunFolder
from examples.mosi_sentiment.config import TrainingConfig
from examples.mosi_sentiment.data import DataSet, Part
from examples.mosi_sentiment.losses import names_of, sum_losses, total_loss
from examples.mosi_sentiment.model import SentimentModel
from modimpute import ModalityDropout, drop_at_rate, drop_pattern

Record = dict[str, Any]
EVALUATION_BATCH = 256


def fit(
    model: SentimentModel,
    data: DataSet,
    config: TrainingConfig,
    seed: int,
    folder: RunFolder,
    accelerator: Accelerator,
    *,
    save_every: float = 30.0,
    on_step: Callable[[], object] = lambda: None,
    on_epoch: Callable[[Record], object] = lambda _: None,
) -> list[Record]:
    """Trains in place, or goes on where a killed run was last saved; returns the history.

    All that is drawn in an epoch depends on the seed and the number of the epoch alone. So the
    weights, the optimizer and that number are all that has to be saved, and a run that was
    killed ends with the same weights as one that was not.
    """
    optimizer = torch.optim.AdamW(
        [x for x in model.parameters() if x.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,  # 0: Adam
        fused=True,
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=config.plateau
    )
    done, history, best_loss, since = 0, [], math.inf, 0
    best = _copy(model)
    saved = folder.load()
    if saved is not None:
        weights, best, state, progress = saved
        model.load_state_dict(weights)
        optimizer.load_state_dict(state["optimizer"])
        plateau.load_state_dict(state["plateau"])
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        history, since = progress["history"], progress["since"]
        best_loss = math.inf if progress["best_loss"] is None else progress["best_loss"]
        done = len(history)
    prepared, optimizer = accelerator.prepare(model, optimizer)
    last_saved = time.monotonic()
    for record in history:  # those of the killed run
        on_epoch(record)
    for epoch in range(done, config.epochs):
        if config.patience and since >= config.patience:
            break
        if epoch == config.translate_first:
            # Moments of parameters that had no gradient so far would let the first steps leap.
            optimizer.state.clear()
        process = accelerator.process_index
        torch.manual_seed(draw(seed, epoch, 1 + process))
        losses = _epoch(
            prepared, model, data.train, config, seed, epoch, optimizer, accelerator, on_step
        )
        validation = validate(model, data.valid, config, accelerator)
        record = {
            "epoch": epoch + 1,
            "learning_rate": optimizer.param_groups[0]["lr"],
            "train": losses,
            "valid": validation,
        }
        if not all(math.isfinite(x) for x in [*losses.values(), *validation.values()]):
            raise ValueError(f"the losses must be finite, however: {record}")
        history.append(record)
        if config.schedule == "plateau":
            plateau.step(validation["task"])
        better = validation["task"] < best_loss and epoch >= config.translate_first
        if config.select == "last" or better:
            best = _copy(model)
        best_loss, since = (validation["task"], 0) if better else (best_loss, since + 1)
        on_epoch(record)
        stops = epoch + 1 == config.epochs or (config.patience and since >= config.patience)
        if stops or time.monotonic() - last_saved >= save_every:
            scaler = accelerator.scaler
            state = {
                "optimizer": optimizer.state_dict(),
                "plateau": plateau.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            progress = {
                "history": history,
                "best_loss": best_loss if math.isfinite(best_loss) else None,
                "since": since,
            }
            folder.save(epoch + 1, _copy(model), best, state, progress)
            last_saved = time.monotonic()
    model.load_state_dict(best)
    model.eval()
    return history


def _epoch(
    prepared: nn.Module,
    model: SentimentModel,
    part: Part,
    config: TrainingConfig,
    seed: int,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    on_step: Callable[[], object],
) -> dict[str, float]:
    names = names_of(model.config.reconstructs)
    weights = config.weights(len(names), epoch).to(accelerator.device)
    dropout = ModalityDropout(config.hide)
    totals = _zeros(len(names), accelerator.device)
    batches = list(batches_of(part, config.batch_size, seed, epoch))
    model.train()
    for i, rows in enumerate(batches):
        if config.schedule == "cosine":
            rate = config.learning_rate * cosine(config.share(epoch, (i + 1) / len(batches)))
            for group in optimizer.param_groups:
                group["lr"] = rate
        mine = rows[accelerator.process_index :: accelerator.num_processes]
        batch = part.rows(mine).to(accelerator.device)
        valid = batch.valid
        if config.hide:
            read = {name: batch.modalities[name] for name in model.config.reads}
            valid = valid | dropout(read, valid={name: valid[name] for name in read})
        prediction, reconstructed = prepared(batch.modalities, valid=valid)
        sums, counts = compare(model, batch, prediction, reconstructed, config)
        loss = total_loss(sums, counts, weights, accelerator.num_processes, _summed(accelerator))
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        totals += torch.stack([x.detach().to(totals.dtype) for x in (sums, counts)])
        on_step()
    return _means(names, _summed(accelerator)(totals))


@torch.no_grad()
def validate(
    model: SentimentModel, part: Part, config: TrainingConfig, accelerator: Accelerator
) -> dict[str, float]:
    """The losses on held-out samples: without what the test will lack, or with fixed gaps."""
    names = names_of(model.config.reconstructs)
    totals = _zeros(len(names), accelerator.device)
    model.eval()
    mine = torch.arange(accelerator.process_index, len(part), accelerator.num_processes)
    for rows in mine.split(EVALUATION_BATCH):
        batch = part.rows(rows).to(accelerator.device)
        valid = drop_pattern(batch.modalities, config.validate_without, valid=batch.valid)
        if config.hide:
            valid = drop_at_rate(batch.modalities, 0.5, valid=valid, seed=0, index=rows)
        prediction, reconstructed = model(batch.modalities, valid=valid)
        sums, counts = compare(model, batch, prediction, reconstructed, config)
        totals += torch.stack([x.to(totals.dtype) for x in (sums, counts)])
    return _means(names, _summed(accelerator)(totals))


def compare(
    model: SentimentModel,
    batch: Part,
    prediction: Tensor,
    reconstructed: dict[str, Tensor],
    config: TrainingConfig,
) -> tuple[Tensor, Tensor]:
    targets = {
        name: model.target(name, batch.modalities[name], batch.valid[name])
        for name in reconstructed
    }
    return sum_losses(
        prediction,
        reconstructed,
        targets,
        batch.valid,
        batch.labels,
        batch.label_valid,
        config.consistency,
    )


def draw(*numbers: int) -> int:
    """One seed from several numbers, such that no two of them meet."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def batches_of(part: Part, size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(draw(seed, epoch, 0))
    yield from torch.randperm(len(part), generator=generator).split(size)


def cosine(share: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    return min(1.0, share / 0.05) * 0.5 * (1 + math.cos(math.pi * share))


def _summed(accelerator: Accelerator) -> Callable[[Tensor], Tensor]:
    return lambda x: accelerator.reduce(x, "sum")


def _zeros(parts: int, device: torch.device) -> Tensor:
    wide = torch.float32 if device.type == "mps" else torch.float64
    return torch.zeros(2, parts, dtype=wide, device=device)


def _means(names: tuple[str, ...], totals: Tensor) -> dict[str, float]:
    means = totals[0] / totals[1].clamp(min=1)
    return dict(zip(names, means.tolist(), strict=True))


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: x.detach().cpu().clone() for name, x in model.state_dict().items()}
