"""The command line. Each command says what it needs and what it leaves behind."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

RUNS = Path("runs/mosi_sentiment")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Sentiment (or emotion) from text, audio and vision, where **audio is missing at test**
    and is reconstructed from text and vision: the model of arXiv 2401.10747.

    First steps, without any data: `reproduce --data synthetic`.

    With data: `prepare FILE --out FOLDER`, then `reproduce --data FOLDER` for the whole table,
    or `train FOLDER`, `evaluate RUN FOLDER` and `predict RUN FILE` for a single model. Every
    command can be interrupted, also by `kill -9`, and goes on when it is given again.""",
)

Data = Annotated[
    str,
    typer.Argument(
        help="A folder that `prepare` wrote, a file (it is prepared first), "
        "or `synthetic-dependent`, `synthetic-independent`."
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="Of PyTorch on the CPU.")]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Runs at a time. Default: 2 of a small set on a CPU, else 1."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, order and dropout.")]


@app.command()
def prepare(
    file: Annotated[Path, typer.Argument(help="MulT's or MMSA's .pkl, or an .npz.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    name: Annotated[str | None, typer.Option(help="What to call it. Default: the file.")] = None,
    aligned: Annotated[
        bool | None,
        typer.Option(help="Whether modalities share their steps. Default: if equally many."),
    ] = None,
) -> None:
    """Converts a file once, safely, and prints what is in it.

    A pickle can run any code when it is opened. Here it is read with an unpickler that knows
    arrays and plain containers only; anything else is refused by name.
    """
    from examples.mosi_sentiment.prepare import prepare as convert

    convert(file, out, name=name, aligned=aligned, console=Console())


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="The folder of the run.")] = RUNS / "train",
    comparator: Annotated[
        str,
        typer.Option(
            help="reconstruction (the paper), full, 'L+V only', 'text only', 'without text', "
            "'V only' or extension."
        ),
    ] = "reconstruction",
    preset: Annotated[
        str,
        typer.Option(
            help="Sizes and settings: {mosi,mosei,iemocap}-{aligned,unaligned} (MulT's), "
            "synthetic, utterances or sequences. Default: what fits the data."
        ),
    ] = "auto",
    seed: Seed = 1111,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Over all processes.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0)] = None,
    weight: Annotated[float | None, typer.Option(min=0, help="Of the consistency loss.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="Epochs without gain until it stops; 0: never.")
    ] = None,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    cpu: Annotated[bool, typer.Option(help="Not on a GPU, though there is one.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="Curves in RUN/tensorboard.")] = False,
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds between checkpoints; 0: each epoch.")
    ] = 30.0,
    threads: Threads = 1,
) -> None:
    """Trains one model and tests it.

    OUT holds config.json, model.safetensors, predictions.safetensors and metrics.json. With
    several GPUs or processes: `accelerate launch -m examples.mosi_sentiment train …`.
    """
    from examples.mosi_sentiment import progress, runs
    from examples.mosi_sentiment.presets import find, preset_for
    from examples.mosi_sentiment.report import metric_table

    torch.set_num_threads(threads)
    accelerator = runs.make_accelerator(mixed_precision, cpu)
    with accelerator.main_process_first():  # a file is prepared by one process
        opened = runs.open_data(data)
    chosen = preset_for(opened) if preset == "auto" else find(preset)
    changes: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight": weight,
        "patience": patience,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    kind = runs.comparator_of(comparator)
    _, config = runs.configure(chosen, kind, changes)
    main, console = accelerator.is_main_process, Console()
    steps = -(-len(opened.train) // config.batch_size)
    curves = out / "tensorboard" if tensorboard and main else None
    with (
        progress.tensorboard(curves) as to_tensorboard,
        progress.epochs(console, kind.name, steps, config.epochs, not main) as (on_step, on_epoch),
    ):
        metrics = runs.train(
            opened,
            kind,
            seed,
            out,
            accelerator,
            preset=chosen,
            training=changes,
            save_every=save_every,
            on_step=on_step,
            on_epoch=lambda record: (on_epoch(record), to_tensorboard(record)),
        )
    if main:
        console.print(metric_table(metrics["test"], f"{opened.name}, test, {chosen.name}"))
        console.print(f"Saved {out}")
    accelerator.end_training()


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    threads: Threads = 1,
) -> None:
    """Tests a trained model again, on any split of any prepared data of the same sizes."""
    from examples.mosi_sentiment import runs
    from examples.mosi_sentiment.evaluation import evaluate as compute, floors
    from examples.mosi_sentiment.report import metric_table

    torch.set_num_threads(threads)
    model, settings = runs.load_model(run)
    opened = runs.open_data(data)
    if split not in opened.parts:
        raise ValueError(f"--split must be one of {', '.join(opened.parts)}, however: {split}")
    part = opened.parts[split]
    runs.check_fits(model, opened)
    views = runs.comparator_of(settings["comparator"]).views
    metrics, _ = compute(model, opened, part, views)
    title = f"{opened.name}, {split}"
    Console().print(metric_table(metrics | floors(opened, part), title))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    file: Annotated[Path, typer.Argument(help="A .pkl, an .npz or a prepared folder.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv.")],
    split: Annotated[str, typer.Option(help="Which part of the file.")] = "test",
    threads: Threads = 1,
) -> None:
    """Predicts from text and vision alone. Audio is not read, and need not be in the file.

    An .npz needs no more than `test_text` and `test_vision`, `(N, L, D)`; a .pkl no more than
    these fields of one split. Labels are not read either.
    """
    from examples.mosi_sentiment import prediction, runs

    torch.set_num_threads(threads)
    model, _ = runs.load_model(run)
    rows = prediction.table(model, prediction.read(model, file, split))
    prediction.write_csv(out, rows)
    Console().print(f"Saved {len(rows)} predictions in {out}")


@app.command()
def ablate(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the runs and the table.")] = RUNS / "ablate",
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    seed: Seed = 1111,
    jobs: Jobs = None,
    threads: Threads = 1,
) -> None:
    """Trains the model with one part changed at a time, and writes a table of them all."""
    from examples.mosi_sentiment.ablation import run

    run(data, out, range(seed, seed + seeds), jobs, threads)


@app.command()
def reproduce(
    data: Annotated[
        str, typer.Option(help="`synthetic` for both planted sets; else as for `train`.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of runs, table and plots.")] = RUNS,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    seed: Seed = 1111,
    jobs: Jobs = None,
    threads: Threads = 1,
) -> None:
    """The whole table of a data set: all comparators, all seeds, intervals, plots.

    Trains what is not trained yet. Leaves table.md, report.json and plots in OUT.
    """
    from examples.mosi_sentiment.reproduce import run

    run(data, out, range(seed, seed + seeds), jobs, threads)
