"""Donors: real values that a reconstruction is drawn to, and how far an ensemble goes."""

import pytest
import torch

from modimpute import DonorMatching, LinearTranslator, TranslatorEnsemble, fit_ensemble
from modimpute._evidence import Evidence


def two_points(size, seed=0):
    """Returns targets that are one of two points, and a source that tells half of which."""
    g = torch.Generator().manual_seed(seed)
    sign = torch.where(torch.rand(size, 1, 1, generator=g) < 0.5, -1.0, 1.0)
    target = sign * torch.tensor([1.0, -2.0])
    return {"text": sign + 1.2 * torch.randn(size, 1, 1, generator=g)}, target


def test_the_nearest_real_value_by_hand():
    real = torch.tensor([[0.0, 0.0], [1.0, 10.0], [3.0, -10.0]]).view(3, 1, 2)
    matching = DonorMatching(2, temperature=1e-4).remember(real)
    # In units of the deviations 1.25 and 8.2 the third one is nearer.
    assert matching(torch.tensor([[[2.6, -5.5]]])).flatten().tolist() == [3.0, -10.0]
    soft = DonorMatching(2, temperature=1.0).remember(real)
    given = torch.tensor([[[2.6, -5.5]]])
    units = real.flatten(0, 1).std(0, correction=0)
    distance = ((given[0] - real[:, 0]) / units).square().mean(-1)
    expected = (torch.softmax(-distance, 0).unsqueeze(-1) * real[:, 0]).sum(0)
    torch.testing.assert_close(soft(given).flatten(), expected)
    halfway = soft(given, share=0.5).flatten()
    torch.testing.assert_close(halfway, (given.flatten() + expected) / 2)
    each = soft(given.expand(2, 1, 2), share=torch.tensor([[0.0], [1.0]]))
    torch.testing.assert_close(each[:, 0], torch.stack([given.flatten(), expected]))


def test_donors_are_alike_in_their_sources_too():
    real = torch.tensor([0.0, 2.0, 4.0, 6.0]).view(4, 1, 1)
    sources = {"a": torch.tensor([[3.0, 1.0], [0.0, 0.0], [1.0, 0.0], [9.0, 5.0]]).unsqueeze(1)}
    options = {"source_dims": {"a": 2}, "temperature": 0.4, "source_temperature": 0.5}
    matching = DonorMatching(1, **options).remember(real, sources=sources)
    given, asked = torch.tensor([[[2.9]]]), {"a": torch.tensor([[[0.9, 0.3]]])}
    units = sources["a"].flatten(0, 1).std(0, correction=0)
    x, y = sources["a"].squeeze(1) / units, real.flatten() / real.std(correction=0)
    apart = (x.unsqueeze(1) - x).square().mean(-1)
    nearest = (apart + 1e9 * torch.eye(4)).amin(-1).mean()
    beside = (asked["a"].squeeze(1) / units - x).square().mean(-1)
    far = (given.flatten() / real.std(correction=0) - y).square()
    scores = -far / 0.4 - beside / (0.5 * nearest)
    expected = (scores.softmax(-1) * real.flatten()).sum()
    torch.testing.assert_close(matching(given, sources=asked).flatten(), expected.view(1))
    assert not torch.allclose(matching(given), expected)
    # What is not there is not compared, whatever stands there.
    nothing = {"a": torch.full((1, 1, 2), torch.nan)}
    there = {"a": torch.tensor([[False]])}
    assert torch.equal(matching(given, sources=nothing, source_valid=there), matching(given))


def test_donors_that_lack_the_sources_are_neither_near_nor_far():
    real = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1)
    sources = {"a": torch.tensor([0.0, 4.0, torch.nan]).view(3, 1, 1)}
    valid = {"a": torch.tensor([[True], [True], [False]])}
    options = {"source_dims": {"a": 1}, "temperature": 1e9, "source_temperature": 1.0}
    matching = DonorMatching(1, **options)
    matching.remember(real, sources=sources, source_valid=valid)
    (near,), (far,) = (
        matching(real[:1], sources={"a": torch.full((1, 1, 1), at)}).flatten().tolist()
        for at in (0.0, 4.0)
    )
    # Distances 0 and 4 in units of 4, and 2 on average.
    weight = torch.tensor([0.0, -1.0, -0.5]).softmax(0)
    assert near == pytest.approx(float(weight @ real.flatten()), abs=1e-5)
    assert far == pytest.approx(float(weight[[1, 0, 2]] @ real.flatten()), abs=1e-5)
    # A memory without any sources compares none.
    matching.remember(real)
    assert matching(real[:1], sources={"a": torch.ones(1, 1, 1)}).item() == pytest.approx(1.0)


def test_sources_are_compared_where_that_errs_least():
    g = torch.Generator().manual_seed(0)
    angle = 6.3 * torch.rand(400, 1, 1, generator=g)
    ring = {"a": torch.cat([angle.sin(), angle.cos()], -1)}
    winding = torch.cat([(3 * angle).sin(), (2 * angle).cos()], -1)
    # Here the source tells which of two kinds, and no more: who is nearest in it is chance.
    kind = torch.where(torch.rand(400, 1, 1, generator=g) < 0.5, -1.0, 1.0)
    told = {"a": kind + 0.3 * torch.randn(400, 1, 2, generator=g)}
    varied = 2 * kind + torch.randn(400, 1, 4, generator=g)
    chosen = []
    for sources, target in ((ring, winding), (told, varied)):
        dim = target.shape[-1]
        donors = DonorMatching(dim, source_dims={"a": 2})
        options = {"translators": {"a": LinearTranslator(2, dim)}, "donors": donors}
        ensemble = fit_ensemble(sources, target, **options)
        assert ensemble.weights["a",]["donors"] > 0
        chosen.append(bool(donors.source_memory.tau.isfinite()))
        assert torch.equal(ensemble(sources), ensemble(sources, valid={}))
        drawn = ensemble.combine(ensemble.translate(sources), sources=sources)
        torch.testing.assert_close(drawn, ensemble(sources))
    assert chosen == [True, False]
    # Samples of which there are two are as near as can be: nothing is divided by that.
    twice = {"a": told["a"][:200].repeat(2, 1, 1)}
    options = {"translators": {"a": LinearTranslator(2, 4)}, "validation": torch.arange(400) < 150}
    donors = DonorMatching(4, source_dims={"a": 2})
    ensemble = fit_ensemble(twice, varied, **options, donors=donors)
    assert ensemble(twice).isfinite().all()
    # In the end donors come from all samples, their sources, too.
    assert int(donors.source_memory.available.any(-1).sum()) == 400


def test_what_donors_lack_is_not_compared_and_not_given():
    real = torch.tensor([[0.0, 5.0], [1.0, torch.nan], [4.0, 9.0]]).unsqueeze(-1)
    valid = torch.tensor([[True, True], [True, False], [True, True]])
    matching = DonorMatching(1, target_places=2, temperature=1e-5).remember(real, valid=valid)
    # The second donor is nearest in the first step; of the second step it knows nothing.
    given = torch.tensor([[[1.1], [7.3]]])
    torch.testing.assert_close(matching(given).flatten(), torch.tensor([1.0, 7.3]))
    # Places count from the first step that exists, and the other one is not compared.
    exists = torch.tensor([[False, True]])
    given = torch.tensor([[[torch.nan], [3.0]]])
    torch.testing.assert_close(matching(given, valid=exists).flatten(), torch.tensor([0.0, 4.0]))


def test_steps_beyond_the_places_stay():
    real = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(0))
    matching = DonorMatching(2, target_places=3, temperature=1e-4).remember(real)
    given = torch.cat([real[:1] + 0.01, torch.full((1, 2, 2), 7.0)], 1)
    answer = matching(given)
    torch.testing.assert_close(answer[:, :3], real[:1], atol=1e-5, rtol=0)
    assert (answer[:, 3:] == 7.0).all()


def test_lengths_are_compared_on_one_clock():
    ramp = torch.linspace(-1, 1, 8).view(1, 8, 1)
    real = torch.cat([ramp, -ramp])
    matching = DonorMatching(1, target_places=8, aligned=False, temperature=1e-3).remember(real)
    given = 0.5 * torch.linspace(-1, 1, 16).view(1, 16, 1)
    answer = matching(given)
    assert answer.shape == (1, 16, 1)
    assert (answer[0, -1] - given[0, -1]) > 0.3
    assert (answer[0, 0] - given[0, 0]) < -0.3


def test_without_memory_nothing_changes_and_a_bounded_one_takes_some():
    x = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(0))
    matching = DonorMatching(3, memory_size=5)
    assert torch.equal(matching(x), x)
    real = torch.randn(9, 1, 3, generator=torch.Generator().manual_seed(1))
    first, second = (matching.remember(real, seed=seed).memory.clone() for seed in (0, 1))
    assert matching.available.all()
    assert not torch.equal(first, second)
    assert torch.equal(first, matching.remember(real, seed=0).memory)
    matching.remember(real[:2])
    assert matching.available.sum() == 2
    matching.reset_parameters()
    assert torch.equal(matching(x), x)


def test_a_temperature_that_vanishes_in_half_precision():
    real = torch.tensor([-1.0, 1.0]).view(2, 1, 1).half()
    matching = DonorMatching(1, temperature=1e-9, dtype=torch.float16).remember(real)
    assert matching.tau == 0
    assert matching(torch.tensor([-1.0, 0.4]).view(2, 1, 1)).flatten().tolist() == [-1.0, 1.0]


def test_the_share_is_what_the_way_explains():
    evidence = Evidence(1, torch.zeros(1))
    way = torch.tensor([[1.0], [2.0], [-1.0]])
    left = torch.tensor([0.7, 0.4, -0.7])
    evidence.add(way, left)
    best = float((way.squeeze(-1) * left).sum() / way.square().sum())
    assert float(evidence.share(0.0, 0.0)) == pytest.approx(best)

    def error(share):
        return float((left - share * way.squeeze(-1)).square().sum())

    further = float(evidence.share(0.0, 0.5))
    assert further > best
    assert error(further) == pytest.approx(1.5 * error(best))
    assert float(evidence.share(0.0, 1e9)) == 1.0
    # Less than the guard is explained: a smaller step, and none at all beyond the wrong way.
    explained = 1 - error(best) / error(0)
    guarded = float(evidence.share(2 * explained, 0.0))
    assert guarded == pytest.approx(best / 2)
    wrong = Evidence(1, torch.zeros(1))
    wrong.add(-way, left)
    assert float(wrong.share(0.0, 10.0)) == 0.0


def test_donors_help_where_the_truth_is_one_of_few():
    sources, target = two_points(400)
    member = {"text": LinearTranslator(1, 2)}
    held, (asked, truth) = torch.arange(400) >= 200, two_points(2000, seed=1)
    options = {"translators": member, "validation": held, "donors": DonorMatching(2)}
    plain = fit_ensemble(sources, target, **options, tolerance=0)
    share = plain.weights["text",]["donors"]
    assert share > 0.1
    error = (plain(asked) - truth).square().mean()
    plain.weighing.donors_share.zero_()
    assert error < (plain(asked) - truth).square().mean()
    assert sum(plain.weights["text",].values()) == pytest.approx(1)
    plausible = fit_ensemble(sources, target, **options, tolerance=1e9)
    assert plausible.weights["text",] == {"text": 0.0, "donors": 1.0, "mean": 0.0}
    spread = [float(x(asked).std()) for x in (plain, plausible)]
    assert spread[0] < 0.9 * spread[1]
    assert spread[1] > 0.95 * float(truth.std())
    # In the end donors come from all samples.
    assert int(plausible.donors.available.sum()) == 400


def test_donors_of_held_out_samples_are_others():
    # Every target is its own: a sample that were its own donor would be copied.
    g = torch.Generator().manual_seed(0)
    target = torch.randn(300, 1, 32, generator=g)
    sources = {"text": target[..., :16] + 0.5 * torch.randn(300, 1, 16, generator=g)}
    options = {"translators": {"text": LinearTranslator(16, 32)}, "donors": DonorMatching(32)}
    ensemble = fit_ensemble(sources, target, **options)
    assert ensemble.weights["text",]["donors"] < 0.2


def test_a_network_of_ones_own_chooses_by_fit_weights():
    sources, target = two_points(300)
    member = LinearTranslator(1, 2).fit(sources["text"], target)
    matching = DonorMatching(2).remember(target)
    ensemble = TranslatorEnsemble({"text": member}, 2, combination="weights", donors=matching)
    assert ensemble.donors is matching
    assert ensemble.weights["text",]["donors"] == 0.0
    other, truth = two_points(300, seed=2)
    shares = [
        ensemble.fit_weights(other, truth, tolerance=tolerance).weights["text",]["donors"]
        for tolerance in (0.0, 0.01)
    ]
    assert 0 < shares[0] < shares[1] < 1


def test_mistakes():
    with pytest.raises(ValueError, match=r"temperature must be above 0, however: 0"):
        DonorMatching(2, temperature=0)
    with pytest.raises(ValueError, match=r"source_temperature must be above 0, however: -1"):
        DonorMatching(2, source_temperature=-1)
    compared = DonorMatching(2, source_dims={"text": 3})
    with pytest.raises(ValueError, match=r"sources must have a batch size of 2, .* 'text' has 1"):
        compared(torch.ones(2, 1, 2), sources={"text": torch.ones(1, 1, 3)})
    with pytest.raises(ValueError, match=r"sources must have names of \('text',\), however: 'a'"):
        compared(torch.ones(2, 1, 2), sources={"a": torch.ones(2, 1, 3)})
    with pytest.raises(ValueError, match=r"source_valid must have names of"):
        compared(torch.ones(2, 1, 2), source_valid={"text": torch.ones(2, 1, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"among the sources {'text': 1}, however: 'text' with 3"):
        fit_ensemble(*two_points(9), translators={"text": LinearTranslator(1, 2)}, donors=compared)
    with pytest.raises(ValueError, match=r"reconstruction must have 2 features"):
        DonorMatching(2)(torch.ones(1, 1, 3))
    with pytest.raises(ValueError, match=r"valid must have shape \(1, 1\)"):
        DonorMatching(2)(torch.ones(1, 1, 2), valid=torch.ones(1, 2, dtype=torch.bool))
    member = {"text": LinearTranslator(1, 2)}
    with pytest.raises(ValueError, match=r"tolerance must be 0 or more, however: -1"):
        fit_ensemble(*two_points(9), translators=member, tolerance=-1)
    with pytest.raises(TypeError, match=r"donors must be a DonorMatching, or None, however: L"):
        TranslatorEnsemble(member, 2, combination="weights", donors=LinearTranslator(1, 2))
    for options in ({"combination": "weights"}, {}):
        dim = 3 if options else 2
        with pytest.raises(ValueError, match=r"donors must have target_dim=2, beside"):
            TranslatorEnsemble(member, 2, donors=DonorMatching(dim), **options)
    for name in ("mean", "donors"):
        with pytest.raises(ValueError, match=r"other names than 'donors' and 'mean'"):
            TranslatorEnsemble({name: LinearTranslator(1, 2)}, 2, combination="weights")
