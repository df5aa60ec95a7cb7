"""
When imputation cannot help
===========================

Reconstruction is no magic: what does not follow from the other modalities cannot come from them.
This page shows recorded results: on the public features of CMU-MOSI that we could obtain,
reconstructed audio gains nothing.

The data are not ours, so nothing is trained here. The numbers are those of
``examples/mosi_sentiment/README.md`` (5 seeds; mean difference of the absolute error of sentiment,
and its 95 % interval over seeds and videos), made by

.. code-block:: sh

   python -m examples.mosi_sentiment reproduce --data synthetic
   python -m examples.mosi_sentiment reproduce --data cmu_mosi_utterances.npz
   python -m examples.mosi_sentiment reproduce --data cmu_mosi_sequences.npz
"""

import matplotlib.pyplot as plt

# %%
# The error with reconstructed audio minus that of another model: below zero, reconstruction is
# better. *L+V only* was trained without any audio, and is what a reconstruction has to beat; the
# others were trained with audio, and get something in its place in the test.

DIFFERENCES = {
    "planted data,\naudio follows from text and vision": {
        "L+V only": (-0.2206, -0.2679, -0.1699),
        "full, zeros for audio": (-0.3463, -0.4260, -0.2584),
        "full, mean for audio": (-0.3453, -0.4216, -0.2621),
        "full, real audio": (+0.0227, -0.0001, +0.0447),
    },
    "planted data,\naudio is independent": {
        "L+V only": (+0.0094, -0.0169, +0.0377),
        "full, zeros for audio": (-0.0670, -0.1309, -0.0066),
        "full, mean for audio": (-0.0674, -0.1243, -0.0108),
        "full, real audio": (+0.2309, +0.1966, +0.2648),
    },
    "CMU-MOSI, utterances": {
        "L+V only": (+0.0143, -0.0107, +0.0404),
        "full, zeros for audio": (-0.0654, -0.1385, +0.0003),
        "full, mean for audio": (-0.0264, -0.0665, +0.0110),
        "full, real audio": (-0.0109, -0.0512, +0.0320),
    },
    "CMU-MOSI, sequences": {
        "L+V only": (-0.0063, -0.0391, +0.0256),
        "full, zeros for audio": (-0.0477, -0.1173, +0.0115),
        "full, mean for audio": (+0.0091, -0.0232, +0.0448),
        "full, real audio": (+0.0027, -0.0357, +0.0394),
    },
}

# %%
# What they say
# -------------
#
# Where audio follows from the others, reconstruction helps, and comes close to real audio. Where
# it does not, and on CMU-MOSI, the interval against *L+V only* includes zero: nothing is gained.


def includes_zero(interval):
    return interval[1] < 0 < interval[2]


dependent, independent, utterances, sequences = DIFFERENCES.values()
assert dependent["L+V only"][2] < 0
assert includes_zero(dependent["full, real audio"])
for data in (independent, utterances, sequences):
    assert includes_zero(data["L+V only"])

# %%
# Against zeros it would look like a gain on every data set, even where there is none to have: a
# model that was trained with audio and gets zeros is a broken model. On CMU-MOSI the training mean
# is enough to undo that. Real audio is no better there, either.

for data in DIFFERENCES.values():
    assert data["full, zeros for audio"][0] < 0
for data in (dependent, independent):
    assert data["full, zeros for audio"][2] < 0
for data in (utterances, sequences):
    assert includes_zero(data["full, mean for audio"])
    assert includes_zero(data["full, real audio"])

# %%
# The picture: dots are means, lines are intervals. Grey: the interval includes zero.

fig, axes = plt.subplots(
    4, 1, figsize=(7.5, 6.6), sharex=True, sharey=True, layout="constrained"
)
for ax, (name, rows) in zip(axes, DIFFERENCES.items(), strict=True):
    for place, (mean, low, high) in enumerate(rows.values()):
        better, worse = high < 0, low > 0
        color = "#0072B2" if better else "#D55E00" if worse else "0.55"
        ax.plot([low, high], [place, place], color=color, linewidth=2.5)
        ax.plot(mean, place, "o" if better else "s" if worse else "D", color=color)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(range(4), [f"minus {row}" for row in rows])
    ax.set_title(name.replace("\n", " "), loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylim(3.5, -0.5)
axes[-1].set_xlabel(
    "reconstruction's absolute error minus that of the other model\n"
    "(below zero: reconstruction is better)"
)
fig.set_label(
    "Intervals of the difference in error, four for each of four data sets. On "
    "planted data in which audio follows from the others, reconstruction is clearly "
    "better than L+V only. On independent planted data and on both CMU-MOSI sets, "
    "the interval against L+V only includes zero, and only the comparison with "
    "zeros looks like a gain on all of them."
)
plt.show()

# %%
# How to find out for your own data, before training anything: fit a ridge regression, or
# :func:`~modimpute.fit_ensemble`, and look at ``ensemble.weights``. If the mean of the target has
# most of the weight, there is little to reconstruct (:doc:`/fitting`). The complete tables:
# :doc:`/paper`.
