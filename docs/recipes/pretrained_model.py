"""
Put a translator in front of a model you already trained
=========================================================

You have a model that reads two modalities and was trained on complete samples. Now one modality
is missing from some of them. The model stays as it is, down to the last bit: a translator is
trained beside it, and fills in what is missing before the model reads it.

To use it, replace ``load`` and ``Classifier`` by your own, with your names and sizes in ``DIMS``,
and decide on ``aligned`` below. It needs PyTorch and modimpute, nothing else.
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
    batch = {name: hidden @ mix for name, mix in mixes.items()}
    batch = {name: x + 0.3 * torch.randn_like(x) for name, x in batch.items()}
    return batch["text"], 2 * batch["audio"] + 3, labels  # in whatever units


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
        loss = loss_of(torch.randint(len(text), (64,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def task_loss(rows):
    return nn.functional.cross_entropy(model(text[rows], audio[rows]), labels[rows])


text, audio, labels = load(1000)
model = Classifier()
train(model, task_loss)
model.eval().requires_grad_(False)  # trained, and done

# %%
# The translator
# --------------
#
# It learns audio from text, on the samples that have both. ``heard`` is ``True`` where there is
# audio; what stands elsewhere is never read, so it may be ``NaN``.
#
# Translators want standardised features. Your model keeps its own units: the normaliser leads
# from the ones to the others and back.
#
# Here step *t* of the audio belongs to step *t* of the text: ``aligned=True``. If your modalities
# have different lengths or rates, or one of them is a single vector, say ``aligned=False``;
# nothing else changes.

heard = (torch.rand(len(text), 1) < 0.7).expand(-1, audio.shape[1])
audio = torch.where(heard.unsqueeze(-1), audio, torch.nan)

raw = {"text": text, "audio": audio}
normalizer = ModalityNormalizer(DIMS).fit([(raw, {"audio": heard})])
batch = normalizer(raw, valid={"audio": heard})
translator = ModalityTranslator(DIMS["text"], DIMS["audio"], aligned=True)
consistency = ConsistencyLoss()


def translation_loss(rows):
    translated = translator(batch["text"][rows], target_length=audio.shape[1])
    return consistency(translated, batch["audio"][rows], valid=heard[rows])


train(translator, translation_loss)

# %%
# Both together
# -------------
#
# ``torch.where`` keeps what is observed, and takes the translation elsewhere.


class WithImputedAudio(nn.Module):
    def __init__(self, model, translator, normalizer):
        super().__init__()
        self.model, self.translator, self.normalizer = model, translator, normalizer

    def impute(self, text, audio, heard):
        source = self.normalizer({"text": text})["text"]
        translated = self.translator(source, target_length=audio.shape[1])
        translated = self.normalizer.inverse({"audio": translated})["audio"]
        return torch.where(heard.unsqueeze(-1), audio, translated)

    def forward(self, text, audio, heard):
        return self.model(text, self.impute(text, audio, heard))


robust = WithImputedAudio(model, translator, normalizer).eval()

# %%
# What it gives back
# ------------------
#
# With all audio there, nothing has changed, bit for bit. With all audio missing, compare with the
# usual filling, the mean of the training data. (If reconstruction is no better than the mean on
# your data, the last two asserts say so; then see :doc:`/faq`.)

mean = audio[heard].mean(0)
text, audio, labels = load(2000)
there = torch.ones(audio.shape[:2], dtype=torch.bool)
missing = torch.full_like(audio, torch.nan)


def accuracy(logits):
    return (logits.argmax(-1) == labels).float().mean().item()


with torch.no_grad():
    complete = model(text, audio)
    assert torch.equal(robust(text, audio, there), complete)
    scores = {
        "audio there": accuracy(complete),
        "audio missing, mean": accuracy(model(text, mean.expand_as(audio))),
        "audio missing, imputed": accuracy(robust(text, missing, ~there)),
    }
for name, score in scores.items():
    print(f"{name:<24}{score:.3f}")
assert scores["audio missing, mean"] < scores["audio missing, imputed"]
assert scores["audio missing, imputed"] <= scores["audio there"] + 0.01

# %%
# Single gaps in the audio are filled, too: ``heard`` has a value for each step.

first = there.clone()
first[:, STEPS // 2 :] = False
with torch.no_grad():
    imputed = robust.impute(
        text, torch.where(first.unsqueeze(-1), audio, torch.nan), first
    )
assert torch.equal(imputed[first], audio[first])
assert imputed.isfinite().all()

# %%
# ``robust.state_dict()`` holds all of it: :doc:`save_and_load`. If text may be missing, too,
# train a second translator the other way round, or one :class:`~modimpute.ModalityImputer` for
# both: :doc:`loop_pytorch`.
