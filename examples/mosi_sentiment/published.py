"""Numbers that others have published, each with its source and what it is comparable with."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    who: str
    metrics: dict[str, float]  # in the unit of the source: percent, but for MAE and Corr
    source: str
    note: str = ""


PAPER = "wizwand.com/paper/68fa76ff1e209131cea705dc; no more of its numbers could be found"
MULT = "MulT's own table, as quoted by later papers and in its repository (issues #7, #8)"
CYIN = "CyIN, Table 7: re-runs by its authors, BERT text and ImageBind audio and vision"
MMSA = "MMSA, results/result-stat.md"
GLOVE = "GloVe, COVAREP, FACET: the features of MulT's files; split 1284/229/686"
BERT = "BERT text: not comparable with MulT's files"

PUBLISHED: dict[str, tuple[Row, ...]] = {
    "mosi-aligned": (
        Row("the paper, audio missing", {"Acc-7": 39.7}, PAPER, GLOVE),
        Row(
            "MulT, audio present",
            {"Acc-7": 40.0, "Acc-2 non0": 83.0, "legacy F1": 82.8, "MAE": 0.871, "Corr": 0.698},
            MULT,
            GLOVE,
        ),
        Row(
            "MMIN {l,v}", {"Acc-7": 42.3, "F1 non0": 85.0, "MAE": 0.742, "Corr": 0.791}, CYIN, BERT
        ),
        Row(
            "IMDer {l,v}",
            {"Acc-7": 45.8, "F1 non0": 85.1, "MAE": 0.701, "Corr": 0.799},
            CYIN,
            BERT,
        ),
    ),
    "mosi-unaligned": (
        Row("the paper, audio missing", {"Acc-7": 39.3}, PAPER, GLOVE),
        Row(
            "MulT in MMSA, audio present",
            {
                "Acc-2 has0": 79.71,
                "Acc-2 non0": 80.98,
                "F1 has0": 79.63,
                "F1 non0": 80.95,
                "Acc-5": 42.68,
                "Acc-7": 36.91,
                "MAE": 0.8799,
                "Corr": 0.7022,
            },
            MMSA,
            BERT,
        ),
    ),
    "mosei-aligned": (
        Row("the paper, audio missing", {"Acc-7": 51.1}, PAPER, "features of MulT's files"),
        Row(
            "MulT, audio present",
            {"Acc-2 non0": 82.5, "legacy F1": 82.3, "MAE": 0.58},
            "wizwand.com/paper/68fa65d61e209131cea0c91f",
            "whether aligned is not stated there; it fits",
        ),
    ),
    "mosei-unaligned": (
        Row("the paper, audio missing", {"Acc-7": 49.7}, PAPER, "features of MulT's files"),
        Row(
            "MulT, audio present",
            {"Acc-7": 50.7, "Acc-2 non0": 81.6, "legacy F1": 81.6, "MAE": 0.591, "Corr": 0.694},
            MULT,
            "features of MulT's files",
        ),
    ),
    "iemocap-aligned": (
        Row("the paper, audio missing", {"happy Acc": 90.3}, PAPER, "split 2717/798/938"),
    ),
    "iemocap-unaligned": (
        Row(
            "the paper, audio missing",
            {"happy Acc": 84.8},
            PAPER,
            "below the constant that never says happy, 85.6",
        ),
    ),
}

# Without the features and the split of the files that the numbers are about, nothing compares.
NOT_COMPARABLE = {
    "synthetic": "These data are made. Nothing here is comparable with any published number.",
    "npz": (
        "Not comparable with the paper, MulT or any published table, whose features and split are "
        "others."
    ),
    "MulT": (
        "The paper's other numbers could not be found; those with BERT text are from other "
        "features. MulT's F1 is the legacy one."
    ),
    "MMSA": "BERT text: comparable with MMSA's rows, not with the paper's nor with MulT's.",
}
BC_LSTM = (
    "Text: features of a CNN trained on the labels of train *and* validation; audio: openSMILE; "
    "vision: a 3D-CNN. The split is by video, 1252/195/752 utterances, not 1284/229/686."
)
ABOUT = {  # by the checksum of the file
    "ebd7af33cb3152239100d0cfaab9d01e367469145f3ee5299efee063fbfd5b96": BC_LSTM,
    "4035c16264a7dec6a19777b21ede10c9dce57c665de98d0693c9c5f0f63e500e": BC_LSTM,
}
FIXED = (
    "Nothing is selected on validation: settings and number of epochs were fixed beforehand, and "
    "the last weights are used."
)


def notes(card: dict[str, Any], select: str) -> list[str]:
    """What the table is not comparable with, and how its models were chosen."""
    kind = "synthetic" if card.get("made") else card.get("layout", "npz")
    found = [NOT_COMPARABLE[kind], ABOUT.get(card.get("sha256", ""), "")]
    return [note for note in (*found, FIXED if select == "last" else "") if note]
