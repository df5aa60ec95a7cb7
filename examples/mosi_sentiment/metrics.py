"""The metrics of MulT and MMSA, side by side; scikit-learn where the definition is the same.

MulT: Tsai et al., Multimodal Transformer for Unaligned Multimodal Language Sequences, 2019, and
the code by its authors. MMSA: Mao et al., M-SENA, 2022, and its code.
"""

from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from examples.mosi_sentiment.data import EMOTIONS

Metrics = dict[str, float | None]


def regression_metrics(predicted: np.ndarray, truth: np.ndarray) -> Metrics:
    """MAE, correlation, Acc-7, Acc-5, and Acc-2 and F1 in both conventions.

    "non0" drops samples whose label is 0 and asks for the sign; "has0" keeps them, as not
    negative. "legacy F1" is what MulT's code computes: predictions and truth change places, so
    the classes are weighted by the predictions, which flatters a constant.
    """
    p, t = predicted.astype(np.float64), truth.astype(np.float64)
    some = t != 0
    return {
        "MAE": float(mean_absolute_error(t, p)),
        "Corr": correlation(p, t),
        "Acc-7": _rounded(p, t, 3),
        "Acc-5": _rounded(p, t, 2),
        "Acc-2 non0": float(accuracy_score(t[some] > 0, p[some] > 0)),
        "F1 non0": _f1(t[some] > 0, p[some] > 0),
        "Acc-2 has0": float(accuracy_score(t >= 0, p >= 0)),
        "F1 has0": _f1(t >= 0, p >= 0),
        "legacy F1": _f1(p[some] > 0, t[some] > 0),
    }


def emotion_metrics(logits: np.ndarray, truth: np.ndarray) -> Metrics:
    """``logits`` ``(N, 4, 2)`` and 0/1 labels ``(N, 4)``: MulT's per emotion, and joint ones.

    Accuracy and weighted F1 of each emotion by itself are high for a model that never says
    yes. So the rest shows whether the four are told apart: the positive class's F1 of each, and
    the accuracy and macro-F1 of the one emotion that is most likely, where one is labelled.
    """
    yes = logits.argmax(-1)
    metrics: Metrics = {}
    for i, name in enumerate(EMOTIONS):
        metrics[f"{name} Acc"] = float(accuracy_score(truth[:, i], yes[:, i]))
        metrics[f"{name} F1"] = _f1(truth[:, i], yes[:, i])
        metrics[f"{name} positive F1"] = float(
            f1_score(truth[:, i], yes[:, i], average="binary", zero_division=0)
        )
    one = truth.sum(-1) == 1
    chosen = (logits[..., 1] - logits[..., 0]).argmax(-1)[one]
    known = truth[one].argmax(-1)
    classes = list(range(len(EMOTIONS)))
    if one.any():
        metrics["joint Acc"] = float(accuracy_score(known, chosen))
        metrics["macro F1"] = float(
            f1_score(known, chosen, labels=classes, average="macro", zero_division=0)
        )
    else:
        metrics["joint Acc"] = metrics["macro F1"] = None
    return metrics


def metrics_of(predicted: np.ndarray, truth: np.ndarray) -> Metrics:
    """``(N, 1)`` and ``(N, 1)``, or ``(N, 4, 2)`` and ``(N, 4)``."""
    if predicted.ndim == 3:
        return emotion_metrics(predicted, truth)
    return regression_metrics(predicted[:, 0], truth[:, 0])


def errors_of(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """One error per sample: the absolute one, or whether the joint choice is wrong."""
    if predicted.ndim == 3:
        chosen = (predicted[..., 1] - predicted[..., 0]).argmax(-1)
        return (chosen != truth.argmax(-1)).astype(np.float64)
    return np.abs(predicted - truth).mean(-1).astype(np.float64)


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's; None where it does not exist, as for a constant."""
    if len(a) < 2 or a.std() < 1e-12 or b.std() < 1e-12:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def constants(train: np.ndarray, task: str) -> dict[str, Any]:
    """What the constant predictors say: the training median, and always negative."""
    if task == "emotions":
        return {
            "constant (none)": np.array([[1.0, 0.0]] * 4),
            "constant (most frequent)": np.stack([1 - train.mean(0), train.mean(0)], -1),
        }
    # Halfway into the class -1, so that neither rounding nor the sign is a matter of luck.
    return {"constant (median)": np.median(train, 0), "constant (negative)": np.array([-1.0])}


def _rounded(p: np.ndarray, t: np.ndarray, limit: int) -> float:
    hits = np.round(p.clip(-limit, limit)) == np.round(t.clip(-limit, limit))
    return float(hits.mean())


def _f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(f1_score(truth, predicted, average="weighted", zero_division=0))
