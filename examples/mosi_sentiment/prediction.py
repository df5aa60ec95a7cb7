"""A trained model on new files, whose audio may be absent: a table of predictions."""

import csv
import io
import os
from pathlib import Path

from examples.mosi_sentiment.comparators import LV, View
from examples.mosi_sentiment.data import EMOTIONS, Part, load_prepared
from examples.mosi_sentiment.evaluation import predict
from examples.mosi_sentiment.model import SentimentModel
from examples.mosi_sentiment.prepare import read_part


def needs(model: SentimentModel) -> tuple[str, ...]:
    """What a file must have: what the model reads and cannot reconstruct."""
    config = model.config
    return tuple(n for n in config.reads if n not in config.reconstructs) or LV


def read(model: SentimentModel, path: Path, split: str) -> Part:
    """One split of a prepared folder or of a file, which needs neither audio nor labels."""
    names, shape = needs(model), model.shape
    if path.is_dir():
        parts = load_prepared(path).parts
        if split not in parts:
            raise ValueError(f"--split must be one of {', '.join(parts)}, however: {split}")
        part = parts[split]
    else:
        part = read_part(path, split, modalities=names, aligned=shape.aligned)
    for name in names:
        expected, found = (shape.lengths[name], shape.dims[name]), part.modalities[name].shape[1:]
        if tuple(found) != expected:
            rule = (
                f"{name} must have {expected[0]} steps of {expected[1]} features, as in training"
            )
            raise ValueError(f"{rule}, however: {path} has {found[0]} of {found[1]}")
    return part


def table(model: SentimentModel, part: Part) -> list[dict[str, object]]:
    """One row per sample, or per step that has something to read."""
    available = needs(model)
    values, _ = predict(model, part, View("prediction", available))
    rows: list[dict[str, object]] = []
    for i, name in enumerate(part.ids):
        for step in range(values.shape[1]):
            if model.shape.stepwise and not any(part.valid[n][i, step] for n in available):
                continue
            row: dict[str, object] = {"id": name}
            if model.shape.stepwise:
                row["step"] = step
            if model.shape.task == "emotions":
                chances = values[i, step].softmax(-1)[:, 1].tolist()
                row |= {e: round(c, 6) for e, c in zip(EMOTIONS, chances, strict=True)}
            else:
                row["sentiment"] = round(values[i, step, 0].item(), 6)
            rows.append(row)
    return rows


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["id"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    part = path.with_name(path.name + ".part")
    part.write_text(text.getvalue(), encoding="utf-8")
    os.replace(part, path)
