"""python -m examples.benchmarks.speed.reference_quality: does the faster model learn as well?

Trains the reference model on the synthetic data in which audio follows from text and vision, and
the same model with explicit scores and dropout on them; prints the best validation losses.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from examples.benchmarks.speed.reference import write_out
from examples.mosi_sentiment import synthetic
from examples.mosi_sentiment.checkpoint import RunFolder
from examples.mosi_sentiment.comparators import COMPARATORS, OURS as RECONSTRUCTION
from examples.mosi_sentiment.model import SentimentModel
from examples.mosi_sentiment.presets import OURS, shape_of
from examples.mosi_sentiment.runs import configure, make_accelerator
from examples.mosi_sentiment.training import fit


def best_losses(data, seed, explicit, epochs):
    """Returns the validation losses, by name, of the epoch that is best in the task."""
    settings, training = configure(OURS["synthetic"], COMPARATORS[RECONSTRUCTION], epochs)
    torch.manual_seed(seed)
    model = SentimentModel(shape_of(data), settings)
    model.normalizer.fit([(data.train.modalities, data.train.valid)])
    if explicit:
        write_out(model)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run", {})
        history = fit(model, data, training, seed, run, make_accelerator(cpu=True))
    return min((record["valid"] for record in history), key=lambda losses: losses["task"])


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.speed.reference_quality", description=__doc__
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="default: those of the preset")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    epochs = None
    if options.epochs:
        epochs = {"epochs": options.epochs, "translate_first": options.epochs // 2}
    data = synthetic.make("dependent")
    found = {}
    for seed in range(options.seeds):
        for name, explicit in (("SentimentModel", False), ("explicit scores", True)):
            losses = best_losses(data, seed, explicit, epochs)
            told = ", ".join(f"{part} {loss:.4f}" for part, loss in losses.items())
            print(f"seed {seed}, {name}: {told}", flush=True)
            for part, loss in losses.items():
                found.setdefault((part, name), []).append(loss)
    print(f"\nbest validation losses over {options.seeds} seeds")
    for (part, name), losses in found.items():
        spread = statistics.stdev(losses) if len(losses) > 1 else 0.0
        print(f"  {part}, {name}: {statistics.mean(losses):.4f} ± {spread:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
