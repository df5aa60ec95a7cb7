"""The folder of a run: everything is written beside its place first, then moved there."""

import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import modimpute

State = Mapping[str, Tensor]


def versions() -> dict[str, str]:
    import accelerate

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerate": accelerate.__version__,
        "modimpute": modimpute.__version__,
    }


def write_json(path: Path, content: Any) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_tensors(path: Path, tensors: State) -> None:
    part = path.with_name(path.name + ".part")
    save_file({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, part)
    os.replace(part, path)


class RunFolder:
    """One training run: what it was asked for, where it stands, what came out.

    ``config.json`` is written first, ``metrics.json`` last: a folder with the latter is finished.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], writes: bool = True) -> None:
        """``writes``: whether this process is the one that writes."""
        self.path, self.writes = path, writes
        self.checkpoints = path / "checkpoints"
        config = json.loads(json.dumps(config))  # tuples become lists, as in the file
        file = path / "config.json"
        if file.exists():
            old = read_json(file)
            changed = [key for key in config if old.get(key) != config[key]]
            if changed:
                rule = f"{path} must be a new folder, or one of the same run"
                key = changed[0]
                raise ValueError(f"{rule}, however: {key} was {old.get(key)}, is {config[key]}")
        elif writes:
            path.mkdir(parents=True, exist_ok=True)
            write_json(file, {**config, "versions": versions()})

    @property
    def finished(self) -> bool:
        return (self.path / "metrics.json").exists()

    def save(self, epoch: int, model: State, best: State, state: Any, progress: Any) -> None:
        """Keeps all that a run needs to go on after ``epoch``; the older checkpoint then goes."""
        if not self.writes:
            return
        self.checkpoints.mkdir(exist_ok=True)
        folder = self.checkpoints / f"{epoch:05d}"
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # a kill left it
        part.mkdir()
        write_tensors(part / "model.safetensors", model)
        write_tensors(part / "best.safetensors", best)
        torch.save(state, part / "state.pt")
        write_json(part / "progress.json", progress)
        for file in part.iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        os.rename(part, folder)  # one step: the checkpoint is there as a whole, or not at all
        for other in self.checkpoints.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)

    def load(self) -> tuple[State, State, Any, Any] | None:
        """Returns what the last ``save`` was given (without ``epoch``); ``None``: nothing yet."""
        done = sorted(self.checkpoints.glob("[0-9]" * 5)) if self.checkpoints.is_dir() else []
        if not done:
            return None
        folder = done[-1]
        return (
            load_file(folder / "model.safetensors"),
            load_file(folder / "best.safetensors"),
            torch.load(folder / "state.pt", weights_only=True, map_location="cpu"),
            read_json(folder / "progress.json"),
        )

    def finish(self, metrics: Any, **files: State) -> None:
        """Writes the results and then, as the last thing, the metrics; checkpoints go."""
        if not self.writes:
            return
        for name, tensors in files.items():
            write_tensors(self.path / f"{name}.safetensors", tensors)
        write_json(self.path / "metrics.json", metrics)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
