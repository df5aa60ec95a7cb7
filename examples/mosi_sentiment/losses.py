"""The losses as sums and counts, so that any number of processes add up to one batch."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from modimpute import ConsistencyLoss

Sums = tuple[Tensor, Tensor]  # the parts of the loss, and of how many values each is a sum


def names_of(reconstructs: tuple[str, ...]) -> tuple[str, ...]:
    return ("task", *reconstructs)


def sum_losses(
    prediction: Tensor,
    reconstructed: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    asked: Mapping[str, Tensor],
    labels: Tensor,
    label_valid: Tensor,
    metric: str,
) -> Sums:
    """Returns ``(P,)`` sums and ``(P,)`` counts: the task, then each reconstruction.

    The task is MulT's: absolute error, or for emotions cross-entropy of four pairs of logits.
    ``asked`` says where a reconstruction is compared with its target, ``(B, L)``.
    """
    if prediction.dim() == 4:
        hit = F.cross_entropy(prediction.flatten(0, 2), labels.flatten().long(), reduction="none")
        error = hit.view(labels.shape)
    else:
        error = (prediction - labels).abs()
    sums = [torch.where(label_valid.unsqueeze(-1), error, 0.0).sum()]
    counts = [label_valid.sum() * labels.shape[-1]]
    consistency = ConsistencyLoss("l2" if metric == "none" else metric, reduction="sum")
    for name, x in reconstructed.items():
        sums.append(consistency(x, targets[name], valid=asked[name]))
        width = 1 if metric == "cosine" else x.shape[-1]
        counts.append(asked[name].sum() * width)
    return torch.stack(sums), torch.stack(counts)


def total_loss(
    sums: Tensor,
    counts: Tensor,
    weights: Tensor,
    processes: int,
    reduce: Callable[[Tensor], Tensor],
) -> Tensor:
    """The loss whose gradient, averaged over the processes, is that of the whole batch.

    Each process has other numbers of labels and of valid steps. A mean per process would weigh
    them wrongly, so each sum is divided by the count of all processes.
    """
    counts = reduce(counts).clamp(min=1).to(sums.dtype)
    return (weights * sums / counts).sum() * processes
