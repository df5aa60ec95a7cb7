"""The consistency losses: each by hand, against torch's own, at the edges of the dtypes."""

import math

import pytest
import torch
import torch.nn.functional as F

from modimpute import ConsistencyLoss, consistency_loss

METRICS = ("l2", "l1", "smooth_l1", "cosine")
NAN = torch.nan

# Two samples of two steps; the second step of the second sample is not there.
RECONSTRUCTED = torch.tensor([[[1.0, 2.0], [0.0, 0.5]], [[3.0, 4.0], [NAN, NAN]]])
TARGET = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[4.0, -3.0], [7.0, NAN]]])
VALID = torch.tensor([[True, True], [True, False]])
COSINE = [[1 - 1 / math.sqrt(5), 1.0], [1.0, 0.0]]  # parallel part; a zero vector; orthogonal
BY_HAND = {
    "l2": [[[0.0, 4.0], [0.0, 0.25]], [[1.0, 49.0], [0.0, 0.0]]],
    "l1": [[[0.0, 2.0], [0.0, 0.5]], [[1.0, 7.0], [0.0, 0.0]]],
    "smooth_l1": [[[0.0, 1.5], [0.0, 0.125]], [[0.5, 6.5], [0.0, 0.0]]],
    "cosine": COSINE,
}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("metric", METRICS)
class TestByHand:
    def test_each_reduction(self, metric):
        by_hand = torch.tensor(BY_HAND[metric])
        count = 3 if metric == "cosine" else 6
        expected = {
            "none": by_hand,
            "sum": by_hand.sum(),
            "mean": by_hand.sum() / count,
        }
        for reduction, value in expected.items():
            options = {"metric": metric, "reduction": reduction}
            loss = consistency_loss(RECONSTRUCTED, TARGET, valid=VALID, **options)
            torch.testing.assert_close(loss, value)
            module = ConsistencyLoss(metric, reduction=reduction)
            torch.testing.assert_close(module(RECONSTRUCTED, TARGET, valid=VALID), value)

    def test_without_valid_all_steps_count(self, metric):
        x, y = draw(2, 3, 4), draw(2, 3, 4, seed=1)
        everywhere = torch.ones(2, 3, dtype=torch.bool)
        for reduction in ("none", "sum", "mean"):
            options = {"metric": metric, "reduction": reduction}
            loss = consistency_loss(x, y, **options)
            torch.testing.assert_close(loss, consistency_loss(x, y, valid=everywhere, **options))

    def test_agrees_with_torch(self, metric):
        x, y = draw(2, 3, 4), draw(2, 3, 4, seed=1)
        own = {
            "l2": F.mse_loss(x, y),
            "l1": F.l1_loss(x, y),
            "smooth_l1": F.smooth_l1_loss(x, y),
            "cosine": (1 - F.cosine_similarity(x, y, dim=-1)).mean(),
        }
        torch.testing.assert_close(consistency_loss(x, y, metric=metric), own[metric])

    def test_no_valid_step_is_no_loss(self, metric):
        x = torch.full((2, 3, 4), NAN, requires_grad=True)
        nothing = torch.zeros(2, 3, dtype=torch.bool)
        for reduction in ("none", "sum", "mean"):
            options = {"metric": metric, "reduction": reduction}
            loss = consistency_loss(x, x.detach(), valid=nothing, **options)
            assert loss.eq(0).all()
            (gradient,) = torch.autograd.grad(loss.sum(), x)
            assert gradient.eq(0).all()
        for size, length, dim in [(0, 3, 4), (2, 0, 4), (2, 3, 0)]:
            if metric != "cosine" or dim:  # the angle to an empty vector is that to zero
                x = torch.zeros(size, length, dim, requires_grad=True)
                loss = consistency_loss(x, x.detach(), metric=metric)
                loss.backward()
                assert loss.item() == 0.0
                assert x.grad.shape == x.shape

    def test_equal_sequences_have_no_loss_and_a_finite_gradient(self, metric):
        x = draw(2, 3, 4).requires_grad_()
        loss = consistency_loss(x, x.detach(), metric=metric)
        assert loss.abs().item() < 1e-12
        (gradient,) = torch.autograd.grad(loss, x)
        assert gradient.abs().max() < 1e-6

    def test_gradcheck(self, metric):
        x, y = draw(2, 3, 2).requires_grad_(), draw(2, 3, 2, seed=1).requires_grad_()
        valid = torch.tensor([[True, False, True], [False, False, True]])
        for reduction in ("none", "sum", "mean"):
            options = {"metric": metric, "reduction": reduction}
            assert torch.autograd.gradcheck(
                lambda x, y, options=options: consistency_loss(x, y, valid=valid, **options),
                (x, y),
            )

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_is_in_float32_or_wider(self, metric, dtype):
        x = draw(2, 3, 4, dtype=torch.float32).to(dtype)
        for reduction in ("none", "sum", "mean"):
            options = {"metric": metric, "reduction": reduction}
            assert consistency_loss(x, x, **options).dtype == torch.float32
            assert consistency_loss(x, x.double(), **options).dtype == torch.float64
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert consistency_loss(x, x, **options).dtype == torch.float32

    def test_target_is_not_detached(self, metric):
        x, y = draw(1, 2, 3), draw(1, 2, 3, seed=1).requires_grad_()
        consistency_loss(x, y, metric=metric).backward()
        assert y.grad.abs().sum() > 0

    def test_repr_names_the_arguments(self, metric):
        module = ConsistencyLoss(metric, reduction="sum")
        assert repr(module) == f"ConsistencyLoss(metric={metric!r}, reduction='sum')"


class TestPrecision:
    def test_sum_may_overflow_float16(self):
        ones = torch.ones(1, 70_000, 1, dtype=torch.float16)
        assert consistency_loss(ones, 0 * ones, reduction="sum").item() == 70_000
        assert consistency_loss(ones, 0 * ones).item() == 1
        assert consistency_loss(ones, 0 * ones, metric="cosine").item() == 1

    def test_square_may_overflow_float16(self):
        x = torch.full((1, 1, 1), 300.0, dtype=torch.float16)
        assert consistency_loss(x, 0 * x).item() == 90_000
        x = torch.full((1, 1, 2), 300.0, dtype=torch.float16)
        assert consistency_loss(x, x, metric="cosine").abs().item() < 1e-6

    def test_small_differences_survive_float16(self):
        x = torch.full((1, 1, 1), 1e-4, dtype=torch.float16)  # its square is 0 in float16
        loss = consistency_loss(x, 0 * x)
        torch.testing.assert_close(loss, x.float().square().squeeze())

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e15, 1e20, 1e30])
    def test_cosine_knows_no_scale(self, scale):
        x, y = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[4.0, 3.0]]])
        for a, b in [(scale, 1.0), (1.0, scale), (scale, scale)]:
            given = (a * x).requires_grad_()
            loss = consistency_loss(given, b * y, metric="cosine")
            assert loss.item() == pytest.approx(1 - 24 / 25, abs=1e-5)
            (gradient,) = torch.autograd.grad(loss, given)
            assert gradient.isfinite().all()

    def test_cosine_of_subnormal_vectors_has_a_finite_gradient(self):
        x = torch.tensor([[[1e-42, 0.0]]], requires_grad=True)
        loss = consistency_loss(x, torch.ones(1, 1, 2), metric="cosine")
        loss.backward()
        assert loss.isfinite()
        assert x.grad.isfinite().all()

    def test_cosine_at_zero(self):
        x, y = torch.zeros(1, 1, 3, requires_grad=True), torch.ones(1, 1, 3)
        for pair in [(x, y), (y, x), (x, torch.zeros(1, 1, 3))]:
            loss = consistency_loss(*pair, metric="cosine")
            assert loss.item() == 1.0
            (gradient,) = torch.autograd.grad(loss, x)
            assert gradient.isfinite().all()

    @pytest.mark.parametrize("metric", METRICS)
    def test_what_is_not_valid_may_be_anything(self, metric):
        valid = torch.tensor([[True, False]])
        results = []
        for junk in (0.0, NAN, torch.inf, -torch.inf, 1e30):
            x = torch.tensor([[[1.0, 2.0], [junk, junk]]], requires_grad=True)
            y = torch.tensor([[[2.0, 3.0], [junk, 1.0]]], requires_grad=True)
            loss = consistency_loss(x, y, valid=valid, metric=metric)
            results.append([loss, *torch.autograd.grad(loss, (x, y))])
        assert all(torch.equal(a, b) for r in results for a, b in zip(r, results[0], strict=True))
