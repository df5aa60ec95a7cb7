"""ModalityTranslator: values by hand, an independent reading, and what it learns."""

import math

import numpy as np
import pytest
import reference
import torch
from torch import nn

from modimpute import ModalityTranslator


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(source_dim=3, target_dim=2, *, seed=0, **options):
    """A small translator of which every parameter is random, the learned vectors included."""
    options = {"model_dim": 8, "num_heads": 2, "num_layers": 1, "dropout": 0.0} | options
    translator = ModalityTranslator(source_dim, target_dim, **options, dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in translator.parameters():
            x.copy_(torch.randn(x.shape, generator=g, dtype=x.dtype) * 0.4)
    return translator


def silence(transformer):
    """Makes the blocks add nothing."""
    for name, x in transformer.named_parameters():
        if name.split(".")[-2] in ("output", "feedforward_out"):
            nn.init.zeros_(x)


class TestByHand:
    def test_without_blocks_and_norm_it_is_a_linear_map(self):
        translator = build(1, 1)
        silence(translator.encoder)
        translator.encoder.norm = nn.Identity()
        with torch.no_grad():
            translator.input.weight.fill_(2.0)
            translator.input.bias.fill_(1.0)
            translator.output.weight.fill_(0.25)  # 8 of them
            translator.output.bias.fill_(-1.0)
        out = translator(torch.tensor([[[1.0], [3.0], [-1.0]]]))
        assert out.tolist() == [[[5.0], [13.0], [-3.0]]]  # 2 * (2 x + 1) - 1

    def test_norm_and_gap_vector(self):
        translator = build(1, 1, model_dim=2, num_heads=1)
        silence(translator.encoder)
        with torch.no_grad():
            translator.input.weight.copy_(torch.tensor([[1.0], [-1.0]]))
            translator.input.bias.zero_()
            translator.gap.copy_(torch.tensor([0.0, 2.0]))
            translator.encoder.norm.weight.fill_(1.0)
            translator.encoder.norm.bias.zero_()
            translator.output.weight.copy_(torch.tensor([[3.0, 0.0]]))
            translator.output.bias.fill_(1.0)
        x, valid = torch.tensor([[[2.0], [torch.nan]]]), torch.tensor([[True, False]])
        # (x, -x) has mean 0 and variance x^2; the gap (0, 2) has mean 1 and variance 1.
        expected = [[3 * 2 / math.sqrt(4 + 1e-5) + 1], [3 * -1 / math.sqrt(1 + 1e-5) + 1]]
        out = translator(x, valid=valid, target_valid=torch.ones_like(valid))
        np.testing.assert_allclose(out[0].detach().numpy(), expected)
        out = translator(x, valid=valid)  # target_valid is valid: the gap is not answered
        np.testing.assert_allclose(out[0].detach().numpy(), [expected[0], [0.0]])

    def test_places_count_from_the_first_step_that_exists(self):
        translator = build(1, 8, num_places=3)
        silence(translator.encoder)
        translator.encoder.norm = nn.Identity()
        x = torch.zeros(1, 6, 1, dtype=torch.float64)
        places = translator.places.weight - translator.places.weight[0]
        with torch.no_grad():
            translator.output.weight.copy_(torch.eye(8))
            translator.gap.copy_(translator.input.bias)
        for first, valid, options in [
            (0, [1, 1, 1, 1, 1, 1], {}),
            (2, [0, 0, 1, 0, 1, 1], {}),
            (1, [0, 0, 1, 0, 1, 1], {"target_valid": [0, 1, 1, 1, 1, 1]}),
        ]:
            options = {name: torch.tensor([row]).bool() for name, row in options.items()}
            valid = torch.tensor([valid]).bool()
            out = translator(x, valid=valid, **options)[0]
            for t in range(6):
                if options.get("target_valid", valid)[0, t]:
                    expected = places[min(t - first, 2)]  # later steps share the last one
                    torch.testing.assert_close(out[t] - out[first], expected)

    @pytest.mark.parametrize("aligned", [True, False])
    def test_nothing_valid_is_no_opinion(self, aligned):
        translator, x = build(aligned=aligned), draw(2, 4, 3)
        valid = torch.tensor([[True] * 4, [False] * 4])
        out = translator(x, valid=valid, target_valid=torch.ones_like(valid))
        assert out[0].abs().min() > 0
        assert out[1].eq(0).all()

    def test_target_length_is_given_or_read_off(self):
        translator, x = build(aligned=False), draw(2, 4, 3)
        exists = torch.ones(2, 7, dtype=torch.bool)
        out = translator(x, target_length=7)
        assert out.shape == (2, 7, 2)
        torch.testing.assert_close(translator(x, target_valid=exists), out)
        torch.testing.assert_close(translator(x, target_length=7, target_valid=exists), out)
        assert translator(x, target_length=0).shape == (2, 0, 2)
        assert build()(x, target_length=4).shape == (2, 4, 2)  # allowed, for members

    @pytest.mark.parametrize("aligned", [True, False])
    def test_sizes_that_are_zero(self, aligned):
        translator = build(aligned=aligned)
        for size, length in [(0, 4), (2, 0), (0, 0)]:
            out = translator(draw(size, length, 3), target_length=length)
            assert out.shape == (size, length, 2)
        assert build(aligned=False)(draw(2, 0, 3), target_length=5).eq(0).all()

    def test_width_of_the_feed_forward_part(self):
        assert build(feedforward_dim=5).encoder.blocks[0].feedforward_in.out_features == 5
        assert build().encoder.blocks[0].feedforward_in.out_features == 32


class TestFormula:
    def encoder(self, translator, x, valid, first=0):
        """Every step asks, the valid ones are read; a gap is the learned vector."""
        p = reference.numbers(translator)
        h = np.where(valid[:, None], reference.linear(p, "input", x), p["gap"])
        h = h + reference.places(p, "places", len(x), first)
        steps, sizes = np.arange(len(x)), (translator.num_heads, translator.num_layers)
        return reference.transformer(p, "encoder", h, steps, *sizes, readable=valid)

    @pytest.mark.parametrize(("layers", "places"), [(1, 0), (2, 0), (1, 3)])
    def test_aligned(self, layers, places):
        translator = build(num_layers=layers, num_places=places)
        x = draw(2, 5, 3)
        valid = torch.tensor([[True, False, True, True, False], [True] * 5])
        everywhere = torch.ones_like(valid)
        out = translator(x.masked_fill(~valid[..., None], torch.nan), valid=valid)
        told = translator(x, valid=valid, target_valid=everywhere)
        for i in range(2):
            row, there = x[i].numpy(), valid[i].numpy()
            p = reference.numbers(translator)
            expected = reference.linear(p, "output", self.encoder(translator, row, there))
            np.testing.assert_allclose(told[i].detach().numpy(), expected, atol=1e-9)
            np.testing.assert_allclose(
                out[i].detach().numpy(), expected * there[:, None], atol=1e-9
            )

    @pytest.mark.parametrize(("layers", "places"), [(1, 0), (2, 0), (1, 3)])
    def test_unaligned(self, layers, places):
        translator = build(num_layers=layers, num_places=places, aligned=False)
        x, valid = draw(1, 6, 3), torch.tensor([[False, True, True, False, True, False]])
        exists = torch.tensor([[False, False, True, True, True, False, True]])
        out = translator(x, valid=valid, target_valid=exists)[0].detach().numpy()
        p, readable = reference.numbers(translator), valid[0].numpy()
        encoded = self.encoder(translator, x[0].numpy(), readable, first=1)
        clock = reference.clock(7, 2, 6)  # from the first step that exists to the last
        angles = clock[:, None] * 1000.0 ** (-np.arange(4) / 4)
        waves = np.concatenate([np.sin(angles), np.cos(angles)], -1)
        expected = reference.linear(
            p,
            "output",
            reference.transformer(
                p,
                "decoder",
                reference.linear(p, "query", waves),
                clock,
                translator.num_heads,
                layers,
                context=encoded,
                context_positions=reference.clock(6, 1, 4),
                readable=readable,
            ),
        )
        np.testing.assert_allclose(out, expected * exists[0].numpy()[:, None], atol=1e-9)


@pytest.mark.parametrize("aligned", [True, False])
def test_output_has_the_dtype_of_the_parameters(aligned):
    translator, x = build(aligned=aligned).float(), draw(2, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert translator(x, target_length=4).dtype == torch.float32
    assert translator.double()(x.half(), target_length=4).dtype == torch.float64


@pytest.mark.parametrize("aligned", [True, False])
def test_gradcheck(aligned):
    translator = build(2, 1, model_dim=4, aligned=aligned, feedforward_dim=4)
    x, valid = draw(2, 3, 2).requires_grad_(), torch.tensor([[True, False, True], [False] * 3])
    exists = torch.tensor([[True] * 3, [True, True, False]])
    names, parameters = zip(*translator.named_parameters(), strict=True)

    def forward(x, *parameters):
        state = dict(zip(names, parameters, strict=True))
        options = {"valid": valid, "target_valid": exists}
        return torch.func.functional_call(translator, state, (x,), options)

    assert torch.autograd.gradcheck(forward, (x, *parameters), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: forward(x, *parameters), (x,))


def train(translator, batch, *, lengths, steps, rate):
    optimizer = torch.optim.Adam(translator.parameters(), lr=rate)
    for i in range(steps):
        x, y, options = batch(32, lengths[i % len(lengths)])
        error = translator(x, **options)[:, -y.shape[1] :] - y
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()


def share_unexplained(translator, batch, length):
    """The squared error as a share of that of answering zero."""
    x, y, options = batch(64, length)
    with torch.no_grad():
        error = translator(x, **options)[:, -y.shape[1] :] - y
        return (error.square().mean() / y.square().mean()).item()


class TestLearns:
    def test_from_the_step_before_at_three_times_the_length(self):
        torch.manual_seed(0)
        g = torch.Generator().manual_seed(0)
        weight = torch.randn(3, 2, generator=g)

        def batch(size, length):
            x = torch.randn(size, length, 3, generator=g)
            return x, x[:, :-1] @ weight, {}  # the first step has none before it

        translator = ModalityTranslator(3, 2, model_dim=16, num_heads=2, num_layers=1, dropout=0.0)
        train(translator, batch, lengths=[6, 9, 12], steps=400, rate=1e-2)
        for length in (8, 36):
            assert share_unexplained(translator, batch, length) < 0.05

    def test_two_target_steps_for_each_source_step_at_other_lengths(self):
        torch.manual_seed(0)
        g = torch.Generator().manual_seed(0)
        weight = torch.randn(3, 2, generator=g)

        def batch(size, length):
            x = torch.randn(size, length, 3, generator=g)
            return x, (x @ weight).repeat_interleave(2, 1), {"target_length": 2 * length}

        translator = ModalityTranslator(
            3, 2, model_dim=16, num_heads=2, num_layers=1, dropout=0.0, aligned=False
        )
        train(translator, batch, lengths=[4, 5, 6, 8], steps=400, rate=1e-2)
        for length in (6, 7, 10):
            assert share_unexplained(translator, batch, length) < 0.1
