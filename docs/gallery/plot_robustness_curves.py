"""
Robustness curves
=================

How well does a model do when more and more is missing? :func:`~modimpute.evaluate_robustness` runs
it under every missing pattern and at missing rates, with seeds, and
:func:`~modimpute.plot_robustness` draws the rows.

The model is a logistic regression that reads a digit from three strips and was trained on complete
images. Three ways to fill what is missing are compared.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from modimpute import (
    ConsistencyLoss,
    ModalityDropout,
    ModalityImputer,
    evaluate_robustness,
    plot_robustness,
    summarize_robustness,
)

torch.manual_seed(0)
COLUMNS = {"left": slice(0, 3), "middle": slice(3, 5), "right": slice(5, 8)}
DIMS = {name: c.stop - c.start for name, c in COLUMNS.items()}

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32) / 4 - 1
order = torch.randperm(len(images))
test, train = order[:360], order[360:]
labels = torch.tensor(digits.target)


def strips(rows):
    return {name: images[rows][:, :, columns] for name, columns in COLUMNS.items()}


classifier = LogisticRegression(max_iter=300, C=0.1)
classifier.fit(images[train].flatten(1).numpy(), labels[train].numpy())
means = {name: x.mean(0) for name, x in strips(train).items()}

# %%
# One imputer for all gaps: hide some strips, and ask for them.

imputer = ModalityImputer(
    DIMS, aligned=True, model_dim=32, num_layers=1, num_places=8
)
dropout, consistency = ModalityDropout(0.5), ConsistencyLoss()
optimizer = torch.optim.AdamW(imputer.parameters(), lr=4e-3, weight_decay=0.05)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
for _ in range(150):
    batch = strips(train[torch.randint(len(train), (96,))])
    noisy = {name: x + 0.3 * torch.randn_like(x) for name, x in batch.items()}
    kept = dropout(batch)
    imputed = imputer(noisy, valid=kept)
    loss = sum(consistency(imputed[n], batch[n], valid=~kept[n]) for n in batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
imputer.eval()

# %%
# What is evaluated is a callable ``predict(modalities, valid=valid)``: one for each filling.


def classify(strips):
    return torch.tensor(
        classifier.predict(torch.cat([strips[n] for n in COLUMNS], 2).flatten(1))
    )


def with_zeros(modalities, valid):
    return classify(
        {
            n: torch.where(valid[n].unsqueeze(-1), x, -1.0)
            for n, x in modalities.items()
        }
    )


def with_means(modalities, valid):
    filled = {
        n: torch.where(valid[n].unsqueeze(-1), x, means[n])
        for n, x in modalities.items()
    }
    return classify(filled)


def with_imputer(modalities, valid):
    return classify(imputer(modalities, valid=valid))


def accuracy(predictions, labels):
    return (predictions == labels).float().mean()


# %%
# Three seeds; the gaps of a seed are the same for each of the three.

batches = [(strips(test), None, labels[test])]
ways = {"zeros": with_zeros, "means": with_means, "imputer": with_imputer}
rows = {
    name: evaluate_robustness(predict, batches, accuracy, seeds=range(3))
    for name, predict in ways.items()
}
for name, part in rows.items():
    area = next(line for line in summarize_robustness(part) if line["kind"] == "auc")
    print(f"{name:<8}area under the curve {area['mean']:.3f} ± {area['std']:.3f}")

# %%
# The curve: accuracy against the share of strips that are missing.

fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
plot_robustness(rows, label="accuracy", ax=ax)
fig.set_label(
    "Accuracy against the missing rate, from 0 to 67 percent. All ways start at the "
    "same height; with zeros it falls fastest, with means more slowly, and with the "
    "imputer least."
)
plt.show()

# %%
# The same by pattern: dots show which strips are there.

fig, ax = plt.subplots(figsize=(5.6, 4), layout="constrained")
plot_robustness(rows, kind="pattern", label="accuracy", ax=ax)
fig.set_label(
    "A table of accuracies: a line for each pattern of available strips, a column "
    "for zeros, means and imputer. The imputer is best in every line in which "
    "something is missing."
)
plt.show()

# %%
# With nothing missing all are the same classifier; in every pattern in which something is, the
# imputer is best.


def score(way, pattern):
    return next(row["score"] for row in rows[way] if row["available"] == pattern)


patterns = [row["available"] for row in rows["imputer"] if row["kind"] == "pattern"]
for pattern in patterns:
    if pattern == "left+middle+right":
        assert (
            score("imputer", pattern)
            == score("zeros", pattern)
            == score("means", pattern)
        )
    else:
        assert score("imputer", pattern) > max(
            score("zeros", pattern), score("means", pattern)
        )
