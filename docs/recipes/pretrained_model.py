"""
Put a translator in front of a model you already trained
=========================================================

You have a model that reads two modalities and was trained on complete samples. Now one modality
is missing from some of them. The model stays as it is, down to the last bit: a translator is
trained beside it, and fills in what is missing before the model reads it.

To use it, put your own data and your own model into the first section, and your names and sizes
into ``DIMS``, ``SOURCE`` and ``TARGET``; decide on ``aligned`` below. Nothing else knows what the
modalities are called. It needs PyTorch and modimpute.
"""

import torch
from torch import nn

from modimpute import ConsistencyLoss, ModalityNormalizer, ModalityTranslator

torch.manual_seed(0)
DIMS = {"text": 8, "audio": 5}  # features
SOURCE, TARGET = "text", "audio"  # what is there, and what may be missing

# %%
# Your data and your model
# ------------------------
#
# Here both are made up: text and audio of a sample follow one topic, which is the label. A
# modality is a tensor ``(samples, steps, features)``. One vector per sample is
# ``vector.unsqueeze(1)``.

CLASSES, STEPS = 4, 10
topics = torch.randn(CLASSES, 3)
mixes = {name: torch.randn(3, dim) for name, dim in DIMS.items()}


def load(size):
    labels = torch.randint(CLASSES, (size,))
    hidden = topics[labels].unsqueeze(1) + 1.5 * torch.randn(size, STEPS, 3)
    batch = {name: hidden @ mix for name, mix in mixes.items()}
    batch = {name: x + 0.3 * torch.randn_like(x) for name, x in batch.items()}
    return batch[SOURCE], 2 * batch[TARGET] + 3, labels  # in whatever units


class Classifier(nn.Module):
    """It knows nothing of missing modalities."""

    def __init__(self, dim):
        super().__init__()
        self.gru = nn.GRU(dim, 32, batch_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, *modalities):
        return self.head(self.gru(torch.cat(modalities, -1))[0].mean(1))


def train(module, loss_of, size, steps):
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3)
    for step in range(steps):
        loss = loss_of(torch.randint(size, (64,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(f"  step {step + 1}: loss {loss.item():.3f}")


source, target, labels = load(1000)  # your training samples
test_source, test_target, test_labels = load(2000)  # and others

model = Classifier(sum(DIMS.values()))
print("the model")  # Yours is trained: load its weights instead of these lines.
train(
    model,
    lambda rows: nn.functional.cross_entropy(
        model(source[rows], target[rows]), labels[rows]
    ),
    size=len(labels),
    steps=150,
)
model.eval().requires_grad_(False)

# %%
# What is missing
# ---------------
#
# ``has`` says which samples have the target, ``heard`` the same for each step, which is what the
# layers read. Where it is ``False`` anything may stand, also ``NaN``.

has = torch.rand(len(target)) < 0.7  # (samples,)
heard = has.unsqueeze(1).expand(-1, target.shape[1])  # (samples, steps)
target = torch.where(heard.unsqueeze(-1), target, torch.nan)

# %%
# The translator
# --------------
#
# It learns the target from the source, on the samples that have both. Translators want
# standardised features. Your model keeps its own units: the normaliser leads from the ones to the
# others and back.
#
# Here step *t* of the target belongs to step *t* of the source: ``aligned=True``. If your
# modalities have different lengths or rates, or one of them is a single vector, say
# ``aligned=False``; nothing else changes.
#
# The loss is printed because it says when to stop: it starts at about 1, the error of the mean,
# and a harder problem needs more steps than this one.

raw = {SOURCE: source, TARGET: target}
normalizer = ModalityNormalizer(DIMS).fit([(raw, {TARGET: heard})])
batch = normalizer(raw, valid={TARGET: heard})
translator = ModalityTranslator(DIMS[SOURCE], DIMS[TARGET], aligned=True)
consistency = ConsistencyLoss()


def translation_loss(rows):
    translated = translator(batch[SOURCE][rows], target_length=target.shape[1])
    return consistency(translated, batch[TARGET][rows], valid=heard[rows])


print("the translator")
train(translator, translation_loss, size=len(source), steps=150)

# %%
# Both together
# -------------
#
# ``torch.where`` keeps what is observed, and takes the translation elsewhere.


class WithImputation(nn.Module):
    def __init__(self, model, translator, normalizer):
        super().__init__()
        self.model, self.translator, self.normalizer = model, translator, normalizer

    def impute(self, source, target, heard):
        standard = self.normalizer({SOURCE: source})[SOURCE]
        translated = self.translator(standard, target_length=target.shape[1])
        translated = self.normalizer.inverse({TARGET: translated})[TARGET]
        return torch.where(heard.unsqueeze(-1), target, translated)

    def forward(self, source, target, heard):
        return self.model(source, self.impute(source, target, heard))


robust = WithImputation(model, translator, normalizer).eval()

# %%
# What it gives back
# ------------------
#
# With all of the target there, nothing has changed, bit for bit. With all of it missing, compare
# with the usual filling, the mean of the training data, and with a model that never had it: where
# you can train a second model, that is what imputation has to come near without one. (If it is no
# better than the mean on your data, the assert says so; then see :doc:`/faq`.)

print("a second model, of the source alone")
alone = Classifier(DIMS[SOURCE])
train(
    alone,
    lambda rows: nn.functional.cross_entropy(alone(source[rows]), labels[rows]),
    size=len(labels),
    steps=150,
)

mean = target[heard].mean(0)
there = torch.ones(test_target.shape[:2], dtype=torch.bool)
missing = torch.full_like(test_target, torch.nan)


def accuracy(logits):
    return (logits.argmax(-1) == test_labels).float().mean().item()


with torch.no_grad():
    complete = model(test_source, test_target)
    assert torch.equal(robust(test_source, test_target, there), complete)
    scores = {
        "there": accuracy(complete),
        "missing, mean": accuracy(model(test_source, mean.expand_as(test_target))),
        "missing, imputed": accuracy(robust(test_source, missing, ~there)),
        "missing, second model": accuracy(alone(test_source)),
    }
for name, score in scores.items():
    print(f"{TARGET} {name:<24}{score:.3f}")
assert scores["missing, mean"] < scores["missing, imputed"]
assert scores["missing, imputed"] <= scores["there"] + 0.01

# %%
# Single gaps in the target are filled, too: ``heard`` has a value for each step.

first = there.clone()
first[:, first.shape[1] // 2 :] = False
gaps = torch.where(first.unsqueeze(-1), test_target, torch.nan)
with torch.no_grad():
    imputed = robust.impute(test_source, gaps, first)
assert torch.equal(imputed[first], test_target[first])
assert imputed.isfinite().all()

# %%
# ``robust.state_dict()`` holds all of it: :doc:`save_and_load`. If the source may be missing, too,
# train a second translator the other way round, or one :class:`~modimpute.ModalityImputer` for
# both: :doc:`loop_pytorch`.
