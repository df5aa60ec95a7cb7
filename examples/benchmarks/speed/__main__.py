"""python -m examples.benchmarks.speed: these layers beside what people would use instead."""

import argparse
import sys
from pathlib import Path

SECTIONS = (
    "translators",
    "unaligned",
    "ensembles",
    "fusions",
    "imputers",
    "ragged",
    "losses",
    "reference",
    "imports",
)
WAYS = ("plain", "bf16", "compiled")


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.speed", description=__doc__
    )
    add = parser.add_argument
    add("--json", type=Path, metavar="OUT", help="file for all figures")
    add("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="default: all")
    add(
        "--size",
        nargs=3,
        type=int,
        metavar=("B", "L", "D"),
        help="samples, steps and model_dim of what is timed at several (default: at all of them)",
    )
    add("--seconds", type=float, default=4.0, help="for each comparison (default: %(default)s)")
    add("--threads", type=int, default=1, help="of PyTorch (default: %(default)s)")
    add("--no-onednn", action="store_true", help="products by MKL alone")
    add("--device", default="cpu", help="cpu or cuda")
    add(
        "--ways",
        nargs="+",
        choices=WAYS,
        default=("plain",),
        help="bf16 and compiled: translators in lower precision, compiled",
    )
    add("--mult", type=Path, metavar="DIR", help="a checkout of MulT, whose encoder is timed too")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)

    import torch

    from examples.benchmarks.speed import report, sections
    from examples.benchmarks.speed.reference import reference
    from examples.benchmarks.speed.timing import onednn, threads

    bench = sections.Bench(options, lambda row: print(report.line(row), flush=True))
    torch.manual_seed(0)
    # Forward passes first, as where a model only predicts: after a training step much freed memory
    # stays with the process, and what writes most gains most by that.
    rounds = [(training, name) for training in (False, True) for name in options.sections]
    with threads(options.threads), onednn(not options.no_onednn):
        for bench.training, name in rounds:
            (reference if name == "reference" else getattr(sections, name))(bench)
            if options.json:  # what is finished is kept
                report.save(options.json, options, bench.rows)
        facts = report.environment(options)
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()) + "\n")
    print(report.tables(bench.rows))


if __name__ == "__main__":
    sys.exit(main())
