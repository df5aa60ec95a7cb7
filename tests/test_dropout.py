"""ModalityDropout: only ever hides, never the last, at its rate, and the same for a seed."""

import copy

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from modimpute import ModalityDropout

DIMS = {"text": 4, "audio": 3, "a.b": 2}  # not in the order of the names
LEVELS = ("sample", "step")
seeds = st.integers(0, 2**32 - 1)


def make_batch(size=5, length=4, seed=0, rate=0.6):
    g = torch.Generator().manual_seed(seed)
    modalities, valid = {}, {}
    for i, (name, dim) in enumerate(DIMS.items()):
        modalities[name] = torch.full((size, length + i, dim), torch.nan)
        valid[name] = torch.rand(size, length + i, generator=g) < rate
    return modalities, valid


def everything(valid):
    return torch.cat([valid[name] for name in sorted(valid)], -1)


def present(valid):
    return torch.stack([valid[name].any(-1) for name in sorted(valid)], -1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def equal(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("level", LEVELS)
class TestLaws:
    @settings(max_examples=50)
    @given(size=st.integers(0, 5), length=st.integers(0, 4), seed=seeds, rate=st.floats(0, 1))
    def test_hides_only_and_never_the_last(self, level, size, length, seed, rate):
        modalities, valid = make_batch(size, length, seed)
        before = {name: v.clone() for name, v in valid.items()}
        kept = ModalityDropout(rate, level=level)(modalities, valid=valid, generator=seeded(seed))
        assert list(kept) == sorted(DIMS)
        assert all(torch.equal(valid[name], before[name]) for name in valid)
        for name, v in kept.items():
            assert not (v & ~valid[name]).any()
            if level == "sample":  # all steps or none
                whole = v.any(-1, keepdim=True)
                assert torch.equal(v, valid[name] & whole)
        assert torch.equal(everything(kept).any(-1), everything(valid).any(-1))

    @settings(max_examples=25)
    @given(seed=seeds)
    def test_rate_zero_and_rate_one(self, level, seed):
        modalities, valid = make_batch(seed=seed)
        assert everything(ModalityDropout(0, level=level)(modalities)).all()
        kept = ModalityDropout(0.0, level=level)(modalities, valid=valid)
        assert all(torch.equal(kept[name], valid[name]) for name in valid)
        kept = ModalityDropout(1, level=level)(modalities, valid=valid)
        count = present if level == "sample" else everything
        assert torch.equal(count(kept).sum(-1), count(valid).any(-1).long())

    @settings(max_examples=25)
    @given(seed=seeds)
    def test_order_of_the_names_is_irrelevant(self, level, seed):
        modalities, valid = make_batch(seed=seed)
        dropout = ModalityDropout(0.5, level=level)
        kept = dropout(modalities, valid=valid, generator=seeded(seed))
        modalities, valid = (dict(reversed(x.items())) for x in (modalities, valid))
        assert equal(kept, dropout(modalities, valid=valid, generator=seeded(seed)))

    def test_seeds(self, level):
        modalities, valid = make_batch(20)
        dropout, draws = ModalityDropout(0.5, level=level), []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            draws.append(dropout(modalities, valid=valid))
        assert equal(draws[0], draws[1])
        assert not equal(draws[0], draws[2])
        draws = [dropout(modalities, valid=valid, generator=seeded(s)) for s in (1, 1, 2)]
        assert equal(draws[0], draws[1])
        assert not equal(draws[0], draws[2])
        state = torch.get_rng_state()
        dropout(modalities, generator=seeded())
        assert torch.equal(state, torch.get_rng_state())

    def test_rate_is_the_chance(self, level):
        batch = {name: torch.zeros(40_000, 2, 1) for name in "abc"}
        kept = ModalityDropout(0.3, level=level)(batch, generator=seeded(1))
        n = 3 if level == "sample" else 6
        dropped = 0.3 - 0.3**n / n  # who loses everything gets one back
        for v in kept.values():  # within 4 standard errors of as many draws
            assert (~v).float().mean().item() == pytest.approx(dropped, abs=0.009)

    def test_what_is_kept_is_chosen_evenly_among_what_is_there(self, level):
        batch = {name: torch.zeros(20_000, 1, 1) for name in "abc"}
        valid = {"b": torch.arange(20_000).unsqueeze(-1) < 10_000}
        dropout = ModalityDropout(1.0, level=level)
        kept = everything(dropout(batch, valid=valid, generator=seeded())).float()
        expected = torch.tensor([1 / 3, 1 / 3, 1 / 3])
        torch.testing.assert_close(kept[:10_000].mean(0), expected, atol=0.02, rtol=0)
        expected = torch.tensor([1 / 2, 0, 1 / 2])
        torch.testing.assert_close(kept[10_000:].mean(0), expected, atol=0.02, rtol=0)

    def test_eval_is_the_identity(self, level):
        modalities, valid = make_batch()
        dropout = ModalityDropout(1.0, level=level).eval()
        del valid["text"]
        kept = dropout(modalities, valid=valid)
        assert list(kept) == sorted(DIMS)
        assert kept["text"].all()
        assert all(torch.equal(kept[name], v) for name, v in valid.items())

    def test_compiled(self, level):
        modalities, valid = make_batch(50)
        compiled = torch.compile(
            ModalityDropout(0.5, level=level), backend="aot_eager", fullgraph=True
        )
        kept = compiled(modalities, valid=valid)
        assert 0 < everything(kept).sum() < everything(valid).sum()
        assert torch.equal(everything(kept).any(-1), everything(valid).any(-1))

    def test_creates_nothing_on_a_default_device(self, level):
        modalities, valid = make_batch()
        with FakeTensorMode(allow_non_fake_inputs=True):
            x = {n: torch.empty(t.shape, device="cuda") for n, t in modalities.items()}
            v = {
                n: torch.empty(t.shape, device="cuda", dtype=torch.bool) for n, t in valid.items()
            }
            for options in ({}, {"valid": v}, {"generator": seeded()}):
                kept = ModalityDropout(0.5, level=level)(x, **options)
                assert all(k.is_cuda and k.dtype == torch.bool for k in kept.values())

    def test_copies_and_repr(self, level):
        dropout = ModalityDropout(0.5, level=level)
        assert repr(copy.deepcopy(dropout)) == f"ModalityDropout(rate=0.5, level={level!r})"
        assert not dropout.state_dict()


def test_messages():
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], however: rate=1\.5"):
        ModalityDropout(1.5)
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], however: rate=nan"):
        ModalityDropout(torch.nan)
    with pytest.raises(TypeError, match=r"rate must be a float, however: rate='0\.5'"):
        ModalityDropout("0.5")
    with pytest.raises(ValueError, match=r"level must be one of \('sample', 'step'\), however"):
        ModalityDropout(0.5, level="batch")
    modalities, valid = make_batch()
    dropout = ModalityDropout(0.5)
    with pytest.raises(ValueError, match=r"valid must have names of .*, however: 'vision'"):
        dropout(modalities, valid={"vision": valid["text"]})
    with pytest.raises(TypeError, match=r"valid\['text'\] must be bool, however"):
        dropout(modalities, valid={"text": valid["text"].float()})
    with pytest.raises(ValueError, match=r"modalities must hold at least 1 modality, however"):
        dropout({})
    with pytest.raises(TypeError, match=r"modalities\['text'\] must be a Tensor .*, however"):
        dropout({"text": None})
    with pytest.raises(ValueError, match=r"modalities must have one batch size, however"):
        dropout({"text": torch.zeros(2, 1, 1), "audio": torch.zeros(3, 1, 1)})
