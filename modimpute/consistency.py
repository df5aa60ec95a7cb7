import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modimpute._checks import check_choice, check_device, check_sequence, check_valid
from modimpute._valid import keep

__all__ = ["ConsistencyLoss", "consistency_loss"]

METRICS = ("l2", "l1", "smooth_l1", "cosine")
REDUCTIONS = ("mean", "sum", "none")


def consistency_loss(
    reconstructed: Tensor,
    target: Tensor,
    *,
    valid: Tensor | None = None,
    metric: str = "l2",
    reduction: str = "mean",
) -> Tensor:
    r"""Returns how far a reconstructed modality is from the real one, over the valid steps.

    .. math:: \ell_{btd} = (\hat{y}_{btd} - y_{btd})^2 \quad\text{("l2")}, \qquad
              \ell = \frac{\sum_{btd} v_{bt}\, \ell_{btd}}{\max(1, D \sum_{bt} v_{bt})}
              \quad\text{("mean")}

    "l2" is the squared Euclidean distance; with "mean" it is that distance per step, divided by
    :math:`D`: a weight tuned for distances per step is to be multiplied by :math:`D`. "l1" is
    the absolute difference, "smooth_l1" that of torch (quadratic below 1), and "cosine" is
    :math:`1 - \cos(\hat{y}_{bt}, y_{bt})` per step, 1 where either is zero.

    The target is not detached, as in torch. **Detach a learned target** (features of an encoder
    in training): otherwise encoder and translator can make the loss zero together, by mapping
    everything to zero.

    Args:
        reconstructed: The reconstruction :math:`\hat{y}`.
        target: The real modality :math:`y`.
        valid: Which steps :math:`v` are compared. The others are never read. Default: all.
        metric: ``"l2"``, ``"l1"``, ``"smooth_l1"`` or ``"cosine"``.
        reduction: ``"mean"`` over the elements of valid steps (for "cosine" over valid steps),
            ``"sum"``, or ``"none"``, which is zero at steps that are not valid.

    Shape:
        - reconstructed, target: :math:`(B, L, D)`, any floating dtype; no broadcasting
        - valid: :math:`(B, L)`, bool
        - Output: a scalar; with "none" :math:`(B, L, D)`, for "cosine" :math:`(B, L)`. In
          ``float32`` or wider. With no valid step, zero.

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If the shapes or devices differ, or metric or reduction is unknown.

    References:
        Liu et al., arXiv 2401.10747 (a consistency loss between the real and the reconstructed
        modality, L2 better than L1 as summarised). The square is our reading of "L2"; the other
        metrics are our choice.

    Example:
        >>> target = torch.tensor([[[1.0, 2.0], [torch.nan, torch.nan]]])
        >>> valid = torch.tensor([[True, False]])
        >>> consistency_loss(torch.zeros(1, 2, 2), target, valid=valid)  # (1 + 4) / 2
        tensor(2.5000)
    """
    _check(reconstructed, target, valid, metric, reduction)
    dtype = torch.promote_types(reconstructed.dtype, target.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    x, y = keep(valid, reconstructed).to(dtype), keep(valid, target).to(dtype)
    loss = _distance(x, y, metric)
    if metric == "cosine" and valid is not None:  # 1 at a zeroed step, not 0
        loss = torch.where(valid, loss, 0.0)
    if reduction == "none":
        return loss
    total = loss.sum()
    if reduction == "sum":
        return total
    if valid is None:
        return total / max(loss.numel(), 1)
    width = 1 if metric == "cosine" else x.shape[-1]
    return total / (valid.sum() * width).clamp(min=1)


class ConsistencyLoss(nn.Module):
    r"""Compares a reconstructed modality with the real one, over the valid steps.

    .. math:: \ell = \frac{\sum_{btd} v_{bt}\, (\hat{y}_{btd} - y_{btd})^2}
                          {\max(1, D \sum_{bt} v_{bt})}

    for "l2" and "mean". The other metrics and reductions, and when to detach the target:
    :func:`consistency_loss`.

    Args:
        metric: ``"l2"`` (squared Euclidean distance), ``"l1"``, ``"smooth_l1"`` or ``"cosine"``.
        reduction: ``"mean"`` over the elements of valid steps, ``"sum"`` or ``"none"``.

    Shape:
        - reconstructed, target: :math:`(B, L, D)`, any floating dtype; no broadcasting
        - valid: :math:`(B, L)`, bool; ``False``: never read
        - Output: a scalar; with "none" :math:`(B, L, D)`, for "cosine" :math:`(B, L)`

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If the shapes or devices differ, or metric or reduction is unknown.

    References:
        Liu et al., arXiv 2401.10747 (a consistency loss, L2 better than L1 as summarised). The
        square is our reading of "L2"; the other metrics are our choice.

    Example:
        >>> loss_fn = ConsistencyLoss("l1")
        >>> loss_fn(torch.zeros(2, 5, 4), torch.ones(2, 5, 4))
        tensor(1.)
    """

    def __init__(self, metric: str = "l2", *, reduction: str = "mean") -> None:
        super().__init__()
        check_choice("metric", metric, METRICS)
        check_choice("reduction", reduction, REDUCTIONS)
        self.metric, self.reduction = metric, reduction

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        return f"metric={self.metric!r}, reduction={self.reduction!r}"

    def forward(
        self, reconstructed: Tensor, target: Tensor, *, valid: Tensor | None = None
    ) -> Tensor:
        """Returns the loss."""
        return consistency_loss(
            reconstructed, target, valid=valid, metric=self.metric, reduction=self.reduction
        )


def _distance(x: Tensor, y: Tensor, metric: str) -> Tensor:
    if metric == "l2":
        return (x - y).square()
    if metric == "l1":
        return (x - y).abs()
    if metric == "smooth_l1":
        return F.smooth_l1_loss(x, y, reduction="none")
    return 1.0 - (_unit(x) * _unit(y)).sum(-1)


def _unit(x: Tensor) -> Tensor:
    # Scaled by the largest feature first: squares of large or small ones leave the range. A
    # vector of zeros (or of subnormal numbers) stays as it is, with a finite gradient.
    if x.shape[-1] == 0:
        return x
    largest = x.detach().abs().amax(-1, keepdim=True)
    x = x / torch.where(largest > torch.finfo(x.dtype).tiny, largest, 1.0)
    return x * x.square().sum(-1, keepdim=True).clamp(min=1.0).rsqrt()


def _check(
    reconstructed: Tensor, target: Tensor, valid: Tensor | None, metric: str, reduction: str
) -> None:
    check_choice("metric", metric, METRICS)
    check_choice("reduction", reduction, REDUCTIONS)
    check_sequence("reconstructed", reconstructed)
    check_sequence("target", target)
    if reconstructed.shape != target.shape:
        rule = "reconstructed and target must have one shape (nothing is broadcast)"
        fact = f"{tuple(reconstructed.shape)} and {tuple(target.shape)}"
        raise ValueError(f"{rule}, however: {fact}")
    check_device("target", target, reconstructed.device)
    if valid is not None:
        check_valid("valid", valid, tuple(target.shape[:2]), target.device)
