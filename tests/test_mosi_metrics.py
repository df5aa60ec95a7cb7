"""The metrics of examples.mosi_sentiment, against values worked by hand."""

import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("sklearn")

from examples.mosi_sentiment.metrics import (
    constants,
    correlation,
    emotion_metrics,
    errors_of,
    regression_metrics,
)
from examples.mosi_sentiment.statistics import groups_of, paired_difference, spread


def test_regression_by_hand():
    truth = np.array([-3.0, -1.4, 0.0, 0.0, 1.6, 2.2])
    predicted = np.array([-4.0, 0.2, -0.1, 0.4, 2.4, -0.3])
    m = regression_metrics(predicted, truth)
    assert m["MAE"] == pytest.approx((1.0 + 1.6 + 0.1 + 0.4 + 0.8 + 2.5) / 6)
    # Rounded after clipping to [-3, 3]: -3 -1 0 0 2 2 and -3 0 0 0 2 0.
    assert m["Acc-7"] == pytest.approx(4 / 6)
    # To [-2, 2]: -2 -1 0 0 2 2 and -2 0 0 0 2 0.
    assert m["Acc-5"] == pytest.approx(4 / 6)
    # Without the two zeros, the sign: truth - - + +, predicted - + + -.
    assert m["Acc-2 non0"] == pytest.approx(2 / 4)
    assert m["F1 non0"] == pytest.approx(0.5)
    # Not negative: truth 0 0 1 1 1 1, predicted 0 1 0 1 1 0. Positive class: precision 2/3,
    # recall 2/4, F1 4/7; the other: precision 1/3, recall 1/2, F1 2/5.
    assert m["Acc-2 has0"] == pytest.approx(3 / 6)
    assert m["F1 has0"] == pytest.approx(4 / 7 * 4 / 6 + 2 / 5 * 2 / 6)


def test_half_rounds_to_even_as_in_the_code_of_mult():
    m = regression_metrics(np.array([0.5, 1.5, 2.5]), np.array([0.0, 2.0, 2.0]))
    assert m["Acc-7"] == 1


def test_the_legacy_f1_flatters_a_constant():
    truth = np.array([-1.0] * 6 + [1.0] * 4)  # a share of .6 is negative
    m = regression_metrics(np.full(10, -1.0), truth)
    assert m["F1 non0"] == pytest.approx(0.6 * 2 * 0.6 / 1.6)
    assert m["legacy F1"] == pytest.approx(2 * 0.6 / 1.6)
    assert m["Corr"] is None


def test_emotions_by_hand():
    truth = np.eye(4)[[0, 1, 1, 3, 2]]
    yes = np.eye(4)[[0, 1, 0, 3, 3]]
    logits = np.stack([1 - yes, yes], -1) * 2.0
    m = emotion_metrics(logits, truth)
    assert m["happy Acc"] == pytest.approx(4 / 5)
    assert m["happy positive F1"] == pytest.approx(2 / 3)  # precision 1, recall 1/2
    # Not happy: precision 3/4, recall 1, F1 6/7; weights 3/5 and 2/5.
    assert m["happy F1"] == pytest.approx(6 / 7 * 3 / 5 + 2 / 3 * 2 / 5)
    assert m["sad positive F1"] == 0
    assert m["joint Acc"] == pytest.approx(3 / 5)
    # neutral 2/3 (precision 1/2), happy 2/3, sad 0, angry 2/3 (precision 1/2).
    assert m["macro F1"] == pytest.approx((2 / 3 + 2 / 3 + 0 + 2 / 3) / 4)
    assert errors_of(logits, truth).tolist() == [0, 0, 1, 0, 1]


def test_the_constant_that_says_no_emotion_has_the_floor_of_the_literature():
    truth = np.zeros((938, 4))
    truth[:135, 1], truth[135:328, 2], truth[328:555, 3], truth[555:, 0] = 1, 1, 1, 1
    none = constants(truth, "emotions")["constant (none)"]
    m = emotion_metrics(np.broadcast_to(none, (938, 4, 2)), truth)
    acc = [round(100 * m[f"{e} Acc"], 1) for e in ("happy", "sad", "angry", "neutral")]
    f1 = [round(100 * m[f"{e} F1"], 1) for e in ("happy", "sad", "angry", "neutral")]
    assert acc == [85.6, 79.4, 75.8, 59.2]
    assert f1 == [79.0, 70.3, 65.4, 44.0]


def test_constants_and_correlation():
    c = constants(np.array([[1.0], [2.0], [6.0]]), "regression")
    assert c["constant (median)"].tolist() == [2.0]
    assert correlation(np.ones(3), np.arange(3.0)) is None
    assert correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(1)


class TestStatistics:
    def test_videos_are_found_in_the_names(self):
        ids = [f"video_{i // 3}_{i % 3}" for i in range(36)]
        assert groups_of(ids).max() == 11
        assert (np.bincount(groups_of(ids)) == 3).all()
        assert groups_of([f"v{i // 3}$_${i % 3}" for i in range(36)]).max() == 11
        assert groups_of([f"v_{i // 3}_{i % 3}.0_{i % 3 + 1}.25" for i in range(36)]).max() == 11
        assert groups_of([f"test-{i}" for i in range(36)]).max() == 35
        # One "video" for all is no video.
        assert groups_of([f"sample_{i}" for i in range(36)]).max() == 35

    def test_interval_of_a_plain_mean(self):
        # One seed and groups of one: the textbook interval of a mean, 1.96 deviations / root n.
        rng = np.random.default_rng(0)
        difference = rng.normal(0.3, 1.0, (1, 400))
        d = paired_difference(difference, np.zeros((1, 400)), np.arange(400))
        half = 1.96 * difference.std() / 20
        assert d["difference"] == pytest.approx(difference.mean())
        assert d["high"] - d["difference"] == pytest.approx(half, rel=0.1)
        assert d["difference"] - d["low"] == pytest.approx(half, rel=0.1)

    def test_what_differs_between_seeds_or_videos_widens_the_interval(self):
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 1, (5, 200))
        zero, apart = np.zeros((5, 200)), np.arange(200)

        def width(x, groups):
            d = paired_difference(x, zero, groups)
            return d["high"] - d["low"]

        alone = width(noise, apart)
        assert width(noise + rng.normal(0, 1, (5, 1)), apart) > 3 * alone
        videos = np.repeat(np.arange(20), 10)
        assert width(noise + rng.normal(0, 1, (1, 20)).repeat(10, 1), videos) > 3 * alone

    def test_spread(self):
        assert spread([1.0, 3.0]) == {"mean": 2.0, "std": pytest.approx(2**0.5)}
        assert spread([1.0]) == {"mean": 1.0, "std": None}
        assert spread([1.0, None]) == {"mean": None, "std": None}
