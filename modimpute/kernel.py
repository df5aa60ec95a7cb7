import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from modimpute._checks import check_choice, check_sizes
from modimpute._remembering import Remembering
from modimpute._ridge import Held, Ridge, centred, complete, solver, squared_distance, wide
from modimpute._table import Table

__all__ = ["KernelTranslator"]

KERNELS = ("gaussian", "laplace")
# Relative to the median distance between examples.
CHOOSE = 1000  # examples by which width and penalty are chosen at most
WIDTHS = (0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)


class KernelTranslator(Remembering):
    r"""Translates by likeness to training examples, with a closed-form fit.

    .. math:: \hat{y} = b_S + \sum_j k_S(x, x_j) \, \alpha_{S,j}

    over a memory of at most ``memory_size`` training examples :math:`x_j`. The kernel is

    * "gaussian": :math:`k = \exp(-\lVert x - x_j \rVert_2^2 / w_S)`,
    * "laplace": :math:`k = \exp(-\lVert x - x_j \rVert_1 / w_S)`, the features of each source
      divided by the root of their number,

    on standardised features of the sources that a sample has: each subset :math:`S` is solved
    for by itself, as in :class:`LinearTranslator`, where also places, window and patch are
    described. Width and penalty are those that err least when each example is left out in
    turn, in closed form, and on the validation samples.

    If there are more examples than ``memory_size``, the memory is a random part of them, on
    which the sum is taken, but all are fitted (Nyström). The memory takes ``memory_size``
    times the number of features and, per subset, of answers; a fit costs a few eigenvalue
    problems of the size of the memory.

    Before :meth:`fit` the answer is zero. A sample with no valid source step is answered with
    zeros: no opinion.

    Args:
        source_dim: As of :class:`LinearTranslator`.
        target_dim: The number of target features :math:`D_t`.
        kernel: ``"gaussian"`` or ``"laplace"``.
        memory_size: The number of examples that are kept at most.
        source_places: As of :class:`LinearTranslator`.
        target_places: As of :class:`LinearTranslator`.
        window: As of :class:`LinearTranslator`.
        patch: As of :class:`LinearTranslator`.
        aligned: Whether target step :math:`t` belongs to source step :math:`t`.
        device: The device of the memory.
        dtype: The dtype of the memory.

    Shape:
        - source: :math:`(B, L_s, D_s)`, any floating dtype, or a mapping of names to such
        - valid: :math:`(B, L_s)`, bool, or a mapping; ``False``: padding or missing, never read
        - target_valid: :math:`(B, L_t)`, bool; ``False``: the step does not exist
        - Output: :math:`(B, L_t, D_t)`, in the dtype of the memory, under autocast too;
          aligned: :math:`L_t = L_s`

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a size, shape, name or device does not fit.

    References:
        Saunders, Gammerman and Vovk, Ridge Regression Learning Algorithm in Dual Variables,
        1998; Williams and Seeger, Using the Nyström Method to Speed Up Kernel Machines, 2001.
        Our choice: the subsets, the scale of the sources, windows and patches.

    Example:
        >>> image = torch.linspace(-3, 3, 200).view(200, 1, 1)
        >>> translator = KernelTranslator(1, 1, memory_size=200).fit(image, image.sin())
        >>> error = translator(image) - image.sin()
        >>> error.abs().max() < 0.01
        tensor(True)
    """

    memory: Tensor
    coefficients: Tensor
    offset: Tensor
    width: Tensor
    penalty: Tensor
    spread: Tensor

    def __init__(
        self,
        source_dim: int | Mapping[str, int],
        target_dim: int,
        *,
        kernel: str = "gaussian",
        memory_size: int = 2048,
        source_places: int | Mapping[str, int] = 1,
        target_places: int = 1,
        window: int | None = None,
        patch: int = 0,
        aligned: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_choice("kernel", kernel, KERNELS)
        check_sizes(memory_size=memory_size)
        view = (source_places, target_places, window, patch, aligned)
        super().__init__(source_dim, target_dim, *view, device, dtype)
        self.kernel, self.memory_size = kernel, memory_size
        count, size = len(self._subsets), sum(self.examples.sizes.values())
        shapes = {
            "memory": (memory_size, size),
            "coefficients": (count, memory_size, self.examples.target_size),
            "offset": (count, self.examples.target_size),
            "width": (),
            "penalty": (),
            "spread": (count,),  # the median distance, of each subset
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Forgets the fit."""
        for buffer in (self.memory, self.coefficients, self.offset):
            buffer.zero_()
        for buffer in (self.width, self.penalty, self.spread):
            buffer.fill_(1.0)

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        more = f"kernel={self.kernel!r}, memory_size={self.memory_size}"
        return f"{super().extra_repr()}, {more}"

    def _answer(self, x: Tensor, number: int, index: Tensor | None) -> Tensor:  # noqa: ARG002
        distance = self._distance(x.flatten(0, 1), self.memory, number)
        product = self._product(distance, self.width * self.spread[number])
        y = product.to(x.dtype) @ self.coefficients[number] + self.offset[number]
        return y.view(x.shape[0], x.shape[1], y.shape[-1])

    def _distances(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Returns each source's share ``(n, m)`` of the distances, in ``float32`` or wider.

        Shares add up: those of a subset to its distances.
        """
        dtype = torch.promote_types(a.dtype, torch.float32)
        sizes = list(self.examples.sizes.values())
        pairs = zip(
            torch.split(a.to(dtype), sizes, -1), torch.split(b.to(dtype), sizes, -1), strict=True
        )
        if self.kernel == "laplace":
            return [torch.cdist(x, y, p=1.0) * x.shape[-1] ** -0.5 for x, y in pairs]
        return [squared_distance(x, y) for x, y in pairs]

    def _distance(self, a: Tensor, b: Tensor, number: int) -> Tensor:
        shares = self._distances(a, b)
        return functools.reduce(torch.add, [shares[i] for i in self._columns(number)])

    def _product(self, distance: Tensor, width: Tensor) -> Tensor:
        product: Tensor = torch.exp(-distance / width)
        return product

    def _choose(self, table: Table, held: Table | None, generator: torch.Generator) -> None:
        rows, number = self._most_complete(table)
        rows = rows.some(min(self.memory_size, CHOOSE), generator)
        if len(rows) < 2:
            return
        distance = wide(self._distance(rows.x, rows.x, number))
        spread = self._median(distance)
        weight = wide(rows.weight)
        y, y_mean = centred(wide(rows.y), weight)
        others = None if held is None else held.pick(held.having(self._columns(number)))
        if others is not None and len(others):
            others = others.some(min(self.memory_size, CHOOSE), generator)
            far = wide(self._distance(others.x, rows.x, number))
        # Neighbouring windows say the same: leaving one out says nothing.
        judged = others is not None and len(others) > 0
        left_out = rows.weight if self.window is None or not judged else None
        if not bool((weight > 0).all()):
            y = Ridge.of_kernel(self._product(distance, spread), y).completed(weight, 0.1).y
        best = (float("inf"), 1.0, 1.0)
        for width in WIDTHS:
            ridge = Ridge.of_kernel(self._product(distance, width * spread), y)
            kept = None
            if judged and others is not None:
                product = self._product(far, width * spread)
                kept = Held(product, wide(others.y) - y_mean, others.weight)
            error, penalty = ridge.best(left_out, kept)
            best = min(best, (error, width, penalty))
        self.width.fill_(best[1])
        self.penalty.fill_(best[2])

    def _remember(self, table: Table, generator: torch.Generator) -> None:
        kept = table.some(self.memory_size, generator)
        self.memory.zero_()
        self.memory[: len(kept)] = kept.x
        self.coefficients.zero_()
        shares = self._distances(kept.x, kept.x)
        for number in range(len(self._subsets)):
            columns = self._columns(number)
            at, rows = kept.having(columns), table.pick(table.having(columns))
            if not len(at):
                self.offset[number] = 0.0
                continue
            y, mean = centred(wide(rows.y), wide(rows.weight))
            distance = functools.reduce(torch.add, [shares[i] for i in columns])
            distance = distance[at][:, at]
            self.spread[number] = self._median(distance)
            width = wide(self.width * self.spread[number])
            own = self._product(wide(distance), width)
            solution = self._solve(own, rows, number, kept.x[at], width, y)
            self.coefficients[number, at] = solution.to(self.coefficients.dtype)
            self.offset[number] = mean

    def _solve(
        self, own: Tensor, rows: Table, number: int, b: Tensor, width: Tensor, y: Tensor
    ) -> Tensor:
        penalty, size = float(self.penalty), len(own)
        eye = torch.eye(size, dtype=own.dtype, device=own.device)
        if len(rows) == size:  # the memory holds all
            solve = solver(own + penalty * eye)
            return solve(complete(y, wide(rows.weight), lambda y: own @ solve(y)))
        left, right = penalty * own + 1e-8 * size * eye, torch.zeros_like(y[:size])
        for part, answer in zip(torch.split(rows.x, size), torch.split(y, size), strict=True):
            product = self._product(wide(self._distance(part, b, number)), width)
            left, right = left + product.mT @ product, right + product.mT @ answer
        return solver(left)(right)

    def _most_complete(self, table: Table) -> tuple[Table, int]:
        """Returns the examples of the first subset that a fair share of all examples has."""
        for number in range(len(self._subsets)):
            rows = table.pick(table.having(self._columns(number)))
            if 2 * len(rows) >= min(len(table), self.memory_size):
                return rows, number
        number = max(range(len(self._subsets)), key=lambda n: len(table.having(self._columns(n))))
        return table.pick(table.having(self._columns(number))), number

    def _median(self, distance: Tensor) -> Tensor:
        upper = distance.triu(1)
        upper = upper[upper > 0]
        return upper.median() if len(upper) else distance.new_ones(())
