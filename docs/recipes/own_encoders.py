"""
Add fusion to your own encoders
===============================

Your encoders read an image and a caption; so far their outputs were concatenated, which needs
both. :class:`~modimpute.CrossModalAttentionFusion` takes the place of ``torch.cat``: it reads what
is there, and a learned vector stands for what is not.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from modimpute import CrossModalAttentionFusion, ModalityDropout

torch.manual_seed(0)

# %%
# Your encoders
# -------------
#
# Whatever they are, their outputs are sequences ``(samples, steps, features)``: the places of the
# image, the words of the caption. Lengths may differ.


class ImageEncoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.convolution = nn.Conv2d(1, dim, kernel_size=4, stride=2, padding=1)

    def forward(self, image):  # (B, 1, 8, 8)
        return (
            self.convolution(image).relu().flatten(2).transpose(1, 2)
        )  # (B, 16, dim)


class CaptionEncoder(nn.Module):
    def __init__(self, words, dim):
        super().__init__()
        self.embedding = nn.Embedding(words, dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)

    def forward(self, tokens):  # (B, 6)
        return self.gru(self.embedding(tokens))[0]  # (B, 6, dim)


# %%
# The model
# ---------
#
# ``valid`` says which steps of which modality hold something. Tell the fusion; your encoders need
# not know. In training, :class:`~modimpute.ModalityDropout` marks modalities as missing at random
# (never both of a sample), so that the model learns to do without; in ``eval`` it does nothing.


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict(
            {"image": ImageEncoder(32), "caption": CaptionEncoder(5, 16)}
        )
        self.fusion = CrossModalAttentionFusion(
            {"image": 32, "caption": 16}, model_dim=32, num_layers=1, num_places=16
        )
        self.dropout = ModalityDropout(0.3)
        self.head = nn.Linear(self.fusion.output_dim, 10)

    def forward(self, batch, valid):
        encoded = {
            name: encoder(batch[name]) for name, encoder in self.encoders.items()
        }
        valid = self.dropout(encoded, valid=valid)
        return self.head(self.fusion(encoded, valid=valid))


# %%
# Data
# ----
#
# Real images of digits. The captions are made up: among other words, each says whether the digit
# is odd or even and small or large, so it alone cannot tell which digit it is.

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)
captions = torch.zeros(len(labels), 6, dtype=torch.long)  # 0: another word
captions[:, 2], captions[:, 4] = 1 + labels % 2, 3 + labels // 5
batch = {"image": images, "caption": captions}
train, test = torch.randperm(len(labels)).split([1297, 500])


def steps(size, image=True, caption=True):
    return {
        "image": torch.full((size, 16), image),
        "caption": torch.full((size, 6), caption),
    }


# %%
# Training
# --------
#
# .. important::
#    A missing image may hold anything for *our* layers, but not for *your* encoder: in its
#    gradients ``0 * NaN`` is ``NaN``. Put zeros there, as
#    :func:`~modimpute.collate_modalities` does.

model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(200):
    rows = train[torch.randint(len(train), (64,))]
    logits = model({name: x[rows] for name, x in batch.items()}, steps(len(rows)))
    loss = nn.functional.cross_entropy(logits, labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
# One model for every case
# ------------------------

model.eval()
unseen, truth = {name: x[test] for name, x in batch.items()}, labels[test]
with torch.no_grad():
    logits = {
        "both there": model(unseen, steps(len(test))),
        "caption missing": model(unseen, steps(len(test), caption=False)),
        "image missing": model(unseen, steps(len(test), image=False)),
    }
accuracy = {
    name: (x.argmax(-1) == truth).float().mean().item() for name, x in logits.items()
}
for name, score in accuracy.items():
    print(f"{name:<18}{score:.3f}")

# Each caption fits two or three digits: half of them are as many as it can tell.
assert (
    accuracy["both there"] > accuracy["caption missing"] > accuracy["image missing"]
)
assert 0.3 < accuracy["image missing"] < 0.6

# %%
# What is missing has no influence: other words, the same answer.

with torch.no_grad():
    other = unseen | {"caption": unseen["caption"].flip(0)}
    assert torch.equal(
        model(other, steps(len(test), caption=False)), logits["caption missing"]
    )

# %%
# To *reconstruct* the missing features as well, put a :class:`~modimpute.ModalityTranslator` or a
# :class:`~modimpute.TranslatorEnsemble` between encoders and fusion, as in :doc:`/quickstart`.
# What fusion attends to is in the gallery: :doc:`/generated/gallery/plot_attention`.
