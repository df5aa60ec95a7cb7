"""The data sets of the results table: what prepare.py rebuilds, and how each one is read."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VIEWS = ("fourier", "karhunen", "morphology", "pixel", "profile", "zernike")


@dataclass(frozen=True)
class Set:
    """``signal``: the other modalities tell something of the missing one on unseen samples."""

    file: str | None
    signal: bool = True
    options: dict[str, Any] = field(default_factory=dict)


SETS = {
    "digits": Set(None),
    "mfeat": Set("mfeat_digits.npz", options={"modalities": VIEWS}),
    # Padding of audio is told by its lengths; a row of an image may well be blank.
    "av_digits": Set(
        "av_digits.npz", options={"modalities": ("audio", "image"), "zeros_are_real": ["image"]}
    ),
    "basic_motions": Set("basic_motions.npz", options={"modalities": ("acc", "gyro")}),
    # Text is a source only: its features were trained on the labels of these very videos.
    "mosi": Set(
        "cmu_mosi_utterances.npz",
        signal=False,
        options={
            "modalities": ("audio", "text", "vision"),
            "targets": ("audio", "vision"),
            "groups": "video",
        },
    ),
    "pom": Set("pom_sequences.npz", signal=False, options={"modalities": ("audio", "vision")}),
}


def found(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Returns the options of each set that is there, and the names of those that are not."""
    here, missing = {}, []
    for name, known in SETS.items():
        if known.file is not None and not (folder / known.file).exists():
            missing.append(name)
            continue
        data = "digits" if known.file is None else str(folder / known.file)
        here[name] = {"data": data, **known.options}
    return here, missing


def options_of(options: argparse.Namespace, name: str, own: dict[str, Any]) -> argparse.Namespace:
    """The options of one set: those of the command, and its own."""
    path = options.json / f"{name}.json" if options.json else None
    return argparse.Namespace(**(vars(options) | own | {"json": path}))
