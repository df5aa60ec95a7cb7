"""The planted sets hold what they say, and nothing else."""

import numpy as np
import pytest
import torch

pytest.importorskip("safetensors")
pytest.importorskip("sklearn")

from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.neural_network import MLPRegressor

from examples.mosi_sentiment.data import MODALITIES, load_prepared, save_prepared
from examples.mosi_sentiment.synthetic import COUNTS, DIMS, LABELLED, LENGTH, NAMES, make


@pytest.fixture(scope="module")
def sets():
    return {name: make(name) for name in NAMES}


def steps(part):
    """What text and vision say at each step, and audio."""
    valid = part.valid["text"]
    x = torch.cat([part.modalities[n][valid] for n in ("text", "vision")], -1)
    return x.numpy(), part.modalities["audio"][valid].numpy()


def means(part, names):
    counts = part.valid["text"].sum(1, keepdim=True)
    return torch.cat([part.modalities[n].sum(1) / counts for n in names], -1).numpy()


def mae(train, test, features):
    """Of a line through 100 labels."""
    rows = train.label_valid[:, 0].numpy()
    labels = train.labels[rows, 0, 0].numpy()
    line = RidgeCV(np.logspace(-2, 4, 13)).fit(features(train)[rows], labels)
    return np.abs(line.predict(features(test)) - test.labels[:, 0, 0].numpy()).mean()


@pytest.mark.parametrize("name", NAMES)
class TestSchema:
    def test_parts(self, sets, name, tmp_path):
        data = sets[name]
        assert data.card["made"] is True
        assert data.name == f"synthetic-{name}"
        assert (data.task, data.aligned, data.stepwise) == ("regression", True, False)
        assert data.dims == DIMS
        assert data.lengths == dict.fromkeys(MODALITIES, LENGTH)
        for split, part in data.parts.items():
            assert len(part) == COUNTS[split]
            assert part.labels.shape == (COUNTS[split], 1, 1)
            assert part.labels.abs().max() <= 3
            assert part.label_valid.sum() == (LABELLED if split == "train" else COUNTS[split])
            assert (part.labels[~part.label_valid] == 0).all()
            for n in MODALITIES:
                valid = part.valid[n]
                assert valid[:, -1].all()  # padded on the left
                assert (valid[:, 1:] | ~valid[:, :-1]).all()
                assert valid.sum(1).unique().tolist() == [8, 9, 10, 11, 12]
                assert (part.modalities[n][~valid] == 0).all()
        save_prepared(tmp_path, data)
        again = load_prepared(tmp_path)
        assert torch.equal(again.test.modalities["audio"], data.test.modalities["audio"])
        assert torch.equal(again.train.label_valid, data.train.label_valid)
        assert again.card["floors"] == data.card["floors"]

    def test_the_seed_draws_the_samples(self, sets, name):
        again, other = make(name), make(name, seed=1)
        for n in MODALITIES:
            assert torch.equal(again.train.modalities[n], sets[name].train.modalities[n])
            assert not torch.equal(other.train.modalities[n], sets[name].train.modalities[n])
            assert not torch.equal(other.train.modalities[n][:200], other.valid.modalities[n])
        for key, value in other.card["floors"].items():
            assert abs(value - sets[name].card["floors"][key]) < 0.06


class TestPremises:
    def test_floors(self, sets):
        """Audio is worth a third of the error; only in one of the sets can it be known."""
        for name, data in sets.items():
            floors, labels = data.card["floors"], data.test.labels
            assert 0.9 < labels.std() < 1.1
            assert abs(floors["MAE of zero"] - labels.abs().mean()) < 1e-6
            assert floors["MAE with audio"] < 0.68 * floors["MAE with text's line"]
            known = "with audio" if name == "dependent" else "with text's line"
            assert abs(floors["MAE without audio"] - floors[f"MAE {known}"]) < 0.02
            assert abs(floors["R² of audio"] - (0.9 if name == "dependent" else 0.0)) < 0.01

    def test_audio_looks_the_same_in_both(self, sets):
        one, other = (steps(data.train)[1] for data in sets.values())
        np.testing.assert_allclose(one.mean(0), other.mean(0), atol=0.05)
        np.testing.assert_allclose(np.cov(one.T), np.cov(other.T), atol=0.05)

    @pytest.mark.parametrize("name", NAMES)
    def test_g_is_learned_from_the_steps_and_not_by_a_line(self, sets, name):
        x, y = steps(sets[name].train)
        x_test, y_test = steps(sets[name].test)
        total = ((y_test - y.mean(0)) ** 2).sum()
        line = LinearRegression().fit(x, y).predict(x_test)
        assert 1 - ((line - y_test) ** 2).sum() / total < 0.02
        options = {"learning_rate_init": 3e-3, "max_iter": 12, "tol": 0, "random_state": 0}
        net = MLPRegressor(hidden_layer_sizes=(64, 64), **options)
        with pytest.warns(UserWarning, match="Maximum iterations"):
            net.fit(x, y)
        r2 = 1 - ((net.predict(x_test) - y_test) ** 2).sum() / total
        assert (r2 > 0.8) if name == "dependent" else (r2 < 0.02)

    @pytest.mark.parametrize("name", NAMES)
    def test_labels_need_audio_and_a_hundred_are_enough(self, sets, name):
        train, test = sets[name].train, sets[name].test
        floors = sets[name].card["floors"]
        everything = mae(train, test, lambda part: means(part, ("audio", "text")))
        assert everything < 1.12 * floors["MAE with audio"]
        rest = mae(train, test, lambda part: means(part, ("text", "vision")))
        assert rest > 0.98 * floors["MAE with text's line"]


def test_unknown_name():
    with pytest.raises(ValueError, match="one of dependent, independent, however: mosi"):
        make("mosi")
