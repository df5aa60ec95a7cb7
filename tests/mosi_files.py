"""Small files in the layouts that examples.mosi_sentiment reads, made from a seed."""

import io
import pickle
from pathlib import Path

import numpy as np

COUNTS = {"train": 12, "valid": 6, "test": 8}
DIMS = {"audio": 5, "text": 16, "vision": 20}
STEPS = {"audio": 9, "text": 5, "vision": 7}  # unaligned; aligned ones have 6
ALIGNED_STEPS = 6
MULT = (
    "mosi_data.pkl",
    "mosi_data_noalign.pkl",
    "mosei_senti_data.pkl",
    "mosei_senti_data_noalign.pkl",
    "iemocap_data.pkl",
    "iemocap_data_noalign.pkl",
)
MMSA = ("aligned_50.pkl", "unaligned_50.pkl")
NPZ = ("utterances.npz", "sequences.npz")
NAMES = (*MULT, *MMSA, *NPZ)


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 writes it: strings and bytes are both byte strings."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, text):
        raw = text.encode("latin1") if isinstance(text, str) else text
        small = len(raw) < 256
        size = len(raw).to_bytes(1 if small else 4, "little")
        self.write((pickle.SHORT_BINSTRING if small else pickle.BINSTRING) + size + raw)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, obj, name=None):
        names = {np.ndarray: "numpy\nndarray", np.dtype: "numpy\ndtype"}
        module = "numpy.core.multiarray\n"
        text = names.get(obj) or module + (name or obj.__name__)
        self.write(pickle.GLOBAL + text.encode() + b"\n")
        self.memoize(obj)

    dispatch[type] = dispatch[type(len)] = dispatch[type(np.cumsum)] = save_global


def dump_python2(content) -> bytes:
    out = io.BytesIO()
    Python2Pickler(out, protocol=2).dump(content)
    return out.getvalue()


def make_file(folder: Path, name: str, seed: int = 0) -> Path:
    """Writes one of NAMES."""
    rng = np.random.default_rng([seed, NAMES.index(name)])
    path = folder / name
    if name in NPZ:
        np.savez(path, **arrays(name, rng))
    elif name in MMSA:
        path.write_bytes(pickle.dumps(mmsa(name, rng), protocol=4))
    else:
        path.write_bytes(dump_python2(mult(name, rng)))
    return path


def mult(name: str, rng: np.random.Generator) -> dict:
    """Left-padded float32; -inf in audio; a sample without vision in each split."""
    return {split: _mult_split(name, split, n, rng) for split, n in COUNTS.items()}


def _mult_split(name, split, count, rng):
    fields = features(count, "noalign" not in name, "left", rng)
    fields["audio"][1, -1, 2] = fields["audio"][2, -1, 3] = -np.inf
    fields["vision"][3] = 0.0
    if name.startswith("iemocap"):
        yes = np.eye(4, dtype=np.int64)[rng.integers(0, 4, count)]
        return fields | {"labels": np.stack([1 - yes, yes], -1)}
    labels = sentiment(count, rng)[:, None, None]
    ids = [(f"{split}_video{i}".encode(), b"%.3f" % i, b"%.3f" % (i + 1)) for i in range(count)]
    return fields | {"labels": labels, "id": np.array(ids)}


def mmsa(name: str, rng: np.random.Generator) -> dict:
    """Right-padded, with the mask of the text's tokens and, if unaligned, lengths."""
    return {split: _mmsa_split(name, split, n, rng) for split, n in COUNTS.items()}


def _mmsa_split(name, split, count, rng):
    aligned = name.startswith("aligned")
    lengths = {}
    fields = features(count, aligned, "right", rng, lengths)
    fields["audio"][1, 0, 2] = -np.inf
    text = lengths["text"]
    fields["text"] = rng.normal(0, 0.5, fields["text"].shape).astype(np.float32)  # also padding
    mask = (np.arange(fields["text"].shape[1]) < text[:, None]).astype(np.float32)
    fields["text_bert"] = np.stack([mask * 101, mask, 0 * mask], 1)
    if not aligned:
        fields["audio_lengths"] = lengths["audio"].tolist()
        fields["vision_lengths"] = lengths["vision"].tolist()
    labels = sentiment(count, rng)
    return fields | {
        "raw_text": np.array([f"sentence {i}" for i in range(count)], dtype=object),
        "id": [f"{split}video$_${i}" for i in range(count)],
        "annotations": ["Positive" if x > 0 else "Negative" for x in labels],
        "classification_labels": np.sign(labels) + 1,
        "regression_labels": labels,
    }


def arrays(name: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """As .npz: vectors of utterances, or right-padded sequences of them with labels per step."""
    out = {}
    for split, count in COUNTS.items():
        lengths = {}
        fields = features(count, True, "right", rng, lengths)
        labels = np.stack([sentiment(count, rng) for _ in range(ALIGNED_STEPS)], 1)
        if name == "utterances.npz":
            fields = {n: x[:, 0] for n, x in fields.items()}
            labels = labels[:, 0]
        else:
            fields["lengths"] = lengths["text"].astype(np.int32)
            labels[np.arange(ALIGNED_STEPS) >= lengths["text"][:, None]] = 0.0
        fields |= {"labels": labels, "ids": np.array([f"{split}{i}" for i in range(count)])}
        out |= {f"{split}_{key}": x for key, x in fields.items()}
    return out


def features(count, aligned, side, rng, lengths=None):
    """Values as those of GloVe, COVAREP (pitch, voicing, ...) and FACET, padded with zeros."""
    scales = np.array([150.0, 1.0, 0.3, 8.0, 2.0])
    values = {
        "text": lambda *size: rng.normal(0, 0.4, size),
        "audio": lambda *size: scales * rng.normal(0.5, 1.0, size),
        "vision": lambda *size: rng.gamma(1.0, 0.8, size),
    }
    lengths = {} if lengths is None else lengths
    fields = {}
    for name, draw in values.items():
        steps = ALIGNED_STEPS if aligned else STEPS[name]
        if not aligned or not lengths:
            own = rng.integers(3, steps + 1, count)
            own[0] = 3  # there is some padding
        lengths[name] = own
        there = np.arange(steps) < own[:, None]
        there = there[:, ::-1] if side == "left" else there
        x = draw(count, steps, DIMS[name]).astype(np.float32)
        fields[name] = np.where(there[..., None], x, np.float32(0))
    return fields


def sentiment(count: int, rng: np.random.Generator) -> np.ndarray:
    """Means of some whole numbers, as annotators give them; 0 is common."""
    return (
        np.round(rng.integers(-3, 4, (count, 5)).mean(1) * 1.5, 1).clip(-3, 3).astype(np.float32)
    )
