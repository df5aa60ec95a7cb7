"""Every method on the same images: reconstruction error, and accuracy of what was filled in."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from examples.digits.baselines import fit_baselines, fit_classifier, mse
from examples.digits.data import STRIPS, Part, Split, fill, source_pixels, target_pixels
from examples.digits.model import StripModel
from examples.digits.recipe import impute, shares
from modimpute import TranslatorEnsemble

CLASSICAL = ("zero", "mean", "ridge", "knn")
METHODS = (*CLASSICAL, "network", "modimpute")  # the paper's ensemble alone; the recipe


@torch.no_grad()
def read(
    model: StripModel, part: Part, missing: str, pixels: np.ndarray, device: torch.device
) -> np.ndarray:
    """Returns the digits that the fusion model reads with these pixels in the missing strip."""
    strips = part.strips(device)
    filled = torch.as_tensor(pixels, device=device).view_as(strips[missing])
    return model.eval().classify({**strips, missing: filled}).argmax(-1).numpy(force=True)


@torch.no_grad()
def reconstruct(model: StripModel, part: Part, missing: str, device: torch.device) -> np.ndarray:
    """Returns the pixels that the network reconstructs."""
    return model.eval().reconstruct(part.strips(device), missing).flatten(1).numpy(force=True)


def evaluate(
    model: StripModel,
    ensembles: Mapping[str, TranslatorEnsemble],
    split: Split,
    part: Part,
    device: torch.device,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compares all methods on ``part``; the classical ones are fitted here."""
    classifier = fit_classifier(split.train)

    def accuracy(images: np.ndarray) -> float:
        return float(classifier.score(images.reshape(len(images), -1), part.labels))

    results: dict[str, Any] = {"complete_accuracy": accuracy(part.images), "strips": {}}
    for missing in STRIPS:
        imputers, chosen = fit_baselines(split.train, split.validation, missing)
        target = target_pixels(part.images, missing)
        pixels = source_pixels(part.images, missing)
        guesses = {name: imputer(pixels) for name, imputer in imputers.items()}
        guesses["network"] = reconstruct(model, part, missing, device)
        guesses["modimpute"] = impute(ensembles[missing], part, missing, device)
        digits = read(model, part, missing, guesses["modimpute"], device)
        results["strips"][missing] = {
            "methods": {
                name: {
                    "mse": mse(guess, target),
                    "accuracy": accuracy(fill(part.images, missing, guess)),
                }
                for name, guess in guesses.items()
            },
            "fusion_accuracy": float(np.mean(digits == part.labels)),
            "shares": shares(ensembles[missing], missing),
            "chosen": chosen,
        }
        on_step()
    return results
