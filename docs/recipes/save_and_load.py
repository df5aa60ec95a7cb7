"""
Save, share and load
====================

Weights go into a ``.safetensors`` file or a ``state_dict``; the arguments of the constructor into
JSON. Whoever loads them runs no code of yours.
"""

import json
import pickle
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from modimpute import (
    LinearTranslator,
    ModalityImputer,
    ModalityNormalizer,
    TranslatorEnsemble,
    default_ensemble,
    fit_ensemble,
)

torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())  # any folder

# %%
# A model, its sizes and its units
# --------------------------------
#
# Without the moments of the normaliser the weights are worth nothing: make it a part of the model.
# All sizes are plain numbers, strings and lists, so JSON can hold them.


class Imputing(nn.Module):
    def __init__(self, modality_dims, **options):
        super().__init__()
        self.normalizer = ModalityNormalizer(modality_dims)
        self.imputer = ModalityImputer(modality_dims, **options)

    def forward(self, modalities, valid):
        x = self.imputer(self.normalizer(modalities, valid=valid), valid=valid)
        return self.normalizer.inverse(x)


config = {"modality_dims": {"text": 8, "audio": 5}, "model_dim": 32, "num_layers": 1}
model = Imputing(**config).eval()
batch = {"text": torch.randn(4, 6, 8), "audio": 3 + torch.randn(4, 9, 5)}
valid = {
    "text": torch.ones(4, 6, dtype=torch.bool),
    "audio": torch.zeros(4, 9, dtype=torch.bool),
}
valid["audio"][0] = True
model.normalizer.update(batch, valid=valid)
with torch.no_grad():
    expected = model(batch, valid)

# %%
# safetensors
# -----------
#
# Two files that anyone may open. JSON may sort the names: the order of modalities is always that
# of their names, so it does not matter.

save_model(model, str(folder / "model.safetensors"))
(folder / "config.json").write_text(json.dumps(config, sort_keys=True))

loaded = Imputing(**json.loads((folder / "config.json").read_text())).eval()
load_model(loaded, str(folder / "model.safetensors"))
with torch.no_grad():
    answer = loaded(batch, valid)
assert all(torch.equal(answer[name], expected[name]) for name in batch)
print("safetensors: the same answer, bit for bit")

# %%
# ``state_dict``
# --------------
#
# torch's own format; ``weights_only=True`` (the default since torch 2.6) reads tensors and nothing
# else.

torch.save(model.state_dict(), folder / "model.pt")
loaded = Imputing(**config).eval()
loaded.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
with torch.no_grad():
    answer = loaded(batch, valid)
assert all(torch.equal(answer[name], expected[name]) for name in batch)
print("state_dict: the same answer, bit for bit")

# %%
# Why not the whole module
# ------------------------
#
# ``torch.save(model)`` is a pickle, and a pickle is a program: who loads it runs it. torch refuses
# to, unless it is told to trust the file. It also breaks when a class moves.

torch.save(model, folder / "pickle.pt")
try:
    torch.load(folder / "pickle.pt", weights_only=True)
except pickle.UnpicklingError:
    print("the whole module: refused")
else:
    raise AssertionError("a pickle was loaded")

# %%
# Members that remember
# ---------------------
#
# What :func:`~modimpute.fit_ensemble` returns has training samples in its memory: they are in the
# file, so share it only if you may share *them*. It is rebuilt with the same members; those that
# are fitted by default, by :func:`~modimpute.default_ensemble`.

sources, target = {"text": torch.randn(300, 1, 8)}, torch.randn(300, 1, 8)
target = target * 0.1 + sources["text"].flip(-1)


def members():
    return {"linear": LinearTranslator({"text": 8}, 8)}


ensemble = fit_ensemble(sources, target, translators=members())
save_model(ensemble, str(folder / "ensemble.safetensors"))
loaded = TranslatorEnsemble(members(), 8, combination="weights").eval()
load_model(loaded, str(folder / "ensemble.safetensors"))
assert torch.equal(loaded(sources), ensemble(sources))
print("ensemble: the same answer, bit for bit;", loaded.weights["text",])

sizes = {
    "source_shapes": {"text": [1, 8]},
    "target_shape": [1, 8],
    "num_samples": 300,
}
default = default_ensemble(**sizes)  # what fit_ensemble(sources, target) fits
save_model(default, str(folder / "default.safetensors"))
(folder / "sizes.json").write_text(json.dumps(sizes))
loaded = default_ensemble(**json.loads((folder / "sizes.json").read_text()))
load_model(loaded, str(folder / "default.safetensors"))
