"""
Reconstructing digits
=====================

Real handwritten digits, cut into three strips. The middle one is missing, and is drawn from the
left and the right one. With 1437 training images, members that remember them are a good choice:
:func:`~modimpute.fit_ensemble` fits two and finds how much each is worth.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from modimpute import (
    KernelTranslator,
    LinearTranslator,
    consistency_loss,
    fit_ensemble,
)

torch.manual_seed(0)

# %%
# Each strip is a sequence of 8 rows. Of the 1797 images, 360 are kept for the test.

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32) / 16
order = torch.randperm(len(images))
test, train = images[order[:360]], images[order[360:]]


def cut(images):
    return {"left": images[:, :, :3], "right": images[:, :, 5:]}, images[:, :, 3:5]


# %%
# Every row is a place of its own: a stroke at the top means something else than one at the foot.

dims, places = {"left": 3, "right": 3}, {"source_places": 8, "target_places": 8}
members = {
    "linear": LinearTranslator(dims, 2, **places),
    "kernel": KernelTranslator(dims, 2, **places),
}
sources, middle = cut(train)
ensemble = fit_ensemble(sources, middle, translators=members)
shares = ensemble.weights["left", "right"]
print("shares:", {name: f"{share:.0%}" for name, share in shares.items()})

# %%
# The error on the test images, beside the mean of the training images and the nearest of them.

sources, truth = cut(test)
with torch.no_grad():
    reconstructed = ensemble(sources)
mean = middle.mean(0).expand_as(truth)
known, unknown = (
    torch.cat([*cut(x)[0].values()], 2).flatten(1) for x in (train, test)
)
nearest = middle[torch.cdist(unknown, known).argmin(1)]
errors = {
    name: consistency_loss(x, truth).item()
    for name, x in {
        "mean": mean,
        "nearest": nearest,
        "reconstructed": reconstructed,
    }.items()
}
print("squared error:", {name: f"{error:.3f}" for name, error in errors.items()})
assert errors["reconstructed"] < errors["mean"] / 2
assert errors["reconstructed"] < 0.8 * errors["nearest"]

# %%
# The first test image of each digit.

labels = digits.target[order[:360]]
shown = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
gap = torch.full_like(truth, torch.nan)
strips = {"real": truth, "missing": gap, "mean": mean, "reconstructed": reconstructed}
colors = plt.get_cmap("gray_r").with_extremes(bad="#9ecae1")
fig, axes = plt.subplots(4, 10, figsize=(9, 4), layout="constrained")
for row, (name, strip) in zip(axes, strips.items(), strict=True):
    pictures = torch.cat([sources["left"], strip, sources["right"]], 2)
    for ax, i in zip(row, shown, strict=True):
        ax.imshow(pictures[i].numpy(), cmap=colors, vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
fig.set_label(
    "Ten handwritten digits in four rows: real; with the middle strip missing; with "
    "the mean of the training images in its place; and reconstructed. The "
    "reconstructed digits can be read."
)
plt.show()

# %%
# With networks, five seeds and more methods beside it: ``python -m examples.digits``.
