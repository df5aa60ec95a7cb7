from collections.abc import Mapping

import torch
from torch import Tensor

from modimpute._remembering import Remembering
from modimpute._ridge import Held, Ridge, centred, wide
from modimpute._table import Table

__all__ = ["LinearTranslator"]


class LinearTranslator(Remembering):
    r"""Translates by a linear map that is fitted in closed form, not by gradient descent.

    .. math:: \hat{y} = W_S \, x + b_S, \qquad W_S = \arg\min_W \sum_i \lVert y_i - W x_i - b
              \rVert^2 + \lambda_S \lVert W \rVert^2

    where :math:`x` are the standardised features of the sources, side by side, and each subset
    :math:`S` of the sources that a sample may have is solved for by itself (beyond 5 sources:
    all of them, all but one, and single ones; a sample is served by the largest one that it has
    all sources of). The penalty :math:`\lambda_S` is the one that errs least when each example
    is left out in turn, in closed form, and on the validation samples.

    A sample is one example, and its steps stand at places of their own, counted from the first
    step that exists (``target_valid``); the places of unaligned modalities divide the time from
    the first to the last valid step, whatever the length. With ``window``, each target step is
    an example: the source steps around it (unaligned: around the same share of the span) say
    what the target steps around it, the patch, are, and what overlaps is averaged.

    Before :meth:`fit` the answer is zero. A sample with no valid source step is answered with
    zeros: no opinion. The cost of a fit is that of one eigenvalue problem per subset.

    Args:
        source_dim: The number of source features or, of a joint member, of the features of
            each source by its name.
        target_dim: The number of target features :math:`D_t`.
        source_places: The number of steps that are read of a source without a window, also by
            name. Aligned, later steps are not read.
        target_places: The number of steps that are answered without a window. Aligned, later
            steps are answered with the training mean.
        window: The number of source steps read before and after each target step. Default:
            the whole sample is one example.
        patch: With a window, the number of target steps answered before and after each one.
        aligned: Whether target step :math:`t` belongs to source step :math:`t`.
        device: The device of the solution.
        dtype: The dtype of the solution.

    Shape:
        - source: :math:`(B, L_s, D_s)`, any floating dtype, or a mapping of names to such
        - valid: :math:`(B, L_s)`, bool, or a mapping; ``False``: padding or missing, never read
        - target_valid: :math:`(B, L_t)`, bool; ``False``: the step does not exist
        - Output: :math:`(B, L_t, D_t)`, in the dtype of the solution, under autocast too;
          aligned: :math:`L_t = L_s`

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a size, shape, name or device does not fit.

    References:
        Buck, A Method of Estimation of Missing Values in Multivariate Data, 1960. Differences:
        a penalty (Hoerl and Kennard, Ridge Regression, 1970), windows and patches.

    Example:
        >>> text, vision = torch.randn(100, 1, 8), torch.randn(100, 1, 6)
        >>> audio = text[..., :3] + vision[..., :3]
        >>> translator = LinearTranslator({"text": 8, "vision": 6}, 3)
        >>> translator = translator.fit({"text": text, "vision": vision}, audio)
        >>> error = translator({"text": text, "vision": vision}) - audio
        >>> error.abs().max() < 0.01
        tensor(True)
    """

    weight: Tensor
    offset: Tensor
    penalty: Tensor

    def __init__(
        self,
        source_dim: int | Mapping[str, int],
        target_dim: int,
        *,
        source_places: int | Mapping[str, int] = 1,
        target_places: int = 1,
        window: int | None = None,
        patch: int = 0,
        aligned: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        view = (source_places, target_places, window, patch, aligned)
        super().__init__(source_dim, target_dim, *view, device, dtype)
        count, size = len(self._subsets), sum(self.examples.sizes.values())
        shapes = {
            "weight": (count, size, self.examples.target_size),
            "offset": (count, self.examples.target_size),
            "penalty": (count,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Forgets the fit."""
        self.weight.zero_()
        self.offset.zero_()
        self.penalty.fill_(1.0)

    def _answer(self, x: Tensor, number: int, index: Tensor | None) -> Tensor:  # noqa: ARG002
        return x @ self.weight[number] + self.offset[number]

    def _choose(
        self,
        table: Table,
        held: Table | None,
        generator: torch.Generator,  # noqa: ARG002
    ) -> None:
        for number in range(len(self._subsets)):
            rows = self._rows(table, number)
            if len(rows) < 2:
                continue
            ridge, x_mean, y_mean = self._ridge(rows, number, 1.0)
            judged = None
            if held is not None and len(others := self._rows(held, number)):
                x = self._masked(others.x, number).to(x_mean.dtype) - x_mean
                if ridge.dual:
                    x = x @ (self._masked(rows.x, number).to(x_mean.dtype) - x_mean).mT
                judged = Held(x, others.y.to(x_mean.dtype) - y_mean, others.weight)
            # Neighbouring windows say the same: leaving one out says nothing.
            left_out = rows.weight if self.window is None or judged is None else None
            self.penalty[number] = ridge.best(left_out, judged)[1]

    def _remember(self, table: Table, generator: torch.Generator) -> None:  # noqa: ARG002
        for number in range(len(self._subsets)):
            rows = self._rows(table, number)
            if not len(rows):
                self.weight[number], self.offset[number] = 0.0, 0.0
                continue
            penalty = float(self.penalty[number])
            ridge, x_mean, y_mean = self._ridge(rows, number, penalty)
            weight = ridge.solve(penalty)
            if ridge.dual:
                weight = (self._masked(rows.x, number).to(x_mean.dtype) - x_mean).mT @ weight
            self.weight[number] = weight
            self.offset[number] = y_mean - x_mean @ weight

    def _rows(self, table: Table, number: int) -> Table:
        """Returns the examples that have the subset's sources."""
        return table.pick(table.having(self._columns(number)))

    def _ridge(self, rows: Table, number: int, penalty: float) -> tuple[Ridge, Tensor, Tensor]:
        """Returns the fit to centred examples, and the means."""
        x, weight = wide(self._masked(rows.x, number)), wide(rows.weight)
        y, y_mean = centred(wide(rows.y), weight)
        x_mean = x.mean(0)
        x = x - x_mean
        ridge = Ridge.of_features(x, y) if x.shape[1] <= len(x) else Ridge.of_kernel(x @ x.mT, y)
        return ridge.completed(weight, penalty), x_mean, y_mean
