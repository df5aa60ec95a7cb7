"""The same model with other settings: what the reconstruction has to be measured against."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALL = ("audio", "text", "vision")
OURS = "reconstruction"


@dataclass(frozen=True)
class View:
    """One way to test a trained model: what it is given, and what stands for what it lacks."""

    name: str
    available: tuple[str, ...]
    fill: str = "missing"  # or "zero", "mean"
    about: str = ""


@dataclass(frozen=True)
class Comparator:
    """One training: changes of the preset, and the views under which the result is tested."""

    name: str
    about: str
    views: tuple[View, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    planted: bool = True  # whether it is also run on the planted sets


L, V, LV = ("text",), ("vision",), ("text", "vision")
NOTHING: Mapping[str, Any] = {"reconstructs": ()}

COMPARATORS = {
    comparator.name: comparator
    for comparator in (
        Comparator(
            OURS,
            "text, vision and the audio reconstructed from them: the paper",
            (
                View(OURS, LV, about="audio missing, reconstructed"),
                View("reconstruction {l}", L, about="audio and vision missing"),
                View("reconstruction {v}", V, about="audio and text missing"),
            ),
        ),
        Comparator(
            "full",
            "text, vision and the real audio: the upper bound",
            (
                View("full", ALL, about="audio present"),
                View("full, zeros", LV, "zero", "audio missing, zeros in its place"),
                View("full, mean", LV, "mean", "audio missing, the training mean in its place"),
            ),
            {"reads": ALL, **NOTHING},
        ),
        Comparator(
            "L+V only",
            "text and vision, trained without any audio: what a reconstruction has to beat",
            (View("L+V only", LV, about="no audio, nor anything for it"),),
            {"reads": LV, **NOTHING},
        ),
        Comparator(
            "text only",
            "text alone",
            (View("text only", L, about="text alone"),),
            {"reads": L, **NOTHING},
        ),
        Comparator(
            "without text",
            "vision and the audio reconstructed from it",
            (View("without text", V, about="vision, and audio reconstructed from it"),),
            {"reads": V, "sources": V},
            planted=False,
        ),
        Comparator(
            "V only",
            "vision alone: what `without text` has to beat",
            (View("V only", V, about="vision alone"),),
            {"reads": V, **NOTHING},
            planted=False,
        ),
        Comparator(
            "extension",
            "beyond the paper: any modality may be missing; read where there, else reconstructed",
            (
                View("extension", ALL, about="nothing missing"),
                View("extension {l,v}", LV, about="audio missing"),
            ),
            {"reads": ALL, "reconstructs": ALL},
            {"hide": 0.5},
            planted=False,
        ),
    )
}
