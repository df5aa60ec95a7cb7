"""The attention, the positions and the block that all layers share, against plain formulas."""

import math

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode

from modimpute import _elementwise
from modimpute._elementwise import dropped
from modimpute._positions import (
    Places,
    clock_positions,
    rotate,
    rotation,
    step_positions,
    waves,
)
from modimpute._transformer import Attention, Block, Transformer
from modimpute._valid import any_valid, attention_mask, blend, choose, keep

STILL = rotation(torch.zeros(1, 2).double(), 2, 1)  # both steps at position 0: nothing is turned


def randomize(module, seed=0):
    """Draws all parameters, biases and norms included, so that none can be left out unseen."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in module.parameters():
            x.copy_(torch.randn(x.shape, generator=g, dtype=x.dtype) * 0.5)
    return module.eval()


def identity_attention(dim=2, heads=1):
    """Attention whose queries, keys, values and output are its input."""
    attention = Attention(dim, heads, 0.0, None, torch.float64)
    with torch.no_grad():
        attention.input.weight.copy_(torch.eye(dim).repeat(3, 1))
        attention.output.weight.copy_(torch.eye(dim))
    return attention


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Widths(TorchFunctionMode):
    """Notes how wide the heads are that torch reads with, and their scale."""

    def __init__(self, runs=True):
        super().__init__()
        self.runs, self.heads = runs, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            (width,) = {x.shape[-1] for x in args}
            self.heads.append((width, kwargs["scale"]))
            if not self.runs:  # without a driver it cannot
                return args[0]
        return func(*args, **(kwargs or {}))


class TestAttention:
    def test_two_steps_by_hand(self):
        attention, x = identity_attention(), torch.eye(2, dtype=torch.float64).unsqueeze(0)
        share = math.exp(1 / math.sqrt(2)) / (math.exp(1 / math.sqrt(2)) + 1)
        expected = torch.tensor([[[share, 1 - share], [1 - share, share]]], dtype=torch.float64)
        out = attention.read(*attention.project(nn.Identity(), x, STILL), None)
        torch.testing.assert_close(out, expected)

    def test_mask_by_hand(self):
        attention, x = identity_attention(), torch.eye(2, dtype=torch.float64).unsqueeze(0)
        mask = attention_mask(torch.tensor([[False, True]]), x)
        out = attention.read(*attention.project(nn.Identity(), x, STILL), mask)
        assert out.tolist() == [[[0.0, 1.0], [0.0, 1.0]]]  # only the second step is read

    def test_positions_by_hand(self):
        # A head of two features is turned by one radian per step: scores are cosines.
        attention, x = identity_attention(), torch.ones(1, 2, 2, dtype=torch.float64)
        x[0, 1] = torch.tensor([2.0, -1.0])
        query, key, _ = attention.project(
            nn.Identity(), x, rotation(torch.tensor([[0.0, 3.0]]).double(), 2, 1)
        )
        # (1, 1) with (1, 1): 2; with (2, -1): |.| |.| cos(angle between them + 3 radians)
        angle = math.atan2(-1, 2) - math.atan2(1, 1) + 3.0
        expected = [2.0, math.sqrt(2) * math.sqrt(5) * math.cos(angle)]
        torch.testing.assert_close(
            (query @ key.transpose(-1, -2))[0, 0, 0], torch.tensor(expected, dtype=torch.float64)
        )

    @pytest.mark.parametrize(("dim", "heads"), [(4, 1), (6, 2), (8, 2), (3, 3)])
    def test_self_attention_is_the_formula(self, dim, heads):
        attention = randomize(Attention(dim, heads, 0.0, None, torch.float64))
        p = {f"a.{name}": x for name, x in reference.numbers(attention).items()}
        x, positions = draw(1, 5, dim), torch.tensor([[0.0, 1.0, 2.5, 7.0, -3.0]])
        valid = torch.tensor([[True, False, True, True, False]])
        by = rotation(positions.double(), dim, heads)
        for mask, readable in [(None, None), (attention_mask(valid, x), valid[0].numpy())]:
            out = attention.read(*attention.project(nn.Identity(), x, by), mask)
            expected = reference.attention(
                p, "a", x[0].numpy(), positions[0].numpy(), heads, readable=readable
            )
            np.testing.assert_allclose(out[0].detach().numpy(), expected, atol=1e-6)

    @pytest.mark.parametrize(("dim", "heads"), [(6, 2), (8, 2)])
    def test_cross_attention_is_the_formula(self, dim, heads):
        attention = randomize(Attention(dim, heads, 0.0, None, torch.float64))
        p = {f"a.{name}": x for name, x in reference.numbers(attention).items()}
        x, context = draw(1, 3, dim), draw(1, 5, dim, seed=1)
        positions = torch.tensor([[0.5, 4.0, 9.0]]).double(), torch.arange(5.0).double()[None] * 2
        by, context_by = (rotation(where, dim, heads) for where in positions)
        valid = torch.tensor([[True, False, True, True, False]])
        for mask, readable in [(None, None), (attention_mask(valid, x), valid[0].numpy())]:
            read = attention.project_context(context, context_by)
            out = attention.read(attention.project_query(x, by), *read, mask)
            expected = reference.attention(
                p,
                "a",
                x[0].numpy(),
                positions[0][0].numpy(),
                heads,
                context=context[0].numpy(),
                context_positions=positions[1][0].numpy(),
                readable=readable,
            )
            np.testing.assert_allclose(out[0].detach().numpy(), expected, atol=1e-6)

    def test_heads_of_odd_widths_are_filled_up_on_a_gpu(self):  # needs none
        attention = Attention(20, 2, 0.0, None, None)
        attention.output = nn.Identity()
        with FakeTensorMode(), Widths(runs=False) as seen:
            heads = torch.empty(3, 1, 2, 5, 10, device="cuda").unbind()
            assert attention.read(*heads, None).shape == (1, 5, 20)
        assert seen.heads == [(16, 10**-0.5)]

    @pytest.mark.parametrize(
        "valid", [None, torch.tensor([[True] * 12, [True] * 5 + [False] * 7])]
    )
    @pytest.mark.parametrize("early", [True, False])
    def test_filled_up_heads_say_and_learn_the_same(self, valid, early, amd):
        attention, x = randomize(Attention(20, 2, 0.0, None, None)), draw(2, 12, 20).float()
        by = rotation(step_positions(x), 20, 2)
        mask = None if valid is None else attention_mask(valid, x)

        def everything():
            given = x.clone().requires_grad_()
            if early:
                heads = attention.project(nn.Identity(), given, by)
            else:
                heads = attention.project_query(given, by), *attention.project_context(given, by)
            out = attention.read(*heads, mask)
            learned = (given, *attention.parameters())
            return out.detach(), *torch.autograd.grad(out.sin().sum(), learned)

        with Widths() as seen:
            found = everything()
            amd(False)
            expected = everything()
        assert seen.heads == [(16, 10**-0.5), (10, None)]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.usefixtures("amd")
    @pytest.mark.parametrize(
        ("shape", "keys", "dtype", "width"),
        [
            ((2, 2, 6, 10), 4, torch.float32, 16),
            ((2, 2, 6, 4), 4, torch.float32, 16),
            ((2, 2, 6, 16), 4, torch.float32, 16),
            ((2, 2, 6, 18), 4, torch.float32, 18),
            ((2, 2, 12, 10), 3, torch.float32, 10),
            ((2, 2, 3, 10), 12, torch.float32, 10),
            ((2, 2, 5, 10), 4, torch.float32, 10),
            ((2, 2, 6, 10), 4, torch.float64, 10),
            ((2, 2, 6, 10), 4, torch.bfloat16, 10),
        ],
    )
    def test_heads_are_filled_up_where_it_pays(self, shape, keys, dtype, width):
        attention = Attention(shape[1] * shape[3], shape[1], 0.0, None, dtype)
        query, key = torch.zeros(shape, dtype=dtype), torch.zeros(*shape[:2], keys, shape[3])
        with Widths() as seen:
            attention.read(query, key.to(dtype), key.to(dtype), None)
        assert seen.heads[0][0] == width

    @pytest.mark.usefixtures("amd")
    def test_heads_of_lower_precision_are_as_wide_as_they_are(self):
        attention, x = Attention(20, 2, 0.0, None, None), torch.zeros(2, 12, 20)
        by = rotation(step_positions(x), 20, 2)
        with Widths() as seen, torch.autocast("cpu", torch.bfloat16):
            attention.read(*attention.project(nn.Identity(), x, by), None)
        assert seen.heads == [(10, None)]

    @pytest.mark.usefixtures("amd")
    def test_exported_heads_are_as_wide_as_they_are(self):
        class Reads(nn.Module):
            def __init__(self):
                super().__init__()
                self.attention = Attention(20, 2, 0.0, None, None)

            def forward(self, x):
                return self.attention.read(x, x, x, None)

        module, x = Reads(), torch.zeros(2, 2, 12, 10)
        with Widths() as seen:
            module(x)
        assert seen.heads == [(16, 10**-0.5)]
        assert "pad" not in torch.export.export(module, (x,)).graph_module.code

    def test_gradcheck(self):
        attention = randomize(Attention(4, 2, 0.0, None, torch.float64))
        by = rotation(torch.arange(3.0).double()[None], 4, 2)
        x = draw(1, 3, 4).requires_grad_()
        mask = attention_mask(torch.tensor([[True, False, True]]), x)
        assert torch.autograd.gradcheck(
            lambda x: attention.read(*attention.project(nn.Identity(), x, by), mask), (x,)
        )


class TestBlock:
    def test_is_the_pre_norm_formula(self):
        block = randomize(Block(8, 2, 12, 0.0, 0.0, None, torch.float64))
        p = {f"b.{name}": x for name, x in reference.numbers(block).items()}
        x, steps = draw(2, 5, 8), np.arange(5.0)
        out = block(x, rotation(step_positions(x), 8, 2), None)
        for row, given in zip(out.detach().numpy(), x.numpy(), strict=True):
            np.testing.assert_allclose(row, reference.block(p, "b", given, steps, 2), atol=1e-9)

    def test_reads_a_context_where_one_is_given(self):
        block = randomize(Block(8, 2, None, 0.0, 0.0, None, torch.float64))
        p = {f"b.{name}": x for name, x in reference.numbers(block).items()}
        x, context = draw(1, 3, 8), draw(1, 4, 8, seed=1)
        by, context_by = (rotation(step_positions(z), 8, 2) for z in (x, context))
        valid = torch.tensor([[False, True, True, False]])
        out = block(x, by, attention_mask(valid, x), context, context_by)
        read = {"context": context[0].numpy(), "context_positions": np.arange(4.0)}
        expected = reference.block(
            p, "b", x[0].numpy(), np.arange(3.0), 2, **read, readable=valid[0].numpy()
        )
        np.testing.assert_allclose(out[0].detach().numpy(), expected, atol=1e-9)

    def test_stack_ends_with_a_norm(self):
        stack = randomize(Transformer(8, 2, 2, None, 0.0, 0.0, None, torch.float64))
        p = {f"t.{name}": x for name, x in reference.numbers(stack).items()}
        x = draw(1, 5, 8)
        out = stack(x, rotation(step_positions(x), 8, 2), None)
        expected = reference.transformer(p, "t", x[0].numpy(), np.arange(5.0), 2, 2)
        np.testing.assert_allclose(out[0].detach().numpy(), expected, atol=1e-9)

    def test_width_of_the_feed_forward_part(self):
        sizes = [
            Block(8, 2, f, 0.0, 0.0, None, None).feedforward_in.out_features for f in (5, None)
        ]
        assert sizes == [5, 32]

    @pytest.mark.parametrize("lower", [False, True])
    def test_wide_parts_are_made_piece_by_piece(self, lower, monkeypatch):
        block, x = randomize(Block(8, 2, 6, 0.5, 0.0, None, None)).eval(), draw(3, 5, 8).float()
        by, rows = rotation(step_positions(x), 8, 2), []
        norm = F.layer_norm
        monkeypatch.setattr(
            F, "layer_norm", lambda x, *rest: rows.append(x.shape[:-1].numel()) or norm(x, *rest)
        )
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
            whole = block(x, by, None)
            monkeypatch.setattr(_elementwise, "WIDE", 3 * 5 * 6)
            monkeypatch.setattr(_elementwise, "PIECE", 4 * 6)
            before = x.clone()
            torch.testing.assert_close(block(x, by, None), whole, rtol=1e-6, atol=1e-6)
            assert rows == [15, 15, 15, 4, 4, 4, 3]
            assert torch.equal(x, before)
            seen = []
            with block.feedforward_in.register_forward_hook(lambda *args: seen.append(args[-1])):
                assert torch.equal(block(x, by, None), whole)
            assert [len(out) for out in seen] == [3]  # whoever looks sees all of it
        assert block(x, by, None).requires_grad
        assert rows[-2:] == [15, 15]

    def test_both_rates_of_dropout_act_in_training_only(self):
        x = draw(1, 4, 8).float()
        by = rotation(step_positions(x), 8, 2)
        for dropout, attention_dropout in [(0.5, 0.0), (0.0, 0.5)]:
            block = Block(8, 2, None, dropout, attention_dropout, None, None)
            torch.manual_seed(0)
            assert not torch.equal(block(x, by, None), block(x, by, None))
            block.eval()
            assert torch.equal(block(x, by, None), block(x, by, None))


def turned(x, positions, heads=1):
    """``x`` ``(B, L, D)``, rotated; it is left as it is."""
    by = rotation(positions, x.shape[-1], heads)
    return rotate(x.clone(), by, 1, (heads, x.shape[-1] // heads)).view(x.shape)


class TestPositions:
    @pytest.mark.parametrize("head_dim", [2, 4, 5, 8])
    def test_products_depend_on_the_difference_of_positions_only(self, head_dim):
        query, key = draw(1, 1, head_dim), draw(1, 1, head_dim, seed=1)

        def product(a, b):
            at = [torch.tensor([[where]], dtype=torch.float64) for where in (a, b)]
            return (turned(query, at[0]) * turned(key, at[1])).sum()

        for a, b in [(0.0, 3.0), (2.5, 2.5), (7.0, -1.0)]:
            torch.testing.assert_close(product(a, b), product(a + 41.0, b + 41.0))
        torch.testing.assert_close(product(5.0, 5.0), (query * key).sum())
        assert (product(0.0, 3.0) - product(3.0, 0.0)).abs() > 1e-3  # before is not after
        assert (product(0.0, 3.0) - product(0.0, 4.0)).abs() > 1e-3  # far is not near

    def test_last_feature_of_an_odd_head_is_left_alone(self):
        x, positions = draw(1, 2, 5), torch.tensor([[3.0, 4.0]]).double()
        out = turned(x, positions)
        assert torch.equal(out[..., -1], x[..., -1])
        assert not torch.equal(out[..., :4], x[..., :4])
        x = draw(1, 2, 1)  # a head of one feature has nothing to turn
        assert torch.equal(turned(x, positions), x)

    @pytest.mark.parametrize("compiling", [False, True])
    @pytest.mark.parametrize(("dim", "heads"), [(6, 1), (6, 3), (8, 2), (5, 1), (9, 3)])
    def test_is_the_formula_in_each_form(self, dim, heads, compiling, monkeypatch):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
        x, positions = draw(1, 3, dim), torch.tensor([[0.0, 2.0, -5.5]]).double()
        out = turned(x, positions, heads)[0].split(dim // heads, -1)
        for head, given in zip(out, x[0].split(dim // heads, -1), strict=True):
            expected = reference.rotary(given.numpy(), positions[0].numpy())
            np.testing.assert_allclose(head.numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_turns_the_first_parts_alone(self, dtype):
        x = draw(2, 3, 3 * 8).to(dtype)
        positions = torch.tensor([[0.0, 2.0, 5.0], [1.0, 1.0, 3.0]]).to(torch.float64)
        out = rotate(x.clone(), rotation(positions, 8, 2), 2, (2, 4))
        x = x.view(2, 3, 3, 2, 4)
        assert torch.equal(out[:, :, 2], x[:, :, 2])
        for part in range(2):
            expected = turned(x[:, :, part].flatten(2).double(), positions, 2)
            tolerance = {torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
            found = out[:, :, part].flatten(2).double()
            torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)

    def test_precision_at_far_positions_in_bfloat16(self):
        x = torch.ones(1, 301, 4, dtype=torch.bfloat16)  # bfloat16 counts to 256 only
        out = turned(x, step_positions(x))
        expected = turned(x.double(), step_positions(x.double()))
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.double(), expected, atol=1e-2, rtol=0)

    def test_clock_by_hand(self):
        x = torch.zeros(1, 4, 1)
        assert clock_positions(x, None).tolist() == [[12.5, 37.5, 62.5, 87.5]]
        valid = torch.tensor(
            [
                [False, True, True, False, True, False],  # padded at both ends, a gap
                [True, True, True, True, False, False],  # padded at the right
                [False, False, True, True, True, True],  # at the left
                [False, False, False, True, False, False],
            ]
        )
        assert clock_positions(torch.zeros(4, 6, 1), valid).tolist() == [
            [-12.5, 12.5, 37.5, 62.5, 87.5, 112.5],
            [12.5, 37.5, 62.5, 87.5, 112.5, 137.5],
            [-37.5, -12.5, 12.5, 37.5, 62.5, 87.5],
            [-250.0, -150.0, -50.0, 50.0, 150.0, 250.0],
        ]

    def test_clock_is_finite_where_nothing_is_valid_or_long(self):
        nothing = torch.zeros(2, 3, dtype=torch.bool)
        assert clock_positions(torch.zeros(2, 3, 1), nothing).isfinite().all()
        assert clock_positions(torch.zeros(2, 0, 1), nothing[:, :0]).shape == (2, 0)
        assert clock_positions(torch.zeros(2, 0, 1), None).shape == (1, 0)

    def test_waves_by_hand(self):
        slow = 1000.0**-0.5
        expected = [math.sin(2), math.sin(2 * slow), math.cos(2), math.cos(2 * slow)]
        for dim in (4, 3, 1):
            out = waves(torch.tensor([[2.0]]).double(), dim)
            count = (dim + 1) // 2
            values = expected if count == 2 else [math.sin(2)]
            assert out.shape == (1, 1, dim)
            np.testing.assert_allclose(out[0, 0].numpy(), values[:dim])

    def test_places_by_hand(self):
        places, x = Places(3, 1, None, None), torch.zeros(2, 5, 1)
        assert torch.equal(places(x, None), x)  # zero at first
        with torch.no_grad():
            places.weight.copy_(torch.tensor([[10.0], [20.0], [30.0]]))
        counted = [10.0, 20.0, 30.0, 30.0, 30.0]
        assert places(x, None).squeeze(-1).tolist() == [counted, counted]
        exists = torch.tensor([[False, False, True, False, True], [False] * 5])
        out = places(x + 1.0, exists).squeeze(-1).tolist()
        assert out == [[11.0, 11.0, 11.0, 21.0, 31.0], [11.0] * 5]
        assert places(x[:, :0], None).shape == (2, 0, 1)
        nothing = Places(0, 1, None, None)
        assert nothing(x, exists) is x
        assert not list(nothing.parameters())


class TestValid:
    @pytest.mark.parametrize("valid", [None, torch.tensor([[True, False], [False, True]])])
    def test_blend_is_choose_for_finite_numbers(self, valid):
        x, other = draw(2, 2, 3).requires_grad_(), draw(3, seed=1).requires_grad_()
        grads = []
        for function in (blend, choose):
            out = function(valid, x, other)
            grads.append((out, *torch.autograd.grad(out.cos().sum(), (x, other))))
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
        assert blend(valid, x.bfloat16(), other).dtype == other.dtype  # autocast lowers x

    def test_keep_and_choose_select_before_arithmetic(self):
        x = torch.tensor([[[1.0], [torch.nan]]])
        valid = torch.tensor([[True, False]])
        assert keep(valid, x).tolist() == [[[1.0], [0.0]]]
        assert choose(valid, x, torch.tensor([7.0])).tolist() == [[[1.0], [7.0]]]
        assert keep(None, x) is x

    @pytest.mark.parametrize(
        "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    )
    def test_keep_is_where_bit_for_bit(self, dtype):
        x = draw(2, 3, 4).to(dtype)
        x[0, 1], x[1, 0, 2], x[1, 2, 0] = torch.nan, -torch.inf, -0.0
        valid = torch.tensor([[True, False, True], [False, True, True]])
        expected = torch.where(valid.unsqueeze(-1), x, 0.0)
        bits = torch.int64 if dtype == torch.float64 else getattr(torch, f"int{8 * x.itemsize}")
        for given in (x, x.mT.contiguous().mT, x.clone().requires_grad_()):
            out = keep(valid, given)
            assert torch.equal(out.detach().view(bits), expected.view(bits))
        upstream = torch.full_like(out, torch.nan)
        upstream[valid] = 3.0
        (grad,) = torch.autograd.grad(out, given, upstream)
        assert torch.equal(grad, 3.0 * valid.unsqueeze(-1).to(dtype).expand_as(x))

    def test_keep_has_second_derivatives(self):
        valid = torch.tensor([[True, False]])
        x = draw(1, 2, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: keep(valid, x).sin(), (x,))
        assert torch.autograd.gradgradcheck(lambda x: keep(valid, x.sin()).square(), (x,))

    def test_choose_keeps_the_vector_in_the_graph(self):
        other = torch.ones(1, requires_grad=True)
        choose(None, torch.zeros(1, 2, 1), other).sum().backward()
        assert other.grad.tolist() == [0.0]

    def test_rows_with_nothing_to_read_are_open(self):
        valid = torch.tensor([[True, False], [False, False]])
        mask = attention_mask(valid, torch.zeros(()).double())
        assert mask.tolist() == [[[[0.0, -math.inf]]], [[[0.0, 0.0]]]]
        assert mask.dtype == torch.float64
        assert any_valid(valid).tolist() == [[True], [False]]
        assert attention_mask(None, mask) is None
        assert any_valid(None) is None


@pytest.mark.parametrize("again", [False, True])
class TestDropped:
    def test_each_element_is_dropped_by_itself_at_the_rate(self, again):
        for rate in (0.1, 0.5, 0.99):
            torch.manual_seed(0)
            out = dropped(torch.ones(1000, 401), rate, again)
            gone = (out == 0).double().flatten()
            spread = (rate * (1 - rate) / len(gone)) ** 0.5
            assert abs(gone.mean().item() - rate) < 4 * spread + 2**-16
            for lane in range(4):  # four come from one draw
                assert abs(gone[lane::4].mean().item() - rate) < 8 * spread + 2**-16
            for apart in (1, 2, 3, 4):
                both = (gone[:-apart] - rate) * (gone[apart:] - rate)
                assert abs(both.mean().item()) < 5 * rate * (1 - rate) / len(gone) ** 0.5
            kept = out[out != 0]
            torch.testing.assert_close(
                kept, torch.full_like(kept, 1 / (1 - rate)), rtol=2e-3, atol=0
            )

    def test_the_mean_stays_and_the_seed_decides(self, again):
        x = torch.full((7, 300, 41), 2.0, requires_grad=True)
        torch.manual_seed(1)
        out = dropped(x, 0.3, again)
        assert abs(out.mean().item() - 2) < 0.02
        out.sum().backward()
        torch.testing.assert_close(x.grad * 2, out.detach())
        torch.manual_seed(1)
        assert torch.equal(dropped(x, 0.3, again), out)
        assert not torch.equal(dropped(x, 0.3, again), out)

    def test_rates_near_the_ends(self, again):
        assert torch.equal(dropped(torch.ones(50, 50), 1e-9, again), torch.ones(50, 50))
        assert set(dropped(torch.ones(99, 99), 1 - 1e-9, again).unique().tolist()) <= {
            0.0,
            65536.0,
        }
        assert dropped(torch.ones(0, 3), 0.1, again).shape == (0, 3)
        assert dropped(torch.ones(5, dtype=torch.bfloat16), 0.1, again).dtype == torch.bfloat16
