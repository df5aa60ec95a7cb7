"""The paper's ensemble alone: a translator from each source, then a further transformer."""

import torch
from torch import Tensor, nn

from examples.benchmarks.imputation.parts import Part
from examples.benchmarks.imputation.training import mean_error, train
from modimpute import ModalityTranslator, TranslatorEnsemble

WIDTH = 64
PLACES = 16  # of sequences not longer than this, each step has a vector of its own
NOISE = 0.2  # in what is read, not in what is to be said
CHUNK = 1024  # samples at once
STEPS, MOST = 1500, 6000  # at least; at most, for the sake of many samples
SEEN, EPOCHS = 90, 8  # epochs: up to so many steps, and at least
BATCH = 128


class Ensemble:
    """One ensemble for each target. Its members are as wide as the model, not as the target."""

    def fit(self, train_part, validation, sources, targets, seed) -> None:
        self.sources, self.models = sources, {}
        for target in targets:
            torch.manual_seed(seed)
            self.models[target] = self._fit_one(train_part, validation, target)

    def predict(self, part: Part) -> dict[str, Tensor]:
        return {target: self._fill(model, part, target) for target, model in self.models.items()}

    def _fit_one(self, part: Part, validation: Part, target: str) -> nn.Module:
        rows = torch.as_tensor(part.has([target])).nonzero()[:, 0].numpy()
        part = part.rows(rows)
        lengths = {part.exists[name].shape[1] for name in (*self.sources, target)}
        length = part.exists[target].shape[1]
        sizes = {
            "model_dim": WIDTH,
            "num_heads": 4,
            "num_layers": 1,
            "feedforward_dim": 2 * WIDTH,
            "num_places": length if 1 < length <= PLACES else 0,
        }
        members = {
            name: ModalityTranslator(
                part.modalities[name].shape[-1], WIDTH, aligned=len(lengths) == 1, **sizes
            )
            for name in self.sources
        }
        sizes["num_layers"] = 2
        model = TranslatorEnsemble(members, part.modalities[target].shape[-1], **sizes)

        def loss(model: nn.Module, rows: Tensor) -> Tensor:
            batch = part.rows(rows.numpy())
            noisy = {n: x + NOISE * torch.randn_like(x) for n, x in batch.modalities.items()}
            return mean_error({target: self._answer(model, batch, noisy, target)}, batch)

        def error(model: nn.Module) -> float:
            filled = {target: self._fill(model, validation, target)}
            return mean_error(filled, validation).item()

        seen = min(MOST, SEEN * len(part) // BATCH)
        steps = max(STEPS, seen, EPOCHS * len(part) // BATCH)
        options = {"learning_rate": 3e-3, "weight_decay": 0.05, "batch_size": BATCH}
        train(model, len(part), loss, error, steps=steps, **options)
        return model

    def _answer(self, model, part: Part, modalities, target: str) -> Tensor:
        sources = {name: modalities[name] for name in self.sources}
        valid = {name: part.valid[name] for name in self.sources}
        return model(sources, valid=valid, target_valid=part.exists[target],
                     target_length=part.exists[target].shape[1])  # fmt: skip

    @torch.no_grad()
    def _fill(self, model, part: Part, target: str) -> Tensor:
        chunks = torch.arange(len(part)).split(CHUNK)
        parts = [part.rows(rows.numpy()) for rows in chunks]
        return torch.cat([self._answer(model, p, p.modalities, target) for p in parts])
