"""One run: a model of one kind, one seed, one folder that ends with its metrics."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from safetensors.torch import load_file

from examples.mosi_sentiment.checkpoint import RunFolder, read_json
from examples.mosi_sentiment.comparators import COMPARATORS, Comparator
from examples.mosi_sentiment.config import ModelConfig, Shape, TrainingConfig
from examples.mosi_sentiment.data import CARD, DataSet, load_prepared
from examples.mosi_sentiment.evaluation import evaluate
from examples.mosi_sentiment.model import SentimentModel
from examples.mosi_sentiment.presets import Preset, preset_for, shape_of
from examples.mosi_sentiment.training import Record, fit

PLANTED = "synthetic-"


def open_data(name: str) -> DataSet:
    """``synthetic-NAME``, a folder that ``prepare`` wrote, or a file, which is prepared once.

    ``synthetic-NAME@SEED`` is another draw from the same generator.
    """
    from examples.mosi_sentiment.synthetic import NAMES, make

    if name.startswith(PLANTED):
        planted, _, seed = name.removeprefix(PLANTED).partition("@")
        if planted not in NAMES or not (seed or "0").isdecimal():
            rule = f"a planted set must be one of {', '.join(PLANTED + n for n in NAMES)}"
            raise ValueError(f"{rule} (or NAME@SEED), however: {name}")
        return replace(make(planted, int(seed or 0)), name=name)
    path = Path(name)
    if path.is_file():
        from examples.mosi_sentiment.prepare import prepare

        stat = path.stat()
        version = f"{path.stem}-{stat.st_size}-{stat.st_mtime_ns}"
        folder = Path("runs/mosi_sentiment/prepared") / version
        return load_prepared(folder) if (folder / CARD).is_file() else prepare(path, folder)
    if not path.exists():
        rule = "data must be a folder that `prepare` wrote, a file, or synthetic-NAME"
        raise FileNotFoundError(f"{rule}, however: there is no {name}")
    return load_prepared(path)


def make_accelerator(mixed_precision: str = "no", cpu: bool = False) -> Accelerator:
    cpu = cpu or not torch.accelerator.is_available()
    handlers = [DistributedDataParallelKwargs()]
    return Accelerator(mixed_precision=mixed_precision, cpu=cpu, kwargs_handlers=handlers)


def configure(
    preset: Preset, comparator: Comparator, training: dict[str, Any] | None = None
) -> tuple[ModelConfig, TrainingConfig]:
    """The preset with the changes of a comparator, and with those of the user."""
    model = replace(preset.model, **comparator.model)
    config = replace(preset.training, **{**(training or {}), **comparator.training})
    if not model.reconstructs and config.translate_first:  # it has nothing to translate
        epochs = config.epochs - config.translate_first
        config = replace(config, epochs=epochs, translate_first=0)
    return model, config


def train(
    data: DataSet,
    comparator: Comparator,
    seed: int,
    path: Path,
    accelerator: Accelerator,
    *,
    preset: Preset | None = None,
    training: dict[str, Any] | None = None,
    save_every: float = 30.0,
    on_step: Callable[[], object] = lambda: None,
    on_epoch: Callable[[Record], object] = lambda _: None,
) -> dict[str, Any]:
    """Trains, tests and saves; a run that is finished is only read."""
    preset = preset or preset_for(data)
    if accelerator.ddp_handler is not None:
        # With a label per step nothing is pooled: the vectors for a missing slot are never used.
        accelerator.ddp_handler.find_unused_parameters = data.stepwise
    model_config, config = configure(preset, comparator, training)
    shape = shape_of(data)
    settings = {
        "data": {"name": data.name, "sha256": data.card.get("sha256"), "shape": asdict(shape)},
        "preset": preset.name,
        "comparator": comparator.name,
        "model": asdict(model_config),
        "training": asdict(config),
        "seed": seed,
        "mixed_precision": accelerator.mixed_precision,
    }
    folder = RunFolder(path, settings, writes=accelerator.is_main_process)
    accelerator.wait_for_everyone()
    if folder.finished:
        return read_json(path / "metrics.json")
    torch.manual_seed(seed)
    model = SentimentModel(shape, model_config)
    model.normalizer.fit([(data.train.modalities, data.train.valid)])
    model.to(accelerator.device)
    history = fit(
        model,
        data,
        config,
        seed,
        folder,
        accelerator,
        save_every=save_every,
        on_step=on_step,
        on_epoch=on_epoch,
    )
    metrics: dict[str, Any] = {}
    if accelerator.is_main_process:
        results, predictions = evaluate(model, data, data.test, comparator.views)
        metrics = {
            "parameters": sum(x.numel() for x in model.parameters()),
            "test": results,
            "history": history,
        }
        folder.finish(metrics, model=model.state_dict(), predictions=predictions)
    accelerator.wait_for_everyone()
    return metrics


def load_model(path: Path) -> tuple[SentimentModel, dict[str, Any]]:
    """A finished run's model in eval mode, and its settings."""
    if not (path / "metrics.json").is_file():
        rule = f"{path} must be the folder of a finished run"
        raise ValueError(f"{rule}, however: there is no metrics.json in it")
    settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["model"].items()}
    model = SentimentModel(Shape(**settings["data"]["shape"]), ModelConfig(**options))
    model.load_state_dict(load_file(path / "model.safetensors"))
    return model.eval(), settings


def comparator_of(name: str) -> Comparator:
    if name not in COMPARATORS:
        rule = f"a comparator must be one of {', '.join(COMPARATORS)}"
        raise ValueError(f"{rule}, however: {name}")
    return COMPARATORS[name]


def check_fits(model: SentimentModel, data: DataSet) -> None:
    """The checkpoint must be of data of the same sizes; another length of padding would not do."""
    found = shape_of(data)
    if model.shape != found:
        raise ValueError(f"the data must be as in training, {model.shape}, however: {found}")
