"""fit_ensemble on strips: members that remember and a network, weighed on the validation rows."""

import numpy as np
import torch

from examples.digits.data import ROWS, STRIPS, Part, Split, together
from modimpute import KernelTranslator, TranslatorEnsemble, fit_ensemble


def fit(
    split: Split,
    missing: str,
    seed: int,
    device: torch.device,
    *,
    tolerance: float,
    quick: bool = False,
) -> TranslatorEnsemble:
    """Returns an ensemble that is fitted to the training rows, and then to both parts."""
    strips = together(split.train, split.validation).strips(device)
    target = strips.pop(missing)
    members = None
    if quick:
        dims = {name: x.shape[-1] for name, x in strips.items()}
        places = {"source_places": ROWS, "target_places": ROWS, "device": device}
        members = {"kernel": KernelTranslator(dims, target.shape[-1], steps=2, **places)}
    held = torch.arange(len(target), device=device) >= len(split.train.rows)
    # All pixels count alike, as in the table, not the dark columns as much as the bright ones.
    options = {"validation": held, "translators": members, "standardize_target": False}
    return fit_ensemble(strips, target, tolerance=tolerance, seed=seed, **options)


@torch.no_grad()
def impute(
    ensemble: TranslatorEnsemble, part: Part, missing: str, device: torch.device
) -> np.ndarray:
    """Returns the reconstructed pixels."""
    sources = {name: x for name, x in part.strips(device).items() if name != missing}
    return ensemble(sources).flatten(1).numpy(force=True)


def shares(ensemble: TranslatorEnsemble, missing: str) -> dict[str, float]:
    """Returns what each member is worth where both other strips are there."""
    return ensemble.weights[tuple(sorted(name for name in STRIPS if name != missing))]
