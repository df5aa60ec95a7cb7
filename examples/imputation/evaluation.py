"""One fixed classifier, and the error of what was filled in, for every method and every gap."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from examples.imputation.data import DataSet, Part
from examples.imputation.methods import Method, Tensors, mean_error, squared_errors
from modimpute import drop_blocks, evaluate_robustness

DRAWS = 5  # of the gaps, for each seed
BLOCKS = (5, 10, 25)


class Classifier:
    """Logistic regression, fitted on the training samples that lack no modality."""

    def __init__(self, data: DataSet) -> None:
        self.flat = data.flat
        part = data.train
        has = torch.stack([v.any(-1) for v in part.valid.values()]).all(0).numpy()
        self.model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        self.model.fit(self.features(part.modalities, part.exists)[has], part.labels[has])

    def predict(self, modalities: Tensors, exists: Tensors) -> np.ndarray:
        return self.model.predict(self.features(modalities, exists))

    def features(self, modalities: Tensors, exists: Tensors) -> np.ndarray:
        """Every value, or mean and deviation of the steps that exist."""
        parts = []
        for name, x in sorted(modalities.items()):
            if name in self.flat:
                parts.append(x.flatten(1))
                continue
            there = exists[name].unsqueeze(-1)
            count = there.sum(1).clamp(min=1)
            mean = torch.where(there, x, 0.0).sum(1) / count
            squares = torch.where(there, x - mean.unsqueeze(1), 0.0).square().sum(1)
            parts += [mean, (squares / count).sqrt()]
        return torch.cat(parts, 1).numpy()


def compare(
    method: Method, classifier: Classifier, part: Part, seed: int, quick: bool
) -> list[dict[str, Any]]:
    """Accuracy and error over all missing patterns and rates: the rows of evaluate_robustness."""

    def predict(modalities: Tensors, valid: Tensors) -> dict[str, Any]:
        filled = method(modalities, valid, part.exists)
        sums, counts = squared_errors(filled, part, valid)
        return {"label": classifier.predict(filled, part.exists), "sum": sums, "count": counts}

    def metric(predicted: Mapping[str, Tensor], labels: Tensor) -> dict[str, float]:
        return {
            "accuracy": (predicted["label"] == labels).double().mean().item(),
            "mse": mean_error(predicted["sum"], predicted["count"]),
        }

    return evaluate_robustness(
        predict,
        [(part.modalities, part.valid, part.labels)],
        metric,
        rates=(0.0, 0.5) if quick else (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        seeds=[seed],
        stochastic=True,  # another seed is another model: its patterns are runs of their own
    )


def half_missing(
    methods: Mapping[str, Method], classifier: Classifier, part: Part, seed: int
) -> dict[str, dict[str, float]]:
    """Each sample lacks half of the modalities, drawn at random."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for draw in range(DRAWS):
        kept = drop_half(part, 1000 * seed + draw)
        for name, method in methods.items():
            filled = method(part.modalities, kept, part.exists)
            hits = classifier.predict(filled, part.exists) == part.labels
            error = mean_error(*squared_errors(filled, part, kept))
            results[name].append((float(hits.mean()), error))
    table = {name: np.mean(values, 0).tolist() for name, values in results.items()}
    complete = classifier.predict(part.modalities, part.exists) == part.labels
    return {"complete": {"accuracy": float(complete.mean())}} | {
        name: {"accuracy": accuracy, "mse": error} for name, (accuracy, error) in table.items()
    }


def drop_half(part: Part, seed: int) -> dict[str, Tensor]:
    """Exactly half of the modalities of every sample, rounded down."""
    generator = torch.Generator().manual_seed(seed)
    names = sorted(part.valid)
    order = torch.rand(len(part), len(names), generator=generator).argsort(1)
    kept = order >= len(names) // 2
    return {name: part.valid[name] & kept[:, i : i + 1] for i, name in enumerate(names)}


def gaps(
    methods: Mapping[str, Method], part: Part, sequences: Sequence[str], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Half of the steps of one modality are dropped in blocks; the others keep all theirs.

    Returns the error on the dropped steps by length of the blocks, method and modality.
    """
    results: dict[str, dict[str, dict[str, float]]] = {}
    longest = max((part.valid[name].shape[1] for name in sequences), default=0)
    lengths = [length for length in BLOCKS if 4 * length <= longest] or [max(1, longest // 4)]
    for length in lengths if sequences else []:
        errors: dict[str, dict[str, list[float]]] = {name: {} for name in methods}
        for draw in range(DRAWS):
            for modality in sequences:
                options = {"valid": part.valid, "seed": 1000 * seed + draw}
                kept = drop_blocks(
                    part.modalities, {modality: 0.5}, block_length=length, **options
                )
                for name, method in methods.items():
                    filled = method(part.modalities, kept, part.exists)
                    error = mean_error(*squared_errors(filled, part, kept))
                    errors[name].setdefault(modality, []).append(error)
        results[str(length)] = {}
        for name, by_modality in errors.items():
            row = {modality: float(np.mean(values)) for modality, values in by_modality.items()}
            results[str(length)][name] = row | {"mean": float(np.mean(list(row.values())))}
    return results
