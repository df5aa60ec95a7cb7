"""A training step of the reference model, beside the same model with explicit scores."""

import torch
import torch.nn.functional as F

from examples.benchmarks.speed.timing import training_step
from examples.mosi_sentiment.config import Shape
from examples.mosi_sentiment.model import SentimentModel
from examples.mosi_sentiment.presets import FAITHFUL
from modimpute import valid_from_lengths
from modimpute._transformer import Attention

LENGTHS = {"text": 50, "audio": 375, "vision": 500}
DIMS = {"text": 300, "audio": 5, "vision": 20}
SIZE = 8  # samples
ATTENTION_DROPOUT = 0.1  # MulT's


class ExplicitAttention(Attention):
    """The same parameters; scores, softmax and dropout written out, at the heads' own width."""

    def fill(self, like, queries, keys):  # noqa: ARG002
        return 0

    def read(self, query, key, value, mask):
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores + mask
        weights = F.dropout(scores.softmax(-1), self.attention_dropout, self.training)
        return self.output((weights @ value).transpose(1, 2).flatten(2))


def write_out(model):
    """Turns every attention of ``model`` into one with explicit scores and dropout on them."""
    for module in model.modules():
        if type(module) is Attention:
            module.__class__ = ExplicitAttention
            module.attention_dropout = ATTENTION_DROPOUT
    return model


class Step(torch.nn.Module):
    """Prediction and reconstruction, with the losses that train them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, valid):
        predicted, reconstructed = self.model(x, valid=valid)
        target = self.model.target("audio", x["audio"], valid["audio"])
        there = valid["audio"].unsqueeze(-1)
        loss = ((reconstructed["audio"] - target).square() * there).mean()
        return loss + predicted.abs().mean()


def reference(bench):
    shape = Shape(DIMS, LENGTHS, "regression", aligned=False, stepwise=False)
    config = FAITHFUL["mosi-unaligned"].model
    models = {}
    for name in ("explicit scores, dropout on them", "SentimentModel"):
        torch.manual_seed(0)
        models[name] = Step(SentimentModel(shape, config)).to(bench.device)
    write_out(models["explicit scores, dropout on them"])
    x = {name: bench.draw(SIZE, LENGTHS[name], DIMS[name]) for name in DIMS}
    valid = {}
    for name, length in LENGTHS.items():
        lengths = torch.randint(length // 4, length + 1, (SIZE,))
        lengths[0] = length
        valid[name] = valid_from_lengths(lengths, length).flip(-1).to(bench.device)  # as MOSI's
    setting = f"B{SIZE} L50/375/500 d{config.model_dim}, {config.num_heads} heads"
    calls = {name: training_step(model, x, valid) for name, model in models.items()}
    bench.add("reference model", setting, "forward + backward", calls)
    steps = {name: (model, (x, valid), {}) for name, model in models.items()}
    bench.add_bytes("reference model", setting, steps)
