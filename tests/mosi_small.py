"""A small set and small settings, for the tests of examples.mosi_sentiment."""

from dataclasses import replace

import torch

from examples.mosi_sentiment.config import ModelConfig, TrainingConfig
from examples.mosi_sentiment.data import DataSet, Part
from examples.mosi_sentiment.model import SentimentModel
from examples.mosi_sentiment.presets import Preset, shape_of

DIMS = {"audio": 3, "text": 4, "vision": 5}
MODEL = ModelConfig(
    model_dim=8,
    num_heads=2,
    translator_layers=1,
    ensemble_dim=16,
    ensemble_layers=1,
    fusion_layers=1,
    feedforward=2,
    kernels=(1, 3, 3),
    dropout=0.1,
    text_dropout=0.1,
)
TRAINING = TrainingConfig(epochs=4, batch_size=8, learning_rate=3e-3, plateau=0)
PRESET = Preset("small", "for tests", MODEL, TRAINING)
KINDS = ("aligned", "unaligned", "stepwise", "emotions")


def small(kind, seed=0, counts=(20, 8, 9)):
    """Left-padded sequences of unequal lengths; some audio and some labels are missing."""
    g = torch.Generator().manual_seed(seed)
    steps = {"audio": 7, "text": 5, "vision": 6} if kind == "unaligned" else dict.fromkeys(DIMS, 6)

    def part(count, split):
        lengths = torch.randint(2, 6, (count, 1), generator=g)
        modalities, valid = {}, {}
        for name, dim in DIMS.items():
            there = torch.arange(steps[name]) >= steps[name] - lengths
            if name == "audio":
                there &= torch.rand(count, 1, generator=g) < 0.9
            x = 5 * torch.randn(count, steps[name], dim, generator=g) + 3
            modalities[name] = torch.where(there.unsqueeze(-1), x, 0.0)
            valid[name] = there
        if kind == "emotions":
            labels = torch.eye(4)[torch.randint(4, (count,), generator=g)].unsqueeze(1)
        else:
            labels = torch.randn(count, 6 if kind == "stepwise" else 1, 1, generator=g)
        known = torch.rand(labels.shape[:2], generator=g) < 0.8
        known[0] = True
        if kind == "stepwise":
            known &= valid["text"]
        labels = torch.where(known.unsqueeze(-1), labels, 0.0)
        return Part(modalities, valid, labels, known, [f"{split}-{i}" for i in range(count)])

    parts = [part(n, s) for n, s in zip(counts, ("train", "valid", "test"), strict=True)]
    task = "emotions" if kind == "emotions" else "regression"
    return DataSet(kind, task, kind != "unaligned", kind == "stepwise", *parts, card={})


def build(data, **changes):
    torch.manual_seed(0)
    model = SentimentModel(shape_of(data), replace(MODEL, **changes))
    model.normalizer.fit([(data.train.modalities, data.train.valid)])
    return model
