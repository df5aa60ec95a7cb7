"""The pictures: what is drawn is what the rows say."""

import sys

import pytest

from modimpute import plot_robustness, summarize_robustness

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure

NAMES = ("audio", "text")


def make_rows(slope, metrics=("accuracy",)):
    facts = {"rate_reached": 0.0, "n": 9, "n_empty": 0}
    patterns = [("audio+text", 1.0), ("audio", 1 - slope), ("text", 0.9 - slope)]
    rows = [
        {**facts, "kind": "pattern", "available": available, "rate": None, "seed": None}
        | {"patterns_possible": 3}
        | dict.fromkeys(metrics, value)
        for available, value in patterns
    ]
    return rows + [
        {
            **facts,
            "kind": "rate",
            "available": None,
            "rate": rate,
            "rate_reached": 0.8 * rate,
            "seed": s,
        }
        | {"patterns_possible": None}
        | dict.fromkeys(metrics, 1 - slope * rate + (0.1 * rate if s else 0.0))
        for rate in (0.0, 0.25, 0.5)
        for s in (0, 1)
    ]


MODELS = {"zeros": make_rows(0.8), "imputer": make_rows(0.3)}


def test_rates():
    ax = plot_robustness(MODELS)
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "missing rate reached [% of all modalities]",
        "accuracy",
    )
    for line, rows in zip(ax.get_lines(), MODELS.values(), strict=True):
        points = [point for point in summarize_robustness(rows) if point["kind"] == "rate"]
        assert list(line.get_xdata()) == [0.0, 20.0, 40.0]
        assert list(line.get_ydata()) == [point["mean"] for point in points]
    first, second = ax.get_lines()
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()
    band = ax.collections[0].get_paths()[0].vertices
    std = summarize_robustness(MODELS["zeros"])[5]["std"]  # of the last rate
    assert band[:, 1].min() == pytest.approx(1 - 0.8 * 0.5 + 0.025 - std)
    legend = ax.get_legend()
    # 1 - 0.8 * 0.25 + 0.05 * 0.25
    assert legend.get_texts()[0].get_text() == "zeros (AUC 0.812)"
    assert legend.get_title().get_text() == "band: ± 1 standard deviation, 2 seeds"


def test_patterns():
    ax = plot_robustness(MODELS, kind="pattern")
    (image,) = ax.get_images()
    expected = [[1.0, 1.0], [0.2, 0.7], [0.1, 0.6]]  # complete, audio, text
    for found, line in zip(image.get_array().tolist(), expected, strict=True):
        assert found == pytest.approx(line)
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert ticks == ["audio", "text", "zeros", "imputer"]
    assert [text.get_text() for text in ax.texts[:4]] == ["1", "1", "0.2", "0.7"]
    assert [list(line.get_xdata()) for line in ax.get_lines()] == [[0, 1], [0], [1]]


@pytest.mark.parametrize("kind", ["rate", "pattern"])
def test_into_the_users_axes_and_to_a_file(tmp_path, kind):
    figure = Figure()
    ax = figure.subplots()
    rows = make_rows(0.5, metrics=("accuracy", "f1"))
    rows[1]["f1"] = rows[-1]["f1"] = None  # a correlation of a constant, for instance
    drawn = plot_robustness(rows, kind=kind, metric="f1", label="F1 [%]", ax=ax)
    assert drawn is ax
    assert "F1 [%]" in {part.get_ylabel() for part in figure.axes}
    figure.savefig(tmp_path / "robustness.png")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = r"must have matplotlib \(pip install modimpute\[plot\]\), however: .*matplotlib"
    with pytest.raises(ImportError, match=message):
        plot_robustness(MODELS)


def test_errors():
    two = make_rows(0.5, metrics=("accuracy", "f1"))
    with pytest.raises(ValueError, match=r"one of \('accuracy', 'f1'\), however: metric=None"):
        plot_robustness(two)
    with pytest.raises(ValueError, match=r"one of \('accuracy',\), however: metric='f1'"):
        plot_robustness({"a": two, "b": make_rows(0.5)}, metric="f1")
    with pytest.raises(ValueError, match=r"rows of 'a' must hold kind 'rate', however: there is"):
        plot_robustness({"a": two[:3]})
    with pytest.raises(ValueError, match=r"rows must hold at least one model, however"):
        plot_robustness({})
    with pytest.raises(ValueError, match=r"kind must be one of .*, however: kind='bar'"):
        plot_robustness(MODELS, kind="bar")
