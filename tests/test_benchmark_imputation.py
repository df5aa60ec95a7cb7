import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rich")
pytest.importorskip("sklearn")

from sklearn import datasets
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor

from examples.benchmarks import learning_curve, prepare
from examples.benchmarks.imputation import (
    __main__ as command,
    ablation,
    classical,
    experiment,
    tables,
    windows,
)
from examples.benchmarks.imputation.autoencoder import ResidualAutoencoder
from examples.benchmarks.imputation.data import load
from examples.benchmarks.imputation.methods import METHODS, OURS
from examples.benchmarks.imputation.paper import Ensemble
from examples.benchmarks.imputation.parts import join
from examples.benchmarks.imputation.report import markdown, summarize, write_json
from examples.benchmarks.imputation.scoring import Scorer, error, standard_error, summary
from examples.benchmarks.imputation.training import train
from modimpute._held_out import HeldOut

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("MODIMPUTE_DATA", ROOT.parent / "shared" / "data"))


def save(path, train, test, **more):
    """``train`` and ``test`` are mappings of arrays; ``more`` are whole names."""
    arrays = {
        f"{s}_{n}": x for s, part in (("train", train), ("test", test)) for n, x in part.items()
    }
    np.savez(path, **arrays, **more)
    return str(path)


def planted(size, seed):
    """b is linear in a, c is noise; the class is the sign of a's first feature."""
    rng = np.random.default_rng(seed)
    a, c = rng.normal(size=(size, 4)), rng.normal(size=(size, 2))
    turn = np.arange(12).reshape(4, 3) / 6 - 1
    return {"a": a, "b": a @ turn + 5, "c": c, "labels": (a[:, 0] > 0).astype(np.int64)}


@pytest.fixture
def file(tmp_path):
    return save(tmp_path / "planted.npz", planted(120, 0), planted(60, 1))


def arguments(file, *more, names="abc"):
    return ["--data", str(file), "--modalities", *names, *more]


class TestData:
    def test_standardised_on_train_clipped_and_without_constant_columns(self, tmp_path):
        rng = np.random.default_rng(0)
        train = {"a": rng.normal(3, 2, size=(40, 3)), "b": rng.normal(size=(40, 1))}
        train["a"][:, 1] = 7.0
        test = {n: x[:5].copy() for n, x in train.items()}
        test["a"][0] = (1e6, 9.0, -1e6)
        data = load(save(tmp_path / "x.npz", train, test), "ab")
        a = data.train.modalities["a"]
        assert a.shape == (40, 1, 2)
        torch.testing.assert_close(a.mean((0, 1)), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(a.std((0, 1), correction=0), torch.ones(2))
        assert data.test.modalities["a"][0].tolist() == [[10.0, -10.0]]
        assert abs(data.zero["a"][0].item() + 1.5) < 0.5  # -mean / deviation
        assert data.train.labels is None

    def test_lengths_and_zero_rows(self, tmp_path):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(30, 6, 2)) + 9
        x[:, 2] = 0
        x[3] = 0
        x[5, 4:] = np.nan
        lengths = np.full(30, 5)
        part = {"a": x, "b": x.copy(), "v": rng.normal(size=(30, 2)), "a_lengths": lengths}
        path = save(tmp_path / "x.npz", part, part)
        data = load(path, ("a", "b", "v"))
        valid = data.train.valid
        assert valid["a"][0].tolist() == [True, True, False, True, True, False]
        assert valid["b"][0].tolist() == [True, True, False, True, True, True]
        assert not valid["a"][3].any()
        assert valid["b"][5].tolist() == [True, True, False, True, False, False]
        assert valid["v"].all()
        assert (data.train.modalities["a"][~valid["a"]] == 0).all()
        first = data.train.modalities["a"][valid["a"]]
        torch.testing.assert_close(first.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
        real = load(path, ("a", "b", "v"), zeros_are_real=["a"]).train.valid
        assert real["a"][3].tolist() == [True] * 5 + [False]
        assert not real["b"][3].any()
        every = load(path, ("a", "b", "v"), zeros_are_real=True).train.valid
        assert every["b"][3].all()
        # A sample that lacks the modality would have the steps that others of its length have.
        assert data.train.exists["a"][3].all()

    def test_one_lengths_array_serves_all_and_splits_are_padded_to_one_length(self, tmp_path):
        rng = np.random.default_rng(0)
        train = {"a": rng.normal(size=(9, 4, 1)), "b": rng.normal(size=(9, 4, 1))}
        train |= {"lengths": np.full(9, 3), "labels": rng.normal(size=(9, 4))}
        test = {n: x[:, :2] if x.ndim > 1 else x - 1 for n, x in train.items()}
        data = load(save(tmp_path / "x.npz", train, test), "ab")
        assert data.train.valid["b"].sum(1).tolist() == [3] * 9
        assert data.test.modalities["a"].shape == (9, 4, 1)
        assert data.test.valid["a"].sum(1).tolist() == [2] * 9
        # Labels per step: their mean over the real steps.
        np.testing.assert_allclose(data.train.labels, train["labels"][:, :3].mean(1))
        classes = {**train, "labels": np.array([[1, 2, 2, 1]] * 9)}
        same = load(save(tmp_path / "y.npz", classes, classes), "ab")
        assert same.train.labels.tolist() == [2] * 9

    def test_a_missing_validation_split_is_taken_from_train(self, file, tmp_path):
        data = load(file, "abc")
        kept, held = data.split(0)
        assert (len(kept), len(held)) == (96, 24)
        shares = [[part.labels.mean() for part in data.split(seed)] for seed in range(5)]
        assert np.ptp(shares, 1).max() < 0.03  # stratified
        rows = torch.cat([kept.modalities["a"], held.modalities["a"]])[:, 0]
        everything = data.train.modalities["a"][:, 0]
        assert torch.equal(rows.sort(0).values, everything.sort(0).values)
        assert torch.equal(data.split(0)[1].modalities["a"], held.modalities["a"])
        assert not torch.equal(data.split(1)[1].modalities["a"], held.modalities["a"])
        with np.load(file) as saved:
            arrays = dict(saved)
        arrays |= {key.replace("test", "valid"): x for key, x in arrays.items() if "test" in key}
        np.savez(tmp_path / "whole.npz", **arrays)
        whole = load(str(tmp_path / "whole.npz"), "abc")
        assert [len(part) for part in whole.split(0)] == [120, 60]

    def test_groups_are_numbered_within_a_split(self, tmp_path):
        train = planted(40, 0) | {"speaker": np.repeat(np.arange(8), 5)}
        test = planted(20, 1) | {"speaker": np.repeat(list("ab"), 10)}
        data = load(save(tmp_path / "x.npz", train, test), "abc", groups="speaker")
        parts = data.split(3)
        assert not set(parts[0].groups) & set(parts[1].groups)
        assert sorted(set(join(data.train, data.test).groups)) == list(range(10))
        hidden = data.test.hide(["a"])
        assert set(hidden.modalities) == set(hidden.valid) == {"b", "c"}
        assert set(hidden.exists) == {"a", "b", "c"}
        assert hidden.labels is None
        assert hidden.groups is not None
        assert load(save(tmp_path / "x.npz", train, test), "abc").train.groups is None

    def test_errors(self, file, tmp_path):
        with pytest.raises(ValueError, match="the file must have train_x, however: it has test_a"):
            load(file, ("a", "x"))
        with pytest.raises(ValueError, match="must have train_x, however"):
            load(file, ("x", "y"))
        flat = {"a": np.zeros((9, 2)), "b": np.zeros((9, 2))}
        with pytest.raises(ValueError, match="a feature that varies, however: train has none"):
            load(save(tmp_path / "x.npz", flat, flat), "ab")
        uneven = {"a": np.eye(9), "b": np.eye(8)}
        with pytest.raises(ValueError, match="the same samples, however: train has"):
            load(save(tmp_path / "x.npz", uneven, uneven), "ab")

    def test_digits_are_vectors(self):
        data = load("digits")
        assert len(data.train) == 1437
        assert len(data.test) == 360
        shapes = {n: x.shape[1:] for n, x in data.test.modalities.items()}
        assert shapes["middle"] == (1, 16)


class TestMethods:
    @pytest.mark.parametrize("name", ["ridge", "iterative"])
    def test_a_linear_law_is_found(self, file, name):
        data = load(file, "abc")
        method = METHODS[name](data)
        method.fit(*data.split(0), ("a", "c"), ("b",), 0)
        filled = method.predict(data.test.hide(["b"]))
        assert error(data.test, filled, np.arange(60)) < 1e-3
        method.fit(*data.split(0), ("a", "b"), ("c",), 0)
        noise = method.predict(data.test.hide(["c"]))
        assert 0.8 < error(data.test, noise, np.arange(60)) < 1.5

    def test_neighbours_are_those_of_scikit_learn(self, file):
        data = load(file, "abc")
        method = METHODS["knn"](data)
        method.fit(*data.split(0), ("a", "c"), ("b",), 0)
        everything = join(*data.split(0))
        x = [
            torch.cat([p.modalities["a"], p.modalities["c"]], 2)[:, 0]
            for p in (everything, data.test)
        ]
        model = KNeighborsRegressor(5, weights="distance").fit(
            x[0], everything.modalities["b"][:, 0]
        )
        said = method.predict(data.test.hide(["b"]))["b"][:, 0]
        np.testing.assert_allclose(said, model.predict(x[1]), rtol=1e-4, atol=1e-5)

    def test_steps_are_said_by_those_that_have_them(self, tmp_path):
        rng = np.random.default_rng(0)
        a = rng.normal(size=(460, 1))
        b = np.stack([a, a + 4], 1)
        b[:400:2, 1] = 0  # padding
        path = save(tmp_path / "x.npz", {"a": a[:400], "b": b[:400]}, {"a": a[400:], "b": b[400:]})
        data = load(path, "ab")
        for method in (classical.RidgeMap(), classical.Neighbours()):
            method.fit(data.train, data.train, ("a",), ("b",), 0)
            filled = method.predict(data.test.hide(["b"]))
            assert error(data.test, filled, np.arange(60)) < 0.08

    def test_windows_find_a_law_of_steps(self, tmp_path):
        rng = np.random.default_rng(0)
        a = rng.normal(size=(20, 40, 1)).cumsum(1)
        b = np.concatenate([np.roll(a, 1, 1), np.roll(a, -2, 1)], 2)
        b[:, 0], b[:, -2:] = 0, 0  # there the roll went around: not there
        part = {"a": a, "b": b}
        data = load(save(tmp_path / "x.npz", part, part), "ab")
        some, rest = data.train.rows(np.arange(15)), data.train.rows(np.arange(15, 20))
        method = windows.StepRidge()
        method.fit(some, some, ("a",), ("b",), 0)
        filled = method.predict(rest.hide(["b"]))
        assert error(rest, filled, np.arange(5)) < 1e-4
        assert method.fits["b"][0] >= 2
        x = windows.windows(rest, ["a"], 1)
        assert x.shape == (5, 40, 3)
        assert (x[:, 0, 0] == 0).all()
        assert np.array_equal(x[:, 1:, 0], rest.modalities["a"][:, :-1, 0].double().numpy())

    def test_windows_need_steps(self, file):
        data = load(file, "abc")
        with pytest.raises(windows.Inapplicable, match="of one length, however"):
            windows.StepRidge().fit(*data.split(0), ("a",), ("b",), 0)

    @pytest.mark.parametrize("kind", [Ensemble, ResidualAutoencoder])
    def test_networks_learn_something(self, file, kind, monkeypatch):
        monkeypatch.setattr("examples.benchmarks.imputation.paper.STEPS", 150)
        monkeypatch.setattr("examples.benchmarks.imputation.autoencoder.STEPS", 150)
        data, method = load(file, "abc"), kind()
        method.fit(*data.split(0), ("a", "c"), ("b",), 0)
        assert error(data.test, method.predict(data.test.hide(["b"])), np.arange(60)) < 0.5


def test_ours_is_fitted_once_and_asked_with_what_is_left(file, monkeypatch):
    monkeypatch.setattr("modimpute._training.STEPS", 20)
    data, method = load(file, "abc"), METHODS[OURS](None)
    split = data.split(0)
    method.fit(*split, ("a", "c"), ("b",), 0)
    assert error(data.test, method.predict(data.test.hide(["b"])), np.arange(60)) < 0.05
    fitted = method.ensembles["b"]
    method.fit(*split, ("c",), ("a", "b"), 0)
    assert method.ensembles["b"] is fitted
    filled = method.predict(data.test.hide(["a", "b"]))
    assert set(filled) == {"a", "b"}
    assert error(data.test, {"b": filled["b"]}, np.arange(60)) < 1.2  # c says nothing: the mean


def test_training_keeps_the_best_weights_and_stops_early():
    model, seen = torch.nn.Linear(1, 1, bias=False), []
    torch.nn.init.zeros_(model.weight)

    def distance(model):
        seen.append(abs(model.weight.item() - 0.5))
        return seen[-1]

    options = {"steps": 200, "learning_rate": 0.05, "averaging": 0.0, "patience": 3}
    best = train(model, 4, lambda model, _: -model.weight.sum(), distance, **options)
    assert best == min(seen) == abs(model.weight.item() - 0.5)
    assert seen[-1] > best
    assert len(seen) < 30


@pytest.mark.parametrize("name", METHODS)
def test_targets_are_hidden_and_missing_sources_are_answered(name, tmp_path, monkeypatch):
    monkeypatch.setattr("examples.benchmarks.imputation.paper.STEPS", 3)
    monkeypatch.setattr("examples.benchmarks.imputation.autoencoder.STEPS", 3)
    monkeypatch.setattr("examples.benchmarks.imputation.multivae.STEPS", 3)
    monkeypatch.setattr("modimpute._training.STEPS", 3)
    rng = np.random.default_rng(0)
    answers = []
    known = {n: rng.normal(size=(40, 4, 2)) for n in "ab"}
    known["a"][:10] = 0  # lack it
    test = {n: rng.normal(size=(12, 4, 2)) for n in "ab"}
    test["a"][:3] = 0
    for values in (test["b"], np.full((12, 4, 2), 1e9), np.full((12, 4, 2), np.nan)):
        path = save(tmp_path / "x.npz", known, test | {"b": values})
        data = load(path, "ab")
        try:
            method = METHODS[name](data)
        except windows.Inapplicable as reason:
            pytest.skip(str(reason))
        method.fit(*data.split(0), ("a",), ("b",), 0)
        answers.append(method.predict(data.test.hide(["b"]))["b"])
    assert answers[0].shape == (12, 4, 2)
    assert answers[0].isfinite().all()
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_parts_are_taken_away(file, monkeypatch):
    monkeypatch.setattr("modimpute._training.STEPS", 5)
    choose = HeldOut.choose
    data = load(file, "ab")
    found = ablation.ablate(data, "b", 0, Scorer(data))
    assert HeldOut.choose is choose
    errors, scores = found["errors"], found["scores"]
    assert set(scores) == set(errors)
    assert scores[ablation.KEPT] > 0.9  # the label follows from a
    others = {ablation.KEPT, ablation.DRAWN, ablation.SOURCES, ablation.SCALES}
    assert set(errors) == {*others, *ablation.PARTS}
    # b is linear in a: without the kernels, which know it, nobody does as well.
    assert errors[ablation.KEPT] < 0.02
    assert errors["both kernels"] > 3 * errors[ablation.KEPT]
    assert errors["networks"] < 1.5 * errors[ablation.KEPT] + 1e-3
    row = {"set": "x", "target": "b", "seed": 0} | found
    cells = [list(column.cells) for column in ablation.table([row, row]).columns]
    at = cells[0].index("retrieval")
    assert cells[1][at] == f"{errors['retrieval'] / errors[ablation.KEPT]:.3f}"
    assert cells[4][at] == f"{scores['retrieval'] - scores[ablation.KEPT]:+.3f}"


def test_ablation_goes_on_where_it_stopped(monkeypatch, tmp_path):
    asked = []

    def ablate(_, target, seed, __):
        asked.append((target, seed))
        if len(asked) == 3:
            raise KeyboardInterrupt
        values = dict.fromkeys([ablation.KEPT, ablation.DRAWN, ablation.SCALES], 1.0)
        values |= dict.fromkeys(ablation.PARTS, 2.0)
        return {"errors": values, "scores": {}}

    monkeypatch.setattr(ablation, "ablate", ablate)
    options = ["--all", str(tmp_path), "--seeds", "2", "--json", str(tmp_path / "out.json")]
    with pytest.raises(KeyboardInterrupt):
        ablation.main(options)
    assert ablation.main(options) == 0
    strips = [(strip, seed) for strip in ("left", "middle", "right") for seed in (0, 1)]
    assert asked == [*strips[:3], *strips[2:]]


class TestScoring:
    def test_summary_by_hand(self):
        x = {
            "s": torch.tensor([[[1.0], [5.0], [9.0]], [[5.0], [5.0], [5.0]]]),
            "v": torch.ones(2, 1, 2),
        }
        valid = {
            "s": torch.tensor([[True, True, False], [False] * 3]),
            "v": torch.tensor([[True], [True]]),
        }
        rows = summary(x, valid, ("s", "v"))
        assert rows[0].tolist() == [3, 2, 1, 1]
        assert np.isnan(rows[1, :2]).all()

    def test_error_by_hand(self, file):
        part = load(file, "abc").test
        filled = {"a": part.modalities["a"] + 2, "b": part.modalities["b"] + 1}
        assert abs(error(part, filled, np.arange(60)) - 2.5) < 1e-5

    def test_accuracy_and_r2(self, file, tmp_path):
        data = load(file, "abc")
        everything = np.arange(60)
        scorer = Scorer(data)
        assert scorer(data.test, {}, everything).mean() > 0.9
        lost = {"a": torch.zeros_like(data.test.modalities["a"]), "b": torch.zeros(60, 1, 3)}
        assert scorer(data.test, lost, everything).mean() < 0.7
        parts = [planted(n, n) for n in (120, 60)]
        for part in parts:
            part["labels"] = np.stack([part["a"][:, 0], part["b"].sum(1)], 1)
        data = load(save(tmp_path / "x.npz", *parts), "abc")
        assert scorer.classes
        scorer = Scorer(data)
        assert not scorer.classes
        assert scorer(data.test, {}, everything).mean() > 0.99
        gains = scorer(data.test, lost, everything)
        assert gains.shape == (60,)
        x = summary({**data.test.modalities, **lost}, data.test.valid, data.modalities)
        expected = r2_score(data.test.labels, scorer.model.predict(x))
        assert abs(gains.mean() - expected) < 1e-9

    def test_standard_error(self):
        rng = np.random.default_rng(1)
        x = rng.normal(size=400)
        assert abs(standard_error(x) - x.std() / 20) < 0.005
        twice = np.repeat(x[:100], 4)
        groups = np.repeat(np.arange(100), 4)
        assert abs(standard_error(twice, groups) / standard_error(twice) - 2) < 0.2

    def test_a_modality_that_a_sample_lacks_counts_as_the_mean(self, tmp_path):
        train, test = planted(120, 0), planted(60, 1)
        for part in (train, test):
            part["s"] = np.random.default_rng(2).normal(size=(len(part["a"]), 5, 2))
        train["s"][:40] = 0
        test["s"][:30] = 0
        data = load(save(tmp_path / "x.npz", train, test), ("a", "s"))
        scorer = Scorer(data)
        assert data.train.has(["a", "s"]).sum() == 80
        assert scorer(data.test, {}, np.arange(60)).mean() > 0.85
        zeros = {"s": torch.zeros_like(data.test.modalities["s"])}
        assert scorer(data.test, zeros, np.flatnonzero(data.test.has(["s"]))).shape == (30,)


class TestExperiment:
    def test_form_of_the_file(self, file, tmp_path, capsys):
        out = tmp_path / "out.json"
        assert command.main(arguments(file, "--quick", "--seeds", "2", "--json", str(out))) == 0
        report = json.loads(out.read_text())
        methods = {row["method"] for row in report["rows"]}
        assert {"zero", "mean", "ridge", "knn"} <= methods
        assert not methods & {"iterative", "autoencoder", "multivae", "paper"}
        assert all(set(r) == {"target", "method", "seed", "mse", "score"} for r in report["rows"])
        cells = {(r["target"], r["seed"]) for r in report["rows"] if r["method"] == "ridge"}
        assert cells == {(target, seed) for target in "abc" for seed in (0, 1)}
        assert report["summary"]["targets"]["b"]["best"] == "ridge"
        assert report["several"] == []
        assert report["versions"]["torch"]
        assert "ridge" in capsys.readouterr().out
        assert not list(tmp_path.glob("*.part"))

    def test_a_killed_run_goes_on(self, file, tmp_path, monkeypatch):
        out, calls, original = tmp_path / "out.json", [], classical.RidgeMap.predict

        def predict(self, part):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return original(self, part)

        monkeypatch.setattr(classical.RidgeMap, "predict", predict)
        line = arguments(file, "--methods", "mean", "ridge", "--json", str(out))
        assert command.main(line) == 130
        saved = json.loads(out.read_text())["rows"]
        assert [row["method"] for row in saved] == ["mean"] * 3 + ["ridge"]
        assert command.main(line) == 0
        assert len(calls) == 4  # the first target is not done again
        rows = json.loads(out.read_text())["rows"]
        assert rows[:4] == saved
        assert len(rows) == 6
        assert command.main([*line, "--again", "ridge"]) == 0
        assert len(calls) == 7
        assert command.main([*line, "--seeds", "3"]) == 0
        assert len(calls) == 7  # it says the same for every seed
        assert len(json.loads(out.read_text())["rows"]) == 18

    def test_a_file_of_other_settings_is_not_continued(self, file, tmp_path, capsys):
        out = str(tmp_path / "out.json")
        assert command.main(arguments(file, "--methods", "mean", "--json", out)) == 0
        line = arguments(file, "--methods", "mean", "--json", out, names="ab")
        assert command.main(line) == 2
        assert "must be of the same data and settings" in capsys.readouterr().out

    def test_half_of_four_modalities(self, tmp_path):
        parts = [planted(n, n) for n in (60, 30)]
        for part in parts:
            part["d"] = part["a"] + part["b"][:, :1]
        path, out = save(tmp_path / "x.npz", *parts), tmp_path / "out.json"
        assert (
            command.main(arguments(path, "--methods", "ridge", "--json", str(out), names="abcd"))
            == 0
        )
        report = json.loads(out.read_text())
        assert len(report["rows"]) == 4
        assert len(report["several"]) == 3
        assert all(row["target"].count("+") == 1 for row in report["several"])

    def test_summary_by_hand(self):
        cells = [("x", "ridge", 1.0), ("x", OURS, 0.5), ("y", "ridge", 2.0), ("y", OURS, 4.0)]
        rows = [
            {"target": t, "method": m, "seed": s, "mse": v * (1 + s), "score": 0.5}
            for t, m, v in cells
            for s in (0, 1)
        ]
        samples = {f"{r['target']} {r['method']} {r['seed']}": "1 0" for r in rows}
        report = {"rows": rows, "several": [], "samples": samples, "skipped": {}}
        report["complete"] = {"x": 0.9, "y": None}
        result = summarize(report)
        assert abs(result["geometric_mean"] - 1) < 1e-12
        assert result["targets"]["x"]["ratio"] == 0.5
        assert result["targets"]["x"]["score_difference"] == 0
        assert abs(result["targets"]["y"]["ratio_std"] - 2 / 3 * 2**0.5) < 1e-9
        text = markdown({"digits": report | {"summary": result}})
        assert "| digits | x | 1.500 ± 0.707 | 0.750 ± 0.354 | 0.50 |" in text
        assert "| digits | x | 0.500 | 0.500 | +0.000 ± 0.000 | 0.900 |" in text
        assert "Geometric mean of the ratios, sets with signal: 1.000" in text

    def test_all_sets_of_a_folder(self, tmp_path, capsys):
        out = tmp_path / "out"
        line = ["--all", str(tmp_path), "--methods", "mean", "knn", "--json", str(out)]
        assert command.main(line) == 0
        assert sorted(path.name for path in out.iterdir()) == ["digits.json", "table.md"]
        assert "python -m examples.benchmarks.prepare mfeat" in capsys.readouterr().out

    def test_command_line(self, file, capsys):
        for line in (["--data", "x.npz"], ["--methods", "magic"], ["--targets", "x"]):
            with pytest.raises(SystemExit):
                command.parse(line)
        assert command.main(arguments("nowhere.npz")) == 2
        assert "nowhere.npz" in capsys.readouterr().out
        assert command.parse(arguments(file, "--zeros-are-real")).zeros_are_real is True
        assert tuple(METHODS) == command.METHODS

    def test_numbers_must_be_finite(self, tmp_path):
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "x.json", {"mse": float("nan")})

    @pytest.mark.parametrize("name", ["mfeat", "av_digits", "basic_motions", "mosi", "pom"])
    def test_real_sets(self, name):
        if not FOLDER.is_dir():
            pytest.skip(f"the data are not here: {FOLDER} (set MODIMPUTE_DATA)")
        own = experiment.found(FOLDER)[0][name]
        options = command.parse(["--methods", "mean"])
        report = experiment.run(experiment.argparse.Namespace(**(vars(options) | own)))
        targets = own.get("targets", own["modalities"])
        assert [row["target"] for row in report["rows"]] == sorted(targets)
        assert all(0.3 < row["mse"] < 2 for row in report["rows"])


class TestPrepare:
    def test_mfeat_from_its_files(self, tmp_path):
        labels = np.repeat(np.arange(10), 200)
        for i, short in enumerate(prepare.VIEWS.values()):
            table = np.stack([np.arange(2000) + i, labels], 1)
            np.savetxt(tmp_path / f"mfeat-{short}.csv", table, delimiter=",", header="0,1")
        out = ["--source", str(tmp_path), "--out", str(tmp_path / "data")]
        assert prepare.main(["mfeat", *out]) == 0
        with np.load(tmp_path / "data" / "mfeat_digits.npz") as file:
            assert [len(file[f"{s}_labels"]) for s in ("train", "valid", "test")] == [
                1200,
                300,
                500,
            ]
            rows = np.concatenate([file[f"{s}_fourier"] for s in ("train", "valid", "test")])
            assert sorted(rows[:, 0]) == list(range(2000))
            assert np.array_equal(file["test_profile"] - 4, file["test_fourier"])

    def test_motions_from_their_files(self, tmp_path):
        line = ":".join(",".join(str(10 * c + t) for t in range(4)) for c in range(6))
        for split in ("TRAIN", "TEST"):
            text = f"#\n@data\n{line}:Walking\n{line}:Running\n"
            (tmp_path / f"BasicMotions_{split}.ts").write_text(text)
        arrays = prepare.basic_motions(tmp_path)
        assert arrays["train_acc"].shape == (2, 4, 3)
        assert arrays["test_gyro"][0, 1].tolist() == [31, 41, 51]
        assert arrays["test_labels"].tolist() == [1, 0]

    def test_series_are_cut_into_halves(self, tmp_path):
        for split in ("TRAIN", "TEST"):
            channels = [",".join(str(10 * c + t) for t in range(3)) for c in range(4)]
            shorter = [channel.rsplit(",", 1)[0] for channel in channels]
            lines = [":".join([*channels, "8"]), ":".join([*shorter, "3"])]
            text = "# of vowels\n@data\n" + "\n".join(lines) + "\n"
            (tmp_path / f"JapaneseVowels_{split}.ts").write_text(text)
            spectrum = "@data\n1,2,3,4,5:7.5\n6,7,8,9,10:0.5\n"
            for problem in ("Tecator", "GunPoint"):
                (tmp_path / f"{problem}_{split}.ts").write_text(spectrum)
        vowels = prepare.SETS["japanese_vowels"](tmp_path)
        assert vowels["train_low"].shape == vowels["train_high"].shape == (2, 3, 2)
        assert vowels["test_high"][1].tolist() == [[20, 30], [21, 31], [0, 0]]
        assert vowels["test_lengths"].tolist() == [3, 2]
        assert vowels["test_labels"].tolist() == [1, 0]
        spectra = prepare.SETS["tecator"](tmp_path)
        assert spectra["train_low"].tolist() == [[1, 2], [6, 7]]
        assert spectra["train_high"].tolist() == [[3, 4], [8, 9]]
        assert spectra["train_labels"].tolist() == [7.5, 0.5]
        assert prepare.SETS["gunpoint"](tmp_path)["test_second"].tolist() == [
            [[3], [4]],
            [[8], [9]],
        ]

    def test_a_watch_is_cut_into_pieces_by_people(self, tmp_path):
        lengths = [260 + 5 * i for i in range(20)]  # two pieces each
        recorded = {
            "X": [np.full((n, 6), i) + np.arange(6) / 10 for i, n in enumerate(lengths)],
            "y": np.arange(20) % 4,
            "subject": np.arange(20) // 2 + 1,
        }
        np.save(tmp_path / "watch_dataset.npy", recorded, allow_pickle=True)
        arrays = prepare.SETS["watch"](tmp_path)
        people = {split: set(arrays[f"{split}_subject"]) for split in ("train", "valid", "test")}
        assert [len(people[split]) for split in people] == [6, 1, 3]
        assert set.union(*people.values()) == set(range(1, 11))
        assert arrays["train_acc"].shape == arrays["train_gyro"].shape == (24, 128, 3)
        number = arrays["test_acc"][:, 0, 0].astype(int)
        assert (arrays["test_gyro"][:, 5] == np.float32(number[:, None] + [0.3, 0.4, 0.5])).all()
        assert (arrays["test_labels"] == number % 4).all()
        assert (arrays["test_subject"] == number // 2 + 1).all()

    def test_mice_are_split(self, tmp_path):
        for name, width in (("gene", 3), ("lipid", 2)):
            table = np.arange(10)[:, None] + 10 * np.arange(width)
            np.savetxt(tmp_path / f"{name}.csv", table, delimiter=",", header="names")
        (tmp_path / "diet.csv").write_text("diet\n" + "sun\nfish\n" * 5)
        out = ["--source", str(tmp_path), "--out", str(tmp_path)]
        assert prepare.main(["nutrimouse", *out]) == 0
        arrays = np.load(tmp_path / "nutrimouse.npz")
        rows = {split: arrays[f"{split}_gene"][:, 0] for split in ("train", "test")}
        assert sorted(np.concatenate([*rows.values()])) == list(range(10))
        assert len(rows["test"]) == 3
        assert (arrays["test_lipid"] == rows["test"][:, None] + [0, 10]).all()
        assert (arrays["train_labels"] == (rows["train"] + 1) % 2).all()  # sun is the second

    def test_bands_of_a_tone(self, tmp_path):
        wave = np.sin(2 * np.pi * 1000 * np.arange(4000) / prepare.RATE)
        prepare.wavfile.write(tmp_path / "tone.wav", prepare.RATE, (wave * 9000).astype(np.int16))
        bands = prepare.log_mel(tmp_path / "tone.wav")
        assert bands.shape == (24, 24)  # 1 + (4000 - 256) // 160 frames
        mel = 2595 * np.log10(1 + np.array([60, 1000, 4000]) / 700)
        place = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 25 - 1
        assert (abs(bands.argmax(1) - place) < 1).all()

    def test_only_numbers_are_unpickled(self, tmp_path):
        good, bad = tmp_path / "good.pkl", tmp_path / "bad.pkl"
        good.write_bytes(prepare.pickle.dumps([{"a": np.float32(1.5)}, np.arange(3)]))
        assert prepare._plain(good)[0] == {"a": 1.5}
        bad.write_bytes(prepare.pickle.dumps(print))
        with pytest.raises(prepare.pickle.UnpicklingError, match=r"however: builtins\.print"):
            prepare._plain(bad)
        good.write_bytes(prepare.pickle.dumps(np.arange(300, dtype=float), protocol=2))
        assert b"_codecs" in good.read_bytes()  # as the files of old versions
        assert (prepare._plain(good) == np.arange(300)).all()
        bad.write_bytes(good.read_bytes().replace(b"latin1", b"base64"))
        with pytest.raises(prepare.pickle.UnpicklingError, match="latin1, however: 'base64'"):
            prepare._plain(bad)

    @pytest.mark.parametrize("name", tables.TABLES)
    def test_tables_hold_each_row_once(self, name, tmp_path):
        assert prepare.main([name, "--out", str(tmp_path)]) == 0
        arrays = np.load(tmp_path / f"{name}.npz")
        names = tuple(tables.TABLES[name])
        columns = [np.concatenate([arrays[f"{s}_{m}"] for s in ("train", "test")]) for m in names]
        expected = getattr(datasets, f"load_{name}")().data.astype(np.float32)
        found = np.concatenate(columns, 1)
        assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
        data = load(str(tmp_path / f"{name}.npz"), names)
        assert data.test.has(data.modalities).all()
        assert len(data.test.labels) == len(data.test)

    def test_a_table_of_keel_from_its_file(self, tmp_path):
        rows = np.arange(2000)
        lines = [",".join(map(str, [*range(r, r + 36), f" {r % 3}"])) for r in rows]
        (tmp_path / "satimage.dat").write_text("@relation x\n@data\n" + "\n".join(lines) + "\n")
        out = ["--source", str(tmp_path), "--out", str(tmp_path)]
        assert prepare.main(["satimage", *out]) == 0
        arrays = np.load(tmp_path / "satimage.npz")
        first = {split: arrays[f"{split}_band0"][:, 0] for split in ("train", "test")}
        assert [len(x) for x in first.values()] == [1200, 600]
        assert not set(first["train"]) & set(first["test"])
        assert np.array_equal(arrays["test_band3"][:, 8], first["test"] + 35)
        assert np.array_equal(arrays["train_labels"], first["train"] % 3)
        assert prepare.main(["satimage_whole", *out]) == 0
        whole = np.load(tmp_path / "satimage_whole.npz")
        assert [len(whole[f"{split}_labels"]) for split in ("train", "test")] == [1400, 600]
        assert len({*whole["train_band0"][:, 0], *whole["test_band0"][:, 0]}) == 2000
        # Of a small table, three tenths are the test.
        (tmp_path / "satimage.dat").write_text("\n".join(lines[:10]))
        small = prepare.keel_table(tmp_path, "satimage")
        assert [len(small[f"{split}_labels"]) for split in ("train", "test")] == [7, 3]

    @pytest.mark.parametrize("name", tables.KEEL)
    def test_no_column_of_keel_stands_in_two_modalities(self, name):
        columns = [c for part in tables.KEEL[name].values() for c in part]
        assert sorted(columns) == list(range(len(columns)))

    def test_a_source_that_is_not_there(self, tmp_path, capsys):
        assert prepare.main(["av_digits", "--out", str(tmp_path)]) == 2
        assert "give --source" in capsys.readouterr().out
        assert prepare.main(["pom", "--source", str(tmp_path), "--out", str(tmp_path)]) == 2


class TestLearningCurve:
    def test_more_samples_help_and_a_run_goes_on(self, tmp_path, capsys):
        out = tmp_path / "out.json"
        options = ["--methods", "mean", "ridge", "knn", "--largest", "300", "--json", str(out)]
        assert learning_curve.main(["--data", "synthetic", *options]) == 0
        rows = json.loads(out.read_text())["rows"]
        found = {(row["size"], row["method"]): row["mse"] for row in rows}
        assert found[300, "ridge"] < found[100, "ridge"] < found[100, "mean"]
        assert learning_curve.main(["--data", "synthetic", *options]) == 0
        assert json.loads(out.read_text())["rows"] == rows
        assert "samples" in capsys.readouterr().out
