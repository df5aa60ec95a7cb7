"""python -m examples.benchmarks.speed.quality: is the cheaper fusion as good as all pairs?

Classifies digits from their three strips, or any .npz file of modalities and integer labels, with
nothing missing: the same training for each fusion, the epoch with the best validation accuracy.
With --folds N, each seed tests on another N-th of all samples.
"""

import argparse
import copy
import functools
import statistics
import sys
from dataclasses import replace

import torch
from sklearn.model_selection import StratifiedKFold
from torch import nn

from examples.benchmarks.imputation.data import load
from examples.benchmarks.imputation.parts import join
from examples.benchmarks.speed.peers import AllPairs
from modimpute import CrossModalAttentionFusion

DIM, LAYERS, BATCH, RATE = 40, 2, 64, 2e-3


def fusions(dims, aligned, latents, longest):
    options = {"model_dim": DIM, "num_layers": LAYERS, "aligned": aligned, "num_places": longest}
    return {
        "all pairs": lambda: AllPairs(dims, DIM, 4, LAYERS, 0.1, longest),
        "CrossModalAttentionFusion": lambda: CrossModalAttentionFusion(dims, **options),
        f"num_latents={latents}": lambda: CrossModalAttentionFusion(
            dims, num_latents=latents, **options
        ),
    }


def split(data, seed, folds):
    """Returns training, validation and test samples; in ``folds`` seeds all are tested once."""
    if not folds:
        return (*data.split(seed), data.test)
    parts = [part for part in (data.train, data.validation, data.test) if part is not None]
    everything = functools.reduce(join, parts)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed // folds)
    train, test = list(cut.split(everything.labels, everything.labels))[seed % folds]
    rest = replace(data, train=everything.rows(train), validation=None)
    return (*rest.split(seed), everything.rows(test))


def accuracy(fusion, head, part, labels):
    fusion.eval()
    with torch.no_grad():
        predicted = head(fusion(part.modalities, valid=part.valid)).argmax(-1)
    return (predicted == labels).double().mean().item()


def fit(make, classes, train, validation, epochs, seed):
    """Returns the fusion and the head of the epoch with the best validation accuracy."""
    torch.manual_seed(seed)
    fusion = make()
    head = nn.Linear(fusion.output_dim, classes)
    both = nn.ModuleList([fusion, head])
    optimizer = torch.optim.AdamW(both.parameters(), RATE, weight_decay=0.01)
    steps = epochs * -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    labels = [torch.as_tensor(part.labels) for part in (train, validation)]
    best, kept = -1.0, None
    for _ in range(epochs):
        fusion.train()
        for rows in torch.randperm(len(train)).split(BATCH):
            part = train.rows(rows.numpy())
            out = head(fusion(part.modalities, valid=part.valid))
            loss = nn.functional.cross_entropy(out, labels[0][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule.last_epoch < steps:
                schedule.step()
        score = accuracy(fusion, head, validation, labels[1])
        if score >= best:
            best, kept = score, copy.deepcopy(both)
    return kept


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.speed.quality", description=__doc__
    )
    add = parser.add_argument
    add("--data", default="digits", help="digits, or FILE.npz with --modalities")
    add("--modalities", nargs="+", default=())
    add("--seeds", type=int, default=5)
    add("--folds", type=int, default=0, help="of all samples (default: the file's test samples)")
    add("--epochs", type=int, default=30)
    add("--latents", type=int, default=16)
    add("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = load(options.data, options.modalities)
    dims = {name: x.shape[-1] for name, x in data.train.modalities.items()}
    lengths = {x.shape[1] for x in data.train.modalities.values()}
    facts = (dims, len(lengths) == 1, options.latents, max(lengths))
    classes = int(data.train.labels.max()) + 1
    scores = {}
    for seed in range(options.seeds):
        train, validation, test = split(data, seed, options.folds)
        labels = torch.as_tensor(test.labels)
        for name, make in fusions(*facts).items():
            fusion, head = fit(make, classes, train, validation, options.epochs, seed)
            scores.setdefault(name, []).append(accuracy(fusion, head, test, labels))
            print(f"seed {seed}: {name} {scores[name][-1]:.4f}", flush=True)
    print(f"\n{data.name}, {len(dims)} modalities, accuracy over {options.seeds} seeds")
    for name, some in scores.items():
        spread = statistics.stdev(some) if len(some) > 1 else 0.0
        print(f"  {name}: {statistics.mean(some):.4f} ± {spread:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
