"""The prepared data: what ``prepare`` writes, and what training and evaluation read."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

MODALITIES = ("audio", "text", "vision")
SPLITS = ("train", "valid", "test")
TASKS = {"regression": 1, "emotions": 4}  # how many labels there are per sample or step
EMOTIONS = ("neutral", "happy", "sad", "angry")  # in the order of MulT's files
TENSORS, CARD = "data.safetensors", "card.json"


@dataclass(frozen=True)
class Part:
    """The samples of one split. What is not valid is zero.

    ``S``, the number of labels per sample, is 1, or the number of steps if each has its own.
    Regression has ``K = 1`` label in [-3, 3], emotions have ``K = 4`` labels 0 or 1.
    """

    modalities: dict[str, Tensor]  # (N, L, D), float32 and finite
    valid: dict[str, Tensor]  # (N, L), bool
    labels: Tensor  # (N, S, K), float32
    label_valid: Tensor  # (N, S), bool; False: padding, or there is no label
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, index: Any) -> "Part":
        """Some of the samples, by whatever indexes a tensor: a slice, numbers or bools."""
        rows = torch.arange(len(self))[index]
        on = rows.to(self.labels.device)
        modalities, valid = ({n: x[on] for n, x in g.items()} for g in self._groups())
        ids = [self.ids[i] for i in rows.tolist()]
        return Part(modalities, valid, self.labels[on], self.label_valid[on], ids)

    def to(self, device: torch.device | str) -> "Part":
        modalities, valid = ({n: x.to(device) for n, x in g.items()} for g in self._groups())
        return Part(
            modalities, valid, self.labels.to(device), self.label_valid.to(device), self.ids
        )

    def _groups(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.modalities, self.valid


@dataclass(frozen=True)
class DataSet:
    """``aligned``: step t of one modality belongs to step t of the others.

    ``stepwise``: each step has a label of its own, as an utterance of a video.
    """

    name: str
    task: str  # a key of TASKS
    aligned: bool
    stepwise: bool
    train: Part
    valid: Part
    test: Part
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Part]:
        return {split: getattr(self, split) for split in SPLITS}

    @property
    def dims(self) -> dict[str, int]:
        return {name: x.shape[-1] for name, x in sorted(self.train.modalities.items())}

    @property
    def lengths(self) -> dict[str, int]:
        """The padded lengths."""
        return {name: x.shape[1] for name, x in sorted(self.train.modalities.items())}


def save_prepared(folder: Path, data: DataSet) -> None:
    """Writes the tensors, then the card: a folder with a card is a folder that is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    part = folder / f"{TENSORS}.part"
    ids = {split: p.ids for split, p in data.parts.items()}
    save_file(_flat(data.parts), part, metadata={"ids": json.dumps(ids)})
    os.replace(part, folder / TENSORS)
    facts = {key: getattr(data, key) for key in ("name", "task", "aligned", "stepwise")}
    part = folder / f"{CARD}.part"
    content = json.dumps(facts | data.card, indent=2, allow_nan=False)
    part.write_text(content + "\n", encoding="utf-8")
    os.replace(part, folder / CARD)


def load_prepared(folder: Path) -> DataSet:
    """Reads a folder that ``prepare`` wrote."""
    folder = Path(folder)
    if not (folder / CARD).is_file():
        rule = f"{folder} must be a folder that `prepare` wrote"
        raise ValueError(f"{rule}, however: there is no {CARD} in it")
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    with safe_open(folder / TENSORS, framework="pt") as file:
        ids = json.loads(file.metadata()["ids"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, no mapping
    parts = {split: _part(split, tensors, ids[split]) for split in SPLITS}
    facts = {key: card[key] for key in ("name", "task", "aligned", "stepwise")}
    return DataSet(**facts, **parts, card=card)


def _flat(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    return {
        f"{split}/{key}": tensor.contiguous()
        for split, part in parts.items()
        for key, tensor in _tensors(part)
    }


def _tensors(part: Part) -> Iterator[tuple[str, Tensor]]:
    yield from ((f"modalities/{name}", x) for name, x in part.modalities.items())
    yield from ((f"valid/{name}", x) for name, x in part.valid.items())
    yield from (("labels", part.labels), ("label_valid", part.label_valid))


def _part(split: str, tensors: Mapping[str, Tensor], ids: list[str]) -> Part:
    groups = [
        {name: tensors[f"{split}/{group}/{name}"] for name in MODALITIES}
        for group in ("modalities", "valid")
    ]
    return Part(*groups, tensors[f"{split}/labels"], tensors[f"{split}/label_valid"], ids)
