"""The weights of an ensemble, and the recipe that fits members and weights."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from cases import WEIGHTED, GRUMember, built
from safetensors.torch import load_model, save_model
from torch import nn

from modimpute import (
    DonorMatching,
    KernelTranslator,
    LinearTranslator,
    ModalityTranslator,
    RetrievalTranslator,
    TranslatorEnsemble,
    default_ensemble,
    fit_ensemble,
)
from modimpute._evidence import Evidence, moments
from modimpute._mixture import Mixture

DIMS = {"audio": 3, "text": 4}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Constant(nn.Module):
    """A member that says one thing."""

    modalities = ("audio", "text")
    modality_dims = DIMS

    def __init__(self, value, target_dim=1):
        super().__init__()
        self.value, self.target_dim = value, target_dim

    def forward(self, source, *, valid=None, target_length=None):  # noqa: ARG002
        some = next(iter(source.values()))
        return some.new_full((some.shape[0], target_length, self.target_dim), self.value)


def make_data(size=120, *, seed=0, noise=0.1):
    g = torch.Generator().manual_seed(seed)
    x = {name: torch.randn(size, 1, dim, generator=g) for name, dim in DIMS.items()}
    y = torch.cat([x["text"][..., :1] + x["audio"][..., :1], x["text"][..., 1:2] - 1], -1)
    return x, y + noise * torch.randn(y.shape, generator=g)


def members(**options):
    return {
        "linear": LinearTranslator(DIMS, 2),
        "kernel": KernelTranslator(DIMS, 2, memory_size=120),
        "retrieval": RetrievalTranslator(DIMS, 2, memory_size=120, steps=20),
        **options,
    }


def error(ensemble, x, y):
    return (ensemble(x) - y).square().mean().item()


def test_weights_are_the_best_that_are_allowed():
    g = torch.Generator().manual_seed(0)
    said = torch.randn(500, 3, generator=g, dtype=torch.float64)
    cases = [
        (said @ torch.tensor([0.2, 0.5, 0.1], dtype=torch.float64), [0.2, 0.5, 0.1]),
        (said @ torch.tensor([0.6, 0.8, -0.5], dtype=torch.float64), None),  # not allowed as is
        (-said.sum(-1), [0.0, 0.0, 0.0]),
        (0.0 * said[:, 0], [0.0, 0.0, 0.0]),
    ]
    for target, expected in cases:
        evidence = Evidence(3, said)
        evidence.add(said[:200], target[:200])
        more = Evidence(3, said)
        more.add(said[200:], target[200:])
        weight = (evidence + more).weights(0.0)
        assert (weight >= 0).all()
        assert weight.sum() <= 1 + 1e-9
        if expected:
            torch.testing.assert_close(weight, torch.tensor(expected).double(), rtol=0, atol=1e-3)
        least = (said @ weight - target).square().sum()
        for step in 0.02 * torch.randn(200, 3, generator=g, dtype=torch.float64):
            other = (weight + step).clamp(min=0)
            other = other / other.sum().clamp(min=1)
            assert (said @ other - target).square().sum() >= least * (1 - 1e-6)


def test_who_says_far_too_much_takes_nothing_from_the_others():
    g = torch.Generator().manual_seed(0)
    said = torch.randn(500, 3, generator=g, dtype=torch.float64)
    said[:, 1] = said[:, 0] + 0.1 * said[:, 1]  # alike: not found in a few steps
    target = 0.2 * said[:, 0] + 0.7 * said[:, 1] + torch.randn(500, generator=g).double()
    few, more = Evidence(2, said), Evidence(3, said)
    few.add(said[:, :2], target)
    said[:, 2] *= 1e5
    more.add(said, target)
    weight = more.weights(0.0)
    torch.testing.assert_close(weight[:2], few.weights(0.0), rtol=0, atol=1e-3)
    assert weight[2] < 1e-6


def test_guard_shrinks_what_explains_little():
    said = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    evidence = Evidence(1, said)
    evidence.add(said, 0.3 * said[:, 0] + noise)
    full, guarded = evidence.weights(0.0), evidence.weights(0.2)
    share = 1 - (0.3 * said[:, 0] + noise - full * said[:, 0]).square().sum() / evidence.power
    assert share < 0.2
    torch.testing.assert_close(guarded, full * share / 0.2)
    torch.testing.assert_close(evidence.weights(0.01), full)


def test_weights_are_multiplied_by_what_the_tolerance_allows():
    g = torch.Generator().manual_seed(0)
    said = torch.randn(1000, 2, generator=g, dtype=torch.float64)
    noise = torch.randn(1000, generator=g, dtype=torch.float64)
    target = said @ torch.tensor([0.6, 0.3], dtype=torch.float64) + noise
    evidence = Evidence(2, said)
    evidence.add(said, target)
    least, wide = evidence.weights(0.0), evidence.weights(0.0, 0.05)

    def error(weight):
        return float((said @ weight - target).square().sum())

    assert error(wide) == pytest.approx(1.05 * error(least))
    factor = (wide / least)[0]
    assert factor > 1.1
    torch.testing.assert_close(wide, factor * least)
    # At most: answers as large as the target. And never less than errs least.
    widest = evidence.weights(0.0, 1e9)
    assert float((said @ widest).square().sum()) == pytest.approx(float(evidence.power))
    sure = Evidence(1, said)
    sure.add(said[:, :1], said[:, 0])
    torch.testing.assert_close(sure.weights(0.0, 0.05), sure.weights(0.0))
    # The guard shrinks both alike.
    assert float(evidence.weights(0.9).sum()) < 0.6 * float(least.sum())
    torch.testing.assert_close(evidence.weights(0.9, 0.05), factor * evidence.weights(0.9))
    # What is hardly told is not blown up: it may be chance.
    hardly = Evidence(1, said)
    hardly.add(said[:, :1], 0.05 * said[:, 0] + noise)
    weight, more = hardly.weights(0.0), hardly.weights(0.0, 0.01)
    torch.testing.assert_close(more, 1.2 * weight)
    nothing = Evidence(2, said)
    nothing.add(-said.abs(), said.abs().sum(-1))
    assert (nothing.weights(0.0, 0.05) == 0).all()


def test_weights_by_hand():
    ensemble = TranslatorEnsemble({"a": Constant(2.0), "b": Constant(6.0)}, 1,
                                  combination="weights")  # fmt: skip
    x = {name: torch.zeros(2, 1, dim) for name, dim in DIMS.items()}
    assert (ensemble(x) == 4.0).all()  # alike before
    ensemble.weighing.weight[ensemble.weighing.row(("audio", "text"))] = torch.tensor([0.5, 0.25])
    ensemble.weighing.weight[ensemble.weighing.row(("text",))] = torch.tensor([0.0, 0.5])
    ensemble.weighing.mean.fill_(10.0)
    assert (ensemble(x) == 10 - 4 - 1).all()
    valid = {"audio": torch.tensor([[True], [False]])}
    assert ensemble(x, valid=valid).flatten().tolist() == [5.0, 8.0]
    assert ensemble.weights["audio", "text"] == {"a": 0.5, "b": 0.25, "mean": 0.25}
    assert ensemble.weights["text",]["mean"] == 0.5
    with torch.no_grad():  # rounding leaves the mean nothing, not less
        ensemble.weighing.weight.copy_(torch.tensor([0.7, 0.3 + 1e-7]))
    assert sum(ensemble.weighing.weight[0].tolist()) > 1
    assert ensemble.weights["audio", "text"]["mean"] == 0.0
    nothing = {name: torch.zeros(2, 1, dtype=torch.bool) for name in DIMS}
    assert (ensemble(x, valid=nothing) == 10.0).all()  # the mean
    said = ensemble.translate(x)
    assert torch.equal(ensemble.combine(said), ensemble(x))


def test_fit_weights_finds_the_better_member_of_each_subset():
    x, y = make_data()
    ensemble = TranslatorEnsemble(
        {"audio": LinearTranslator(3, 2), "text": LinearTranslator(4, 2)},
        2,
        combination="weights",
    )
    for name in DIMS:
        ensemble.translators[name].fit(x[name], y)
    ensemble.train().fit_weights(*make_data(seed=1))
    assert ensemble.training
    assert set(ensemble.weights) == {("audio", "text"), ("audio",), ("text",)}
    both, text = ensemble.weights["audio", "text"], ensemble.weights["text",]
    assert both["text"] > both["audio"] > 0.05
    assert text["audio"] == 0.0
    assert text["text"] > 0.8
    assert all(abs(sum(shares.values()) - 1) < 1e-6 for shares in ensemble.weights.values())


def test_more_than_six_sources_are_weighed_by_their_number():
    dims = dict.fromkeys("abcdefgh", 1)
    x = {name: torch.randn(50, 1, 1) for name in dims}
    ensemble = fit_ensemble(x, sum(x.values()), translators={"all": LinearTranslator(dims, 1)})
    assert [len(subset) for subset in ensemble.weights] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert error(ensemble, x, sum(x.values())) < 0.05


def test_members_of_other_widths_are_refused():
    with pytest.raises(ValueError, match=r"target_dim=2 .*however: 'text' has 5"):
        TranslatorEnsemble({"text": ModalityTranslator(4, 5)}, 2, combination="weights")
    with pytest.raises(ValueError, match="combination must be one of"):
        TranslatorEnsemble({"text": ModalityTranslator(4, 2)}, 2, combination="sum")
    ensemble = TranslatorEnsemble({"text": ModalityTranslator(4, 2)}, 2)
    for ask in (
        lambda: ensemble.weights,
        lambda: ensemble.inflation,
        lambda: ensemble.variation,
        lambda: ensemble.fit_weights({}, torch.ones(1, 1, 2)),
    ):
        with pytest.raises(ValueError, match="of an ensemble with combination"):
            ask()


def test_recipe_fits_and_weighs():
    x, y = make_data()
    test, answer = make_data(seed=1)
    ensemble = fit_ensemble(x, y, translators=members())
    assert not ensemble.training
    assert error(ensemble, test, answer) < 0.02  # of noise there is 0.01
    shares = ensemble.weights["audio", "text"]
    assert shares["linear"] + shares["kernel"] > 0.8  # the truth is linear, and so is the kernel
    one = {"text": test["text"]}
    assert 0.4 < error(ensemble, one, answer) < 0.7  # audio is half of the first feature


def test_recipe_prefers_the_mean_where_there_is_nothing():
    x, _ = make_data(1500)
    y = torch.randn(1500, 1, 2, generator=torch.Generator().manual_seed(3)) + 5
    linear_and_kernel = {name: members()[name] for name in ("linear", "kernel")}
    ensemble = fit_ensemble(x, y, translators=linear_and_kernel)
    test, _ = make_data(seed=1)
    assert (ensemble(test) - 5).abs().max() < 0.3  # the noise has deviation 1


def test_recipe_is_the_same_for_the_same_seed():
    x, y = make_data(60)
    torch.manual_seed(5)
    expected = torch.rand(2)
    fitted = []
    for seed in (1, 1, 2):
        unfitted = members()
        torch.manual_seed(5)
        fitted.append(fit_ensemble(x, y, translators=unfitted, seed=seed))
        assert torch.equal(torch.rand(2), expected)  # the caller's generator is left alone
    assert torch.equal(fitted[0](x), fitted[1](x))
    assert not torch.equal(fitted[0](x), fitted[2](x))


def test_recipe_trains_networks_of_ones_own(monkeypatch):
    from modimpute import _training

    monkeypatch.setattr(_training, "STEPS", 60)
    x, y = make_data()
    networks = {"audio": GRUMember(3, 2), "text": ModalityTranslator(4, 2, model_dim=16)}
    before = error(TranslatorEnsemble(networks, 2, combination="weights"), x, y)
    ensemble = fit_ensemble(x, y, translators=networks)
    assert error(ensemble, x, y) < 0.5 * before
    assert ensemble.weights["text",]["text"] > 0.3


def batches(x):
    """Returns the shape of each batch that a network is trained on, (samples, steps)."""
    from modimpute import _training
    from modimpute._data import checked

    seen = []
    member = ModalityTranslator(3, 2, model_dim=8, num_heads=1, num_layers=1)
    member.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    data = replace(checked({"audio": x}, x[..., :2], None, None, True), joint=False)
    _training.train(member, data, torch.arange(len(x)), torch.arange(0), 0, stop=1000)
    return seen


def test_batches_of_long_sequences_are_small(monkeypatch):
    from modimpute import _training

    for name, value in {"STEPS": 8, "SEEN": 0, "READ": 40}.items():
        monkeypatch.setattr(_training, name, value)
    count = {}
    for length in (2, 10, 50):
        seen = batches(torch.randn(20, length, 3))
        assert len(set(seen)) == 1
        count[seen[0]] = len(seen)
    # 16 epochs of 20 samples, in batches of all, of 4, and of one.
    assert count == {(20, 2): 16, (4, 10): 80, (1, 50): 320}


def test_more_samples_are_trained_for_more_steps_and_long_ones_for_fewer(monkeypatch):
    from modimpute import _training

    settings = {"STEPS": 100, "MOST": 600, "LONG": 1, "SEEN": 24, "READ": 160}
    for name, value in settings.items():
        monkeypatch.setattr(_training, name, value)
    count = {size: len(batches(torch.randn(size, 16, 3))) for size in (4, 20, 80, 100)}
    # In batches of ten: at least a quarter of 100, as sequences are long; 24 epochs; a quarter
    # of 600 at most; 16 epochs.
    assert count == {4: 25, 20: 48, 80: 150, 100: 160}


def test_recipe_never_reads_what_is_missing():
    x, y = make_data()
    g = torch.Generator().manual_seed(2)
    valid = {name: torch.rand(120, 1, generator=g) < 0.7 for name in DIMS}
    there = torch.rand(120, 1, generator=g) < 0.8
    answers = []
    for junk in (0.0, torch.nan, torch.inf):
        spoiled = {n: t.masked_fill(~valid[n].unsqueeze(-1), junk) for n, t in x.items()}
        target = y.masked_fill(~there.unsqueeze(-1), junk)
        ensemble = fit_ensemble(
            spoiled, target, valid=valid, target_valid=there, translators=members()
        )
        answers.append(ensemble(x))
    assert answers[0].isfinite().all()
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_fitted_in_single(dtype, monkeypatch):
    monkeypatch.setattr("modimpute._training.STEPS", 200)
    x, y = make_data()
    test, answer = make_data(seed=1)
    errors = []
    for some in (torch.float32, dtype):
        torch.manual_seed(0)
        low = {name: z.to(some) for name, z in x.items()}
        own = {
            "retrieval": RetrievalTranslator(DIMS, 2, memory_size=120, steps=20, dtype=some),
            "text": ModalityTranslator(4, 2, model_dim=16, dtype=some),
        }
        ensemble = fit_ensemble(low, y.to(some), translators=own)
        assert {z.dtype for z in ensemble.state_dict().values() if z.is_floating_point()} == {some}
        said = ensemble({name: z.to(some) for name, z in test.items()})
        assert said.dtype == some
        errors.append((said - answer).square().mean().item())
        assert min(ensemble.weights["audio", "text"][name] for name in own) > 0.01
    assert errors[0] < 0.5
    assert errors[1] < 1.02 * errors[0]


def test_groups_are_held_out_whole():
    # Every group has an offset of its own, which its other samples tell, and no other group.
    g = torch.Generator().manual_seed(0)
    groups = torch.arange(40).repeat_interleave(5)
    key = torch.randn(40, 1, 3, generator=g)[groups]
    y = torch.randn(40, 1, 2, generator=g)[groups]
    x = {"audio": key + 0.01 * torch.randn(200, 1, 3, generator=g)}
    member = {"kernel": KernelTranslator({"audio": 3}, 2, memory_size=200)}
    same = fit_ensemble(x, y, translators=member)
    other = fit_ensemble(x, y, translators=member, groups=groups)
    assert same.weights["audio",]["mean"] < 0.2
    assert other.weights["audio",]["mean"] > 0.8


def test_validation_is_used_where_it_is_enough():
    x, y = make_data(300)
    wrong = y.clone()
    wrong[200:] = -y[200:]  # on validation the contrary is true: only the mean helps
    validation = torch.arange(300) >= 200
    linear = {"linear": LinearTranslator(DIMS, 2)}
    ensemble = fit_ensemble(x, wrong, translators=linear, validation=validation)
    assert ensemble.weights["audio", "text"]["linear"] < 0.1
    kernel = {"kernel": KernelTranslator(DIMS, 2, memory_size=300)}
    ensemble = fit_ensemble(x, y, translators=kernel, validation=validation)
    memory = ensemble.translators["kernel"].memory
    assert (memory != 0).any(-1).all()  # in the end, what was held out is remembered, too
    few = torch.arange(300) >= 299  # one: it says nothing by itself
    ensemble = fit_ensemble(x, y, translators=linear, validation=few)
    assert ensemble.weights["audio", "text"]["linear"] > 0.9


@pytest.mark.parametrize(
    ("size", "length", "parts"),
    [(5, 1, 5), (199, 1, 6), (30, 15, 6), (30, 16, 3), (200, 1, 3), (599, 1, 3), (600, 1, 1)],
)
def test_the_fewer_samples_the_more_parts_are_held_out(size, length, parts, monkeypatch):
    held = []
    fit = LinearTranslator.fit

    def recorded(module, *args, validation, **options):
        held.append(validation.clone())
        return fit(module, *args, validation=validation, **options)

    monkeypatch.setattr(LinearTranslator, "fit", recorded)
    x, y = make_data(size)
    x, y = {name: t.expand(-1, length, -1) for name, t in x.items()}, y.expand(-1, length, -1)
    fit_ensemble(x, y, translators={"linear": LinearTranslator(DIMS, 2, window=0)})
    assert len(held) == parts
    total = torch.stack(held).sum(0)
    assert total.max() == 1  # nobody twice
    assert total.sum() == (size if parts > 1 else size // 5)


@pytest.mark.parametrize("key_dim", [None, 3])
def test_kernels_keep_the_mean_of_what_all_parts_chose(key_dim, monkeypatch):
    chosen = []
    fit = KernelTranslator.fit

    def recorded(module, *args, **options):
        fit(module, *args, **options)
        chosen.append({name: x.clone() for name, x in module.state_dict().items()})
        return module

    monkeypatch.setattr(KernelTranslator, "fit", recorded)
    x, y = make_data(60)
    kernel = KernelTranslator(DIMS, 2, key_dim=key_dim, memory_size=60, steps=40)
    ensemble = fit_ensemble(x, y, translators={"kernel": kernel})
    found = ensemble.translators["kernel"].state_dict()
    assert len(chosen) == 6
    for name in ("mixture.scale", "mixture.amplitude", "mixture.noise"):
        parts = torch.stack([state[name] for state in chosen])
        assert (parts[0] != parts[-1]).any()
        torch.testing.assert_close(found[name], parts.mean(0))
    typical = torch.stack([state["typical"] for state in chosen])
    torch.testing.assert_close(found["typical"], typical.log().mean().exp())


def test_projections_that_are_turned_have_a_mean():
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 6, generator=g, dtype=torch.float64) for n in (20, 30))

    def distance(mixture):
        with torch.no_grad():
            return mixture.distance(a, b)

    mixtures = [Mixture((4, 2), 6, None, torch.float64) for _ in range(3)]
    for mixture in mixtures:
        for buffer in mixture.buffers():
            buffer.copy_(torch.randn(buffer.shape, generator=g))
    mean = Mixture((4, 2), 6, None, torch.float64)
    mean.average(mixtures)
    torch.testing.assert_close(distance(mean), sum(distance(m) for m in mixtures) / 3)
    # Fewer projections than features: turned copies of one are that one.
    first = Mixture((4, 2), 2, None, torch.float64)
    first.projection.copy_(torch.randn(6, 2, generator=g))
    second = copy.deepcopy(first)
    second.projection.copy_(first.projection @ torch.tensor([[0.6, 0.8], [0.8, -0.6]]).double())
    mean = Mixture((4, 2), 2, None, torch.float64)
    mean.average([first, second])
    torch.testing.assert_close(distance(mean), distance(first), rtol=1e-4, atol=1e-4)
    # More than features: what is left over stays zero.
    wider = Mixture((4, 2), 9, None, torch.float64)
    wider.projection.copy_(torch.randn(6, 9, generator=g))
    mean = Mixture((4, 2), 9, None, torch.float64)
    mean.average([wider])
    torch.testing.assert_close(distance(mean), distance(wider), rtol=1e-4, atol=1e-4)
    assert not mean.projection[:, 6:].any()


@pytest.mark.parametrize("length", [1, 5, 16])
def test_defaults_fit_vectors_and_sequences(length, monkeypatch):
    from modimpute import _training

    monkeypatch.setattr(_training, "STEPS", 10)
    g = torch.Generator().manual_seed(0)
    x = {name: torch.randn(24, length, dim, generator=g) for name, dim in DIMS.items()}
    y = torch.cat([x["text"][..., :1], x["audio"][..., 1:2]], -1)
    ensemble = fit_ensemble(x, y)
    assert error(ensemble, x, y) < 0.2 * y.var()
    names = set(next(iter(ensemble.weights.values())))
    assert {"transformer", "mean"} < names
    assert ("kernel window" in names) == (length >= 16)
    assert ("kernel" in names) == (length < 16)


@pytest.mark.parametrize("length", [1, 16])
def test_answers_vary_more_by_default_where_there_are_no_donors(length, monkeypatch):
    from modimpute import _training

    monkeypatch.setattr(_training, "STEPS", 5)
    g = torch.Generator().manual_seed(0)
    x = {name: torch.randn(30, length, dim, generator=g) for name, dim in DIMS.items()}
    y = x["text"][..., :2] + torch.randn(30, length, 2, generator=g)
    ensemble = fit_ensemble(x, y)
    assert (ensemble.inflation["audio", "text"] > 1.05) == (ensemble.donors is None)
    assert (ensemble.donors is None) == (length == 16)
    assert set(fit_ensemble(x, y, tolerance=0).inflation.values()) == {1.0}


def test_answers_vary_as_much_more_as_the_tolerance_says():
    x, y = make_data(300, noise=1.0)
    options = {"translators": {"linear": LinearTranslator(DIMS, 2)}}
    averaged = fit_ensemble(x, y, **options)
    assert set(averaged.inflation.values()) == {1.0}  # members of one's own: only if asked for
    wide = fit_ensemble(x, y, **options, tolerance=0.05)
    assert set(wide.state_dict()) == set(averaged.state_dict())
    both = ("audio", "text")
    assert set(wide.inflation) == set(wide.weights) == {both, ("audio",), ("text",)}
    factor, shares = wide.inflation[both], wide.weights[both]
    assert factor > 1.1
    assert all(share >= 0 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1)
    asked, truth = make_data(2000, seed=1, noise=1.0)
    mean, said = wide.weighing.mean, wide.translate(asked)["linear"]
    torch.testing.assert_close(wide(asked), mean + factor * shares["linear"] * (said - mean))
    least, errors = error(averaged, asked, truth), error(wide, asked, truth)
    assert 1.02 < errors / least < 1.08
    widest = fit_ensemble(x, y, **options, tolerance=100)
    spread = [float((part(asked).var(0) / y.var(0)).mean()) for part in (averaged, wide, widest)]
    assert spread[0] < 0.8
    assert spread[0] < spread[1] < spread[2]
    assert spread[2] == pytest.approx(1, abs=0.15)
    drawn = fit_ensemble(x, y, **options, tolerance=0.05, donors=DonorMatching(2))
    assert set(drawn.inflation.values()) == {1.0}  # spent on donors


def test_many_samples_are_learned_without_noise_and_dropout(monkeypatch):
    from modimpute import _defaults, _training

    monkeypatch.setattr(_training, "STEPS", 5)
    seen = []
    monkeypatch.setattr(_training.Data, "noisy", lambda self, noise: seen.append(noise) or self)
    x, y = make_data(100)
    for many, rate in ((101, 0.1), (100, 0.0)):
        monkeypatch.setattr(_training, "MANY", many)
        monkeypatch.setattr(_defaults, "MANY", many)
        shapes = {name: (1, dim) for name, dim in DIMS.items()}
        network = default_ensemble(shapes, (1, 2), len(y)).translators["transformer"]
        assert {block.dropout for block in network.transformer.blocks} == {rate}
        fit_ensemble(x, y, translators={"network": network})
        assert bool(seen) == (many == 101)
        seen.clear()


def test_networks_of_many_vectors_are_wider(monkeypatch):
    from modimpute import _defaults

    monkeypatch.setattr(_defaults, "ENOUGH", 30)
    wide = {}
    for size, lengths in ((29, (1, 1)), (30, (1, 1)), (30, (1, 2)), (30, (2, 1))):
        shapes = {name: (length, 3) for name, length in zip(DIMS, lengths, strict=True)}
        network = default_ensemble(shapes, (1, 2), size).translators["transformer"]
        wide[size, lengths] = network.transformer.blocks[0].feedforward_out.in_features
        assert all(t.target_dim == wide[size, lengths] // 2 for t in network.translators.values())
    assert wide == {(29, (1, 1)): 128, (30, (1, 1)): 256, (30, (1, 2)): 128, (30, (2, 1)): 128}


VECTOR, PIECE = (1, 3), (20, 3)


@pytest.mark.parametrize(
    ("sources", "size", "memory_size", "expected"),
    [  # of kernels and donors, of retrieval
        ([VECTOR], 2000, None, (2000, 2000)),
        ([VECTOR], 7000, None, (7000, 2048)),
        ([VECTOR], 8192, None, (7812, 2048)),
        ([VECTOR], 10_000, None, (7071, 2048)),
        ([VECTOR] * 2, 10_000, None, (4082, 2048)),  # three subsets
        ([VECTOR] * 5, 10_000, None, (2048, 2048)),
        ([VECTOR], 10**7, None, (2048, 2048)),
        ([(1, 4096)], 5000, None, (5000, 2048)),
        ([(1, 4097)], 5000, None, (2048, 2048)),
        ([VECTOR], 10_000, 9000, (9000, 9000)),
        ([VECTOR], 10_000, 50, (50, 50)),
        ([VECTOR], 40, 50, (40, 40)),
        ([PIECE], 1000, None, (2048, 2048)),  # windows
        ([PIECE], 1000, 9000, (9000, 9000)),
        ([PIECE], 2, 50, (40, 40)),
    ],
)
def test_how_much_is_remembered(sources, size, memory_size, expected):
    shapes = {f"source {i}": shape for i, shape in enumerate(sources)}
    ensemble = default_ensemble(shapes, (sources[0][0], 2), size, memory_size=memory_size)
    kept = {name: getattr(m, "memory_size", None) for name, m in ensemble.translators.items()}
    kernels, retrieval = expected
    if ensemble.donors is not None:
        assert ensemble.donors.memory_size == kernels
    for name, memory in kept.items():
        if "transformer" not in name:
            assert memory == (kernels if "kernel" in name else retrieval)


def test_default_members_of_unaligned_sequences(monkeypatch):
    from modimpute import _training

    monkeypatch.setattr(_training, "STEPS", 5)
    x = {"audio": torch.randn(20, 6, 3), "text": torch.randn(20, 2, 4)}
    y = x["text"].mean(1, keepdim=True).expand(20, 3, 4)
    ensemble = fit_ensemble(x, y)
    assert not ensemble.aligned
    assert ensemble(x, target_length=3).shape == (20, 3, 4)


SHAPES = [
    ({"audio": (1, 3), "text": (1, 4)}, (1, 2), {}),
    ({"text": (5, 4), "audio": (5, 3)}, (5, 2), {}),
    ({"audio": (6, 3), "text": (2, 4)}, (3, 2), {}),
    ({"audio": (20, 3), "text": (20, 4)}, (20, 2), {}),
    ({"text": (17, 4)}, (20, 2), {"dtype": torch.bfloat16}),
    ({"text": (20, 4)}, (20, 2), {"aligned": False}),
    ({"text": (1, 4)}, (1, 2), {"donors": DonorMatching(2, memory_size=7)}),
    ({"text": (1, 4)}, (1, 2), {"memory_size": 9}),
]


@pytest.mark.parametrize(("shapes", "shape", "options"), SHAPES)
def test_a_default_ensemble_is_rebuilt_without_the_samples(
    shapes, shape, options, monkeypatch, tmp_path
):
    from modimpute import _defaults, _training

    for module in (_defaults, _training):
        monkeypatch.setattr(module, "STEPS", 5)
    g = torch.Generator().manual_seed(0)
    dtype = options.get("dtype", torch.float32)
    x = {name: torch.randn(24, *size, generator=g).to(dtype) for name, size in shapes.items()}
    y = torch.randn(24, *shape, generator=g).to(dtype)
    y[0] = torch.nan  # has no target, and counts
    there = torch.arange(24).unsqueeze(-1).expand(24, shape[0]) > 0
    given = json.loads(json.dumps([shapes, shape, 24]))  # lists
    blank = default_ensemble(*given, **copy.deepcopy(options)).eval()
    own = {name: value for name, value in options.items() if name != "dtype"}
    fitted = fit_ensemble(x, y, target_valid=there, **own)
    lengths = {size[0] for size in (*shapes.values(), shape)}
    assert fitted.aligned == own.get("aligned", len(lengths) == 1)
    assert own.get("donors", fitted.donors) is fitted.donors
    save_model(fitted, tmp_path / "model.safetensors")
    load_model(blank, tmp_path / "model.safetensors")
    exists = torch.ones(24, shape[0], dtype=torch.bool)
    assert torch.equal(blank(x, target_valid=exists), fitted(x, target_valid=exists))
    assert blank.weights == fitted.weights


@pytest.mark.parametrize("case", WEIGHTED, ids=str)
def test_an_ensemble_of_fitted_members_is_saved_whole(case, tmp_path):
    module, batch = built(case, torch.float32), case.batch()
    save_model(module, tmp_path / "model.safetensors")
    twin = case.make()
    load_model(twin, tmp_path / "model.safetensors")
    assert torch.equal(case.call(twin, batch), case.call(module, batch))
    assert twin.weights == module.weights


def test_messages_of_the_default_ensemble():
    good = {"text": (1, 4)}
    cases = [
        (
            TypeError,
            (good, 2, 9),
            "target_shape must be two sizes, steps and features, however: 2",
        ),
        (
            TypeError,
            ({"text": (1, 2, 3)}, (1, 2), 9),
            r"source_shapes\['text'\] must be two sizes",
        ),
        (ValueError, (good, (1, 0), 9), r"target_shape\[1\] must be at least 1, however: "),
        (TypeError, (good, (1.0, 2), 9), r"target_shape\[0\] must be an int"),
        (ValueError, (good, (1, 2), 0), "num_samples must be at least 1"),
        (ValueError, ({}, (1, 2), 9), "source_shapes must hold at least 1 modality"),
    ]
    for kind, given, message in cases:
        with pytest.raises(kind, match=message):
            default_ensemble(*given)
    with pytest.raises(ValueError, match="memory_size must be at least 1, however: "):
        default_ensemble(good, (1, 2), 9, memory_size=0)


def test_messages():
    x, y = make_data(4)
    there = torch.zeros(4, 1, dtype=torch.bool)
    there[0] = True
    cases = [
        ({"target_valid": there}, "two or more samples must have the target, however: 1"),
        ({"groups": torch.zeros(4).long()}, "two or more groups must be there, however: 1"),
        ({"translators": {"own": LinearTranslator(3, 2)}}, r"'own' reads, \['own'\], however: \["),
        ({"groups": torch.zeros(4)}, r"groups must be torch.int64, of shape \(4,\)"),
        ({"validation": torch.ones(3).bool()}, r"validation must be torch.bool, of shape \(4,\)"),
        ({"memory_size": 0}, "memory_size must be at least 1, however: "),
        (
            {"memory_size": 9, "translators": {"text": LinearTranslator(DIMS["text"], 2)}},
            "memory_size must be None with translators of your own, however: 9",
        ),
    ]
    for options, match in cases:
        with pytest.raises(ValueError, match=match):
            fit_ensemble(x, y, **options)
    with pytest.raises(ValueError, match="one batch size, however: 4 and 3"):
        fit_ensemble(x, y[:3])


def test_moments_are_those_of_what_exists():
    y = torch.tensor([[[1.0], [3.0], [torch.nan]]])
    mean, deviation = moments(y, torch.tensor([[True, True, False]]))
    assert (mean.item(), deviation.item()) == (2.0, 1.0)
    y = torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])
    mean, deviation = moments(y, torch.ones(1, 2, dtype=torch.bool), alike=False)
    assert mean.tolist() == [2.0, 5.0]
    torch.testing.assert_close(deviation, torch.full((2,), 0.5**0.5))


def two_guesses(size, seed):
    """Two sources: one tells the large feature of the target, the other one the small one."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(size, 1, 2, generator=g) * torch.tensor([10.0, 0.1])
    noise = torch.randn(2, size, 1, 2, generator=g) * torch.tensor([10.0, 0.1])
    spoiled = torch.tensor([1.0, 0.1]), torch.tensor([0.1, 1.0])
    return {n: y + s * e for n, s, e in zip(("fine", "rough"), spoiled, noise, strict=True)}, y


class Echo(nn.Module):
    """A member that says what it hears."""

    source_dim = target_dim = 2

    def forward(self, source, *, valid=None, target_length=None):  # noqa: ARG002
        return source


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("value", [0.0, -0.05, 0.3, 1e6 + 1 / 3])
def test_a_constant_feature_has_no_deviation(value, alike, dtype):
    y = torch.randn(401, 1, 2, dtype=dtype)
    with_it = torch.cat([y, torch.full((401, 1, 1), value, dtype=dtype)], -1)
    there = torch.ones(401, 1, dtype=torch.bool)
    mean, spread = moments(with_it, there, alike)
    assert mean.dtype == spread.dtype == dtype
    expected = y.square().mean((0, 1)) - y.mean((0, 1)).square()
    if alike:
        assert spread[2] == 1
        torch.testing.assert_close(spread[:2], expected.sqrt())
    else:
        torch.testing.assert_close(spread, (expected.sum() / 3).sqrt().expand(3))


def test_a_constant_feature_does_not_decide_the_weights():
    x, y = make_data(401)
    dull = torch.cat([y, torch.full((401, 1, 1), -0.05)], -1)  # as an edge pixel: it rounds
    weights = []
    for target in (y, dull):
        dim = target.shape[-1]
        some = {"linear": LinearTranslator(DIMS, dim), "kernel": KernelTranslator(DIMS, dim)}
        ensemble = fit_ensemble(x, target, translators=some, donors=DonorMatching(dim))
        weights.append(ensemble.weights["audio", "text"])
        assert weights[-1]["mean"] < 0.1
    for name, share in weights[0].items():
        assert weights[1][name] == pytest.approx(share, abs=0.02)


def test_errors_count_in_the_units_that_are_asked_for():
    x, y = two_guesses(400, 0)
    ensemble = TranslatorEnsemble({n: Echo() for n in x}, 2, combination="weights")
    alike = ensemble.fit_weights(x, y).weights["fine", "rough"]
    assert min(alike["fine"], alike["rough"]) > 0.25
    own = ensemble.fit_weights(x, y, standardize_target=False).weights["fine", "rough"]
    assert own["rough"] > 0.9  # it tells the large feature


@pytest.mark.parametrize("kind", ["kernel", "retrieval", "network"])
def test_members_are_fitted_in_the_units_that_are_asked_for(kind, monkeypatch):
    from modimpute import _training

    monkeypatch.setattr(_training, "STEPS", 60)
    seen = []
    real = _training.consistency_loss

    def watched(guess, target, *, valid):
        seen.append(target[valid].std(0))
        return real(guess, target, valid=valid)

    monkeypatch.setattr(_training, "consistency_loss", watched)
    x, y = two_guesses(120, 0)
    if kind == "network":
        x = {"network": x["fine"]}
    for standardized, ratio in ((True, 1.0), (False, 100.0)):
        member = {
            "kernel": KernelTranslator({"fine": 2, "rough": 2}, 2, memory_size=120, steps=2),
            "retrieval": RetrievalTranslator({"fine": 2, "rough": 2}, 2, memory_size=120, steps=2),
            "network": ModalityTranslator(2, 2, model_dim=8, num_heads=1),
        }[kind]
        donors = DonorMatching(2, memory_size=120)
        options = {"donors": donors, "standardize_target": standardized}
        ensemble = fit_ensemble(x, y, translators={kind: member}, **options)
        scales = [ensemble.donors.examples.target.deviation]
        if kind == "network":
            assert ratio / 2 < seen[-1][0] / seen[-1][1] < 2 * ratio
        else:
            scales.append(ensemble.translators[kind].examples.target.deviation)
        for scale in scales:
            if standardized:
                assert 50 < scale[0] / scale[1] < 200
            else:
                assert scale[0] == scale[1]
                torch.testing.assert_close(scale[0], y.var((0, 1)).mean().sqrt(), rtol=0.1, atol=0)
        assert ensemble(x).isfinite().all()
