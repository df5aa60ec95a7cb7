"""
Put a translator in front of a model you already trained
=========================================================

You have a model that reads two modalities and was trained on complete samples. Now one modality
is missing from some of them. The model stays as it is, down to the last bit: a translator is
trained beside it, and fills in what is missing before the model reads it.

Replace ``load`` and ``Classifier`` by your own; everything else stays.
"""

import torch
from torch import nn

from modimpute import ConsistencyLoss, ModalityNormalizer, ModalityTranslator

torch.manual_seed(0)
DIMS, STEPS, CLASSES = {"text": 8, "audio": 5}, 10, 4

# %%
# Your data and your model
# ------------------------
#
# Here both are made up: text and audio of a sample follow one topic, which is the label. A
# modality is a tensor ``(samples, steps, features)``. One vector per sample is
# ``vector.unsqueeze(1)``.

topics = torch.randn(CLASSES, 3)
mixes = {name: torch.randn(3, dim) for name, dim in DIMS.items()}


def load(size):
    labels = torch.randint(CLASSES, (size,))
    hidden = topics[labels].unsqueeze(1) + 1.5 * torch.randn(size, STEPS, 3)
    batch = {
        name: hidden @ mix + 0.3 * torch.randn(size, STEPS, 1)
        for name, mix in mixes.items()
    }
    return batch, labels


class Classifier(nn.Module):
    """It knows nothing of missing modalities."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(sum(DIMS.values()), 32, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, text, audio):
        return self.head(self.gru(torch.cat([text, audio], -1))[0].mean(1))


def train(module, loss_of, steps=150):
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3)
    for _ in range(steps):
        loss = loss_of(torch.randint(len(labels), (64,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


raw, labels = load(1000)
normalizer = ModalityNormalizer(DIMS).fit(
    [(raw, None)]
)  # translators want standardised features
batch = normalizer(raw)
model = Classifier()
train(
    model,
    lambda rows: nn.functional.cross_entropy(
        model(batch["text"][rows], batch["audio"][rows]), labels[rows]
    ),
)
model.eval().requires_grad_(False)  # trained, and done

# %%
# The translator
# --------------
#
# It learns audio from text, on the samples that have both. ``heard`` is ``True`` where there is
# audio; what stands elsewhere is never read, so it may be ``NaN``.

translator = ModalityTranslator(DIMS["text"], DIMS["audio"])
consistency = ConsistencyLoss()
heard = (torch.rand(len(labels), 1) < 0.7).expand(-1, STEPS)
batch["audio"] = torch.where(heard.unsqueeze(-1), batch["audio"], torch.nan)

train(
    translator,
    lambda rows: consistency(
        translator(batch["text"][rows]), batch["audio"][rows], valid=heard[rows]
    ),
)

# %%
# Both together
# -------------
#
# ``torch.where`` keeps what is observed, and takes the translation elsewhere.


class WithImputedAudio(nn.Module):
    def __init__(self, model, translator):
        super().__init__()
        self.model, self.translator = model, translator

    def forward(self, text, audio, heard):
        imputed = torch.where(heard.unsqueeze(-1), audio, self.translator(text))
        return self.model(text, imputed)


robust = WithImputedAudio(model, translator).eval()

# %%
# What it gives back
# ------------------
#
# With all audio there, nothing has changed, bit for bit. With all audio missing, compare with the
# two usual fillings. The features are standardised, so zeros *are* the training means.

raw, labels = load(2000)
test = normalizer(raw)
text, audio = test["text"], test["audio"]
there = torch.ones(text.shape[:2], dtype=torch.bool)
missing = torch.full_like(audio, torch.nan)


def accuracy(logits):
    return (logits.argmax(-1) == labels).float().mean().item()


with torch.no_grad():
    complete = model(text, audio)
    assert torch.equal(robust(text, audio, there), complete)
    scores = {
        "audio there": accuracy(complete),
        "audio missing, mean": accuracy(model(text, torch.zeros_like(audio))),
        "audio missing, imputed": accuracy(robust(text, missing, ~there)),
    }
for name, score in scores.items():
    print(f"{name:<24}{score:.3f}")
assert scores["audio missing, mean"] < scores["audio missing, imputed"]
assert scores["audio missing, imputed"] <= scores["audio there"] + 0.01

# %%
# Save ``robust.state_dict()`` and ``normalizer.state_dict()`` together: :doc:`save_and_load`.
# If text may be missing, too, train a second translator the other way round, or one
# :class:`~modimpute.ModalityImputer` for both: :doc:`loop_pytorch`.
