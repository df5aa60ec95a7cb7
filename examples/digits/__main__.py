"""python -m examples.digits: reconstruct a missing strip of handwritten digits."""

import argparse
import sys
from pathlib import Path

INTERRUPTED = 130  # what shells report for Ctrl-C
# The classifier was trained on real images: strips that are nearer to real ones are worth some
# squared error to it. Chosen on folds of the images that are not tested.
TOLERANCE = 0.05


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, however: {value}")
    return value


def tolerance(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, however: {value}")
    return value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.digits", description=__doc__)
    parser.add_argument("--seeds", type=positive, default=1, help="how many seeds to run")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/digits"), help="folder of report.json, digits.png"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=1, help="of PyTorch (default: 1)")
    parser.add_argument(
        "--tolerance",
        type=tolerance,
        default=TOLERANCE,
        help="share of the squared error given up for plausible strips (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it works")
    parser.add_argument(
        "--validation",
        action="store_true",
        help="report on the validation rows and leave the test rows alone (for development)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        # Imported here, so that Ctrl-C is answered cleanly while PyTorch loads, too.
        from examples.digits.experiment import run

        run(options)
    except KeyboardInterrupt as stop:
        print("Interrupted.", *stop.args)  # run() says what is saved
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
