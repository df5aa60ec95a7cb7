"""Two planted sets, made and labelled as made: what can be recovered is known.

Text and vision are smooth Gaussian sequences :math:`x_t, z_t` of 8 features. Of two such sequences

.. math:: g(x, z) = W \\, (s(x_1) s(x_2), \\; s(z_1) s(z_2), \\; s(x_3) s(z_3)),
          \\qquad s(u) = \\tanh(2u),

in turned coordinates. Audio is :math:`g + \\text{noise}`: a third of it text knows alone, a third
vision alone, and a third only both together. The label is a line through the mean of audio over
the steps (half of its variance), a line through the mean of text (a tenth), and noise (the rest,
so that the best possible correlation, 0.77, is about that of the best models on CMU-MOSI).

- ``dependent``: audio comes from the text and vision of the same sample.
- ``independent``: audio comes from text and vision of another sample, which nobody sees. So each
  modality looks as in the other set, and neither text nor vision tells anything about audio.

Why labels alone do not teach g: no product is correlated with a single feature, and a quadratic
function of 16 features has 136 coefficients, however: there are 100 labels. Triples without a
label are 19 times as many, and each has some 10 steps of audio to learn from.

With audio the label needs a line of 6 + 8 coefficients, for which 100 labels are enough.
"""

import torch
from torch import Tensor

from examples.mosi_sentiment.data import DataSet, Part

NAMES = ("dependent", "independent")
COUNTS = {"train": 2000, "valid": 200, "test": 1000}
LABELLED = 100  # of train
DIMS = {"audio": 6, "text": 8, "vision": 8}
LENGTH, SHORTEST = 12, 8  # padded on the left, as MulT's files are
MEMORY = 0.8  # correlation of one step's features with those of the next
NOISE = 0.1  # share of audio's variance: R² of g is 0.9 at best, of a single step
SHARES = {"audio": 0.5, "text": 0.1, "noise": 0.4}  # of the label's variance, which is 1
CONSTANTS = 240110747  # seed of what is the same in both sets and for every seed


def make(name: str, seed: int = 0) -> DataSet:
    """Draws one of NAMES; the seed draws the samples, and g and the lines stay the same."""
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, however: {name}")
    constants = _constants()
    generator = torch.Generator().manual_seed(10 * seed + NAMES.index(name))
    draws = {
        split: _draw(count, name == "dependent", constants, generator, split)
        for split, count in COUNTS.items()
    }
    parts = {split: part for split, (part, _) in draws.items()}
    card = {
        "made": True,
        "layout": "synthetic",
        "seed": seed,
        "counts": COUNTS,
        "labelled": {split: int(part.label_valid.sum()) for split, part in parts.items()},
        "floors": draws["test"][1],
    }
    return DataSet(f"synthetic-{name}", "regression", True, False, **parts, card=card)


def _constants() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(CONSTANTS)

    def rotation(size: int) -> Tensor:
        return torch.linalg.qr(torch.randn(size, size, generator=generator))[0]

    constants = {"text": rotation(DIMS["text"]), "vision": rotation(DIMS["vision"])}
    constants["audio"] = rotation(DIMS["audio"])[:3]  # orthonormal rows: no product gets lost
    line = torch.randn(DIMS["text"], generator=generator)
    constants["line"] = line / line.norm()
    # The scales that make variances what SHARES says, measured once on many samples.
    x, z, valid = _smooth(20000, generator)
    products = _products(x, z, constants)
    constants["step"] = products[valid].std(0)
    constants["audio mean"] = _mean(products / constants["step"], valid).sum(-1).std()
    constants["text mean"] = _mean(x @ constants["line"].unsqueeze(-1), valid).std()
    return constants


def _draw(
    count: int,
    dependent: bool,
    constants: dict[str, Tensor],
    generator: torch.Generator,
    split: str,
) -> tuple[Part, dict[str, float]]:
    x, z, valid = _smooth(count, generator)
    hidden = (x, z) if dependent else _smooth(count, generator)[:2]
    clean = _products(*hidden, constants) / constants["step"] @ constants["audio"]
    # The rows of W are orthonormal: the variance of all features together is 3.
    scale = (3 / DIMS["audio"] * NOISE / (1 - NOISE)) ** 0.5
    audio = clean + scale * torch.randn(clean.shape, generator=generator)
    readout = constants["audio"].sum(0, keepdim=True).T  # reads the sum of the three products
    terms = {
        "audio": _mean(audio @ readout, valid).squeeze(-1) / constants["audio mean"],
        "text": _mean(x @ constants["line"].unsqueeze(-1), valid).squeeze(-1)
        / constants["text mean"],
        "noise": torch.randn(count, generator=generator),
    }
    terms = {name: SHARES[name] ** 0.5 * term for name, term in terms.items()}
    labels = sum(terms.values()).clamp(-3, 3)
    known = SHARES["audio"] ** 0.5 * _mean(clean @ readout, valid).squeeze(-1)
    known = known / constants["audio mean"]
    label_valid = torch.ones(count, 1, dtype=torch.bool)
    if split == "train":
        label_valid[LABELLED:] = False  # the samples are in no order
    keep = valid.unsqueeze(-1)
    modalities = {"audio": audio, "text": x, "vision": z}
    part = Part(
        {name: torch.where(keep, values, 0.0) for name, values in modalities.items()},
        {name: valid.clone() for name in modalities},
        torch.where(label_valid, labels.unsqueeze(-1), 0.0).unsqueeze(-1),
        label_valid,
        [f"{split}-{i}" for i in range(count)],
    )
    return part, _floors(labels, terms, known, dependent, audio[valid], clean[valid])


def _floors(
    labels: Tensor,
    terms: dict[str, Tensor],
    known: Tensor,
    dependent: bool,
    audio: Tensor,
    clean: Tensor,
) -> dict[str, float]:
    """MAE of whoever knows the generator, by what else there is; and R² of g on audio's steps."""
    guesses = {
        "MAE with audio": terms["audio"] + terms["text"],
        "MAE without audio": terms["text"] + (known if dependent else 0.0),
        "MAE with text's line": terms["text"],
        "MAE of zero": torch.zeros_like(labels),
    }
    floors = {name: (labels - guess).abs().mean().item() for name, guess in guesses.items()}
    error = (audio - clean).square().sum() / (audio - audio.mean(0)).square().sum()
    return floors | {"R² of audio": 1 - error.item() if dependent else 0.0}


def _smooth(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Text, vision, and the steps that are valid: the last ones."""
    features = []
    for name in ("text", "vision"):
        noise = torch.randn(count, LENGTH, DIMS[name], generator=generator)
        steps = [noise[:, 0]]
        for t in range(1, LENGTH):
            steps.append(MEMORY * steps[-1] + (1 - MEMORY**2) ** 0.5 * noise[:, t])
        features.append(torch.stack(steps, 1))
    lengths = torch.randint(SHORTEST, LENGTH + 1, (count, 1), generator=generator)
    return *features, torch.arange(LENGTH) >= LENGTH - lengths


def _products(x: Tensor, z: Tensor, constants: dict[str, Tensor]) -> Tensor:
    """Three bounded products: text with text, vision with vision, text with vision."""
    s, r = (torch.tanh(2 * y @ constants[n]) for y, n in ((x, "text"), (z, "vision")))
    return torch.stack([s[..., 0] * s[..., 1], r[..., 0] * r[..., 1], s[..., 2] * r[..., 2]], -1)


def _mean(x: Tensor, valid: Tensor) -> Tensor:
    """(N, L, D) to (N, D), over the valid steps."""
    return torch.where(valid.unsqueeze(-1), x, 0.0).sum(1) / valid.sum(1, keepdim=True)
