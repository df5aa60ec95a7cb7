"""Simulated missingness: patterns, rates, frames and blocks, and the laws they share."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from modimpute import (
    drop_at_rate,
    drop_blocks,
    drop_frames,
    drop_pattern,
    missing_patterns,
    missing_rate,
)

DIMS = {"text": 4, "audio": 3, "a.b": 2}  # not in the order of the names
DROPS = {
    "pattern": lambda x, rate, valid=None, seed=None, index=None: drop_pattern(  # noqa: ARG005
        x, sorted(x)[: round(rate * len(x))], valid=valid
    ),
    "rate": drop_at_rate,
    "frames": drop_frames,
    "blocks": lambda *args, **options: drop_blocks(*args, block_length=2, **options),
}
DRAWN = [name for name in DROPS if name != "pattern"]
seeds = st.integers(0, 2**32 - 1)


def make_batch(size=5, length=4, seed=0, rate=0.6):
    g = torch.Generator().manual_seed(seed)
    modalities, valid = {}, {}
    for i, (name, dim) in enumerate(DIMS.items()):
        modalities[name] = torch.full((size, length + i, dim), torch.nan)
        valid[name] = torch.rand(size, length + i, generator=g) < rate
    return modalities, valid


def complete(size, length, names="abc"):
    return {name: torch.zeros(size, length, 1) for name in names}


def present(valid):
    return torch.stack([valid[name].any(-1) for name in sorted(valid)], -1)


def equal(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def gaps(row):
    """Returns the lengths of the runs of False."""
    return [len(list(run)) for there, run in itertools.groupby(row.tolist()) if not there]


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
class TestEveryDrop:
    @settings(max_examples=50)
    @given(size=st.integers(0, 5), length=st.integers(0, 6), seed=seeds, rate=st.floats(0, 1))
    def test_drops_only(self, drop, size, length, seed, rate):
        modalities, valid = make_batch(size, length, seed)
        before = {name: v.clone() for name, v in valid.items()}
        dropped = drop(modalities, rate, valid=valid, seed=seed)
        assert list(dropped) == sorted(DIMS)
        assert all(torch.equal(valid[name], before[name]) for name in valid)
        assert not any((dropped[name] & ~valid[name]).any() for name in valid)
        everywhere = {name: torch.ones_like(v) for name, v in valid.items()}
        assert equal(
            drop(modalities, rate, seed=seed),
            drop(modalities, rate, valid=everywhere, seed=seed),
        )

    @settings(max_examples=25)
    @given(seed=seeds)
    def test_rate_zero_drops_nothing(self, drop, seed):
        modalities, valid = make_batch(seed=seed)
        dropped = drop(modalities, 0, valid=valid, seed=seed)
        assert all(torch.equal(dropped[name], valid[name]) for name in valid)

    def test_creates_nothing_on_a_default_device(self, drop):
        modalities, valid = make_batch()
        with FakeTensorMode(allow_non_fake_inputs=True):
            x = {n: torch.empty(t.shape, device="cuda") for n, t in modalities.items()}
            v = {
                n: torch.empty(t.shape, device="cuda", dtype=torch.bool) for n, t in valid.items()
            }
            for index in (None, torch.arange(5), torch.empty(5, device="cuda").long()):
                dropped = drop(x, 0.5, valid=v, seed=0, index=index)
                assert all(d.is_cuda and d.dtype == torch.bool for d in dropped.values())


@pytest.mark.parametrize("drop", [DROPS[name] for name in DRAWN], ids=DRAWN)
class TestEveryDraw:
    @settings(max_examples=25)
    @given(seed=seeds, rate=st.floats(0, 1))
    def test_depends_on_the_sample_alone(self, drop, seed, rate):
        modalities, valid = make_batch(6, 5, seed)
        index = torch.tensor([7, 3, 2**40, 0, 11, 4])
        dropped = drop(modalities, rate, valid=valid, seed=seed, index=index)
        rows = torch.tensor([4, 1, 2])
        x, v = ({n: t[rows] for n, t in part.items()} for part in (modalities, valid))
        some = drop(
            dict(reversed(x.items())), rate, valid=dict(reversed(v.items())), seed=seed,
            index=index[rows],
        )  # fmt: skip
        assert equal(some, {name: d[rows] for name, d in dropped.items()})
        # Without one modality the draws of the others stay, and so they do under padding.
        for before, after in [(0, 3), (2, 1)]:
            x = {
                n: torch.nn.functional.pad(t, (0, 0, before, after)) for n, t in modalities.items()
            }
            v = {n: torch.nn.functional.pad(t, (before, after)) for n, t in valid.items()}
            padded = drop(x, rate, valid=v, seed=seed, index=index)
            assert equal(
                dropped, {n: p[:, before : p.shape[1] - after] for n, p in padded.items()}
            )

    def test_seeds(self, drop):
        modalities, valid = make_batch(50)
        draws = [drop(modalities, 0.5, valid=valid, seed=seed) for seed in (1, 1, 2)]
        assert equal(draws[0], draws[1])
        assert not equal(draws[0], draws[2])
        draws = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            draws.append(drop(modalities, 0.5, valid=valid))
        assert equal(draws[0], draws[1])
        assert not equal(draws[0], draws[2])

    def test_messages(self, drop):
        modalities, valid = make_batch()
        for rate in (-0.1, 1.1, torch.nan):
            with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], however: rate="):
                drop(modalities, rate)
        with pytest.raises(TypeError, match=r"rate must be a float, however: rate='0'"):
            drop(modalities, "0")
        with pytest.raises(TypeError, match=r"seed must be an int, however: seed=0\.5"):
            drop(modalities, 0.5, seed=0.5)
        with pytest.raises(ValueError, match=r"index must have shape \(5,\).*, however: .*\(3,\)"):
            drop(modalities, 0.5, index=torch.arange(3))
        with pytest.raises(TypeError, match=r"index must be integer, however: .*float32"):
            drop(modalities, 0.5, index=torch.zeros(5))
        with pytest.raises(ValueError, match=r"valid must have names of .*, however: 'vision'"):
            drop(modalities, 0.5, valid={"vision": valid["text"]})


class TestPatterns:
    def test_all_in_order(self):
        assert missing_patterns(["v", "l", "a"]) == [
            ("a",), ("l",), ("v",), ("a", "l"), ("a", "v"), ("l", "v"),
        ]  # fmt: skip
        assert missing_patterns(["a"]) == []
        for m in range(1, 8):
            names = [str(i) for i in range(m)]
            patterns = missing_patterns(dict.fromkeys(reversed(names)))
            assert patterns == missing_patterns(names)
            assert len(set(patterns)) == len(patterns) == 2**m - 2

    def test_drop(self):
        modalities, valid = make_batch()
        for missing in [(), *missing_patterns(modalities), tuple(modalities)]:
            dropped = drop_pattern(modalities, missing, valid=valid)
            for name, v in dropped.items():
                assert torch.equal(v, torch.zeros_like(v) if name in missing else valid[name])

    def test_messages(self):
        modalities, _ = make_batch()
        with pytest.raises(ValueError, match=r"missing must have names of .* however: 'vision'"):
            drop_pattern(modalities, ["vision"])
        with pytest.raises(TypeError, match=r"missing must be a sequence of names, .*'text'"):
            drop_pattern(modalities, "text")
        with pytest.raises(TypeError, match=r"modalities must be a sequence of names, .*'text'"):
            missing_patterns("text")
        with pytest.raises(TypeError, match=r"modalities must have str names, however: 1"):
            missing_patterns([1, 2])
        with pytest.raises(ValueError, match=r"modalities must hold at least 1 modality"):
            missing_patterns([])


class TestRate:
    @settings(max_examples=25)
    @given(seed=seeds, rate=st.floats(0, 1))
    def test_one_is_kept_and_modalities_are_whole(self, seed, rate):
        modalities, valid = make_batch(seed=seed)
        dropped = drop_at_rate(modalities, rate, valid=valid, seed=seed)
        assert torch.equal(present(dropped).any(-1), present(valid).any(-1))
        for name, v in dropped.items():
            assert torch.equal(v, valid[name] & v.any(-1, keepdim=True))

    @settings(max_examples=25)
    @given(seed=seeds, rate=st.floats(0.67, 1))
    def test_from_the_cap_on_exactly_one_is_left(self, seed, rate):
        modalities, valid = make_batch(seed=seed)
        dropped = drop_at_rate(modalities, rate, valid=valid, seed=seed)
        assert torch.equal(present(dropped).sum(-1), present(valid).any(-1).long())

    @pytest.mark.parametrize("count", [2, 3, 8])
    @pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.7, 1.0])
    def test_the_rate_is_met(self, count, rate):
        modalities = complete(5000, 1, "abcdefgh"[:count])
        reached = missing_rate(drop_at_rate(modalities, rate, seed=3))
        assert reached.mean().item() == pytest.approx(min(rate, 1 - 1 / count), abs=0.015)

    def test_every_modality_and_every_pattern_is_as_likely(self):
        dropped = present(drop_at_rate(complete(30_000, 1), 0.5, seed=0)).int()
        codes = (dropped * torch.tensor([1, 2, 4])).sum(-1).bincount(minlength=8) / 30_000
        one, two = 0.75**2, 2 * 0.75 * 0.25  # the others go with the chance 0.5 * 3 / 2
        expected = [0, one / 3, one / 3, two / 3, one / 3, two / 3, two / 3, 0.25**2]
        torch.testing.assert_close(codes, torch.tensor(expected), atol=0.01, rtol=0)

    def test_of_what_a_sample_has(self):
        modalities = complete(20_000, 1)
        lacks = {"a": torch.zeros(20_000, 1, dtype=torch.bool)}
        dropped = drop_at_rate(modalities, 0.25, valid=lacks, seed=0)
        assert present(dropped).sum(-1).float().mean().item() == pytest.approx(1.5, abs=0.02)

    def test_missing_rate(self):
        valid = {
            "a": torch.tensor([[True, False], [False, False], [False, False]]),
            "b": torch.tensor([[True], [True], [False]]),
        }
        assert missing_rate(valid).tolist() == [0.0, 0.5, 1.0]
        with pytest.raises(TypeError, match=r"valid\['a'\] must be bool, however"):
            missing_rate({"a": torch.zeros(2, 1)})
        with pytest.raises(ValueError, match=r"valid\['b'\] must have shape \(3, 2\), however"):
            missing_rate({"a": valid["a"], "b": valid["a"][:2]})
        with pytest.raises(ValueError, match=r"valid must hold at least 1 modality, however"):
            missing_rate({})


class TestFrames:
    def test_the_rate_is_met_by_name_and_rate_one_leaves_nothing(self):
        rates = {"a": 0.2, "b": 1}
        dropped = drop_frames(complete(200, 100), rates, seed=0)
        assert (~dropped["a"]).float().mean().item() == pytest.approx(0.2, abs=0.01)
        assert not dropped["b"].any()
        assert dropped["c"].all()

    def test_steps_and_modalities_are_independent(self):
        dropped = drop_frames(complete(400, 50), 0.5, seed=0)
        a, b = (dropped[name].float() - 0.5 for name in "ab")
        for x, y in [(a, b), (a[:, 1:], a[:, :-1]), (a[1:], a[:-1]), (a[1:], b[:-1])]:
            assert abs((x * y).mean().item()) < 4 * 0.25 / math.sqrt(x.numel())

    def test_messages(self):
        with pytest.raises(ValueError, match=r"rate must have names of .*, however: 'd'"):
            drop_frames(complete(2, 2), {"d": 0.5})
        with pytest.raises(ValueError, match=r"rate\['a'\] must be in \[0, 1\], however: .*=2"):
            drop_frames(complete(2, 2), {"a": 2})


class TestBlocks:
    @pytest.mark.parametrize("length", [5, 10, 25])
    def test_half_of_a_hundred_steps_in_blocks(self, length):
        dropped = drop_blocks(complete(200, 100), {"a": 0.5}, block_length=length, seed=0)
        assert all(gaps(row) == [length] * (50 // length) for row in dropped["a"])
        assert dropped["b"].all()
        assert len({tuple(row.tolist()) for row in dropped["a"]}) > 100

    @given(
        n=st.integers(0, 30),
        length=st.integers(1, 12),
        rate=st.floats(0, 1),
        seed=seeds,
    )
    def test_the_share_and_the_lengths(self, n, length, rate, seed):
        dropped = drop_blocks(complete(4, n, "a"), rate, block_length=length, seed=seed)["a"]
        for row in dropped:
            total = (~row).sum().item()
            assert math.floor(rate * n * (1 - 1e-6)) <= total <= math.ceil(rate * n * (1 + 1e-6))
            count = math.ceil(total / length)
            if n - total >= count - 1:
                rest = [total - (count - 1) * length] if count else []
                assert sorted(gaps(row)) == sorted([length] * (count - 1) + rest)
        assert not drop_blocks(complete(4, n, "a"), 1, block_length=length, seed=seed)["a"].any()

    def test_a_broken_number_of_steps_is_met_on_average(self):
        dropped = drop_blocks(complete(20_000, 1, "a"), 0.3, block_length=5, seed=0)["a"]
        assert (~dropped).float().mean().item() == pytest.approx(0.3, abs=0.015)

    def test_every_placing_is_as_likely(self):
        # Two blocks of 2 and 3 kept steps, of which one separates: 4 items, 2 of them blocks.
        dropped = drop_blocks(complete(12_000, 7, "a"), 4 / 7, block_length=2, seed=0)["a"]
        rows, counts = dropped.unique(dim=0, return_counts=True)
        exact = (~rows).sum(-1) == 4
        assert exact.sum() == 6
        assert counts[exact].sum() > 11_000
        share = counts[exact] / counts[exact].sum()
        torch.testing.assert_close(share, torch.full((6,), 1 / 6), atol=0.015, rtol=0)

    def test_messages(self):
        with pytest.raises(ValueError, match=r"block_length must be at least 1, however: .*=0"):
            drop_blocks(complete(2, 2), 0.5, block_length=0)
