"""
Train with Lightning
====================

The loop of :doc:`loop_pytorch` as a ``LightningModule``. Nothing special is needed: the layers are
ordinary modules, and a batch of :func:`~modimpute.collate_modalities` is a tuple of dicts of
tensors, which Lightning moves to the device by itself.
"""

import logging
import warnings
from functools import partial

import lightning
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

# Only for this page: Lightning's advice on workers, logging and devices.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")

lightning.seed_everything(0, verbose=False)

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
validation = DataLoader(held_out, batch_size=100, collate_fn=collate)

# %%
# The module
# ----------
#
# The normaliser is a part of it, so that its moments are in every checkpoint.


class Imputing(lightning.LightningModule):
    def __init__(self, normalizer):
        super().__init__()
        self.normalizer = normalizer
        self.imputer = ModalityImputer(DIMS, aligned=True, model_dim=32, num_layers=1)
        self.dropout, self.consistency = ModalityDropout(0.5), ConsistencyLoss()

    def training_step(self, batch, _):
        raw, valid = batch
        x = self.normalizer(raw, valid=valid)
        kept = self.dropout(x, valid=valid)
        imputed = self.imputer(x, valid=kept, target_valid=valid)
        errors = [
            self.consistency(imputed[n], x[n], valid=valid[n] & ~kept[n])
            for n in DIMS
        ]
        return torch.stack(errors).mean()

    def validation_step(self, batch, _):
        raw, valid = batch
        x = self.normalizer(raw, valid=valid)
        for name in DIMS:  # each modality in turn is missing
            kept = drop_pattern(x, [name], valid=valid)
            imputed = self.imputer(x, valid=kept, target_valid=valid)
            error = self.consistency(imputed[name], x[name], valid=valid[name])
            self.log(name, error, batch_size=len(valid[name]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=4e-3, weight_decay=0.05)


# %%
# Training
# --------
#
# ``accelerator`` and ``devices`` choose the hardware. Without ``logger``, progress bar and
# checkpoints, which this page does not need.

module = Imputing(ModalityNormalizer(DIMS).fit(loader))
trainer = lightning.Trainer(
    accelerator="cpu",
    max_epochs=8,
    gradient_clip_val=1.0,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(module, loader)
errors = trainer.validate(module, validation, verbose=False)[0]

# %%
# The features are standardised: the mean, which knows nothing, errs by about 1.

for name, error in errors.items():
    print(f"{name:<7} missing: error {error:.3f}")
    assert error < 1 / 2
