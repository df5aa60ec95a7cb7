"""
Aligned against unaligned
=========================

Aligned: step *t* of the target belongs to step *t* of the source (words with one vector of audio
each, sensors at one rate). Unaligned: the target has its own length and rate, and attention finds
which source steps it needs. Here a slow source is translated both ways, to its own rate and to
four times its rate.
"""

import matplotlib.pyplot as plt
import torch

from modimpute import ConsistencyLoss, ModalityTranslator

torch.manual_seed(0)
FACTOR = 4


# %%
# A smooth movement; the source sees three views of it every fourth moment, the target one view at
# every moment.

views = torch.randn(2, 3)


def record(size, steps):
    time = torch.arange(FACTOR * steps).view(1, -1, 1) / FACTOR
    angle = 6.3 * torch.rand(size, 1, 1) + (0.3 + 0.5 * torch.rand(size, 1, 1)) * time
    movement = torch.cat([angle.sin(), angle.cos()], -1)
    return movement[:, ::FACTOR] @ views, movement[..., :1]


sizes = {"model_dim": 32, "num_layers": 1, "dropout": 0.0}
aligned = ModalityTranslator(3, 1, aligned=True, **sizes)
unaligned = ModalityTranslator(3, 1, aligned=False, **sizes)
consistency = ConsistencyLoss()


def train(translator, predict, steps):
    optimizer = torch.optim.AdamW(translator.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        length = int(torch.randint(8, 17, ()))  # of all lengths
        loss = consistency(*predict(*record(48, length)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    translator.eval()


train(aligned, lambda source, target: (aligned(source), target[:, ::FACTOR]), 150)
train(
    unaligned,
    lambda source, target: (unaligned(source, target_length=target.shape[1]), target),
    300,
)

# %%
# On new movements. A length that never occurred in training (20) works, too, if less exactly.

errors = {}
with torch.no_grad():
    for steps in (12, 16, 20):
        source, target = record(500, steps)
        slow, fast = aligned(source), unaligned(source, target_length=FACTOR * steps)
        assert slow.shape == (500, steps, 1)
        assert fast.shape == (500, FACTOR * steps, 1)
        errors[steps] = {
            "aligned": (slow - target[:, ::FACTOR]).square().mean().item(),
            "unaligned": (fast - target).square().mean().item(),
        }
        print(
            steps,
            "steps:",
            {name: f"{error:.4f}" for name, error in errors[steps].items()},
        )
variance = target.var().item()
print(f"variance: {variance:.2f}")
assert all(error["aligned"] < 0.01 * variance for error in errors.values())
assert max(errors[12]["unaligned"], errors[16]["unaligned"]) < 0.02 * variance
assert errors[16]["unaligned"] < errors[20]["unaligned"] < 0.1 * variance

# %%
# One movement of 16 source steps.

source, target = record(1, 16)
with torch.no_grad():
    slow, fast = (
        aligned(source)[0, :, 0],
        unaligned(source, target_length=64)[0, :, 0],
    )
moments = torch.arange(64) / FACTOR
fig, axes = plt.subplots(2, 1, figsize=(7.5, 4.6), sharex=True, layout="constrained")
for ax in axes:
    ax.plot(
        moments, target[0, :, 0], color="0.6", linewidth=4, alpha=0.6, label="real"
    )
    ax.set_ylabel("target")
axes[0].plot(
    moments[::FACTOR], slow, "o", color="#0072B2", label="aligned: one for each step"
)
axes[1].plot(moments, fast, ".-", color="#D55E00", label="unaligned: any number")
axes[1].set_xlabel("source step")
for ax in axes:
    ax.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 1.2), ncols=2)
fig.set_label(
    "A wave over 16 source steps, twice. Above, the aligned translation has one "
    "point for each step, all on the wave. Below, the unaligned translation has "
    "four points for each step, and follows the wave."
)
plt.show()

# %%
# Use ``aligned=True`` wherever it is true: it is cheaper and learns faster. In an unaligned layer
# pass ``target_length``, or ``target_valid`` in ragged batches: :doc:`/concepts/alignment`.
