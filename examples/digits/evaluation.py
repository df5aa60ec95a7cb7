"""Every method on the same images: reconstruction error, and accuracy of what was filled in."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from examples.digits.baselines import fit_baselines, fit_classifier, mse
from examples.digits.data import STRIPS, Part, Split, fill, source_pixels, target_pixels
from examples.digits.model import StripModel

METHODS = ("zero", "mean", "ridge", "knn", "modimpute")
CLASSICAL = METHODS[:-1]


@torch.no_grad()
def impute(
    model: StripModel, part: Part, missing: str, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the reconstructed pixels and the digits that the fusion model reads."""
    strips = {name: x for name, x in part.strips(device).items() if name != missing}
    logits, reconstructed = model.eval()(strips, missing)
    return reconstructed.flatten(1).numpy(force=True), logits.argmax(-1).numpy(force=True)


def evaluate(
    model: StripModel,
    split: Split,
    part: Part,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compares all methods on ``part``; the classical ones are fitted here, on split.train."""
    classifier = fit_classifier(split.train)

    def accuracy(images: np.ndarray) -> float:
        return float(classifier.score(images.reshape(len(images), -1), part.labels))

    results: dict[str, Any] = {"complete_accuracy": accuracy(part.images), "strips": {}}
    for missing in STRIPS:
        imputers, chosen = fit_baselines(split.train, split.validation, missing)
        target = target_pixels(part.images, missing)
        pixels = source_pixels(part.images, missing)
        guesses = {name: imputer(pixels) for name, imputer in imputers.items()}
        guesses["modimpute"], digits = impute(model, part, missing, device)
        results["strips"][missing] = {
            "methods": {
                name: {
                    "mse": mse(guess, target),
                    "accuracy": accuracy(fill(part.images, missing, guess)),
                }
                for name, guess in guesses.items()
            },
            "fusion_accuracy": float(np.mean(digits == part.labels)),
            "chosen": chosen,
        }
        on_step()
    return results
