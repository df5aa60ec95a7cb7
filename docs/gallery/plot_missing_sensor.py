"""
What a missing sensor does to a classifier, and what imputation gives back
==========================================================================

A watch has an accelerometer and a gyroscope; a classifier, trained on both, tells four activities
apart. Then the gyroscope fails.

The recordings are simulated: each activity is a movement of its own rhythm and direction, with a
random speed, phase and strength for each recording. Both sensors see that movement from their own
side, the accelerometer its second derivative and the gyroscope its first, with noise. (With
another seed the numbers below differ by up to a tenth; what is asserted holds for seeds 0 to 4.)
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from modimpute import ConsistencyLoss, ModalityNormalizer, ModalityTranslator

torch.manual_seed(0)
ACTIVITIES, STEPS = ("standing", "walking", "running", "rowing"), 40
speed = torch.tensor([0.15, 0.45, 0.7, 0.45])
strength = torch.tensor([0.2, 1.0, 1.3, 1.0])
harmonic = torch.tensor([0.0, 0.3, 0.5, 0.9])  # of twice the frequency
# Each activity turns the wrist about an axis of its own; all of them shake it upwards.
axes = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
upwards = torch.tensor([[1.0, 0, 0], [1, 0.4, 0], [1, 0, 0.4], [1, 0.4, 0]])


def record(size):
    label = torch.randint(4, (size,))
    rate = speed[label, None] * (1 + 0.15 * torch.randn(size, 1))
    height = strength[label, None] * (1 + 0.2 * torch.randn(size, 1))
    angle = 6.3 * torch.rand(size, 1) + rate * torch.arange(STEPS)
    second = harmonic[label, None]
    acceleration = -height * (angle.sin() + 2 * second * (2 * angle).sin())
    rotation = height * (angle.cos() + second * (2 * angle).cos())
    batch = {
        "accelerometer": acceleration.unsqueeze(-1) * upwards[label].unsqueeze(1),
        "gyroscope": rotation.unsqueeze(-1) * axes[label].unsqueeze(1),
    }
    return {name: x + 0.4 * torch.randn_like(x) for name, x in batch.items()}, label


# %%
# The classifier knows nothing of missing sensors: it was trained on both.

raw, labels = record(1200)
DIMS = {"accelerometer": 3, "gyroscope": 3}
normalizer = ModalityNormalizer(DIMS).fit([(raw, None)])
train = normalizer(raw)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(6, 24, 7, stride=2), nn.ReLU(), nn.Conv1d(24, 24, 5), nn.ReLU()
        )
        self.head = nn.Linear(24, 4)

    def forward(self, accelerometer, gyroscope):
        x = torch.cat([accelerometer, gyroscope], -1).transpose(1, 2)
        return self.head(self.net(x).mean(-1))


def fit(module, loss_of, steps):
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3)
    for _ in range(steps):
        loss = loss_of(torch.randint(len(labels), (64,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.eval()


classifier = Classifier()
fit(
    classifier,
    lambda rows: nn.functional.cross_entropy(
        classifier(train["accelerometer"][rows], train["gyroscope"][rows]),
        labels[rows],
    ),
    250,
)

# %%
# The translator learns the gyroscope from the accelerometer, without any label.

translator, consistency = ModalityTranslator(3, 3, model_dim=32), ConsistencyLoss()
fit(
    translator,
    lambda rows: consistency(
        translator(train["accelerometer"][rows]), train["gyroscope"][rows]
    ),
    150,
)

# %%
# A fair comparison: a classifier that was trained anew, with labels, without any gyroscope.

without = Classifier()
fit(
    without,
    lambda rows: nn.functional.cross_entropy(
        without(train["accelerometer"][rows], torch.zeros(64, STEPS, 3)), labels[rows]
    ),
    250,
)

# %%
# New recordings. What stands in the place of the gyroscope: the training mean (zero, since the
# features are standardised), or the translation.

raw, labels = record(2000)
test = normalizer(raw)
source = test["accelerometer"]
nothing = torch.zeros_like(test["gyroscope"])
with torch.no_grad():
    fillings = {
        "no gap": test["gyroscope"],
        "mean": nothing,
        "imputed": translator(source),
    }
    predicted = {
        name: classifier(source, x).argmax(-1) for name, x in fillings.items()
    }
    predicted["trained\nwithout it"] = without(source, nothing).argmax(-1)
accuracy = {
    name: (p == labels).float().mean().item() for name, p in predicted.items()
}
for name, score in accuracy.items():
    print(f"{' '.join(name.split()):<20}{score:.3f}")
lost = accuracy["no gap"] - accuracy["mean"]
given_back = accuracy["imputed"] - accuracy["mean"]
assert given_back > lost / 2 > 0.05
assert accuracy["imputed"] < accuracy["trained\nwithout it"] < accuracy["no gap"]

# %%
# The pictures show where the errors are, and one recording that the classifier got right again.

fixed = (predicted["imputed"] == labels) & (predicted["mean"] != labels)
strong = test["gyroscope"].var(1)  # of each recording and axis
one, axis = divmod(int((strong * fixed.unsqueeze(1)).argmax()), 3)
fig, (left, right) = plt.subplots(
    1, 2, figsize=(9, 3.4), layout="constrained", width_ratios=[1, 1.3]
)
colors = ["#0072B2", "#CC79A7", "#D55E00", "#999999"]
bars = left.bar(list(accuracy), list(accuracy.values()), color=colors)
left.bar_label(bars, fmt="%.2f")
left.axhline(0.25, color="black", linewidth=0.8, linestyle=":")
left.text(3.4, 0.26, "chance", ha="right", va="bottom", fontsize=8)
left.set(ylim=(0, 1.12), ylabel="accuracy", title="Gyroscope missing")
right.plot(
    fillings["no gap"][one, :, axis], color=colors[0], label="real, never read"
)
right.plot(
    fillings["imputed"][one, :, axis],
    color=colors[2],
    linestyle="--",
    label="imputed",
)
right.axhline(0, color=colors[1], linestyle=":", label="mean")
right.set(
    xlabel="step",
    ylabel="gyroscope, one axis [SD]",
    title=f"One recording: {ACTIVITIES[labels[one]]}",
)
right.set_ylim(top=1.4 * right.get_ylim()[1])
right.legend(frameon=False, loc="upper center", ncols=3, fontsize=9)
fig.set_label(
    "Left: bars of accuracy: high without a gap, lower with the mean in place of the "
    "gyroscope, nearly as high as without a gap with the imputed one, and a little "
    "higher for a classifier trained without a gyroscope. Right: the gyroscope of "
    "one recording over time, the imputed curve that follows it, and the mean, a "
    "flat line."
)
plt.show()

# %%
# Imputation gives back most of what the failure cost, without touching the classifier and without
# a label. It adds nothing to what the accelerometer knows: where there are labels, a classifier
# that is trained anew without the gyroscope does better still. How much is lost at which missing
# rate: :doc:`plot_robustness_curves`.
