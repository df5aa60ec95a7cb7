"""
Train in a plain PyTorch loop
=============================

One :class:`~modimpute.ModalityImputer` for data that are themselves incomplete, with nothing but
PyTorch: a ``Dataset``, a ``DataLoader``, a loop. The same with :doc:`loop_accelerate` and
:doc:`loop_lightning`.
"""

from functools import partial

import torch
from torch.utils.data import DataLoader

from modimpute import (
    ConsistencyLoss,
    ModalityDropout,
    ModalityImputer,
    ModalityNormalizer,
    collate_modalities,
    drop_pattern,
)

torch.manual_seed(0)
DIMS = {"audio": 5, "motion": 4, "video": 6}

# %%
# Data
# ----
#
# A sample is a mapping of names to tensors ``(steps, features)``; what it lacks is not in it. Here
# three sensors see the same two hidden signals, and half of the samples lack one of them.

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
# Training: hide and ask
# ----------------------
#
# What is missing cannot be asked for, but some of what is there can be hidden (``kept``), and
# asked for (``valid & ~kept``). The normaliser has its moments from what is there.

normalizer = ModalityNormalizer(DIMS).fit(loader)
imputer = ModalityImputer(DIMS, aligned=True, model_dim=32, num_layers=1)
dropout, consistency = ModalityDropout(0.5), ConsistencyLoss()
optimizer = torch.optim.AdamW(imputer.parameters(), lr=4e-3, weight_decay=0.05)


def loss_of(batch, valid, kept):
    imputed = imputer(batch, valid=kept, target_valid=valid)
    errors = [
        consistency(imputed[n], batch[n], valid=valid[n] & ~kept[n]) for n in DIMS
    ]
    return torch.stack(errors).mean()


for epoch in range(8):
    imputer.train()
    for raw, valid in loader:
        batch = normalizer(raw, valid=valid)
        loss = loss_of(batch, valid, dropout(batch, valid=valid))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(imputer.parameters(), 1.0)
        optimizer.step()
    if epoch % 2 == 1:
        print(f"epoch {epoch:2d}: loss {loss.item():.3f}")

# %%
# What it says of samples it never saw
# ------------------------------------
#
# Each modality in turn is missing. The features are standardised: the mean errs by their variance.

imputer.eval()
raw, valid = collate(held_out)
batch = normalizer(raw, valid=valid)
with torch.no_grad():
    for name in DIMS:
        kept = drop_pattern(batch, [name], valid=valid)
        imputed = imputer(batch, valid=kept, target_valid=valid)
        error = consistency(imputed[name], batch[name], valid=valid[name]).item()
        mean = batch[name][valid[name]].square().mean().item()
        print(f"{name:<7} error {error:.3f}, by the mean {mean:.3f}")
        assert error < mean / 2
        for other in set(DIMS) - {name}:  # what is observed comes back bit for bit
            assert torch.equal(imputed[other], batch[other])
