"""The evaluation by hand on a model that sums what it sees; its file survives a kill."""

import csv
import io
import json
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from modimpute import (
    drop_at_rate,
    evaluate_robustness,
    missing_patterns,
    missing_rate,
    summarize_robustness,
)

NAN = torch.nan
VALUES = {"audio": 1.0, "text": 2.0, "vision": 4.0}


def total(modalities, valid):
    """Predicts the sum of what is there, and knows nothing of ``valid``."""
    assert sorted(valid) == sorted(modalities)
    return sum(x.sum((1, 2)) for x in modalities.values())


def total_of_valid(modalities, valid):
    seen = {name: x.masked_fill(~valid[name].unsqueeze(-1), 0) for name, x in modalities.items()}
    return total(seen, valid)


def mean_error(predictions, labels):
    return (labels - predictions).mean()


def make_batches(size=8, values=VALUES, batch_size=None, lengths=(1, 2, 3)):
    """Each sample has the given sum in each modality, spread over its steps."""
    names = sorted(values)
    data = {
        name: torch.full((size, length, 1), values[name] / length)
        for name, length in zip(names, (lengths * len(names))[: len(names)], strict=True)
    }
    labels = torch.full((size,), float(sum(values.values())))
    starts = range(0, size, batch_size or size)
    stop = batch_size or size
    return [
        ({name: x[s : s + stop] for name, x in data.items()}, None, labels[s : s + stop])
        for s in starts
    ]


def run(predict=total, batches=None, metric=mean_error, **options):
    batches = make_batches() if batches is None else batches
    return evaluate_robustness(predict, batches, metric, **options)


class TestByHand:
    def test_patterns(self):
        rows = run(rates=[])
        expected = {  # the error is the sum of what is missing
            "audio+text+vision": 0.0,
            "text+vision": 1.0,
            "audio+vision": 2.0,
            "audio+text": 4.0,
            "vision": 3.0,
            "text": 5.0,
            "audio": 6.0,
        }
        assert {row["available"]: row["score"] for row in rows} == pytest.approx(expected)
        assert [row["available"] for row in rows] == list(expected)
        for row in rows:
            missing = 3 - len(row["available"].split("+"))
            assert row == row | {"kind": "pattern", "patterns_possible": 7, "n": 8, "n_empty": 0}
            assert (row["rate"], row["seed"]) == (None, None)
            assert row["rate_reached"] == pytest.approx(missing / 3)

    def test_rates(self):
        batches = make_batches(size=50)
        rows = run(batches=batches, patterns=[], rates=[0.0, 0.4], seeds=[5, 6])
        assert [(row["rate"], row["seed"]) for row in rows] == [
            (0.0, 5),
            (0.0, 6),
            (0.4, 5),
            (0.4, 6),
        ]
        for row in rows:
            valid = drop_at_rate(batches[0][0], row["rate"], seed=row["seed"])
            lost = sum(((~v[:, 0]) * VALUES[name]).mean() for name, v in valid.items())
            assert row["score"] == pytest.approx(float(lost))
            assert row["rate_reached"] == pytest.approx(missing_rate(valid).mean().item())
        assert rows[0]["rate_reached"] == 0.0
        assert rows[2]["score"] != rows[3]["score"]

    def test_rates_are_capped_and_what_was_reached_is_told(self):
        rates = [row["rate"] for row in run(patterns=[], seeds=[0])]
        assert rates == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
        rows = run(patterns=[], seeds=[0], rates=[1.0, 0.9])
        assert [row["rate"] for row in rows] == [0.9]
        assert rows[0]["rate_reached"] == pytest.approx(2 / 3)
        two = run(batches=make_batches(values={"a": 1.0, "b": 1.0}), patterns=[], seeds=[0])
        assert [row["rate"] for row in two] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
        assert two[-1]["rate_reached"] == 0.5
        one = run(batches=make_batches(values={"a": 1.0}), seeds=[0])
        assert [(row["kind"], row["rate"]) for row in one] == [("pattern", None), ("rate", 0.0)]

    def test_a_higher_rate_takes_the_same_and_more(self):
        rows = run(batches=make_batches(100), patterns=[], seeds=[3])
        reached = [row["rate_reached"] for row in rows]
        assert reached == sorted(reached)
        assert reached[3] == pytest.approx(0.3, abs=0.06)

    def test_gaps_of_the_data_count(self):
        x = {"a": torch.ones(4, 2, 1), "b": torch.full((4, 1, 1), NAN)}
        valid = {"a": torch.tensor([[True, False]] * 3 + [[False, False]])}
        no_b = {"a": x["a"]}
        labels = torch.ones(4)
        batches = [(x, valid | {"b": torch.zeros(4, 1, dtype=torch.bool)}, labels)]
        rows = run(batches=batches, rates=[0.0, 1.0], seeds=[0])
        assert [row["n_empty"] for row in rows] == [1, 4, 1, 1, 1]  # all, b, a; the rates
        assert [row["score"] for row in rows] == [0.25, 1.0, 0.25, 0.25, 0.25]
        assert rows[-1]["rate_reached"] == 5 / 8
        absent = run(
            batches=[(no_b, valid, labels)], modalities=["b", "a"], rates=[0, 1], seeds=[0]
        )
        assert absent == rows


def test_rows_do_not_depend_on_the_batch_size():
    together = run(batches=make_batches(10))
    for batch_size in (1, 3):
        rows = run(batches=make_batches(10, batch_size=batch_size))
        assert rows == [row | {"score": pytest.approx(row["score"])} for row in together]


def test_data_loader_with_default_collate():
    x, _, labels = make_batches(5)[0]
    samples = [
        ({n: v[i] for n, v in x.items()}, {n: torch.ones(v.shape[1]) > 0 for n, v in x.items()})
        for i in range(5)
    ]
    loader = DataLoader([(*sample, labels[i]) for i, sample in enumerate(samples)], 2)
    assert run(batches=loader, seeds=[0]) == run(batches=make_batches(5), seeds=[0])


def test_rows_go_to_json_csv_and_pandas():
    rows = run(metric=lambda p, y: {"error": (y - p).mean(), "corr": NAN}, seeds=[0])
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[0]["corr"] is None  # JSON has no NaN
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    read = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row["available"] or None for row in read] == [row["available"] for row in rows]
    assert [float(row["error"]) for row in read] == [row["error"] for row in rows]
    pandas = pytest.importorskip("pandas")
    assert list(pandas.DataFrame(rows).columns) == list(rows[0])


class TestPatterns:
    def test_more_than_six_modalities_are_sampled_and_it_is_said(self):
        batches = make_batches(2, values={f"m{i}": 1.0 for i in range(8)})
        rows = run(batches=batches, rates=[])
        patterns = {row["available"] for row in rows}
        assert len(patterns) == len(rows) == 63
        assert rows[0]["available"].count("+") == 7  # complete data are always among them
        assert all(row["patterns_possible"] == 255 for row in rows)
        again = run(batches=batches, rates=[], seeds=[7])
        assert again == rows
        incomplete = summarize_robustness(rows)[-1]
        assert (incomplete["kind"], incomplete["patterns"]) == ("incomplete", 62)
        assert incomplete["patterns_possible"] == 254
        six = make_batches(2, values={f"m{i}": 1.0 for i in range(6)})
        assert len(run(batches=six, rates=[])) == 63
        assert len(run(batches=six, rates=[], patterns=10)) == 10
        assert len(run(batches=six, rates=[], patterns=1000)) == 63

    def test_given_ones_name_what_is_missing(self):
        rows = run(rates=[], patterns=[[], ["text"], ("vision", "audio"), {"text"}])
        available = [row["available"] for row in rows]
        assert available == ["audio+text+vision", "audio+vision", "text"]
        assert run(rates=[], patterns=[(), *missing_patterns(VALUES)]) == run(rates=[])

    def test_any_name(self):
        batches = make_batches(2, values={"a+b": 1.0, "%2B": 2.0, "a": 4.0, "keys": 8.0})
        rows = run(batches=batches, rates=[])
        assert len({row["available"] for row in rows}) == 15
        assert rows[0]["available"] == "%252B+a+a%2Bb+keys"


class TestHiding:
    def test_what_is_missing_is_never_seen(self):
        batches = make_batches()
        valid = {name: torch.ones(x.shape[:2]) > 0 for name, x in batches[0][0].items()}
        valid["text"][3:] = False
        junk = dict(batches[0][0])
        junk["text"] = junk["text"].masked_fill(~valid["text"].unsqueeze(-1), NAN)
        labels = batches[0][2]
        clean = run(batches=[(batches[0][0], valid, labels)], seeds=[0])
        assert run(batches=[(junk, valid, labels)], seeds=[0]) == clean
        options = {"predict": total_of_valid, "hide": "nan", "seeds": [0]}
        assert run(batches=[(junk, valid, labels)], **options) == clean
        assert batches[0][0]["text"].isfinite().all()  # the caller's data are left alone

    def test_nan_shows_a_model_that_reads_it(self):
        message = r'hide="zero"\), however: predictions of batch 0 with only text\+vision are not'
        with pytest.raises(ValueError, match=message):
            run(hide="nan")


class TestRandomModels:
    @staticmethod
    def noisy(modalities, valid):
        x = total(modalities, valid)
        return x + torch.randn(x.shape)

    def test_each_pattern_is_run_once_or_with_each_seed(self):
        assert [row["seed"] for row in run(rates=[], patterns=2)] == [None, None]
        rows = run(self.noisy, rates=[], patterns=2, stochastic=True)
        assert [row["seed"] for row in rows] == [0, 1, 2] * 2
        assert len({row["score"] for row in rows}) == 6

    def test_seeded_and_the_callers_generator_is_left_alone(self):
        torch.manual_seed(1)
        rows = run(self.noisy, stochastic=True)
        after = torch.rand(())
        assert run(self.noisy, stochastic=True) == rows
        torch.manual_seed(1)
        assert torch.rand(()) == after

    def test_modules_must_be_in_eval_mode(self):
        class Total(nn.Module):
            forward = staticmethod(total)

        with pytest.raises(ValueError, match=r"eval mode .*, however: predict\.training=True"):
            run(Total())
        assert run(Total().eval()) == run()
        run(Total(), rates=[], patterns=1, stochastic=True)


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, modalities, valid):
        self.calls += 1
        return total(modalities, valid)


KILLED = """
import os, signal, sys
import torch
from modimpute import evaluate_robustness
print({"rich", "matplotlib", "pandas"} & set(sys.modules), flush=True)
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from test_robustness import make_batches, mean_error, total
calls = 0
def predict(modalities, valid):
    global calls
    calls += 1
    if calls == 2 * 5 + 2:  # in the middle of the sixth cell, of two batches each
        os.kill(os.getpid(), signal.SIGKILL)
    return total(modalities, valid)
evaluate_robustness(predict, make_batches(batch_size=4), mean_error, out=sys.argv[1])
"""


class TestResume:
    def test_after_a_kill(self, tmp_path, request):
        out = tmp_path / "results.jsonl"
        command = [sys.executable, "-c", KILLED, str(out), str(request.path.parent)]
        killed = subprocess.run(
            command, cwd=request.config.rootpath, stdout=subprocess.PIPE, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert killed.stdout == b"set()\n"  # the package alone imports none of the extras
        assert len(out.read_text().splitlines()) == 1 + 5
        with out.open("a") as file:
            file.write('{"cell": {"kind": "rate", "avai')  # a line that the kill tore
        predict, batches = Counting(), make_batches(batch_size=4)
        rows = run(predict, batches, out=out)
        assert rows == run(batches=batches)
        assert predict.calls == 2 * (len(rows) - 5)
        assert len(out.read_text().splitlines()) == 1 + len(rows)
        assert all(json.loads(line) for line in out.read_text().splitlines())
        assert run(predict, batches, out=out) == rows
        assert predict.calls == 2 * (len(rows) - 5)

    def test_wherever_the_file_was_torn(self, tmp_path):
        out, options = tmp_path / "results.jsonl", {"patterns": 2, "rates": [0.5]}
        rows = run(out=out, **options)
        whole = out.read_bytes()
        for size in range(0, len(whole), 37):
            out.write_bytes(whole[:size])
            assert run(out=out, **options) == rows
            assert out.read_bytes() == whole

    def test_more_seeds_rates_and_patterns_continue_the_file(self, tmp_path):
        out, predict = tmp_path / "results.jsonl", Counting()
        run(predict, out=out, patterns=[["text"]], rates=[0.5], seeds=[0])
        assert predict.calls == 2
        rows = run(predict, out=out, patterns=[["text"], []], rates=[0.2, 0.5], seeds=[0, 1])
        assert predict.calls == 6
        assert rows == run(patterns=[["text"], []], rates=[0.2, 0.5], seeds=[0, 1])

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (
                {"hide": "nan"},
                r"the same hide \(or a new one\), however: .* has hide='zero', this",
            ),
            ({"name": "b"}, r"the same name .*, however: .* has name='', this call has 'b'"),
            ({"stochastic": True}, r"the same stochastic .*, however: .* has stochastic=False"),
            (
                {"batches": make_batches(values={"a": 1.0})},
                r"the same modalities .*, however: .*'vision'\], this call has \['a'\]",
            ),
            ({"batches": make_batches(9)}, r"same samples in the same order .*: n=9 and n=8"),
            (
                {"batches": [(b[0], None, b[2].flip(0) + 1) for b in make_batches()]},
                r"same samples in the same order in every pass, however: their labels differ",
            ),
            (
                {"metric": lambda p, y: {"error": (y - p).mean()}},
                r"same names in every cell, however: \['error'\] and \['score'\]",
            ),
        ],
    )
    def test_a_file_of_something_else_is_refused(self, tmp_path, other, message):
        out = tmp_path / "results.jsonl"
        run(out=out, patterns=1, rates=[])
        before = out.read_bytes()
        with pytest.raises(ValueError, match=message):
            run(**{"out": out, "patterns": 1, "rates": [0.5]} | other)
        assert out.read_bytes() == before

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("notes", r"that evaluate_robustness wrote, however: .* begins with b'notes'"),
            ("notes\n", r"that evaluate_robustness wrote, however: line 1 is not a JSON object"),
            ('{"a": 1}\n', r"evaluate_robustness wrote, however: format=None in its first line"),
            (None, r"evaluate_robustness wrote, however: line 3 is not a JSON object"),
            ("{}", r"evaluate_robustness wrote, however: .* begins with b'\{\}'"),
        ],
    )
    def test_other_files_are_left_alone(self, tmp_path, content, message):
        out = tmp_path / "results.jsonl"
        if content is None:
            run(out=out, patterns=1, rates=[])
            content = out.read_text() + "[]\n"
        out.write_text(content)
        with pytest.raises(ValueError, match=message):
            run(out=out)
        assert out.read_text() == content


class TestSummary:
    def test_by_hand(self):
        curve = {0: [(0.0, 1.0), (0.2, 0.8), (0.5, 0.2)], 1: [(0.0, 1.0), (0.3, 0.4), (0.5, 0.4)]}
        rows = [
            {"kind": "rate", "rate": rate, "rate_reached": x, "seed": seed, "n": 3, "score": y}
            for seed, points in curve.items()
            for rate, (x, y) in zip((0.0, 0.25, 0.6), points, strict=True)
        ]
        # (0.2 * 0.9 + 0.3 * 0.5) / 0.5 and (0.3 * 0.7 + 0.2 * 0.4) / 0.5
        areas = (0.66, 0.58)
        *points, area = summarize_robustness(rows)
        assert area["kind"] == "auc"
        assert area["mean"] == pytest.approx(sum(areas) / 2)
        assert area["std"] == pytest.approx(0.08 / 2**0.5)
        assert area["standard_error"] == pytest.approx(0.04)
        middle = points[1]
        assert (middle["rate"], middle["runs"]) == (0.25, 2)
        expected = {"rate_reached": 0.25, "mean": 0.6, "standard_error": 0.2}
        assert {key: middle[key] for key in expected} == pytest.approx(expected)
        assert json.loads(json.dumps([*points, area], allow_nan=False)) == [*points, area]
        assert list(points[0]) == list(area)

    def test_patterns(self):
        summary = summarize_robustness(run(rates=[]))
        assert [row["kind"] for row in summary] == ["pattern"] * 7 + ["incomplete"]
        incomplete = summary[-1]
        assert incomplete["mean"] == pytest.approx((1 + 2 + 4 + 3 + 5 + 6) / 6)
        assert (incomplete["patterns"], incomplete["patterns_possible"]) == (6, 6)
        assert (incomplete["std"], incomplete["standard_error"]) == (None, None)

    def test_undefined_values_stay_undefined(self):
        rows = run(patterns=[], rates=[0.0, 0.5], seeds=[0, 1])
        rows[-1]["score"] = None
        means = [row["mean"] for row in summarize_robustness(rows)]
        assert means == [0.0, None, None]
        flat = run(patterns=[], rates=[0.0], seeds=[0])
        assert summarize_robustness(flat)[-1]["mean"] is None  # no width, no area

    def test_rows_of_two_models_are_refused(self):
        rows = run(patterns=1, rates=[])
        message = r"one model, each cell once, however: .*'available': 'audio\+text\+vision'"
        with pytest.raises(ValueError, match=message):
            summarize_robustness(rows + rows)
        with pytest.raises(ValueError, match=r"at least one row, however: they are empty"):
            summarize_robustness([])


def test_metric_gets_everything_at_once_on_the_cpu():
    def predict(modalities, valid):
        x = total(modalities, valid).requires_grad_()
        assert not torch.is_grad_enabled()
        return {"sum": x, "twice": (2 * x).tolist()}

    def metric(predictions, labels):
        assert predictions["sum"].shape == (8,) == labels["y"].shape
        assert torch.equal(2 * predictions["sum"], predictions["twice"])
        assert not predictions["sum"].requires_grad
        return {"error": mean_error(predictions["sum"], labels["y"]), "count": 8}

    batches = [(x, valid, {"y": y}) for x, valid, y in make_batches(batch_size=3)]
    rows = run(predict, batches, metric, rates=[])
    assert [row["error"] for row in rows] == pytest.approx([0, 1, 2, 4, 3, 5, 6])


def test_progress(capsys):
    pytest.importorskip("rich")
    assert run(progress=True) == run()
    assert "31/31" in capsys.readouterr().out


BATCH = make_batches()[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"predict": 3}, TypeError, r"predict must be callable, however: type\(predict\)=int"),
        ({"metric": "mse"}, TypeError, r"metric must be callable, however: type\(metric\)=str"),
        ({"batches": iter([BATCH])}, TypeError, r"more than once .*: a list_iterator is an iter"),
        ({"batches": 3}, TypeError, r"more than once .*, however: a int is not iterable"),
        ({"batches": [{}]}, TypeError, r"\(modalities, valid, labels\), however: .* is a dict"),
        ({"batches": [BATCH[:2]]}, TypeError, r"however: batch 0 is a tuple of 2"),
        ({"batches": DataLoader([])}, ValueError, r"at least one batch, however: they are empty"),
        ({"modalities": "text"}, TypeError, r"modalities must be a sequence of names, however: "),
        ({"modalities": ["text"]}, ValueError, r"names of \('text',\) \(batch 0 has others\)"),
        ({"modalities": []}, ValueError, r"modalities must hold at least 1 modality, however"),
        ({"rates": [1.1]}, ValueError, r"rates\[0\] must be in \[0, 1\], however: rates\[0\]=1"),
        ({"rates": [0, "x"]}, TypeError, r"rates\[1\] must be a float, however: rates\[1\]='x'"),
        ({"seeds": []}, ValueError, r"seeds must hold different seeds, however: seeds=\[\]"),
        ({"seeds": [1, 1]}, ValueError, r"different seeds, however: seeds=\[1, 1\]"),
        ({"seeds": [-1]}, ValueError, r"seeds\[0\] must not be negative, however"),
        ({"seeds": [0.5]}, TypeError, r"seeds\[0\] must be an int, however: seeds\[0\]=0\.5"),
        ({"seeds": 3}, TypeError, r"seeds must be a sequence of ints, however: seeds=3"),
        ({"patterns": ["text"]}, TypeError, r"patterns\[0\] must be a sequence of names, how"),
        ({"patterns": [["x"]]}, ValueError, r"patterns\[0\] must have names of .*: 'x'"),
        (
            {"patterns": [list(VALUES)]},
            ValueError,
            r"at least one of .*, however: all are missing",
        ),
        ({"patterns": 0}, ValueError, r"patterns must be at least 1, however: patterns=0"),
        ({"patterns": [], "rates": []}, ValueError, r"patterns or rates must hold something"),
        ({"name": 3}, TypeError, r"name must be a str, however: name=3"),
        ({"hide": "mean"}, ValueError, r"hide must be one of \('zero', 'nan'\), however: hide="),
        ({"predict": lambda x, valid: "a"}, TypeError, r"predict must return a Tensor .*: .* str"),  # noqa: ARG005
        (
            {"predict": lambda x, valid: torch.ones(3)},  # noqa: ARG005
            ValueError,
            r"one row per sample, however: its shape is \(3,\) for 8 samples",
        ),
        (
            {"batches": [(*BATCH[:2], torch.ones(()))]},
            ValueError,
            r"batch 0 must have labels of a Tensor .*, however: its shape is \(\)",
        ),
        (
            {"batches": [BATCH, (*BATCH[:2], {"y": BATCH[2]})]},
            ValueError,
            r"labels must be of one kind in every batch, however: they differ",
        ),
        ({"metric": lambda p, y: "good"}, TypeError, r"must return a number .* type is str"),  # noqa: ARG005
        ({"metric": lambda p, y: {"n": 1}}, ValueError, r"not return the names .*: 'n'"),  # noqa: ARG005
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)
