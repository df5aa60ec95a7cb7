"""
Train with Accelerate
=====================

The loop of :doc:`loop_pytorch`, for one or several devices: only the lines that say
``accelerator`` are new. Start it as it is, or with ``accelerate launch``.
"""

from functools import partial

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from modimpute import (
    ConsistencyLoss,
    ModalityDropout,
    ModalityImputer,
    ModalityNormalizer,
    collate_modalities,
    drop_pattern,
)

set_seed(0)
accelerator = Accelerator(cpu=True)  # without cpu=True: whatever device there is

# %%
# Data
# ----
#
# As in the plain loop: three sensors that see the same two hidden signals, and half of the samples
# lack one of them.

DIMS = {"audio": 5, "motion": 4, "video": 6}
mixes = {name: torch.randn(2, dim) for name, dim in DIMS.items()}


def record(lacks=()):
    phase, speed = 6 * torch.rand(2), 0.2 + 0.4 * torch.rand(2)
    length = int(torch.randint(12, 21, ()))
    hidden = torch.sin(phase + speed * torch.arange(length).unsqueeze(1))
    seen = {name: hidden @ mix for name, mix in mixes.items() if name not in lacks}
    return {name: x + 0.3 * torch.randn_like(x) for name, x in seen.items()}


samples = [
    record(lacks=[("audio", "motion", "video")[i // 2 % 3]] * (i % 2))
    for i in range(600)
]
held_out = [record() for _ in range(200)]
collate = partial(collate_modalities, modality_dims=DIMS, aligned=tuple(DIMS))
loader = DataLoader(
    samples, batch_size=64, shuffle=True, drop_last=True, collate_fn=collate
)

# %%
# What goes through ``prepare``
# -----------------------------
#
# The imputer, the optimizer and the loader. ``collate_modalities`` puts every name into every
# batch, so all processes run the same program whatever their samples lack, and every parameter
# takes part in every step: ``find_unused_parameters`` is not needed. The normaliser is fitted
# once and learns nothing afterwards: it only has to be on the device.

normalizer = ModalityNormalizer(DIMS).fit(loader).to(accelerator.device)
imputer = ModalityImputer(DIMS, aligned=True, model_dim=32, num_layers=1)
optimizer = torch.optim.AdamW(imputer.parameters(), lr=4e-3, weight_decay=0.05)
imputer, optimizer, loader = accelerator.prepare(imputer, optimizer, loader)
dropout, consistency = ModalityDropout(0.5), ConsistencyLoss()

# %%
# Training
# --------
#
# Call the prepared module itself (its ``forward``): other methods would bypass the wrapper that
# synchronises the gradients.

for epoch in range(8):
    imputer.train()
    for raw, valid in loader:
        batch = normalizer(raw, valid=valid)
        kept = dropout(batch, valid=valid)
        imputed = imputer(batch, valid=kept, target_valid=valid)
        errors = [
            consistency(imputed[n], batch[n], valid=valid[n] & ~kept[n]) for n in DIMS
        ]
        loss = torch.stack(errors).mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(imputer.parameters(), 1.0)
        optimizer.step()
    if epoch % 2 == 1:
        accelerator.print(f"epoch {epoch:2d}: loss {loss.item():.3f}")

# %%
# Afterwards
# ----------
#
# ``unwrap_model`` gives back the plain module, to save and to use.

imputer = accelerator.unwrap_model(imputer).eval()
raw, valid = collate(held_out)
batch = normalizer(raw, valid=valid)
kept = drop_pattern(batch, ["motion"], valid=valid)
with torch.no_grad():
    motion = imputer(batch, valid=kept, target_valid=valid)["motion"]
error = consistency(motion, batch["motion"], valid=valid["motion"]).item()
mean = batch["motion"][valid["motion"]].square().mean().item()
accelerator.print(f"motion missing: error {error:.3f}, by the mean {mean:.3f}")
assert error < mean / 2
