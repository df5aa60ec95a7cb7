"""python -m examples.benchmarks.imputation: what is each way to fill in a modality worth?"""

import argparse
import sys
from pathlib import Path

INTERRUPTED = 130  # what shells report for Ctrl-C
STRIPS = ("left", "middle", "right")
METHODS = (
    "zero",
    "mean",
    "ridge",
    "knn",
    "ridge_windows",
    "knn_windows",
    "iterative",
    "autoencoder",
    "multivae",
    "paper",
    "modimpute",
)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, however: {value}")
    return value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.imputation", description=__doc__
    )
    add = parser.add_argument
    add("--data", default="digits", help="digits, or FILE.npz with --modalities")
    add("--modalities", nargs="+", default=(), help="their names: train_NAME, test_NAME, ...")
    add("--targets", nargs="+", default=(), help="those to fill in (default: each)")
    add("--labels", default="labels", help="NAME of train_NAME, ... (default: %(default)s)")
    add("--groups", help="NAME of the group ids, if the splits hold different groups")
    add(
        "--zeros-are-real",
        nargs="*",
        metavar="MODALITY",
        help="rows of zeros are measurements (of these sequences; default: of all)",
    )
    add("--seeds", type=positive, default=1, help="how many seeds to run")
    add("--seed", type=int, default=0, help="the first of them")
    add("--methods", nargs="+", default=(), choices=METHODS, help="those to run (default: all)")
    add("--again", nargs="+", default=(), choices=METHODS, help="forget their saved results")
    add("--quick", action="store_true", help="without the slow methods")
    add("--threads", type=positive, default=1, help="of PyTorch (default: 1)")
    add("--json", type=Path, metavar="OUT", help="file of the results; a run continues it")
    add(
        "--all",
        type=Path,
        metavar="FOLDER",
        help="digits and all known sets in FOLDER (see prepare); OUT is a folder then",
    )
    options = parser.parse_args(arguments)
    if options.targets and (unknown := set(options.targets) - set(options.modalities or STRIPS)):
        parser.error(f"--targets must be among the modalities, however: {sorted(unknown)}")
    if options.data != "digits" and len(options.modalities) < 2:
        parser.error("--data FILE.npz must come with --modalities, two or more names")
    if options.zeros_are_real == []:
        options.zeros_are_real = True
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        # Imported here, so that Ctrl-C is answered cleanly while PyTorch loads, too.
        from examples.benchmarks.imputation.experiment import run, run_all

        if options.all:
            run_all(options)
        else:
            run(options)
    except KeyboardInterrupt:
        print("Interrupted: what is finished is saved, if --json is given.")
        return INTERRUPTED
    except (FileNotFoundError, ValueError) as stop:
        print(stop)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
