from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from modimpute._checks import check_batch, check_modality_dims, check_valids
from modimpute._names import ModuleMapping
from modimpute._valid import keep

__all__ = ["ModalityNormalizer"]


class ModalityNormalizer(nn.Module):
    r"""Standardises each feature of each modality by what is valid, and travels with the model.

    .. math:: y = \frac{x - \mu}{s}, \qquad s = \begin{cases} \sigma & \text{if } \sigma >
              \text{eps} \cdot |\mu| \\ 1 & \text{else} \end{cases}

    with the mean :math:`\mu` and the deviation :math:`\sigma` (divided by the count) of the
    feature over the valid steps seen by :meth:`fit` or :meth:`update`. A feature that is
    constant, or varies by no more than rounding, becomes about zero. Before anything was seen
    :math:`\mu = 0` and :math:`\sigma = 1`: the modality comes back unchanged.

    The moments are merged batch by batch in ``float64`` (``float32`` on devices without it).
    The mean is kept in two parts, so that a large offset costs no precision; all moments are in
    the ``state_dict``. Nothing is learned and nothing is fitted in ``forward``, in train mode
    neither.

    Args:
        modality_dims: The number of features :math:`D_m` of each modality by its name.
        eps: The deviation, relative to the mean, up to which a feature counts as constant.
            Default: the rounding of ``float32``.
        device: The device of the moments.
        dtype: The dtype of the moments.

    Shape:
        - modalities: mapping of names to :math:`(B, L_m, D_m)`, any floating dtype, any of the
          modalities
        - valid: mapping of names to :math:`(B, L_m)`, bool; ``False``: padding or missing,
          never read
        - Output: the modalities given, by sorted name, :math:`(B, L_m, D_m)`, zero where not
          valid, in the dtype of the moments, under autocast too

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a name, size, shape or device does not fit, or no modality is given.

    References:
        Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance, 1983 (the merge).

    Example:
        >>> normalizer = ModalityNormalizer({"audio": 1})
        >>> audio = torch.tensor([[[1.0], [3.0], [torch.nan]]])
        >>> valid = {"audio": torch.tensor([[True, True, False]])}
        >>> normalizer.fit([({"audio": audio}, valid)])({"audio": audio}, valid=valid)["audio"]
        tensor([[[-1.],
                 [ 1.],
                 [ 0.]]])
    """

    def __init__(
        self,
        modality_dims: Mapping[str, int],
        *,
        eps: float = 1e-7,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_modality_dims(modality_dims)
        if not isinstance(eps, int | float) or isinstance(eps, bool):
            raise TypeError(f"eps must be a float, however: eps={eps!r}")
        if not eps >= 0:
            raise ValueError(f"eps must not be negative, however: eps={eps}")
        super().__init__()
        self.modality_dims = {name: modality_dims[name] for name in sorted(modality_dims)}
        self.modalities = tuple(self.modality_dims)
        self.eps = eps
        self.moments = ModuleMapping(
            {name: Moments(dim, device, dtype) for name, dim in self.modality_dims.items()}
        )

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        return f"modality_dims={self.modality_dims}, eps={self.eps}"

    def reset_parameters(self) -> None:
        """Forgets all that was seen."""
        for moments in self.moments.values():
            moments.reset_parameters()

    def fit(
        self,
        batches: Iterable[
            Mapping[str, Tensor] | tuple[Mapping[str, Tensor], Mapping[str, Tensor] | None]
        ],
    ) -> Self:
        """Forgets all that was seen, then takes in batches.

        Args:
            batches: The batches: ``modalities`` alone or pairs ``(modalities, valid)``, as
                :func:`collate_modalities` makes them.

        Returns:
            The module itself.
        """
        if isinstance(batches, Mapping) or _is_pair(batches):
            rule = "batches must be an iterable of batches, one batch in a list"
            raise TypeError(f"{rule}, however: it is one batch")
        self.reset_parameters()
        batch: object = None
        for batch in batches:
            if isinstance(batch, Mapping):
                self.update(batch)
            elif isinstance(batch, tuple | list) and len(batch) == 2:  # a list if pinned
                self.update(batch[0], valid=batch[1])
            else:
                rule = "a batch must be a mapping or a pair (modalities, valid)"
                raise TypeError(f"{rule}, however: type={type(batch).__name__}")
        if batch is None:
            raise ValueError("batches must hold at least one batch, however: it is empty")
        for name in self.modalities:
            if not self.moments[name].mean.isfinite().all():
                rule = f"modalities[{name!r}] must be finite where it is valid"
                raise ValueError(f"{rule}, however: NaN or Inf (mark such steps False in valid)")
        return self

    @torch.no_grad()
    def update(
        self, modalities: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None
    ) -> None:
        """Takes in one more batch; what is valid must be finite."""
        for name, (x, v) in self._checked(modalities, valid).items():
            self.moments[name].update(x, v)

    def forward(
        self, modalities: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Returns the standardised modalities."""
        return {
            name: self.moments[name].standardize(x, v, self.eps)
            for name, (x, v) in self._checked(modalities, valid).items()
        }

    def inverse(
        self, modalities: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Returns standardised modalities, such as imputed ones, in their own units."""
        return {
            name: self.moments[name].restore(x, v, self.eps)
            for name, (x, v) in self._checked(modalities, valid).items()
        }

    def _checked(
        self, modalities: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        device = self.moments[self.modalities[0]].mean.device
        check_batch("modalities", modalities, self.modality_dims, device)
        check_valids(valid, "modalities", modalities)
        return {name: (modalities[name], (valid or {}).get(name)) for name in sorted(modalities)}


class Moments(nn.Module):
    """Count, mean and deviation of the features of one modality.

    The mean is ``mean + residue``: what is left of it when it is rounded to the dtype.
    """

    count: Tensor
    mean: Tensor
    residue: Tensor
    deviation: Tensor

    def __init__(
        self, dim: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.register_buffer("count", torch.empty((), device=device, dtype=torch.int64))
        for name in ("mean", "residue", "deviation"):
            self.register_buffer(name, torch.empty(dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.count.zero_()
        self.mean.zero_()
        self.residue.zero_()
        self.deviation.fill_(1.0)

    def update(self, x: Tensor, valid: Tensor | None) -> None:
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        x = keep(valid, x.to(wide))
        steps = x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid
        new = steps.sum()
        mean = x.sum((0, 1)) / new.clamp(min=1)
        squares = keep(valid, x - mean).square().sum((0, 1))
        total = self.count + new
        weight = new.to(wide) / total.clamp(min=1)
        shift = mean - self.mean.to(wide) - self.residue.to(wide)
        variance = self.deviation.to(wide).square() * (1 - weight)
        variance = variance + squares / total.clamp(min=1) + shift.square() * weight * (1 - weight)
        merged = self.mean.to(wide) + self.residue.to(wide) + shift * weight
        self.deviation.copy_(variance.sqrt())
        self.mean.copy_(merged)
        self.residue.copy_(merged - self.mean.to(wide))
        self.count.copy_(total)

    def pool(self) -> None:
        """Gives all features one deviation: they keep their proportions."""
        self.deviation.fill_(self.deviation.square().mean().sqrt())

    def standardize(self, x: Tensor, valid: Tensor | None, eps: float) -> Tensor:
        y = (self._wide(x) - self.mean - self.residue) / self._scale(eps)
        return keep(valid, y).to(self.mean.dtype)

    def restore(self, x: Tensor, valid: Tensor | None, eps: float) -> Tensor:
        y = self._wide(x) * self._scale(eps) + self.residue + self.mean
        return keep(valid, y).to(self.mean.dtype)

    def scaled(self, x: Tensor, eps: float) -> Tensor:
        """Returns differences in the modality's units."""
        return (self._wide(x) * self._scale(eps)).to(self.mean.dtype)

    def _scale(self, eps: float) -> Tensor:
        return torch.where(self.deviation > eps * self.mean.abs(), self.deviation, 1.0)

    def _wide(self, x: Tensor) -> Tensor:
        """Widens to the dtype of the moments; a wider input is rounded after the offset is off."""
        return x.to(torch.promote_types(x.dtype, self.mean.dtype))


def _is_pair(batches: Any) -> bool:  # noqa: ANN401
    """Whether somebody gave one batch instead of a list of them."""
    pair = isinstance(batches, tuple | list) and len(batches) == 2
    # Two batches or one with its valid: the latter has tensors of bool.
    return (
        pair
        and all(isinstance(part, Mapping) for part in batches)
        and any(isinstance(x, Tensor) and x.dtype == torch.bool for x in batches[1].values())
    )
