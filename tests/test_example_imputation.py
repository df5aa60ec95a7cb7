import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("rich")
pytest.importorskip("sklearn")

from sklearn.impute import KNNImputer

from examples.imputation import __main__ as command
from examples.imputation.data import DataSet, Part, load
from examples.imputation.evaluation import Classifier, drop_half, gaps
from examples.imputation.methods import (
    Neighbours,
    imputing,
    interpolate,
    mean_error,
    means,
    own_mean,
    squared_errors,
    zeros,
)
from examples.imputation.recipe import hide, train_imputer
from examples.imputation.report import statistics, write_json
from modimpute import ModalityImputer, drop_pattern

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("MODIMPUTE_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="module")
def digits():
    return load("digits", Path(), seed=0)


def small(data):
    torch.manual_seed(0)
    return ModalityImputer(
        data.dims, aligned=data.aligned, model_dim=16, num_heads=2, num_layers=1
    )


def pair(part):
    return part.modalities, part.valid


def made_up(size, dims, length=1, labels=2):
    generator = torch.Generator().manual_seed(size)
    modalities = {n: torch.randn(size, length, d, generator=generator) for n, d in dims.items()}
    valid = {n: torch.ones(size, length, dtype=torch.bool) for n in dims}
    return Part(modalities, valid, valid, np.arange(size) % labels)


class TestData:
    def test_digits_are_three_strips_and_the_test_rows_do_not_depend_on_the_seed(self, digits):
        assert digits.dims == {"left": 3, "middle": 2, "right": 3}
        assert [len(part) for part in (digits.train, digits.validation, digits.test)] == [
            1149,
            288,
            360,
        ]
        other = load("digits", Path(), seed=1)
        assert np.array_equal(digits.test.labels, other.test.labels)
        assert not np.array_equal(digits.train.labels, other.train.labels)
        everything = digits.train.modalities["right"]
        assert everything.mean().abs() < 0.1
        assert abs(everything.square().mean() - 1) < 0.2

    def test_files_of_ones_own(self, tmp_path):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(24, 5, 2)), rng.normal(size=(24, 3))
        b[4] = np.nan
        arrays = {"a": a, "b": b, "a_lengths": np.arange(24) % 5 + 1, "labels": np.arange(24) % 2}
        splits = ("train", "test")
        file = {f"{split}_{key}": x for split in splits for key, x in arrays.items()}
        np.savez(tmp_path / "mine.npz", **file)
        data = load(str(tmp_path / "mine.npz"), Path(), 0, ("a", "b"))
        assert (len(data.train), len(data.validation), len(data.test)) == (18, 6, 24)
        assert data.dims == {"a": 2, "b": 3}
        assert not data.aligned
        assert data.flat == ("b",)
        assert data.sequences == ("a",)
        assert data.test.valid["a"].sum(1).tolist() == arrays["a_lengths"].tolist()
        assert (~data.test.valid["b"]).nonzero().tolist() == [[4, 0]]
        assert data.test.exists["b"].all()
        assert all(x.isfinite().all() for x in data.test.modalities.values())

    @pytest.mark.parametrize("name", ["mfeat", "basic_motions", "av_digits", "pom"])
    def test_real_sets(self, name):
        if not FOLDER.is_dir():
            pytest.skip(f"the data are not here: {FOLDER} (set MODIMPUTE_DATA)")
        data = load(name, FOLDER, seed=0)
        for part in (data.train, data.validation, data.test):
            assert len(part) == len(part.modalities[min(data.dims)])
            assert all(x.isfinite().all() for x in part.modalities.values())
            assert all((part.exists[n] | ~part.valid[n]).all() for n in data.dims)
        assert set(data.flat) <= set(data.dims)


class TestRecipe:
    def test_hides_some_of_what_there_is_and_never_all(self):
        valid = {"a": torch.rand(64, 12) < 0.8, "b": torch.rand(64, 12) < 0.5}
        batch = {n: torch.full((64, 12, 2), torch.nan) for n in valid}
        seen = torch.zeros(2)
        for seed in range(10):
            torch.manual_seed(seed)
            kept = hide(batch, valid)
            assert all((valid[n] | ~kept[n]).all() for n in valid)
            lost = torch.stack([(valid[n] & ~kept[n]).any(1) for n in sorted(valid)])
            seen += lost.float().mean(1)
        assert (seen > 1).all()
        vectors = {n: torch.ones(9, 1, dtype=torch.bool) for n in "abc"}
        kept = hide({n: torch.zeros(9, 1, 1) for n in "abc"}, vectors)
        assert torch.stack(list(kept.values())).any(0).all()

    def test_what_is_missing_is_never_read(self, digits):
        kept = drop_half(digits.train, 0)
        held = drop_half(digits.validation, 1)
        states = []
        for filler in (None, torch.nan):
            imputer = small(digits)
            pairs = []
            for part, valid in ((digits.train, kept), (digits.validation, held)):
                x = part.modalities
                if filler is not None:
                    x = {n: torch.where(valid[n].unsqueeze(-1), x[n], filler) for n in x}
                pairs.append((x, valid))
            torch.manual_seed(1)
            history = train_imputer(imputer, *pairs, steps=12, evaluations=3)
            states.append((imputer.state_dict(), history))
        assert states[0][1] == states[1][1]
        assert len(states[0][1]) == 3
        assert all(torch.equal(x, states[1][0][name]) for name, x in states[0][0].items())

    def test_keeps_the_best_weights_and_stops_early(self, digits):
        imputer = small(digits)
        history = train_imputer(
            imputer, pair(digits.train), pair(digits.train), steps=40, learning_rate=0.0,
            evaluations=20, patience=3,
        )  # fmt: skip
        assert len(history) == 4  # the first one, then three that are no better
        assert not imputer.training
        calls = []
        torch.manual_seed(0)
        assert (
            train_imputer(imputer, pair(digits.train), steps=2, on_step=lambda: calls.append(1))
            == []
        )
        assert len(calls) == 2


class TestMethods:
    def test_neighbours_are_those_of_scikit_learn(self):
        dims = {"a": 3, "b": 2}
        train, test = made_up(40, dims), made_up(12, dims)
        data = DataSet("made up", True, ("a", "b"), train, made_up(20, dims), test)
        neighbours = Neighbours(data)
        assert neighbours.errors[neighbours.k] == min(neighbours.errors.values())
        neighbours.k = 5
        kept = drop_half(test, 0)
        filled = neighbours(test.modalities, kept, test.exists)
        hidden = [
            torch.where(kept[n].unsqueeze(-1), x, torch.nan)[:, 0]
            for n, x in test.modalities.items()
        ]
        reference = KNNImputer(n_neighbors=5, weights="distance")
        reference.fit(torch.cat([x[:, 0] for x in train.modalities.values()], 1).numpy())
        expected = reference.transform(torch.cat(hidden, 1).numpy())
        ours = torch.cat([filled[n][:, 0] for n in test.modalities], 1).numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)

    def test_lines_and_means_by_hand(self):
        x = {"a": torch.tensor([[[9.0], [1.0], [9.0], [3.0], [9.0]]])}
        valid = {"a": torch.tensor([[False, True, False, True, False]])}
        exists = {"a": torch.tensor([[True, True, True, True, False]])}
        assert interpolate(x, valid, exists)["a"].flatten().tolist() == [1, 1, 2, 3, 0]
        assert own_mean(x, valid, exists)["a"].flatten().tolist() == [2, 1, 2, 3, 0]

    def test_zeros_are_zero_in_the_units_of_the_data(self, digits):
        part = digits.test
        kept = drop_pattern(part.modalities, ["left"])
        white = zeros(digits)(part.modalities, kept, part.exists)["left"]
        assert torch.equal(white, digits.zero["left"].expand_as(white))
        assert (means(digits)(part.modalities, kept, part.exists)["left"] == 0).all()

    def test_error_by_hand(self):
        part = made_up(2, {"a": 2, "b": 1})
        kept = drop_pattern(part.modalities, ["a"])
        filled = {"a": part.modalities["a"] + 2, "b": part.modalities["b"] + 5}
        assert abs(mean_error(*squared_errors(filled, part, kept)) - 4) < 1e-5
        assert np.isnan(mean_error(*squared_errors(filled, part, part.valid)))


class TestExperiment:
    def test_imputer_beats_the_means(self, digits):
        imputer = small(digits)
        torch.manual_seed(0)
        train_imputer(
            imputer, pair(digits.train), pair(digits.validation), steps=120, averaging=0.95
        )
        part = digits.validation
        methods = {"means": means(digits), "imputer": imputing(imputer)}
        kept = drop_half(part, 0)
        errors = {
            name: mean_error(*squared_errors(m(part.modalities, kept, part.exists), part, kept))
            for name, m in methods.items()
        }
        assert errors["imputer"] < 0.9 * errors["means"]
        result = gaps(methods, part, digits.sequences, seed=0)
        assert list(result) == ["2"]
        assert set(result["2"]["imputer"]) == {"left", "middle", "right", "mean"}
        assert result["2"]["imputer"]["mean"] < 0.9 * result["2"]["means"]["mean"]

    def test_classifier(self, digits):
        classifier = Classifier(digits)
        part = digits.test
        right = classifier.predict(part.modalities, part.exists) == part.labels
        assert right.mean() > 0.93

    def test_half_means_half(self):
        part = made_up(50, dict.fromkeys("abcdef", 1))
        kept = torch.cat(list(drop_half(part, 3).values()), 1)
        assert (kept.sum(1) == 3).all()
        assert (kept.sum(0) > 10).all()

    def test_quick_run(self, tmp_path, capsys):
        assert command.main(["--quick", "--out", str(tmp_path), "--validation"]) == 0
        folder = tmp_path / "digits"
        assert sorted(path.name for path in folder.iterdir()) == [
            "patterns.png",
            "rates.png",
            "report.json",
        ]
        report = json.loads((folder / "report.json").read_text())
        assert report["evaluated_on"] == "validation"
        assert set(report["rows"]) == {"zeros", "means", "kNN", "imputer"}
        assert "imputer" in capsys.readouterr().out

    def test_command_line(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            command.parse(["--data", "nonsense"])
        with pytest.raises(SystemExit):
            command.parse(["--data", "mine.npz"])
        arguments = ["--data", "mfeat", "--folder", str(tmp_path), "--out", str(tmp_path)]
        assert command.main(arguments) == 2
        assert "--folder" in capsys.readouterr().out

    def test_report(self, tmp_path):
        assert statistics([1.0]) == {"mean": 1.0, "std": None}
        assert statistics([1.0, 3.0])["mean"] == 2
        write_json(tmp_path / "report.json", {"a": 1})
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "report.json", {"a": float("nan")})
        assert json.loads((tmp_path / "report.json").read_text()) == {"a": 1}
