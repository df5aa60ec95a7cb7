"""
What fusion attends to when audio is missing
============================================

:meth:`~modimpute.CrossModalAttentionFusion.attention_weights` tells, for each step of a modality,
which share of its attention goes to which other modality: with everything there, with audio
missing, and with audio reconstructed.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from modimpute import ConsistencyLoss, CrossModalAttentionFusion, ModalityTranslator

torch.manual_seed(0)
DIMS, LENGTHS = (
    {"audio": 4, "text": 6, "vision": 5},
    {"audio": 24, "text": 12, "vision": 18},
)
mixes = {name: torch.randn(2, dim) for name, dim in DIMS.items()}

# %%
# Made-up data: audio and text tell the label, vision is noise. Each modality has its own length.


def record(size):
    label = torch.randint(2, (size,))
    mood = torch.stack([2.0 * label - 1, torch.randn(size)], -1).unsqueeze(1)
    batch = {}
    for name, length in LENGTHS.items():
        heard = mood * (name != "vision")
        noise = torch.randn(size, length, DIMS[name])
        batch[name] = (heard + torch.randn(size, length, 2)) @ mixes[name] + noise
    return batch, label


def optimize(module, loss_of, steps):
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.eval()


fusion = CrossModalAttentionFusion(DIMS, model_dim=32, num_layers=1)
head = nn.Linear(fusion.output_dim, 2)
model = nn.ModuleList([fusion, head])


def task():
    batch, label = record(48)
    return nn.functional.cross_entropy(head(fusion(batch)), label)


optimize(model, task, 120)

# %%
# The translator that reconstructs audio from text, for the last of the three cases.

translator = ModalityTranslator(6, 4, model_dim=32, num_layers=1, aligned=False)
consistency = ConsistencyLoss()


def reconstruction():
    batch, _ = record(48)
    return consistency(translator(batch["text"], target_length=24), batch["audio"])


optimize(translator, reconstruction, 120)

# %%
# Three cases
# -----------
#
# Absent by key: nothing is said about audio, and nothing attends to it.

batch, label = record(500)
with torch.no_grad():
    audio = translator(batch["text"], target_length=24)
cases = {
    "all there": batch,
    "audio missing": {name: batch[name] for name in ("text", "vision")},
    "audio reconstructed": batch | {"audio": audio},
}
shares = {case: fusion.attention_weights(given) for case, given in cases.items()}
with torch.no_grad():
    logits = {case: head(fusion(given)) for case, given in cases.items()}
accuracy = {
    c: (x.argmax(-1) == label).float().mean().item() for c, x in logits.items()
}
for case in cases:
    given = shares[case]["text"]
    print(
        f"{case:<21}text attends to", {n: f"{x.mean():.2f}" for n, x in given.items()}
    )

# %%
# Over the modalities that are read, the shares of a step sum to 1: when audio is missing, text
# attends to vision alone, which knows nothing. A reconstruction gets its share back.

for given in shares.values():
    total = sum(given["text"].values())
    torch.testing.assert_close(total, torch.ones_like(total))
assert "audio" not in shares["audio missing"]["text"]
real, reconstructed = (
    shares[case]["text"]["audio"].mean()
    for case in ("all there", "audio reconstructed")
)
assert abs(real - reconstructed) < 0.2

# %%
# The picture: who attends to whom, as the mean over steps and samples.

fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.3), layout="constrained", sharey=True)
names = list(DIMS)
for ax, (case, given) in zip(axes, shares.items(), strict=True):
    table = torch.full((3, 3), torch.nan)
    for i, name in enumerate(names):
        for j, other in enumerate(names):
            if name in given and other in given[name]:
                table[i, j] = given[name][other].mean()
                dark = table[i, j] > 0.6
                text = f"{table[i, j]:.2f}"
                ax.text(
                    j, i, text, ha="center", va="center", color="w" if dark else "k"
                )
    image = ax.imshow(table.numpy(), cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(3), names)
    ax.set_yticks(range(3), names)
    ax.set(title=f"{case}\n(accuracy {accuracy[case]:.2f})", xlabel="is attended to")
axes[0].set_ylabel("attends")
fig.colorbar(image, ax=axes, label="share of attention")
fig.set_label(
    "Three tables of who attends to whom among audio, text and vision. With all "
    "there, text shares its attention between audio and vision. With audio missing, "
    "its row and column are empty and text attends to vision alone. With audio "
    "reconstructed, the first table is back, nearly."
)
plt.show()

# %%
# Attention is not importance: what a model makes of what it attends to is another matter. The
# accuracy in the titles is the test of that.
