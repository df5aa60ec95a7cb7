"""
Fill gaps of single steps and frames
====================================

A sensor drops out for a while; the others go on. :class:`~modimpute.ModalityImputer` fills such
gaps from the steps around them *and* from the other sensors, and returns what was observed bit for
bit. In this recipe a gap is ``NaN``, in training as well: the missing values exist nowhere.
"""

import numpy as np
import torch
from torch import nn

from modimpute import (
    ConsistencyLoss,
    ModalityImputer,
    ModalityNormalizer,
    drop_blocks,
)

torch.manual_seed(0)
DIMS, STEPS = {"ecg": 2, "motion": 3, "pulse": 2}, 30

# %%
# Recordings with gaps
# --------------------
#
# Three sensors see two hidden signals. A tenth of each recording was lost, in blocks of 5 steps.

mixes = {name: torch.randn(2, dim) for name, dim in DIMS.items()}


def record(size):
    phase, speed = 6 * torch.rand(size, 1, 2), 0.3 + 0.6 * torch.rand(size, 1, 2)
    hidden = torch.sin(phase + speed * torch.arange(STEPS).view(1, -1, 1))
    return {
        n: hidden @ mix + 0.2 * torch.randn(size, STEPS, DIMS[n])
        for n, mix in mixes.items()
    }


recordings = record(400)
lost = drop_blocks(recordings, 0.1, block_length=5)
recordings = {
    n: torch.where(lost[n].unsqueeze(-1), x, torch.nan) for n, x in recordings.items()
}

# %%
# ``valid`` is what is there, step by step.

valid = {name: x.isfinite().all(-1) for name, x in recordings.items()}
normalizer = ModalityNormalizer(DIMS).fit([(recordings, valid)])
batch = normalizer(recordings, valid=valid)
print(f"missing steps: {1 - torch.stack(list(valid.values())).float().mean():.1%}")

# %%
# Training
# --------
#
# Hide blocks of another random half of the steps, and ask for them. ``target_valid`` is what
# exists, so the true gaps are neither read nor asked for.

imputer = ModalityImputer(DIMS, aligned=True, model_dim=32, num_layers=1)
consistency = ConsistencyLoss()
optimizer = torch.optim.AdamW(imputer.parameters(), lr=4e-3, weight_decay=0.05)
for _ in range(100):
    rows = torch.randint(400, (48,))
    x = {name: values[rows] for name, values in batch.items()}
    there = {name: v[rows] for name, v in valid.items()}
    rates = {name: torch.rand(()).item() for name in DIMS}
    kept = drop_blocks(x, rates, block_length=5, valid=there)
    imputed = imputer(x, valid=kept, target_valid=there)
    errors = [consistency(imputed[n], x[n], valid=there[n] & ~kept[n]) for n in DIMS]
    loss = torch.stack(errors).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(imputer.parameters(), 1.0)
    optimizer.step()

# %%
# Against linear interpolation
# ----------------------------
#
# On new recordings, gaps of 5 steps are cut out of one sensor, where the truth is known.

truth = normalizer(record(200))
kept = drop_blocks(truth, {"motion": 0.3}, block_length=5, seed=0)
gap = ~kept["motion"]
imputer.eval()
with torch.no_grad():
    imputed = imputer(truth, valid=kept)
assert torch.equal(imputed["motion"][~gap], truth["motion"][~gap])
assert torch.equal(imputed["pulse"], truth["pulse"])


def interpolate(values, known):
    steps = np.arange(len(values))
    columns = [
        np.interp(steps, steps[known], values[known, i])
        for i in range(values.shape[1])
    ]
    return np.stack(columns, -1)


pairs = zip(truth["motion"].numpy(), kept["motion"].numpy(), strict=True)
interpolated = torch.tensor(
    np.stack([interpolate(x, known) for x, known in pairs])
).float()
scores = {
    "mean": truth["motion"][gap].square().mean().item(),
    "linear interpolation": (interpolated - truth["motion"])[gap]
    .square()
    .mean()
    .item(),
    "imputer": (imputed["motion"] - truth["motion"])[gap].square().mean().item(),
}
for name, error in scores.items():
    print(f"{name:<22}{error:.3f}")
assert scores["imputer"] < scores["linear interpolation"] / 2

# %%
# Back in the units of the data:

motion = normalizer.inverse({"motion": imputed["motion"]})["motion"]
assert motion.shape == (200, STEPS, 3)
