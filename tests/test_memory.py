"""Members that remember: their closed forms, their subsets, and what a query may not see."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from cases import FITTED, MEMORIES, built
from safetensors.torch import load_model, save_model
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge as SklearnRidge

from modimpute import KernelTranslator, LinearTranslator, RetrievalTranslator, kernel
from modimpute._kernel_learning import FLOOR, left_out
from modimpute._ridge import PENALTIES, Held, Ridge, complete, mean_error

DIMS = {"audio": 3, "text": 4}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def close(a, b, **options):
    torch.testing.assert_close(a, b, **({"rtol": 1e-6, "atol": 1e-8} | options))


def make_data(size=40, *, seed=0, noise=0.1, length=1):
    g = torch.Generator().manual_seed(seed)
    options = {"generator": g, "dtype": torch.float64}
    x = {name: torch.randn(size, length, dim, **options) for name, dim in DIMS.items()}
    y = torch.cat([x["text"][..., :1] * x["audio"][..., :1], x["audio"][..., 1:]], -1)
    return x, y + noise * torch.randn(y.shape, **options)


def moments(x):
    """Returns standardised values, as the members see them."""
    flat = x.flatten(0, 1)
    return (flat - flat.mean(0)) / flat.std(0, correction=0)


def test_ridge_in_features_and_in_products_is_one():
    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, 2, dtype=torch.float64)
    x, y = x - x.mean(0), y - y.mean(0)
    primal, dual = Ridge.of_features(x, y), Ridge.of_kernel(x @ x.mT, y)
    for penalty in (1e-3, 1.0):
        close(x.mT @ dual.solve(penalty), primal.solve(penalty))
        close(dual.left_out(penalty), primal.left_out(penalty))
    model = SklearnRidge(alpha=0.1 * primal.scale(), fit_intercept=False).fit(x, y)
    close(primal.solve(0.1), torch.as_tensor(model.coef_).mT)


def test_left_out_is_what_a_fit_without_the_row_says():
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    ridge = Ridge.of_features(x - x.mean(0), y - y.mean(0))
    alpha = 0.3 * ridge.scale()
    for row in range(12):
        rest = torch.arange(12) != row
        model = SklearnRidge(alpha=alpha).fit(x[rest], y[rest])
        said = torch.as_tensor(model.predict(x[row : row + 1])) - y.mean(0)
        close(ridge.left_out(0.3)[row : row + 1], said)


def test_the_penalty_that_errs_least_is_chosen():
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 1, dtype=torch.float64)
    ridge, weight = Ridge.of_features(x, y), torch.ones(30, 1, dtype=torch.float64)
    errors = {p: mean_error(ridge.left_out(p), y, weight) for p in PENALTIES}
    assert ridge.best(weight, None) == min((error, p) for p, error in errors.items())
    assert ridge.best(weight, None)[1] > 1e-2  # noise: a large one
    held = Held(x, y, weight)  # judged by what was fitted: the smallest
    assert ridge.best(None, held)[1] == 1e-6


def test_what_does_not_exist_is_no_evidence_for_the_mean():
    # Half of the targets are gone. With zeros there, the slope would be half of what it is.
    x = torch.randn(400, 1, dtype=torch.float64)
    y, weight = 3 * x, torch.ones(400, 1, dtype=torch.float64)
    weight[::2] = 0.0
    ridge = Ridge.of_features(x, torch.where(weight > 0, y, 0.0))
    assert float(ridge.solve(1e-4)) < 1.8
    assert float(ridge.completed(weight, 1e-4).solve(1e-4)) == pytest.approx(3.0, abs=0.05)
    full = torch.ones_like(weight)
    assert complete(y, full, lambda y: y * torch.nan) is y  # nothing to do


def test_linear_is_ridge_on_standardised_features():
    x, y = make_data()
    translator = LinearTranslator(DIMS, 3, dtype=torch.float64).fit(x, y)
    features = torch.cat([moments(x[name]) for name in sorted(x)], -1)
    scale = features.square().sum() / len(features)
    model = SklearnRidge(alpha=float(translator.penalty[0] * scale)).fit(features, moments(y))
    said = torch.as_tensor(model.predict(features)) * y.flatten(0, 1).std(0, correction=0)
    close(translator(x).flatten(0, 1), said + y.flatten(0, 1).mean(0), rtol=1e-5, atol=1e-6)


def kernel_of(mixture, a, b):
    """The three terms, written down once more."""
    scale, amplitude = mixture.scale.exp(), mixture.amplitude.exp()
    pairs = [(a * factor, b * factor) for factor in scale]
    if mixture.projection is not None:
        pairs[0] = tuple(x @ mixture.projection for x in pairs[0])
    gaussian = torch.exp(-torch.cdist(*pairs[0]).square())
    exponential = torch.exp(-(torch.cdist(*pairs[1]).square() + 1e-3).sqrt())
    linear = pairs[2][0] @ pairs[2][1].mT
    return sum(x * y for x, y in zip(amplitude, (gaussian, exponential, linear), strict=True))


@pytest.mark.parametrize("key_dim", [None, 4])
@pytest.mark.parametrize("steps", [0, 30])
def test_kernel_is_kernel_ridge(key_dim, steps):
    x, y = make_data()
    options = {"key_dim": key_dim, "steps": steps, "memory_size": 40, "dtype": torch.float64}
    translator = KernelTranslator(DIMS, 3, **options).fit(x, y)
    features, target = torch.cat([moments(x[name]) for name in sorted(x)], -1), moments(y)
    kernel = kernel_of(translator.mixture, features, features)
    model = KernelRidge(alpha=float(translator.mixture.noise.exp()), kernel="precomputed")
    said = torch.as_tensor(model.fit(kernel, target).predict(kernel))
    said = said * y.flatten(0, 1).std(0, correction=0) + y.flatten(0, 1).mean(0)
    close(translator(x).flatten(0, 1), said, rtol=1e-5, atol=1e-6)


def test_scales_are_learned():
    g = torch.Generator().manual_seed(0)
    # Of twelve features two say it all, in another way each: what learning has to find out.
    x, test = (torch.randn(n, 1, 12, generator=g) for n in (300, 200))
    y, answer = ((3 * t[..., :1]).sin() + t[..., 1:2] for t in (x, test))
    errors = {}
    for steps in (0, 100):
        translator = KernelTranslator(12, 1, memory_size=300, steps=steps).fit(x, y)
        errors[steps] = (translator(test) - answer).square().mean().item()
    assert errors[100] < 0.1 * errors[0]
    scale = translator.mixture.scale[:2].exp()
    assert (scale[:, 0] > 3 * scale[:, 2:].amax(-1)).any()


def test_learning_leaves_out_whole_samples():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 3, generator=g).double(), torch.randn(12, 2, generator=g).double()
    kernel = torch.exp(-torch.cdist(x, x))
    owner = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7])
    told = left_out(kernel, torch.tensor(0.1 - FLOOR).double(), y, owner)
    for sample in owner.unique():
        own, others = owner == sample, owner != sample
        system = kernel[others][:, others] + 0.1 * torch.eye(int(others.sum())).double()
        said = kernel[own][:, others] @ torch.linalg.solve(system, y[others])
        close(told[own], y[own] - said)


def test_validation_says_when_to_stop():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 1, 40, generator=g)
    y = x[..., :1] + torch.randn(60, 1, 1, generator=g)
    held = torch.arange(60) >= 40
    options = {"memory_size": 40, "learning_rate": 0.3}
    judged = KernelTranslator(40, 1, **options).fit(x, y, validation=held)
    unjudged = KernelTranslator(40, 1, **options).fit(x[~held], y[~held])
    errors = [(m(x[held]) - y[held]).square().mean().item() for m in (judged, unjudged)]
    assert errors[0] < errors[1]


def test_a_part_of_the_memory_does_almost_as_well():
    x, y = make_data(400)
    test, answer = make_data(200, seed=1)

    def error(size):
        translator = KernelTranslator(DIMS, 3, memory_size=size, dtype=torch.float64)
        translator.fit(x, y)
        return (translator(test) - answer).square().mean().item()

    full, half, few = error(400), error(200), error(20)
    assert full < 0.2
    assert half < 1.3 * full
    # All 400 are fitted, not only the 20 that are kept.
    kept = {name: t[:20] for name, t in x.items()}
    alone = KernelTranslator(DIMS, 3, memory_size=20, dtype=torch.float64).fit(kept, y[:20])
    assert few < 0.5 * (alone(test) - answer).square().mean().item()


@pytest.mark.parametrize("size", [30, 200])
def test_a_large_memory_is_solved_for_in_parts(size, monkeypatch):
    from modimpute import _kernel_solution

    x, y = make_data(200)
    there = torch.arange(200).view(-1, 1) % 7 > 0
    said = []
    for rows in (2048, 17):
        monkeypatch.setattr(_kernel_solution, "ROWS", rows)
        translator = KernelTranslator(DIMS, 3, memory_size=size, steps=0, dtype=torch.float64)
        said.append(translator.fit(x, y, target_valid=there)(x))
    torch.testing.assert_close(said[0], said[1], rtol=1e-6, atol=1e-8)


def test_of_windows_some_are_fitted(monkeypatch):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20, 30, 2, generator=g, dtype=torch.float64)
    y = torch.roll(x, 1, 1)[..., :1]
    fitted, solve = [], kernel.solve
    monkeypatch.setattr(kernel, "WINDOWS", 150)

    def noted(mixture, rows, basis, spread):
        fitted.append((len(rows), len(basis)))
        return solve(mixture, rows, basis, spread)

    monkeypatch.setattr(kernel, "solve", noted)
    options = {"steps": 0, "dtype": torch.float64}
    for size in (50, 200, 600):
        translator = KernelTranslator(2, 1, window=1, memory_size=size, **options)
        translator.fit(x, y)
        assert (translator(x) - y)[:, 1:].square().mean() < 0.2 * y.var()
    whole = KernelTranslator(60, 30, memory_size=5, **options)
    whole.fit(x.reshape(20, 1, 60), y.reshape(20, 1, 30))
    # All that are kept, and all that are no windows.
    assert fitted == [(150, 50), (200, 200), (600, 600), (20, 5)]


def spectra(size, seed):
    """Smooth curves: neighbouring features nearly say the same, what matters are differences."""
    g = torch.Generator().manual_seed(seed)
    at = torch.linspace(0, 1, 60)
    level, slope, bump = (torch.randn(size, 1, 1, generator=g) for _ in range(3))
    x = 3 * level + 0.3 * slope * at + 0.01 * bump * torch.exp(-(((at - 0.4) / 0.1) ** 2))
    return x + 1e-5 * torch.randn(x.shape, generator=g), torch.cat([bump, slope], -1)


@pytest.mark.parametrize(("kind", "steps"), [("linear", 0), ("kernel", 50), ("kernel", 200)])
def test_small_differences_of_features_that_are_alike_are_heard(kind, steps):
    # In single precision a kernel matrix of these is not definite, and what cancels out is lost:
    # answers in the hundreds and, where it is learned for long, an error.
    x, y = spectra(150, 0)
    test, answer = spectra(200, 1)
    member = LinearTranslator(60, 2)
    if kind == "kernel":
        member = KernelTranslator(60, 2, memory_size=150, steps=steps)
    held = torch.arange(150) % 3 == 0
    member.fit(x, y, validation=held, seed=2).remember(x, y)
    assert (member(test) - answer).square().mean() < (1e-6 if steps == 200 else 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["linear", "kernel", "projected", "retrieval"])
def test_half_precision_learns_what_single_precision_learns(kind, dtype):
    x, y = make_data(80)
    held = torch.arange(80) % 4 == 0
    make = {
        "linear": LinearTranslator,
        "kernel": partial(KernelTranslator, memory_size=80, steps=50),
        "projected": partial(KernelTranslator, memory_size=80, steps=50, key_dim=4),
        "retrieval": partial(RetrievalTranslator, memory_size=80, steps=50),
    }[kind]
    errors = []
    for some in (torch.float32, dtype):
        given, target = {name: z.to(some) for name, z in x.items()}, y.to(some)
        member = make(DIMS, y.shape[-1], dtype=some).fit(given, target, validation=held)
        said = member(given)
        assert said.dtype == some
        errors.append((said - y)[held].square().mean().item())
    assert errors[0] < 0.8 * y[held].var().item()
    # What bfloat16 rounds are a kernel's coefficients, which are large and cancel out.
    assert errors[1] < (1.5 if dtype == torch.bfloat16 else 1.1) * errors[0]


def test_what_is_far_off_is_learned_without_a_warning():
    # Single precision fails from the first step: torch warns of a schedule that is ahead.
    x = torch.randn(60, 1, 4, generator=torch.Generator().manual_seed(0))
    y = x[..., :2].clone()
    x[3] = 1e6
    member = KernelTranslator(4, 2, memory_size=60, steps=20).fit(x, y).remember(x, y)
    assert member(x).isfinite().all()


def test_a_matrix_that_is_not_definite_tells_nothing():
    penalty = torch.tensor(0.1)
    for factor in (1.0, float(penalty + FLOOR)):  # negative, and zero
        kernel = -factor * torch.eye(3)
        assert left_out(kernel, penalty, torch.ones(3, 1), torch.arange(3)).isnan().all()


@pytest.mark.parametrize("kind", ["linear", "kernel", "projected"])
def test_each_subset_has_a_solution_of_its_own(kind):
    # What is said from one source is what a member says that was fitted to it alone.
    options = {"memory_size": 64, "steps": 5, "key_dim": None if kind == "kernel" else 4}
    make = LinearTranslator if kind == "linear" else partial(KernelTranslator, **options)
    x, y = make_data()
    joint = make(DIMS, 3, dtype=torch.float64).fit(x, y)
    places = {"audio": slice(0, DIMS["audio"]), "text": slice(DIMS["audio"], None)}
    for name, dim in DIMS.items():
        single = make(dim, 3, dtype=torch.float64).fit(x[name], y)
        if kind != "linear":  # learned on all sources
            single.mixture.scale.copy_(joint.mixture.scale[:, places[name]])
            single.mixture.amplitude.copy_(joint.mixture.amplitude)
            single.mixture.noise.copy_(joint.mixture.noise)
            if kind == "projected":
                single.mixture.projection.copy_(joint.mixture.projection[places[name]])
            single.typical.copy_(joint.typical)
            single.remember(x[name], y)
        close(joint({name: x[name]}), single(x[name]))


def test_lengths_are_told_where_the_clock_hides_them():
    g = torch.Generator().manual_seed(0)
    sizes = torch.randint(2, 9, (200,), generator=g)
    there = torch.arange(8) < sizes.unsqueeze(-1)
    x = torch.randn(200, 1, 2, generator=g)
    y = sizes.log().view(-1, 1, 1).expand(200, 8, 1)
    translator = LinearTranslator(2, 1, target_places=8, aligned=False)
    translator.fit(x[:100], y[:100], target_valid=there[:100])
    said = translator(x[100:], target_valid=there[100:])
    assert (said - y[100:])[there[100:]].abs().max() < 0.05
    back = LinearTranslator(1, 1, source_places=8, aligned=False)
    noise = torch.randn(200, 8, 1, generator=g)
    back.fit(noise[:100], y[:100, :1], valid=there[:100])
    said = back(noise[100:], valid=there[100:], target_length=1)
    assert (said - y[100:, :1]).abs().max() < 0.5
    # Longer than anything seen: as far as the clamp lets it.
    longer = back(torch.randn(1, 5000, 1), target_length=1)
    assert longer.abs().max() < 2 * y.max()


@pytest.mark.parametrize("case", MEMORIES, ids=str)
def test_rows_of_other_subsets_are_answered_by_their_own(case):
    if not case.takes_mapping:
        pytest.skip("reads one source")
    module, batch = built(case), case.batch(4, dtype=torch.float64, rate=1.0, target="valid")
    batch.valid["text"][1] = False
    batch.valid["audio"][2] = False
    together = case.call(module, batch)
    alone = [
        case.call(module, batch.pick([0])),
        case.call(module, batch.pick([1]).without("text")),
        case.call(module, batch.pick([2]).without("audio")),
    ]
    for row, said in enumerate(alone):
        close(together[row : row + 1], said)
    every = case.told(replace(batch, valid=None))
    close(case.call(module, every), case.call(module, replace(every, valid=None)))


def test_memories_that_lack_a_source_are_not_compared_by_it():
    x, y = make_data(20)
    valid = {name: torch.ones(20, 1, dtype=torch.bool) for name in DIMS}
    valid["text"][:10] = False
    y[:10] += 100.0  # nobody who has a text may hear of it
    translator = RetrievalTranslator(DIMS, 3, memory_size=20, steps=1, dtype=torch.float64)
    translator.fit(x, y, valid=valid)
    assert (translator({"audio": x["audio"]}) > 20).any()
    with torch.no_grad():
        translator.correction.weight.zero_()
    assert (translator(x).abs() < 20).all()


def test_many_sources_fall_back_to_the_largest_subset_that_is_solved():
    dims = dict.fromkeys("abcdef", 1)
    x = {name: torch.randn(60, 1, 1, dtype=torch.float64) for name in dims}
    y = sum(x.values())
    translator = LinearTranslator(dims, 1, dtype=torch.float64).fit(x, y)
    assert len(translator._subsets) == 1 + 6 + 6
    given = {name: x[name] for name in "bd"}  # no solution for this pair: the first single one
    close(translator(given), translator({"b": x["b"]}))
    five = {name: x[name] for name in "abcde"}
    error = (translator(five) - y).square().mean()
    assert error < 1.5 * y.var() / 6  # only f is not known


def test_a_query_never_sees_its_own_row():
    x, y = make_data(30)
    options = {"key_dim": 4, "memory_size": 30, "dtype": torch.float64}
    translator = RetrievalTranslator(DIMS, 3, **options)
    translator.fit(x, y, seed=1)
    index = torch.arange(30)
    y = y.clone().requires_grad_()
    with torch.no_grad():
        spoiled = copy.deepcopy(translator)
        spoiled.values[7] += 1e3
    told, again = (m(x, index=index) for m in (translator, spoiled))
    close(again[7], told[7])  # its own value says nothing to it
    assert ((again - told).abs().flatten(1).amax(-1) > 1e-9)[torch.arange(30) != 7].all()
    assert not torch.allclose(spoiled(x)[7], translator(x)[7])  # without index, it is seen
    # Fitted, it is not a copy of what it remembers.
    assert (told - y).square().mean() > 2 * (translator(x) - y).square().mean()


def test_training_never_sees_the_own_row(monkeypatch):
    from modimpute import _leave_one_out

    seen = []
    original = RetrievalTranslator._hidden_from

    def watched(self, number, index, available, owner):
        hidden = original(self, number, index, available, owner)
        if index is not None:
            seen.append((index, owner, hidden))
        return hidden

    monkeypatch.setattr(RetrievalTranslator, "_hidden_from", watched)
    assert _leave_one_out.COMPLETE < 1  # sources are dropped, too
    x, y = make_data(20, length=3)
    translator = RetrievalTranslator(DIMS, 3, window=1, patch=1, steps=6, memory_size=50,
                                     dtype=torch.float64)  # fmt: skip
    translator.fit(x, y)
    assert len(seen) == 6
    for index, owner, hidden in seen:  # no window of the same sample
        assert hidden[index.unsqueeze(-1) == owner].all()
        assert not hidden.all()


def test_an_example_alone_in_memory_gets_a_finite_answer_without_it():
    translator = RetrievalTranslator(2, 1, memory_size=4, dtype=torch.float64)
    x = torch.randn(1, 1, 2, dtype=torch.float64)
    translator.fit(x, torch.ones(1, 1, 1, dtype=torch.float64))
    assert translator(x, index=torch.tensor([0])).isfinite().all()


def test_training_pays():
    g = torch.Generator().manual_seed(0)
    # Of ten features one says who is a neighbour: what training has to find out.
    x, test = (torch.randn(n, 1, 10, generator=g) for n in (300, 200))
    y, answer = ((3 * t[..., :1]).sin() for t in (x, test))
    first = RetrievalTranslator(10, 1, memory_size=300, steps=1).fit(x, y)
    trained = RetrievalTranslator(10, 1, memory_size=300, steps=300).fit(x, y)
    errors = [(m(test) - answer).square().mean().item() for m in (first, trained)]
    assert errors[1] < 0.5 * errors[0]


def test_windows_answer_steps_by_what_is_around_them():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 20, 2, generator=g, dtype=torch.float64)
    y = torch.roll(x, 1, 1)[..., :1]  # the step before
    there = (torch.arange(20) > 0).expand(30, 20)
    translator = LinearTranslator(2, 1, window=2, patch=1, dtype=torch.float64)
    translator.fit(x, y, target_valid=there)
    longer = torch.randn(2, 50, 2, generator=g, dtype=torch.float64)  # a length never seen
    said = translator(longer)
    close(said[:, 1:], longer[:, :-1, :1], rtol=0, atol=0.02)
    unaligned = LinearTranslator(2, 1, window=0, aligned=False, dtype=torch.float64)
    half = x[:, ::2, :1].repeat_interleave(2, 1)[:, :20]
    unaligned.fit(x[:, ::2], half)  # each source step lasts two target steps
    close(unaligned(longer, target_length=100)[:, 1::2], longer[..., :1], rtol=0, atol=0.02)


def test_validation_chooses_and_is_not_remembered():
    x, y = make_data(60)
    validation = torch.arange(60) >= 40
    y[validation] *= -1  # says the contrary: the penalty has to be large
    options = {"memory_size": 60, "steps": 0, "dtype": torch.float64}
    judged = KernelTranslator(DIMS, 3, **options).fit(x, y, validation=validation)
    alone = KernelTranslator(DIMS, 3, **options)
    alone.fit({name: t[:40] for name, t in x.items()}, y[:40])
    assert judged.mixture.noise > alone.mixture.noise
    assert (judged.memory != 0).any(-1).sum() == 40
    judged.remember(x, y)
    assert (judged.memory != 0).any(-1).sum() == 60
    assert judged.mixture.noise > alone.mixture.noise  # what was chosen stays


@pytest.mark.parametrize("case", FITTED, ids=str)
def test_memory_is_saved(case, tmp_path):
    module, batch = case.build(), case.batch(target="valid")
    save_model(module, tmp_path / "model.safetensors")
    loaded = case.make()
    load_model(loaded, tmp_path / "model.safetensors")
    assert torch.equal(case.call(loaded, batch), case.call(module, batch))


@pytest.mark.parametrize("case", MEMORIES, ids=str)
def test_before_the_fit_the_answer_is_zero(case):
    module = case.make().eval()
    assert (case.call(module, case.batch()) == 0).all()


def test_the_same_seed_gives_the_same_member_and_leaves_the_generator_alone():
    x, y = make_data(30)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    options = {"memory_size": 10, "steps": 3, "dtype": torch.float64}
    first, second, third = (RetrievalTranslator(DIMS, 3, **options) for _ in range(3))
    torch.manual_seed(5)
    first.fit(x, y, seed=1)
    assert torch.equal(torch.rand(3), expected)
    second.fit(x, y, seed=1)
    third.fit(x, y, seed=2)
    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), third(x))


ERRORS = [
    (lambda: LinearTranslator(0, 1), "source_dim must be at least 1"),
    (lambda: LinearTranslator({}, 1), "modality_dims must hold at least 1 modality"),
    (lambda: LinearTranslator(DIMS, 1, source_places={"text": 1}), "source_places must have"),
    (lambda: LinearTranslator(2, 1, window=-1), "window must be at least 0"),
    (lambda: KernelTranslator(2, 1, key_dim=0), "key_dim must be at least 1"),
    (lambda: KernelTranslator(2, 1, steps=-1), "steps must be at least 0"),
    (lambda: KernelTranslator(2, 1, memory_size=0), "memory_size must be at least 1"),
    (lambda: LinearTranslator(2, 1)(torch.ones(3, 2)), r"call unsqueeze\(1\)"),
    (lambda: LinearTranslator(2, 1, aligned=False)(torch.ones(3, 1, 2)), "must be given"),
    (lambda: LinearTranslator(2, 1)(torch.ones(3, 4, 2), target_length=5), "length 5"),
    (lambda: LinearTranslator(DIMS, 1)({"a": torch.ones(3, 4, 2)}), r"however: 'a'"),
    (lambda: LinearTranslator(2, 1).fit(torch.ones(3, 1, 2), torch.ones(2, 1, 1)), "3 and 2"),
    (
        lambda: LinearTranslator(2, 1).fit(
            torch.ones(3, 1, 2), torch.ones(3, 1, 1), validation=torch.ones(3, dtype=torch.bool)
        ),
        "validation must leave samples",
    ),
    (
        lambda: RetrievalTranslator(2, 1)(torch.ones(3, 1, 2), index=torch.ones(2).long()),
        r"index must be int64, of shape \(3,\)",
    ),
]


@pytest.mark.parametrize(("call", "match"), ERRORS)
def test_messages(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_a_mapping_for_a_single_source_is_refused():
    x = torch.ones(3, 1, 2)
    with pytest.raises(TypeError, match=r"source must be a Tensor, however: type\(source\)=dict"):
        LinearTranslator(2, 1)({"source": x})
    with pytest.raises(TypeError, match="source must be a mapping of modality names"):
        LinearTranslator({"a": 2}, 1)(x)
