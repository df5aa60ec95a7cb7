"""
Batches of variable length, with a collate function
===================================================

Samples have any number of steps, each modality at its own rate, and each sample lacks what it
lacks. :func:`~modimpute.collate_modalities` pads them and says what is there; every layer takes
that as it is.
"""

import torch
from torch.utils.data import DataLoader, Dataset

from modimpute import (
    ConsistencyLoss,
    ModalityTranslator,
    collate_modalities,
    run_by_length,
)

torch.manual_seed(0)
DIMS = {"audio": 3, "text": 6}

# %%
# A data set of your own
# ----------------------
#
# A sample is a mapping of names to tensors ``(steps, features)``; a modality that is missing is
# left out. Labels go beside it. Here a word is a step of text, and lasts 4 steps of audio.

mix = torch.randn(6, 3) / 2


class Spoken(Dataset):
    def __init__(self, size):
        self.texts = [
            torch.randn(int(torch.randint(3, 13, ())), 6) for _ in range(size)
        ]

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        text = self.texts[index]
        audio = (text @ mix).repeat_interleave(4, dim=0)
        sample = {"text": text, "audio": audio} if index % 4 else {"text": text}
        return sample, float(len(text))


def collate(items):
    samples, labels = zip(*items, strict=True)
    modalities, valid = collate_modalities(samples, DIMS)
    return modalities, valid, torch.tensor(labels)


loader = DataLoader(Spoken(600), batch_size=50, shuffle=True, collate_fn=collate)
modalities, valid, labels = next(iter(loader))
for name in DIMS:
    print(
        name,
        tuple(modalities[name].shape),
        "valid steps:",
        valid[name].sum(1)[:6].tolist(),
    )

# %%
# Padding is zeros at the end, and ``valid`` is False there; a missing modality is a row of False.
# ``aligned=("audio", "text")`` would say that both share their steps, and pad them to one length.

assert (valid["text"].sum(1) == labels).all()
assert (valid["audio"].any(1) | (valid["audio"].sum(1) == 0)).all()
assert all((x[~valid[name]] == 0).all() for name, x in modalities.items())

# %%
# Training
# --------
#
# ``target_valid`` says which steps of the audio exist: the others come out as zeros. In training
# these are the steps that are there; samples without audio teach nothing about it.

translator = ModalityTranslator(
    6, 3, aligned=False, model_dim=32, num_layers=1, dropout=0.0
)
consistency = ConsistencyLoss()
optimizer = torch.optim.AdamW(translator.parameters(), lr=4e-3)
for epoch in range(20):
    for modalities, valid, _ in loader:
        audio = translator(
            modalities["text"], valid=valid["text"], target_valid=valid["audio"]
        )
        loss = consistency(audio, modalities["audio"], valid=valid["audio"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch:2d}: loss {loss.item():.3f}")

# %%
# Where the audio is missing, say how long it would be: 4 steps a word.

words = valid["text"].sum(1)
exists = torch.arange(48) < 4 * words.unsqueeze(1)
translator.eval()
with torch.no_grad():
    audio = translator(modalities["text"], valid=valid["text"], target_valid=exists)
assert audio.shape == (50, 48, 3)
assert (audio[~exists] == 0).all()

# %%
# Nothing depends on the padding
# ------------------------------
#
# A sample gives the same answer alone, without any padding, as in its batch.

n = int(words.min())
row = int(words.argmin())
with torch.no_grad():
    alone = translator(modalities["text"][row : row + 1, :n], target_length=4 * n)
print(f"{n} words, padded to {modalities['text'].shape[1]}")
torch.testing.assert_close(alone[0], audio[row, : 4 * n])

# %%
# Very different lengths in one batch waste time on padding.
# :func:`~modimpute.run_by_length` splits the batch by length and puts the answers back in order:
# the same up to rounding, in about half the time where lengths run from 5 to 500 steps
# (:doc:`/speed`). Its lengths are read on the CPU.

with torch.no_grad():
    by_length = run_by_length(
        translator,
        modalities["text"],
        lengths=words,
        target_lengths=4 * words,
        num_buckets=3,
    )
longest = 4 * int(words.max())
torch.testing.assert_close(by_length, audio[:, :longest], atol=1e-5, rtol=1e-5)
