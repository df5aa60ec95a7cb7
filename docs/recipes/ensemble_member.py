"""
Write your own ensemble member
==============================

A :class:`~modimpute.TranslatorEnsemble` takes any module as a member: a recurrent network, a
convolution, a model that someone else trained. It needs one signature, and the ensemble does the
rest: what is missing, which lengths fit, what nobody says.
"""

import torch
from torch import nn

from modimpute import ConsistencyLoss, ModalityTranslator, TranslatorEnsemble

torch.manual_seed(0)

# %%
# The signature
# -------------
#
# ``forward(source, *, valid=None, target_length=None)``. Steps that are not valid are zeros when
# they come in. Two attributes help: ``target_dim``, if it is wider than the target, and
# ``source_dim``, so that the member takes part in training when its source is absent from a batch
# (distributed training waits for its gradients).


class Recurrent(nn.Module):
    def __init__(self, source_dim, target_dim):
        super().__init__()
        self.source_dim, self.target_dim = source_dim, target_dim
        self.gru = nn.GRU(
            source_dim, target_dim // 2, batch_first=True, bidirectional=True
        )

    def forward(self, source, *, valid=None, target_length=None):
        return self.gru(source)[0]


# %%
# A member that reads several sources at once
# -------------------------------------------
#
# It has ``modalities``, a sorted tuple; its source and its ``valid`` are mappings then. What is
# missing arrives as zeros, or is left out if the whole batch lacks it: answer both alike.


class Product(nn.Module):
    """Text and vision only mean something together."""

    modalities = ("text", "vision")
    modality_dims = {"text": 4, "vision": 4}
    target_dim = 16

    def __init__(self):
        super().__init__()
        self.text, self.vision = nn.Linear(4, 16), nn.Linear(4, 16)

    def forward(self, source, *, valid=None, target_length=None):
        given = next(iter(source.values()))
        zeros = given.new_zeros(
            (*given.shape[:2], 4)
        )  # absent by key: the same as absent by row
        text, vision = (source.get(name, zeros) for name in self.modalities)
        return self.text(text) * self.vision(vision)


# %%
# Together
# --------
#
# Members of any kind, beside ours.

ensemble = TranslatorEnsemble(
    {
        "text": Recurrent(4, 16),
        "vision": ModalityTranslator(4, 16, model_dim=16),
        "both": Product(),
    },
    target_dim=2,
    model_dim=32,
    num_layers=1,
    dropout=0.0,
)


def record(size):
    text, vision = torch.randn(size, 8, 4), torch.randn(size, 8, 4)
    audio = torch.stack(
        [text[..., 0] * vision[..., 0], text[..., 1] + vision[..., 1]], -1
    )
    return {"text": text, "vision": vision}, audio


sources, audio = record(1000)
valid = {name: torch.ones(1000, 8, dtype=torch.bool) for name in sources}
valid["text"][::2] = False  # every other sample has no text
consistency = ConsistencyLoss()
optimizer = torch.optim.AdamW(ensemble.parameters(), lr=4e-3)
for _ in range(300):
    rows = torch.randint(1000, (64,))
    batch = {name: x[rows] for name, x in sources.items()}
    loss = consistency(
        ensemble(batch, valid={name: v[rows] for name, v in valid.items()}),
        audio[rows],
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
# With both sources it knows both features; with one of them, half of the sum, and of the product
# nothing: there the mean is the best answer, and errs by the variance.

ensemble.eval()
sources, audio = record(1000)
with torch.no_grad():
    errors = {
        "both": (ensemble(sources) - audio).square().mean((0, 1)),
        "vision only": (ensemble({"vision": sources["vision"]}) - audio)
        .square()
        .mean((0, 1)),
    }
variance = audio.var((0, 1))
for name, error in {"the mean": variance, **errors}.items():
    print(f"{name:<12}product {error[0]:.2f}   sum {error[1]:.2f}")
assert (errors["both"] < 0.3 * variance).all()
assert errors["vision only"][1] < 0.7 * variance[1]
assert 0.9 * variance[0] < errors["vision only"][0] < 1.3 * variance[0]

# %%
# A member without the keywords is refused when the ensemble is built, not in the third epoch:

try:
    TranslatorEnsemble({"text": nn.Linear(4, 2)}, target_dim=2)
except TypeError as error:
    print(error)
    assert "must have forward(source, *, valid=None, target_length=None)" in str(
        error
    )

# %%
# A member with ``fit`` and ``remember``, the methods of :class:`~modimpute.LinearTranslator`, is
# fitted by these in :func:`~modimpute.fit_ensemble`; any other is trained.
