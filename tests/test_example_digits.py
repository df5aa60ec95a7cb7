import json
import signal

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
pytest.importorskip("rich")
pytest.importorskip("sklearn")

from sklearn.neighbors import KNeighborsRegressor

from examples.digits import __main__ as command
from examples.digits.baselines import fit_baselines, inverse_distance, mse
from examples.digits.data import STRIPS, fill, load_split, source_pixels, target_pixels
from examples.digits.evaluation import CLASSICAL, METHODS
from examples.digits.model import ModelConfig, StripModel
from examples.digits.recipe import fit, impute
from examples.digits.report import closing_lines, geometric_mean, statistics, summarize, write_json
from tests.processes import interrupted


class TestData:
    def test_test_rows_are_the_same_for_every_seed_and_nowhere_else(self):
        first, second = load_split(0), load_split(1)
        assert np.array_equal(first.test.rows, second.test.rows)
        assert not np.array_equal(first.train.rows, second.train.rows)
        for split in (first, second):
            parts = (split.train.rows, split.validation.rows, split.test.rows)
            assert [len(rows) for rows in parts] == [1149, 288, 360]
            assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1797))

    def test_in_development_nobody_sees_the_test_rows(self):
        split, development = load_split(0), load_split(0, development=True)
        assert np.array_equal(development.test.rows, split.validation.rows)
        rows = np.concatenate([development.train.rows, development.validation.rows])
        assert np.array_equal(np.sort(rows), np.sort(split.train.rows))

    def test_strips_make_up_the_image(self):
        images = np.arange(128, dtype=np.float32).reshape(2, 8, 8)
        for missing in STRIPS:
            hidden = fill(
                images, missing, np.full((2, target_pixels(images, missing).shape[1]), -1)
            )
            assert (hidden == -1).sum() == target_pixels(images, missing).size
            assert np.array_equal(fill(hidden, missing, target_pixels(images, missing)), images)
            assert np.array_equal(source_pixels(hidden, missing), source_pixels(images, missing))
        assert target_pixels(images, "middle")[0, :4].tolist() == [3, 4, 11, 12]


class TestBaselines:
    def test_error_by_hand(self):
        assert mse(np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]])) == 2.5

    def test_weights_by_hand(self):
        assert inverse_distance(np.array([2.0, 4.0]), 2).tolist() == [0.25, 0.0625]
        assert inverse_distance(np.array([2.0, 4.0]), 0).tolist() == [1.0, 1.0]
        assert np.isfinite(inverse_distance(np.array([0.0]), 6)).all()

    def test_choices_are_the_best_on_validation(self):
        split = load_split(0)
        imputers, chosen = fit_baselines(split.train, split.validation, "middle")
        x = source_pixels(split.validation.images, "middle")
        y = target_pixels(split.validation.images, "middle")
        errors = {name: mse(imputer(x), y) for name, imputer in imputers.items()}
        assert errors["knn"] < errors["ridge"] < errors["mean"] < errors["zero"]
        assert set(chosen) == {"ridge", "knn"}
        pixels = source_pixels(split.train.images, "middle")
        usual = KNeighborsRegressor(5, weights="distance")
        usual.fit(pixels, target_pixels(split.train.images, "middle"))
        # Chosen on the validation rows, then fitted to them, too: it knows their answers.
        assert errors["knn"] <= mse(usual.predict(x), y)


def made_up_run(ours, best):
    methods = {name: {"mse": 2 * best, "accuracy": 0.5} for name in METHODS}
    methods["knn"]["mse"], methods["modimpute"]["mse"] = best, ours
    strip = {"methods": methods, "fusion_accuracy": 0.75, "shares": {"kernel": ours / 4}}
    return {"seconds": 1.0, "complete_accuracy": 1.0, "strips": dict.fromkeys(STRIPS, strip)}


class TestReport:
    def test_statistics_by_hand(self):
        found = statistics([1.0, 3.0])
        assert found == {
            "mean": 2.0,
            "std": pytest.approx(2**0.5),
            "standard_error": pytest.approx(1.0),
        }
        assert statistics([4.0]) == {"mean": 4.0, "std": None, "standard_error": None}
        assert geometric_mean([1.0, 2.0, 4.0]) == pytest.approx(2.0)

    def test_summary_by_hand(self):
        summary = summarize([made_up_run(1.0, 2.0), made_up_run(3.0, 4.0)])
        assert summary["ratio_geometric_mean"]["mean"] == pytest.approx(0.625)
        left = summary["strips"]["left"]
        assert left["ratio"]["mean"] == 0.625  # of 1/2 and 3/4
        assert left["methods"]["modimpute"]["mse"]["mean"] == 2.0
        assert left["methods"]["mean"]["mse"]["mean"] == 6.0
        assert left["fusion_accuracy"]["mean"] == 0.75
        assert left["shares"]["kernel"]["mean"] == 0.5
        assert "Shares, left strip: 50% kernel" in closing_lines(summary)

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "report.json"
        write_json(path, {"seeds": [0]})
        with pytest.raises(TypeError):
            write_json(path, {"seeds": [0, object()]})
        assert json.loads(path.read_text()) == {"seeds": [0]}


class TestModel:
    @pytest.mark.parametrize("missing", STRIPS)
    def test_the_missing_strip_is_never_read(self, missing):
        model = StripModel(ModelConfig()).eval()
        strips = load_split(0).validation.strips()
        strips = {name: x[:4] for name, x in strips.items()}
        hidden = strips | {missing: torch.full_like(strips[missing], torch.nan)}
        without = {name: x for name, x in strips.items() if name != missing}
        for other in (hidden, without):
            for x, same in zip(model(strips, missing), model(other, missing), strict=True):
                assert torch.equal(x, same)

    def test_the_classifier_trains_the_ensemble_too(self):
        model = StripModel(ModelConfig())
        logits, _ = model(load_split(0).train.strips(), "left")
        logits.square().mean().backward()
        assert all(p.grad is not None for p in model.ensembles["left"].parameters())
        assert all(p.grad is None for p in model.ensembles["right"].parameters())


def test_tolerance_is_spent_on_strips_that_vary_more():
    split, device = load_split(0, development=True), torch.device("cpu")
    averaged, plausible = (
        impute(fit(split, "left", 0, device, tolerance=x, quick=True), split.test, "left", device)
        for x in (0.0, 0.05)
    )
    assert plausible.var() > 1.05 * averaged.var()
    target = target_pixels(split.test.images, "left")
    assert mse(averaged, target) < mse(plausible, target) < 1.1 * mse(averaged, target)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    assert command.main(["--quick", "--seed", "3", "--out", str(out)]) == 0
    return out, json.loads((out / "report.json").read_text())


class TestCommand:
    def test_schema_of_the_report(self, quick):
        _, report = quick
        assert report["evaluated_on"] == "test"
        assert report["tolerance"] == command.TOLERANCE
        assert [run["seed"] for run in report["seeds"]] == [3]
        for run in report["seeds"]:
            assert list(run["strips"]) == list(STRIPS)
            for strip in run["strips"].values():
                assert list(strip["methods"]) == list(METHODS)
                for method in strip["methods"].values():
                    assert set(method) == {"mse", "accuracy"}
        for strip in report["summary"]["strips"].values():
            for method in strip["methods"].values():
                assert set(method["mse"]) == {"mean", "std", "standard_error"}

    def test_better_than_zero_filling(self, quick):
        for strip in quick[1]["seeds"][0]["strips"].values():
            errors = {name: method["mse"] for name, method in strip["methods"].items()}
            assert errors["modimpute"] < errors["zero"]
            assert min(errors[name] for name in CLASSICAL) == errors["knn"]

    def test_saves_a_picture_and_nothing_half_written(self, quick):
        out, _ = quick
        assert sorted(path.name for path in out.iterdir()) == ["digits.png", "report.json"]
        assert (out / "digits.png").read_bytes().startswith(b"\x89PNG")

    def test_bad_arguments(self, capsys):
        with pytest.raises(SystemExit) as caught:
            command.parse(["--seeds", "0"])
        assert caught.value.code == 2
        assert "must be 1 or more, however: 0" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            command.parse(["--tolerance", "-1"])
        assert "must be 0 or more, however: -1" in capsys.readouterr().err

    def test_interrupt_keeps_what_is_finished(self, tmp_path):
        report = tmp_path / "report.json"
        arguments = ["examples.digits", "--quick", "--seeds", "1000", "--out", str(tmp_path)]
        status, text = interrupted(arguments, report.exists, tmp_path / "log")
        assert status in (130, -signal.SIGINT)  # the signal itself: met inside exec
        assert text.count("Traceback") == text.count("Exception ignored")
        assert text.strip().splitlines()[-1].startswith("Interrupted.")
        assert len(json.loads(report.read_text())["seeds"]) >= 1
