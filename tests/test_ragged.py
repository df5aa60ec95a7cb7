"""run_by_length: the results of one call on the padded batch."""

import pytest
import torch
from cases import ENSEMBLES, FITTED, FUSIONS, IMPUTERS, TRANSLATORS, imputer, translator
from hypothesis import given, settings, strategies as st
from torch import nn

from modimpute import run_by_length, valid_from_lengths

SIZE, LONGEST = 5, 7
lengths_of_samples = st.lists(st.integers(0, LONGEST), min_size=SIZE, max_size=SIZE)


def build(case):
    torch.manual_seed(0)
    return case.build(dtype=torch.float64).eval()


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def pair(case, lengths, names, *, aligned):
    """The padded batch of a case, its lengths and what is valid."""
    torch.manual_seed(1)
    if aligned:
        lengths = dict.fromkeys(names, lengths[names[0]])
    batch = {name: draw(SIZE, LONGEST, case.dims[name]) for name in names}
    valid = {name: valid_from_lengths(lengths[name], LONGEST) for name in names}
    for name, steps in valid.items():  # padding may hold anything
        batch[name][~steps] = torch.nan
    return batch, lengths, valid


EVERY = [*TRANSLATORS, *ENSEMBLES, *FUSIONS, *FITTED, *IMPUTERS]


@pytest.mark.parametrize("case", [c for c in EVERY if str(c) != "ensemble-mixed"], ids=str)
@settings(max_examples=8)
@given(st.data())
def test_says_what_one_call_on_the_padded_batch_says(case, data):
    module, names = build(case), sorted(case.dims)
    aligned = getattr(module, "aligned", True)
    lengths = {name: torch.tensor(data.draw(lengths_of_samples)) for name in names}
    batch, lengths, valid = pair(case, lengths, names, aligned=aligned)
    target = torch.tensor(data.draw(lengths_of_samples))
    buckets = data.draw(st.integers(1, SIZE + 2))
    padded, cut = {}, {}
    if case.takes_target and not aligned:
        padded["target_valid"] = valid_from_lengths(target, int(target.max()))
        cut["target_lengths"] = target
    if case in IMPUTERS:
        asked = {name: lengths[name] for name in module.targets}
        padded["target_valid"] = {n: valid_from_lengths(x, LONGEST) for n, x in asked.items()}
        cut["target_lengths"] = asked
    if not case.takes_mapping and case not in IMPUTERS:
        batch, lengths, valid = batch[names[0]], lengths[names[0]], valid[names[0]]
    expected = module(batch, valid=valid, **padded)
    found = run_by_length(module, batch, lengths=lengths, num_buckets=buckets, **cut)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6, equal_nan=True)


def test_gaps_within_the_lengths_are_told_by_valid():
    module, source = translator(3, dtype=torch.float64).eval(), draw(4, 6, 3)
    lengths = torch.tensor([6, 2, 4, 1])
    gap = torch.ones(4, 6, dtype=torch.bool)
    gap[:, 1] = False
    expected = module(source, valid=gap & valid_from_lengths(lengths, 6))
    found = run_by_length(module, source, lengths=lengths, valid=gap, num_buckets=2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    # Aligned, asked for all steps that exist: the gap is filled from its neighbours.
    filled = run_by_length(module, source, lengths=lengths, valid=gap, target_lengths=lengths)
    assert filled[[0, 2], 1].abs().sum() > 0
    assert found[:, 1].abs().sum() == 0


def test_an_imputer_fills_a_modality_of_a_length_of_its_own():
    module = imputer({"a": 3, "b": 2}, dtype=torch.float64).eval()
    batch, lengths = {"a": draw(4, 6, 3)}, {"a": torch.tensor([6, 1, 3, 2])}
    exists = {"a": torch.tensor([6, 1, 5, 2]), "b": torch.tensor([2, 9, 4, 0])}
    found = run_by_length(module, batch, lengths=lengths, target_lengths=exists)
    expected = module(
        batch,
        valid={"a": valid_from_lengths(lengths["a"], 6)},
        target_valid={n: valid_from_lengths(exists[n], x) for n, x in [("a", 6), ("b", 9)]},
    )
    assert found["b"].shape == (4, 9, 2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    del exists["a"]
    with pytest.raises(ValueError, match=r"how many steps of every modality exist.*no 'a'"):
        run_by_length(module, batch, lengths=lengths, target_lengths=exists)


def test_gradients_are_those_of_one_call():
    module, source = translator(3, dtype=torch.float64).train(), draw(4, 6, 3)
    lengths = torch.tensor([6, 2, 4, 1])
    module.dropout = 0.0

    def gradients(out):
        return torch.autograd.grad(out.cos().sum(), list(module.parameters()))

    for block in module.encoder.blocks:
        block.dropout = 0.0
    expected = gradients(module(source, valid=valid_from_lengths(lengths, 6)))
    found = gradients(run_by_length(module, source, lengths=lengths, num_buckets=2))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_each_bucket_is_cut_to_its_own_longest_sample():
    seen = []

    class Spy(nn.Module):
        def forward(self, source, *, valid):
            seen.append((tuple(source.shape), valid.sum(-1).tolist()))
            return source

    source = draw(6, 50, 1)
    lengths = torch.tensor([50, 2, 9, 3, 20, 0])
    out = run_by_length(Spy(), source, lengths=lengths, num_buckets=3)
    assert seen == [((2, 2, 1), [0, 2]), ((2, 9, 1), [3, 9]), ((2, 50, 1), [20, 50])]
    for row, (length, steps) in enumerate(zip([50, 2, 9, 9, 50, 2], out, strict=True)):
        assert torch.equal(steps[:length], source[row, :length])
        assert steps[length:].eq(0).all()


def test_a_batch_without_samples():
    module = translator(3)
    out = run_by_length(module, torch.zeros(0, 6, 3), lengths=torch.zeros(0, dtype=torch.int64))
    assert out.shape == (0, 6, module.target_dim)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lengths": torch.tensor([3.0, 1.0])}, TypeError, "lengths must be integer, however"),
        ({"lengths": torch.tensor([3])}, ValueError, "one for each of 2 samples, however: .*(1,)"),
        ({"lengths": torch.tensor([7, 1])}, ValueError, "at least 0 and at most 6, however: .* 7"),
        ({"lengths": torch.tensor([-1, 1])}, ValueError, "at most 6, however: from -1 to 1"),
        ({"lengths": {"b": torch.tensor([1, 1])}}, ValueError, "lengths must have names of"),
        ({"lengths": {}}, ValueError, "lengths must name all of .*, however: no 'source'"),
        (
            {"lengths": torch.zeros(2, dtype=torch.int64, device="meta")},
            ValueError,
            "must be on the CPU .*, however: .*meta",
        ),
        ({"num_buckets": 0}, ValueError, "num_buckets must be at least 1, however"),
        ({"valid": torch.ones(2, 5, dtype=torch.bool)}, ValueError, r"must have shape \(2, 6\)"),
        ({"modalities": torch.zeros(2, 3)}, ValueError, r"must have shape \(B, L, D\)"),
        ({"target_lengths": torch.tensor([-2, 1])}, ValueError, "at least 0, however: from -2"),
    ],
)
def test_wrong_calls_say_what_is_wrong(change, error, message):
    options = {"modalities": torch.zeros(2, 6, 3), "lengths": torch.tensor([3, 1])} | change
    with pytest.raises(error, match=message):
        run_by_length(translator(3), **options)
