"""Converts a file once to safetensors and a card that says what was in it and what was changed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table

from examples.mosi_sentiment.cleaning import NOT_FINITE, clean
from examples.mosi_sentiment.data import EMOTIONS, SPLITS, DataSet, Part, save_prepared
from examples.mosi_sentiment.layouts import Raw, Wanted, read

KNOWN = {  # as published with MMSA
    "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524": "MMSA MOSI unaligned_50",
    "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9": "MMSA MOSI aligned_50",
    "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f": "MMSA MOSEI unaligned_50",
    "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791": "MMSA MOSEI aligned_50",
}
DATA_SETS = ("mosei", "mosi", "iemocap")  # "mosei" in a name is not "mosi"


def prepare(
    path: Path,
    out: Path,
    *,
    name: str | None = None,
    aligned: bool | None = None,
    console: Console | None = None,
) -> DataSet:
    """Reads a file in any of the layouts, writes the folder ``out`` and prints its card.

    ``aligned``: step t of one modality belongs to step t of the others. Default: if all have the
    same number of steps.
    """
    path = Path(path)
    digest = checksum(path)
    raw = read(path)
    aligned = _aligned(raw, aligned)
    stepwise = raw.task == "regression" and raw.first.labels.shape[1] > 1
    if stepwise and not aligned:
        raise ValueError(f"{path} must be aligned, however: its labels are per step")
    parts, modalities = clean(raw, aligned)
    card = {
        "made": False,
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": digest,
        "known as": KNOWN.get(digest),
        "layout": raw.layout,
        "data set": _data_set(path, digest, raw.task),
        "counts": {split: len(part) for split, part in parts.items()},
        "labelled": {split: int(part.label_valid.sum()) for split, part in parts.items()},
        "labels": {split: histogram(part, raw.task) for split, part in parts.items()},
        "modalities": modalities,
        "changes": _changes(modalities),
    }
    data = DataSet(name or path.stem, raw.task, aligned, stepwise, **parts, card=card)
    save_prepared(Path(out), data)
    (console or Console()).print(show(data))
    return data


def read_part(
    path: Path,
    split: str = "test",
    *,
    modalities: tuple[str, ...] = ("text", "vision"),
    aligned: bool | None = None,
) -> Part:
    """Reads and cleans one split for prediction: the other modalities and labels are not read."""
    raw = read(Path(path), Wanted(modalities, (split,), labels=False))
    return clean(raw, _aligned(raw, aligned))[0][split]


def _aligned(raw: Raw, aligned: bool | None) -> bool:
    steps = {x.shape[1] for x in raw.first.arrays.values()}
    if aligned and len(steps) > 1:
        raise ValueError(f"{raw.path} must have one number of steps if aligned, however: {steps}")
    return len(steps) == 1 if aligned is None else aligned


def checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def histogram(part: Part, task: str) -> dict[str, int]:
    """How many labels round to each whole number, or how many samples have each emotion."""
    labels = part.labels[part.label_valid]
    if task == "emotions":
        counts = dict(zip(EMOTIONS, labels.sum(0).int().tolist(), strict=True))
        return counts | {"exactly one": int((labels.sum(1) == 1).sum())}
    whole = labels.flatten().round()
    return {f"{k:+d}" if k else "0": int((whole == k).sum()) for k in range(-3, 4)}


def _data_set(path: Path, digest: str, task: str) -> str | None:
    """Which of DATA_SETS it is, as far as names tell."""
    if task == "emotions":
        return "iemocap"
    for text in (KNOWN.get(digest, ""), path.name, path.absolute().parent.name):
        for name in DATA_SETS:
            if name in text.lower():
                return name
    return None


def _changes(modalities: Mapping[str, Any]) -> list[str]:
    """In words, and only what did happen."""
    changes = []
    for name, facts in modalities.items():
        total = {
            kind: sum(counts[kind] for counts in facts["splits"].values())
            for kind in (*NOT_FINITE, "beyond the length", "samples without")
        }
        found = ", ".join(f"{total[kind]} {kind}" for kind in NOT_FINITE if total[kind])
        if found:
            changes.append(f"{name}: {found} set to 0")
        if total["beyond the length"]:
            changes.append(f"{name}: {total['beyond the length']} values beyond the given length")
            changes[-1] += " set to 0"
        if total["samples without"]:
            changes.append(f"{name}: missing in {total['samples without']} samples")
    return changes


def show(data: DataSet) -> Group:
    """The card for the screen."""
    card = data.card
    facts = Table.grid(padding=(0, 2))
    kind = "aligned" if data.aligned else "unaligned"
    task = f"{data.task}, a label per step" if data.stepwise else data.task
    rows = {
        "data": f"{data.name}: {card['layout']} layout, {kind}, {task}",
        "data set": card["data set"] or "not known from the names of file and folder",
        "file": f"{card['file']}, {card['bytes']:,} bytes",
        "SHA-256": card["sha256"],
        "known as": card["known as"] or "not one of the sums that we know",
        "changed": "\n".join(card["changes"]) or "nothing",
    }
    for key, value in rows.items():
        facts.add_row(key, value)
    return Group(facts, _labels(card), _modalities(card))


def _labels(card: Mapping[str, Any]) -> Table:
    table = Table(title="Labels", title_justify="left")
    for column in ("split", "samples", "labels", *card["labels"]["train"]):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in SPLITS:
        cells = (card["counts"][split], card["labelled"][split], *card["labels"][split].values())
        table.add_row(split, *map(str, cells))
    return table


def _modalities(card: Mapping[str, Any]) -> Table:
    table = Table(title="Modalities (counts: train / valid / test)", title_justify="left")
    for column in ("", *card["modalities"]):
        table.add_column(column)
    columns = card["modalities"].values()
    for key in ("steps", "features", "padding", "valid from"):
        table.add_row(key, *(str(facts[key]) for facts in columns))
    table.add_row("constant columns", *(str(len(facts["constant columns"])) for facts in columns))
    for key in next(iter(columns))["splits"]["train"]:
        cells = (" / ".join(str(facts["splits"][s][key]) for s in SPLITS) for facts in columns)
        table.add_row(key, *cells)
    return table
