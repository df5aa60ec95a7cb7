"""Sizes and settings. The faithful ones are those of MulT's Table 5, which the paper builds on."""

from dataclasses import dataclass, replace

from examples.mosi_sentiment.config import ModelConfig, Shape, TrainingConfig
from examples.mosi_sentiment.data import DataSet


@dataclass(frozen=True)
class Preset:
    name: str
    about: str
    model: ModelConfig
    training: TrainingConfig


def _mult(dataset: str, aligned: bool) -> Preset:
    """MulT, Table 5; of its text kernels "1 or 3" we take 1 for aligned words."""
    text = 1 if aligned else 3
    table = {
        # batch, rate, heads, kernels (text, vision, audio), dropouts (text, blocks), clip, epochs
        "mosei": (16, 1e-3, 8, (text, 3, 3), (0.3, 0.1), 1.0, 20),
        "mosi": (128, 1e-3, 10, (text, 3, 3), (0.2, 0.2), 0.8, 100),
        "iemocap": (32, 2e-3, 10, (3, 3, 5), (0.3, 0.25), 0.8, 30),
    }
    batch, rate, heads, kernels, (text_dropout, dropout), clip, epochs = table[dataset]
    model = ModelConfig(
        model_dim=40,
        num_heads=heads,
        translator_layers=4,
        ensemble_dim=80,
        ensemble_layers=4,
        fusion_layers=4,
        kernels=kernels,
        dropout=dropout,
        translator_dropout=dropout,
        text_dropout=text_dropout,
        output_dropout=0.1,
        pool="last",
    )
    training = TrainingConfig(epochs=epochs, batch_size=batch, learning_rate=rate, clip=clip)
    way = "aligned" if aligned else "unaligned"
    return Preset(f"{dataset}-{way}", f"MulT's Table 5 for {dataset}, {way}", model, training)


FAITHFUL = {
    preset.name: preset
    for preset in (_mult(d, way) for d in ("mosi", "mosei", "iemocap") for way in (True, False))
}

# Few and wide heads are faster, and a mean over the steps is steadier than the last one.
_SMALL = ModelConfig(
    model_dim=32,
    num_heads=2,
    translator_layers=1,
    ensemble_dim=64,
    ensemble_layers=2,
    fusion_layers=1,
    feedforward=2,
    dropout=0.1,
    output_dropout=0.1,
)
_FIXED = TrainingConfig(
    epochs=30,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=0.01,
    clip=1.0,
    schedule="cosine",
    select="last",
)
OURS = {
    "synthetic": Preset(
        "synthetic",
        "the planted sets",
        # Width and no dropout in the translators: a product of two features, one from each
        # source, is found late or never by narrow ones.
        replace(_SMALL, model_dim=64, translator_dropout=0.0),
        replace(
            _FIXED,
            epochs=12,
            translate_first=5,
            batch_size=32,
            learning_rate=2e-3,
            weight=10.0,
            select="valid",
        ),
    ),
    "utterances": Preset(
        "utterances",
        "one vector per modality and utterance; fixed epochs, nothing is chosen on validation",
        replace(_SMALL, dropout=0.3, translator_dropout=0.3, output_dropout=0.3),
        _FIXED,
    ),
    "sequences": Preset(
        "sequences",
        "a sequence of utterances per video; fixed epochs, nothing is chosen on validation",
        replace(_SMALL, dropout=0.3, translator_dropout=0.3, output_dropout=0.3),
        replace(_FIXED, batch_size=8, epochs=40),
    ),
}
PRESETS = OURS | FAITHFUL


def preset_for(data: DataSet) -> Preset:
    """The preset that fits what the data look like; ``--preset`` overrules it."""
    if data.name.startswith("synthetic"):
        return OURS["synthetic"]
    if data.stepwise:
        return OURS["sequences"]
    if max(data.lengths.values()) == 1:
        return OURS["utterances"]
    way = "aligned" if data.aligned else "unaligned"
    if data.task == "emotions":
        return FAITHFUL[f"iemocap-{way}"]
    # The two regression sets differ in nothing but their size: 1,284 and some 16,000.
    return FAITHFUL[f"{'mosei' if len(data.train) > 5000 else 'mosi'}-{way}"]


def shape_of(data: DataSet) -> Shape:
    return Shape(data.dims, data.lengths, data.task, data.aligned, data.stepwise)


def find(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"--preset must be one of {', '.join(PRESETS)}, however: {name}")
    return PRESETS[name]
