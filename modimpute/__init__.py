"""Modality imputation layers for PyTorch."""

from modimpute.batching import collate_modalities, valid_from_lengths
from modimpute.consistency import ConsistencyLoss, consistency_loss
from modimpute.ensemble import TranslatorEnsemble
from modimpute.fusion import CrossModalAttentionFusion
from modimpute.translator import ModalityTranslator

__version__ = "0.1.0"

__all__ = [
    "ConsistencyLoss",
    "CrossModalAttentionFusion",
    "ModalityTranslator",
    "TranslatorEnsemble",
    "collate_modalities",
    "consistency_loss",
    "valid_from_lengths",
]
