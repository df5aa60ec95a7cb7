"""What is left of the tolerance moves answers that stand still."""

import pytest
import torch

from modimpute import DonorMatching, LinearTranslator, fit_ensemble
from modimpute._evidence import Evidence, units_of

DIMS = {"audio": 3, "text": 2}
BOTH = ("audio", "text")
LENGTH = 40


def make_data(size, *, seed=0):
    """A target of which sources tell nothing: it jumps, glides, and one feature stands still."""
    g = torch.Generator().manual_seed(seed)
    x = {name: torch.randn(size, LENGTH, dim, generator=g) for name, dim in DIMS.items()}
    jumps = torch.randn(size, LENGTH, 1, generator=g)
    glides = torch.randn(size, LENGTH + 9, 1, generator=g).unfold(1, 10, 1).sum(-1)
    offset = 3 * torch.randn(size, 1, 1, generator=g)
    still = torch.randn(size, 1, 1, generator=g).expand(size, LENGTH, 1)
    return x, torch.cat([jumps, glides + offset, still], -1)


def fit(x, y, tolerance, **options):
    members = {"linear": LinearTranslator(DIMS, 3, window=0)}
    return fit_ensemble(x, y, translators=members, tolerance=tolerance, **options)


def error(ensemble, x, y):
    scale = y.std((0, 1))
    return ((ensemble(x) - y) / scale).square().mean().item()


def about_own(x):
    return x - x.mean(1, keepdim=True)


def motion(x):
    """The deviation of the two features that move about each sample's own mean."""
    return about_own(x)[..., :2].square().mean((0, 1)).sqrt()


def test_answers_move_as_far_as_the_tolerance_says():
    x, y = make_data(300)
    test, truth = make_data(2000, seed=1)
    flat, moved = fit(x, y, 0.0), fit(x, y, 0.02)
    assert set(flat.variation.values()) == {0.0}
    assert 0.1 < moved.variation[BOTH] < 0.4
    assert set(moved.variation) == set(moved.weights)
    assert 1.01 < error(moved, test, truth) / error(flat, test, truth) < 1.03
    plain = moved.weighing.add_up(moved.translate(test), {}, moved.weighing.row(BOTH))
    way = moved(test) - plain
    torch.testing.assert_close(way, way[:1].expand_as(way))  # the same for every sample
    share = torch.full((2,), moved.variation[BOTH])
    torch.testing.assert_close(motion(way) / motion(truth), share, atol=0.02, rtol=0)
    assert (way[..., 2].abs() < 1e-5).all()  # what never moves is not moved


def test_neighbouring_steps_are_as_much_alike_as_those_of_the_target():
    x, y = make_data(300)
    moved = fit(x, y, 0.02)
    way = moved({name: x[name][:1] for name in x}) - fit(x, y, 0.0)({n: x[n][:1] for n in x})

    def likeness(z):
        z = about_own(z)[..., :2]
        return (z[:, 1:] * z[:, :-1]).sum((0, 1)) / z[:, 1:].square().sum((0, 1))

    torch.testing.assert_close(likeness(way), likeness(y), atol=0.1, rtol=0)
    assert likeness(y)[0].abs() < 0.1
    assert likeness(way)[1] > 0.7


def test_inflation_comes_first():
    x, y = make_data(300)
    told = fit(x, x["text"][..., :1] + 0.3 * y / y.std((0, 1)), 0.01)
    assert told.inflation[BOTH] > 1.01
    assert told.variation[BOTH] < 0.01
    assert told.variation["audio",] > 0.05  # audio tells nothing


def test_answers_move_at_most_as_the_target_does():
    x, y = make_data(300)
    widest = fit(x, y, 100.0)
    assert widest.variation[BOTH] == pytest.approx(1, abs=0.05)
    assert (motion(widest(x)) < 1.1 * motion(y)).all()


def test_samples_without_sources_get_the_mean_and_move_with_the_others():
    x, y = make_data(300)
    ensemble = fit(x, y, 0.02)
    nobody = {name: torch.zeros(4, LENGTH, dtype=torch.bool) for name in x}
    there = torch.ones(4, LENGTH, dtype=torch.bool)
    said = ensemble({n: x[n][:4] * torch.nan for n in x}, valid=nobody, target_valid=there)
    assert (said == said[:1]).all()
    torch.testing.assert_close(said.mean((0, 1)), y.mean((0, 1)), atol=0.15, rtol=0)
    share = torch.full((2,), ensemble.variation[BOTH])
    torch.testing.assert_close(motion(said) / motion(y), share, atol=0.03, rtol=0)
    still = fit(x, y, 0.0)({n: x[n][:4] for n in x}, valid=nobody, target_valid=there)
    assert (still == still[:, :1]).all()


def test_vectors_do_not_move():
    x, y = make_data(300)
    ensemble = fit({n: z[:, :1] for n, z in x.items()}, y[:, :1], 0.05)
    assert set(ensemble.variation.values()) == {0.0}


def test_gaps_are_no_motion_and_missing_values_are_not_read():
    _, y = make_data(60)
    there = torch.rand(60, LENGTH) < 0.7
    known = units_of(y, there, True)
    broken = torch.where(there.unsqueeze(-1), y, torch.nan)
    for found, wanted in zip(units_of(broken, there, True), known, strict=True):
        torch.testing.assert_close(found, wanted, atol=0, rtol=0)
    whole = units_of(y, torch.ones_like(there), True)
    torch.testing.assert_close(known.motion, whole.motion, atol=0.1, rtol=0.1)
    torch.testing.assert_close(known.likeness, whole.likeness, atol=0.1, rtol=0)


def test_state_holds_it():
    x, y = make_data(300)
    ensemble = fit(x, y, 0.02)
    other = fit(*make_data(300, seed=2), 0.0)
    assert not torch.equal(other(x), ensemble(x))
    other.load_state_dict(ensemble.state_dict())
    assert torch.equal(other(x), ensemble(x))
    assert other.variation == ensemble.variation


def test_it_is_compiled_and_lowered():
    x, y = make_data(30)
    ensemble = fit(x, y, 0.02)
    program = torch.export.export(ensemble, (x,))
    torch.testing.assert_close(program.module()(x), ensemble(x))
    low = ensemble.to(torch.bfloat16)({n: z.bfloat16() for n, z in x.items()})
    assert low.dtype == torch.bfloat16
    assert low.isfinite().all()


def test_share_is_what_is_left_of_the_tolerance():
    g = torch.Generator().manual_seed(0)
    said = torch.randn(1000, 1, generator=g, dtype=torch.float64)
    target = 0.1 * said[:, 0] + torch.randn(1000, generator=g, dtype=torch.float64)
    evidence = Evidence(1, said)
    evidence.add(said, target)
    units = units_of(target.view(1, -1, 1), torch.ones(1, 1000, dtype=torch.bool), True)
    weight = evidence.weights(0.0, 0.01)
    share = evidence.variation(weight, units, 0.01)
    power = evidence.power
    left = (said @ weight - target).square().sum()
    least = (said @ evidence.weights(0.0) - target).square().sum()
    expected = (1.01 * least - left) / (power * (units.motion / units.scale).square().mean())
    assert float(share) == pytest.approx(float(expected.sqrt()))
    assert 0.05 < float(share) < 0.1
    assert float(evidence.variation(weight, units, 0.0)) == 0
    # Inflated by as much as is allowed: nothing is left.
    sure = Evidence(1, said)
    sure.add(said, said[:, 0] + target)
    assert float(sure.variation(sure.weights(0.0, 0.01), units, 0.01)) < 1e-6
    # A guard that costs more than the tolerance leaves nothing, either.
    assert float(sure.variation(sure.weights(0.9, 0.01), units, 0.01)) == 0
    # At most as large as the target.
    weight = sure.weights(0.0)
    most = 1 - (said @ weight).square().sum() / sure.power
    assert float(sure.variation(weight, units, 1e9).square()) == pytest.approx(
        float(most), rel=0.01
    )


def test_beside_donors_nothing_moves():
    x, y = make_data(60)
    donors = DonorMatching(3, target_places=LENGTH, memory_size=60)
    assert set(fit(x, y, 0.02, donors=donors).variation.values()) == {0.0}
