"""The model of examples.mosi_sentiment: what it reads, and what it never reads."""

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("sklearn")

from examples.mosi_sentiment.comparators import ALL, COMPARATORS, View
from examples.mosi_sentiment.data import Part
from examples.mosi_sentiment.evaluation import predict, reconstruction_quality
from examples.mosi_sentiment.losses import sum_losses
from examples.mosi_sentiment.parts import Concatenation, stretch
from examples.mosi_sentiment.presets import FAITHFUL, preset_for, shape_of
from modimpute import drop_pattern
from tests.mosi_small import KINDS, build, small

LV = View("", ("text", "vision"))


def replaced(part, name, value):
    x = part.modalities | {name: torch.full_like(part.modalities[name], value)}
    return Part(x, part.valid, part.labels, part.label_valid, part.ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("comparator", COMPARATORS)
class TestEveryComparator:
    def test_shapes_and_gradients(self, kind, comparator):
        data = small(kind)
        model = build(data, **COMPARATORS[comparator].model)
        part = data.train
        for valid in (part.valid, drop_pattern(part.modalities, ALL, valid=part.valid)):
            prediction, reconstructed = model(part.modalities, valid=valid)
            steps = 6 if kind == "stepwise" else 1
            ends = (4, 2) if kind == "emotions" else (1,)
            assert prediction.shape == (20, steps, *ends)
            for name, x in reconstructed.items():
                assert x.shape == part.modalities[name].shape
            loss = prediction.square().sum() + sum(x.sum() for x in reconstructed.values())
            model.zero_grad()
            loss.backward()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            assert len(gradients) > 10
            assert all(g.isfinite().all() for g in gradients)

    def test_what_is_missing_is_not_read(self, kind, comparator):
        data = small(kind)
        model = build(data, **COMPARATORS[comparator].model)
        for view in COMPARATORS[comparator].views:
            known, _ = predict(model, data.test, view)
            for name in {*ALL}.difference(view.available):
                for value in (torch.nan, torch.inf, 1e30):
                    other, _ = predict(model, replaced(data.test, name, value), view)
                    assert torch.equal(known, other), (view.name, name)


@pytest.mark.parametrize("kind", KINDS)
class TestReconstruction:
    def test_no_audio_in_the_path_of_the_prediction_even_if_it_is_given(self, kind):
        data = small(kind)
        model = build(data).eval()
        part = data.test
        with torch.no_grad():
            known = model(part.modalities, valid=part.valid)
            modalities = replaced(part, "audio", torch.nan).modalities
            other = model(modalities, valid=part.valid)
            del modalities["audio"]
            without = model(modalities, valid=part.valid)
        for result in (other, without):
            assert torch.equal(known[0], result[0])
            assert torch.equal(known[1]["audio"], result[1]["audio"])

    def test_neither_is_its_length(self, kind):
        data = small(kind)
        model = build(data)
        part = data.test
        valid = part.valid | {"audio": ~part.valid["audio"]}
        other = Part(part.modalities, valid, part.labels, part.label_valid, part.ids)
        assert torch.equal(predict(model, part, LV)[0], predict(model, other, LV)[0])

    def test_the_task_trains_the_translators_and_the_loss_does_not_train_the_target(self, kind):
        data = small(kind)
        for target in ("standardised", "projected"):
            model = build(data, target=target)
            part = data.train
            prediction, reconstructed = model(part.modalities, valid=part.valid)
            prediction.square().sum().backward()
            translator = model.reconstructors["audio"].translators["text"]
            assert all(p.grad is not None for p in translator.parameters())
            goal = model.target("audio", part.modalities["audio"], part.valid["audio"])
            assert not goal.requires_grad
            assert goal.shape == reconstructed["audio"].shape
        assert not model.projections["audio"].conv.weight.requires_grad

    def test_parts_of_it_can_be_left_out(self, kind):
        data = small(kind)
        sizes = set()
        for changes in (
            {},
            {"sources": ("text",)},
            {"sources": ("vision",)},
            {"further_transformer": False},
            {"attention": False},
            {"target": "projected"},
            {"pool": "last"},
        ):
            model = build(data, **changes)
            prediction, reconstructed = model(data.test.modalities, valid=data.test.valid)
            assert prediction.isfinite().all()
            assert list(reconstructed) == ["audio"]
            sizes.add(sum(p.numel() for p in model.parameters()))
        assert len(sizes) == 5  # the two single sources are alike, and pooling has no parameters


def test_fills_by_hand():
    data = small("aligned")
    model = build(data, reads=ALL, reconstructs=()).eval()
    part, kept = data.test, drop_pattern(data.test.modalities, ["audio"], valid=data.test.valid)
    moments = model.normalizer.moments["audio"]
    steps = part.valid["text"]  # where audio is expected to have been
    for fill, value in (("zero", torch.zeros(3)), ("mean", moments.mean)):
        x = part.modalities | {"audio": value.expand(9, 6, 3)}
        with torch.no_grad():
            given = model(x, valid=part.valid | {"audio": steps})[0]
            filled = model(part.modalities, valid=kept, fill=fill)[0]
        torch.testing.assert_close(filled, given)
    assert not torch.equal(model(part.modalities, valid=kept)[0], filled)


def test_quality_of_the_mean_of_training_and_of_the_truth():
    data = small("aligned")
    model = build(data)
    steps = data.test.valid["audio"]
    truth = model.target("audio", data.test.modalities["audio"], steps)
    mean = model.target("audio", data.train.modalities["audio"], data.train.valid["audio"])
    mean = mean[data.train.valid["audio"]].mean(0).expand_as(truth)
    best = reconstruction_quality(model, data, data.test, {"audio": truth})["audio"]
    floor = reconstruction_quality(model, data, data.test, {"audio": mean})["audio"]
    assert best == {"MSE": 0.0, "R²": 1.0, "cosine": pytest.approx(1.0)}
    assert floor["R²"] == pytest.approx(0.0, abs=1e-6)
    assert 0.5 < floor["MSE"] < 2


def test_losses_by_hand():
    prediction = torch.tensor([[[1.0]], [[2.0]], [[torch.nan]]])
    labels, known = torch.zeros(3, 1, 1), torch.tensor([[True], [True], [False]])
    x = {"audio": torch.tensor([[[1.0, 2.0]], [[3.0, 3.0]], [[9.0, 9.0]]])}
    y, asked = {"audio": torch.zeros(3, 1, 2)}, {"audio": torch.tensor([[True], [False], [True]])}
    sums, counts = sum_losses(prediction, x, y, asked, labels, known, "l2")
    assert sums.tolist() == [3.0, 1 + 4 + 81 + 81]
    assert counts.tolist() == [2, 4]
    logits = torch.zeros(2, 1, 4, 2)
    known, labels = torch.tensor([[True], [False]]), torch.ones(2, 1, 4)
    sums, counts = sum_losses(logits, {}, {}, {}, labels, known, "l1")
    assert sums.tolist() == pytest.approx([4 * 0.693147])
    assert counts.tolist() == [4]


def test_expected_steps():
    valid = torch.tensor([[False, False, True, True]])
    assert stretch(valid, 8).tolist() == [[False] * 4 + [True] * 4]
    assert stretch(valid, 2).tolist() == [[False, True]]
    assert stretch(valid, 4).tolist() == valid.tolist()


def test_last_valid_step():
    plain = Concatenation({"a": 1, "b": 1}, "last")
    x = {"a": torch.tensor([[[1.0], [2.0], [3.0]]]), "b": torch.tensor([[[4.0], [5.0], [6.0]]])}
    valid = {"a": torch.tensor([[True, True, False]]), "b": torch.tensor([[False] * 3])}
    assert plain(x, valid=valid).tolist() == [[2.0, 0.0]]


def test_presets():
    for name, preset in FAITHFUL.items():
        assert preset.model.model_dim == 40
        assert preset.training.schedule == "plateau"
        assert (preset.model.num_heads == 8) == name.startswith("mosei")
    assert preset_for(small("stepwise")).name == "sequences"
    assert preset_for(small("aligned")).name == "mosi-aligned"
    assert preset_for(small("unaligned")).name == "mosi-unaligned"
    assert preset_for(small("emotions")).name == "iemocap-aligned"
    assert shape_of(small("unaligned")).lengths == {"audio": 7, "text": 5, "vision": 6}


@pytest.mark.parametrize("name", sorted(FAITHFUL))
def test_faithful_presets_run(name):
    from examples.mosi_sentiment.model import SentimentModel

    data = small("emotions" if "iemocap" in name else "aligned", counts=(3, 2, 2))
    model = SentimentModel(shape_of(data), FAITHFUL[name].model)
    assert model(data.test.modalities, valid=data.test.valid)[0].isfinite().all()


def test_errors():
    data = small("aligned")
    with pytest.raises(ValueError, match="must name something that is read"):
        build(data, sources=("audio",))
