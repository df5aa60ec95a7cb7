"""What the layers cost, in bytes and rows: counted, so that it is the same on every machine."""

import pytest
import torch

from examples.benchmarks.speed.floor import Encoder
from examples.benchmarks.speed.peers import AllPairs, Explicit
from examples.benchmarks.speed.timing import saved_bytes
from modimpute import CrossModalAttentionFusion, ModalityImputer, ModalityTranslator

SIZES = (35, 74)  # source, target


def translator(dim, **options):
    return ModalityTranslator(*SIZES, model_dim=dim, **options)


def batch(length, size=2):
    valid = torch.ones(size, length, dtype=torch.bool)
    valid[0, length // 2 :] = False
    return torch.randn(size, length, SIZES[0]), valid


@pytest.fixture(autouse=True)
def other_processor(amd):
    """Where narrow heads are filled up they keep more: one where they are not, wherever we are."""
    amd(False)


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize(("dim", "size"), [(40, 2), (256, 2), (40, 14), (256, 3)])
def test_keeps_no_more_for_backward_than_the_floor_and_far_less_than_explicit_scores(
    dim, size, filled, amd
):
    amd(filled)
    x, valid = batch(500, size)
    ours = saved_bytes(translator(dim, dropout=0.0), x, valid=valid)
    floor = saved_bytes(Encoder(*SIZES, dim, 4), x, valid=valid)
    heads = {40: 10, 256: 8}[dim]  # MulT's at its own width; at least as many as ours
    explicit = saved_bytes(Explicit(*SIZES, dim, heads), x, valid=valid)
    large = size > 2  # norms and activations are computed again
    more = 1.3 if filled and dim == 40 else 1.0  # its heads have 10 features
    assert ours <= (0.7 if large else 1.1) * more * floor
    times = {40: 15, 256: 2.5}[dim] * (1.8 if large else 1) / more
    assert saved_bytes(translator(dim), x, valid=valid) * times <= explicit


@pytest.mark.parametrize("aligned", [True, False])
def test_twice_the_steps_keep_twice_the_bytes(aligned):
    sizes = []
    for length in (250, 500, 1000):
        x, valid = batch(length)
        options = {} if aligned else {"target_length": length}
        sizes.append(saved_bytes(translator(40, aligned=aligned), x, valid=valid, **options))
    assert sizes[1] <= 2.05 * sizes[0]
    assert sizes[2] <= 2.05 * sizes[1]


def test_bytes_of_attention_written_out_grow_with_the_square():
    sizes = [saved_bytes(Explicit(*SIZES, 40, 4), *batch(length)) for length in (250, 500)]
    assert sizes[1] > 3 * sizes[0]  # so that the watch sees what it should


@pytest.mark.parametrize(("count", "most"), [(3, 0.75), (6, 0.55)])
def test_fusion_keeps_less_than_all_pairs(count, most):
    dims = {f"m{i}": 10 for i in range(count)}
    x = {name: torch.randn(2, 50, 10) for name in dims}
    fusion = CrossModalAttentionFusion(dims, model_dim=40, dropout=0.0)
    assert saved_bytes(fusion, x) <= most * saved_bytes(AllPairs(dims, 40, 4), x)


def test_fusion_through_latents_keeps_bytes_in_proportion_to_the_modalities():
    sizes = {}
    for count in (2, 8):
        dims = {f"m{i}": 10 for i in range(count)}
        x = {name: torch.randn(2, 50, 10) for name in dims}
        fusion = CrossModalAttentionFusion(dims, model_dim=40, num_latents=16)
        sizes[count] = saved_bytes(fusion, x)
    assert sizes[8] <= 4 * sizes[2]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rows", [[], [3], [0, 5, 6]])
def test_imputer_runs_the_rows_that_it_is_told_and_no_other(rows, training):
    module = ModalityImputer({"a": 3, "b": 2}, model_dim=8, num_heads=2).train(training)
    seen = []
    for encoder in module.encoders.values():
        encoder.register_forward_hook(lambda _m, args, _out: seen.append(args[0].shape[0]))
    x = {"a": torch.randn(8, 5, 3), "b": torch.randn(8, 5, 2)}
    module(x, valid={"a": torch.zeros(8, 5, dtype=torch.bool)}, rows=torch.tensor(rows).long())
    expected = len(rows) or int(training)  # in training one dummy, so that all take part
    assert seen == [expected] * 2 * bool(expected)
