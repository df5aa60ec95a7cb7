"""How to train a ModalityImputer, also on data that is itself incomplete. Made to be copied.

The same defaults for vectors and sequences; features must be standardised (ModalityNormalizer).
"""

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from modimpute import ConsistencyLoss, ModalityDropout, drop_blocks

Tensors = Mapping[str, Tensor]
Batch = tuple[Tensors, Tensors]  # modalities, valid


def train_imputer(
    imputer: nn.Module,
    train: Batch,
    held_out: Batch | None = None,
    *,
    steps: int = 900,
    batch_size: int = 128,
    learning_rate: float = 4e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.05,
    noise: float = 0.2,
    averaging: float = 0.995,
    evaluations: int = 20,
    patience: int = 6,
    on_step: Callable[[], object] = lambda: None,
) -> list[dict[str, float]]:
    """Trains in place; leaves the averaged weights that err least on ``held_out``, in eval mode.

    ``train`` and ``held_out`` are pairs ``(modalities, valid)``; what is not valid is never read.
    Call ``torch.manual_seed`` before. Returns the errors on ``held_out``.
    """
    modalities, valid = train
    parameters = list(imputer.parameters())
    optimizer = torch.optim.AdamW(parameters, weight_decay=weight_decay, fused=True)
    averaged = AveragedModel(imputer, avg_fn=lambda a, b, n: _average(a, b, n, averaging))
    every = max(1, steps // evaluations)
    history: list[dict[str, float]] = []
    masks = [hide(*held_out) for _ in range(4)] if held_out is not None else []
    best, best_error, since = None, math.inf, 0
    first = valid[min(valid)]
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = learning_rate * _schedule(step / steps, warmup)
        rows = torch.randperm(len(first))[:batch_size].to(first.device)
        target = {name: x[rows] for name, x in modalities.items()}
        exists = {name: v[rows] for name, v in valid.items()}
        # Noise in what is read, not in what is to be said.
        noisy = {name: x + noise * torch.randn_like(x) for name, x in target.items()}
        imputer.train()
        loss = imputation_error(imputer, noisy, target, exists, hide(target, exists))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        averaged.update_parameters(imputer)
        on_step()
        if held_out is not None and (step % every == 0 or step == steps):
            error = held_out_error(averaged.module, held_out, masks)
            history.append({"step": step, "error": error})
            if error < best_error:
                best, best_error, since = copy.deepcopy(averaged.module.state_dict()), error, 0
            else:
                since += 1
                if since >= patience:
                    break
    imputer.load_state_dict(best or averaged.module.state_dict())
    imputer.eval()
    return history


def hide(modalities: Tensors, valid: Tensors) -> dict[str, Tensor]:
    """Returns a smaller ``valid``: whole modalities go, or blocks of steps, at drawn rates."""
    share = torch.rand(2 + len(valid)).tolist()
    whole = ModalityDropout(share[0])(modalities, valid=valid)
    longest = max(v.shape[1] for v in valid.values())
    if longest == 1:
        return whole
    # Each modality has gaps in half of the batches; their length is log-uniform up to L / 2.
    rates = {name: max(0.0, 2 * u - 1) for name, u in zip(sorted(valid), share[2:], strict=True)}
    length = round((longest / 2) ** share[1])
    gaps = drop_blocks(modalities, rates, block_length=max(1, length), valid=valid)
    first = whole[min(valid)]
    either = torch.rand(len(first), 1).to(first.device) < 0.5
    return {name: torch.where(either, whole[name], gaps[name]) for name in whole}


def imputation_error(
    imputer: nn.Module, inputs: Tensors, target: Tensors, valid: Tensors, kept: Tensors
) -> Tensor:
    """Hide and ask: the error where there is a value that the imputer did not see."""
    imputed = imputer(inputs, valid=kept, target_valid=valid)
    loss = ConsistencyLoss()
    errors = [loss(imputed[n], target[n], valid=valid[n] & ~kept[n]) for n in sorted(target)]
    return torch.stack(errors).mean()


@torch.no_grad()
def held_out_error(imputer: nn.Module, held_out: Batch, masks: list[dict[str, Tensor]]) -> float:
    imputer.eval()
    x, valid = held_out
    return sum(imputation_error(imputer, x, x, valid, m).item() for m in masks) / len(masks)


def _average(average: Tensor, current: Tensor, count: int | Tensor, decay: float) -> Tensor:
    """An exponential mean that soon forgets the weights of the first steps."""
    return torch.lerp(average, current, 1 - min(decay, int(count) / (int(count) + 10)))


def _schedule(progress: float, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    return min(1.0, progress / warmup) * 0.5 * (1 + math.cos(math.pi * progress))
