"""All six missing patterns and random missing rates, on the extension and on mean filling."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from examples.mosi_sentiment.data import DataSet
from examples.mosi_sentiment.metrics import metrics_of
from examples.mosi_sentiment.model import SentimentModel
from modimpute import evaluate_robustness

BATCH = 256
RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # the last one is capped at 1 - 1/3
FILLS = {"extension": "missing", "full": "mean"}  # by the comparator's name


def robustness(
    model: SentimentModel, data: DataSet, comparator: str, seed: int, out: Path
) -> list[dict[str, Any]]:
    """Rows of ``evaluate_robustness``; finished cells are kept in ``out``."""
    device = next(model.parameters()).device
    fill = FILLS[comparator]

    def predict(modalities: dict[str, Tensor], valid: dict[str, Tensor]) -> Tensor:
        on = [{n: x.to(device) for n, x in group.items()} for group in (modalities, valid)]
        return model(on[0], valid=on[1], fill=fill)[0].cpu()

    def metric(predicted: Tensor, truth: dict[str, Tensor]) -> dict[str, float]:
        known = truth["known"]
        values = metrics_of(
            predicted[known].double().numpy(), truth["labels"][known].double().numpy()
        )
        return {name: math.nan if value is None else value for name, value in values.items()}

    parts = [data.test.rows(rows) for rows in torch.arange(len(data.test)).split(BATCH)]
    batches = [
        (p.modalities, p.valid, {"labels": p.labels, "known": p.label_valid}) for p in parts
    ]
    return evaluate_robustness(
        predict,
        batches,
        metric,
        rates=RATES,
        seeds=[seed],
        stochastic=True,  # another seed is another model: its patterns are runs of their own
        out=out,
        name=comparator,
    )
