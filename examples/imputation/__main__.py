"""python -m examples.imputation: fill in missing modalities and gaps, and see what it is worth."""

import argparse
import sys
from pathlib import Path

INTERRUPTED = 130  # what shells report for Ctrl-C
NAMES = ("digits", "mfeat", "basic_motions", "av_digits", "pom")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, however: {value}")
    return value


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.imputation", description=__doc__)
    add = parser.add_argument
    add(
        "--data",
        default="digits",
        help=f"one of {', '.join(NAMES)}; or FILE.npz, with --modalities (default: %(default)s)",
    )
    add("--folder", type=Path, default=Path("data"), help="where the files of --data lie")
    add("--modalities", nargs="+", default=(), help="their names in FILE.npz: train_NAME, ...")
    add("--seeds", type=positive, default=1, help="how many seeds to run")
    add("--seed", type=int, default=0, help="the first of them")
    add("--out", type=Path, default=Path("runs/imputation"), help="folder of report and pictures")
    add("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    add("--threads", type=positive, default=1, help="of PyTorch (default: 1)")
    add("--quick", action="store_true", help="a few steps, to see that it works")
    add(
        "--validation",
        action="store_true",
        help="report on the validation samples and leave the test samples alone",
    )
    options = parser.parse_args(arguments)
    if options.data not in NAMES and not options.data.endswith(".npz"):
        rule = f"--data must be one of {', '.join(NAMES)}, or a file that ends in .npz"
        parser.error(f"{rule}, however: {options.data}")
    if options.data.endswith(".npz") and len(options.modalities) < 2:
        parser.error("--data FILE.npz must come with --modalities, two or more names")
    options.data_name = Path(options.data).stem
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        # Imported here, so that Ctrl-C is answered cleanly while PyTorch loads, too.
        from examples.imputation.experiment import run

        run(options)
    except KeyboardInterrupt:
        print("Interrupted: the seeds that are finished are saved.")
        return INTERRUPTED
    except FileNotFoundError as error:
        print(f"{error.filename} must exist (see --folder), however: there is no such file")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
