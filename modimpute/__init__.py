"""Modality imputation layers for PyTorch."""

from modimpute.batching import collate_modalities, valid_from_lengths
from modimpute.consistency import ConsistencyLoss, consistency_loss
from modimpute.default import default_ensemble
from modimpute.donor import DonorMatching
from modimpute.dropout import ModalityDropout
from modimpute.ensemble import TranslatorEnsemble
from modimpute.fusion import CrossModalAttentionFusion
from modimpute.gaps import drop_blocks, drop_frames
from modimpute.imputer import ModalityImputer
from modimpute.kernel import KernelTranslator
from modimpute.linear import LinearTranslator
from modimpute.missing import drop_at_rate, drop_pattern, missing_patterns, missing_rate
from modimpute.normalizer import ModalityNormalizer
from modimpute.plotting import plot_robustness
from modimpute.ragged import run_by_length
from modimpute.recipe import fit_ensemble
from modimpute.retrieval import RetrievalTranslator
from modimpute.robustness import evaluate_robustness, summarize_robustness
from modimpute.translator import ModalityTranslator

__version__ = "0.1.0"

__all__ = [
    "ConsistencyLoss",
    "CrossModalAttentionFusion",
    "DonorMatching",
    "KernelTranslator",
    "LinearTranslator",
    "ModalityDropout",
    "ModalityImputer",
    "ModalityNormalizer",
    "ModalityTranslator",
    "RetrievalTranslator",
    "TranslatorEnsemble",
    "collate_modalities",
    "consistency_loss",
    "default_ensemble",
    "drop_at_rate",
    "drop_blocks",
    "drop_frames",
    "drop_pattern",
    "evaluate_robustness",
    "fit_ensemble",
    "missing_patterns",
    "missing_rate",
    "plot_robustness",
    "run_by_length",
    "summarize_robustness",
    "valid_from_lengths",
]
