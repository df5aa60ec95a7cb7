"""A trained model on one part of the data: predictions, metrics, quality of reconstruction."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from examples.mosi_sentiment.comparators import View
from examples.mosi_sentiment.data import DataSet, Part
from examples.mosi_sentiment.metrics import constants, metrics_of
from examples.mosi_sentiment.model import SentimentModel
from modimpute import drop_pattern

BATCH = 256


@torch.no_grad()
def predict(model: SentimentModel, part: Part, view: View) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns predictions and reconstructions of a part, on the CPU."""
    device = next(model.parameters()).device
    missing = sorted({*part.modalities}.difference(view.available))
    predictions, reconstructions = [], []
    model.eval()
    for rows in torch.arange(len(part)).split(BATCH):
        batch = part.rows(rows).to(device)
        kept = drop_pattern(batch.modalities, missing, valid=batch.valid)
        prediction, reconstructed = model(batch.modalities, valid=kept, fill=view.fill)
        predictions.append(prediction.cpu())
        reconstructions.append({name: x.cpu() for name, x in reconstructed.items()})
    names = reconstructions[0]
    return torch.cat(predictions), {n: torch.cat([r[n] for r in reconstructions]) for n in names}


def labelled(values: Tensor, part: Part) -> np.ndarray:
    """Of ``(N, S, …)``, those that have a label, in one row."""
    return values[part.label_valid].double().numpy()


def score(prediction: Tensor, part: Part) -> dict[str, float | None]:
    return metrics_of(labelled(prediction, part), labelled(part.labels, part))


@torch.no_grad()
def reconstruction_quality(
    model: SentimentModel, data: DataSet, part: Part, reconstructed: dict[str, Tensor]
) -> dict[str, dict[str, float | None]]:
    """MSE, R² against the training mean and cosine, over the steps that exist.

    In the space in which the loss compares; "standardised": MSE 1 is about that of the mean.
    """
    quality = {}
    for name, x in reconstructed.items():
        steps = part.valid[name]
        y = torch.cat(list(_targets(model, part, name))).double()
        guess, mean = x[steps].double(), train_mean(model, data.train, name)
        error = (guess - y).square().sum().item()
        floor = (y - mean).square().sum().item()
        cosine = torch.cosine_similarity(guess - mean, y - mean, dim=-1).mean().item()
        quality[name] = {
            "MSE": error / y.numel() if y.numel() else None,
            "R²": 1 - error / floor if floor else None,
            "cosine": cosine if y.numel() else None,
        }
    return quality


def train_mean(model: SentimentModel, train: Part, name: str) -> Tensor:
    """The mean of what reconstructions are compared with, ``(D,)``, in float64."""
    total, count = torch.zeros(()), 0
    for y in _targets(model, train, name):  # all of them at once may be some GB
        total, count = total + y.double().sum(0), count + len(y)
    return total / max(count, 1)


def _targets(model: SentimentModel, part: Part, name: str) -> Iterator[Tensor]:
    """Those of the steps that exist, batch by batch, on the CPU."""
    device = next(model.parameters()).device
    for rows in torch.arange(len(part)).split(BATCH):
        batch = part.rows(rows).to(device)
        target = model.target(name, batch.modalities[name], batch.valid[name])
        yield target[batch.valid[name]].cpu()


def evaluate(
    model: SentimentModel, data: DataSet, part: Part, views: tuple[View, ...]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the metrics and the predictions of each view."""
    metrics: dict[str, Any] = {}
    predictions: dict[str, Tensor] = {}
    for view in views:
        predictions[view.name], reconstructed = predict(model, part, view)
        metrics[view.name] = score(predictions[view.name], part)
        if reconstructed:
            quality = reconstruction_quality(model, data, part, reconstructed)
            metrics[view.name]["reconstruction"] = quality
    return metrics, predictions


def floors(data: DataSet, part: Part) -> dict[str, dict[str, float | None]]:
    """The metrics of constant predictions."""
    truth = labelled(part.labels, part)
    train = labelled(data.train.labels, data.train)
    return {
        name: metrics_of(np.broadcast_to(value, (len(truth), *np.shape(value))), truth)
        for name, value in constants(train, data.task).items()
    }
