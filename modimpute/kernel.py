import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from modimpute._checks import check_sizes
from modimpute._kernel_learning import Learning, learn
from modimpute._kernel_solution import best_penalty, solve
from modimpute._mixture import Mixture, log, median
from modimpute._remembering import Remembering
from modimpute._table import Table

__all__ = ["KernelTranslator"]

CHOOSE = 1000  # examples by which the penalty is chosen at most
SPREAD = 512  # examples by which a subset's distances are measured
WINDOWS = 16384  # that are fitted at most: neighbours say nearly the same


class Choice(NamedTuple):
    """What a fit chooses: the kernel, and the median distance that it makes."""

    mixture: Mixture
    typical: Tensor


class KernelTranslator(Remembering):
    r"""Translates by likeness to training examples, with learned scales and a closed-form fit.

    .. math:: \hat{y} = b_S + \sum_j k_S(x, x_j) \, \alpha_{S,j}

    over a memory of at most ``memory_size`` training examples :math:`x_j`. The kernel is a sum,

    .. math:: k(x, x_j) = a_1 e^{-\lVert s_1 \odot (x - x_j) \rVert^2} +
              a_2 e^{-\lVert s_2 \odot (x - x_j) \rVert} +
              a_3 \, (s_3 \odot x) \cdot (s_3 \odot x_j)

    with scales :math:`s_1, s_2, s_3` of their own for every standardised feature. :meth:`fit`
    learns scales, amplitudes :math:`a` and the penalty by gradient descent on what random
    examples are told by all others of them (leave-one-out, in closed form; examples of one
    sample never tell each other); validation samples say when to stop. The coefficients
    :math:`\alpha_S` are then solved for. With ``key_dim`` the first term compares so many learned
    linear maps of the scaled features: more freedom, to be learned with ``noise``.

    Each subset :math:`S` of the sources is solved for by itself, as in :class:`LinearTranslator`,
    where also places, window and patch are described; its distances are divided by their
    median's share of that of all sources.

    If there are more examples than ``memory_size``, the memory is a random part of them, on
    which the sum is taken, but all are fitted (Nyström); of windows, 16,384 at most or
    ``memory_size``. The memory takes ``memory_size`` times the number of features and, per
    subset, of answers; the third term is kept as one matrix of features and answers. A fit
    solves one system of the size of the memory per subset, in double precision, and one of
    ``batch_size`` examples per step. The coefficients may be large and cancel out: kept in
    ``bfloat16`` they are rounded, and the error can be several times as large. Rather leave the
    module in ``float32``; autocast does.

    Before :meth:`fit` the answer is zero. A sample with no valid source step is answered with
    zeros: no opinion.

    Args:
        source_dim: As of :class:`LinearTranslator`.
        target_dim: The number of target features :math:`D_t`.
        key_dim: The number of learned maps that the first term compares. Default: the features
            themselves.
        memory_size: The number of examples that are kept at most.
        source_places: As of :class:`LinearTranslator`.
        target_places: As of :class:`LinearTranslator`.
        window: As of :class:`LinearTranslator`.
        patch: As of :class:`LinearTranslator`.
        aligned: Whether target step :math:`t` belongs to source step :math:`t`.
        steps: The number of training steps of :meth:`fit`; 0: sources count alike, and the
            median distance is one.
        batch_size: The number of examples of each.
        learning_rate: The learning rate (Adam, warm-up, then half a cosine), of logarithms.
        noise: The deviation of the noise in training; features have deviation 1.
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
        1998; Williams and Seeger, Using the Nyström Method to Speed Up Kernel Machines, 2001;
        Neal, Bayesian Learning for Neural Networks, 1996 (a scale for each feature); Sundararajan
        and Keerthi, Predictive Approaches for Choosing Hyperparameters in Gaussian Processes,
        2001 (leave-one-out). Our choice: the three terms, samples left out as wholes, the
        subsets, windows and patches.

    Example:
        >>> image = torch.linspace(-3, 3, 200).view(200, 1, 1)
        >>> translator = KernelTranslator(1, 1, memory_size=200).fit(image, image.sin())
        >>> error = translator(image) - image.sin()
        >>> error.abs().max() < 0.01
        tensor(True)
    """

    memory: Tensor
    coefficients: Tensor
    slope: Tensor
    offset: Tensor
    typical: Tensor
    spread: Tensor

    def __init__(
        self,
        source_dim: int | Mapping[str, int],
        target_dim: int,
        *,
        key_dim: int | None = None,
        memory_size: int = 2048,
        source_places: int | Mapping[str, int] = 1,
        target_places: int = 1,
        window: int | None = None,
        patch: int = 0,
        aligned: bool = True,
        steps: int = 200,
        batch_size: int = 512,
        learning_rate: float = 0.1,
        noise: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_sizes(memory_size=memory_size, batch_size=batch_size)
        check_sizes(0, steps=steps)
        if key_dim is not None:
            check_sizes(key_dim=key_dim)
        view = (source_places, target_places, window, patch, aligned)
        super().__init__(source_dim, target_dim, *view, device, dtype)
        self.key_dim, self.memory_size, self.steps = key_dim, memory_size, steps
        self.batch_size, self.learning_rate, self.noise = batch_size, learning_rate, noise
        sizes = tuple(self.examples.sizes.values())
        self.mixture = Mixture(sizes, key_dim, device, dtype)
        count = len(self._subsets)
        shapes = {
            "memory": (memory_size, sum(sizes)),
            "coefficients": (count, memory_size, self.examples.target_size),
            "slope": (count, sum(sizes), self.examples.target_size),  # of the linear part
            "offset": (count, self.examples.target_size),
            "typical": (),  # the median distance where the scales were learned
            "spread": (count,),  # each subset's median distance, relative to that
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Forgets the fit."""
        self.mixture.reset()
        for buffer in (self.memory, self.coefficients, self.slope, self.offset):
            buffer.zero_()
        for buffer in (self.typical, self.spread):
            buffer.fill_(1.0)

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        more = f"key_dim={self.key_dim}, memory_size={self.memory_size}"
        return f"{super().extra_repr()}, {more}"

    def _answer(self, x: Tensor, number: int, index: Tensor | None) -> Tensor:  # noqa: ARG002
        memory, rows = self._masked(self.memory, number), x.flatten(0, 1)
        dtype = torch.promote_types(x.dtype, torch.float32)
        product = self.mixture.curved(rows.to(dtype), memory.to(dtype), self.spread[number])
        # Coefficients are large and cancel out: half precision would round each product.
        y: Tensor = (product @ self.coefficients[number].to(dtype)).to(x.dtype)
        y = y + rows @ self.slope[number] + self.offset[number]
        return y.view(x.shape[0], x.shape[1], self.examples.target_size)

    def _choose(self, table: Table, held: Table | None, generator: torch.Generator) -> None:
        rows, number = self._most_complete(table)
        self.mixture.reset()
        if len(rows) < 2:
            return
        rows, judged = self._wide(rows, number), None
        if held is not None and len(others := held.having(self._columns(number))):
            judged = self._wide(held.pick(others), number)
        mixture = self._wide_mixture()
        mixture.start(rows.some(SPREAD, generator).x)
        if self.steps:
            options = (self.steps, self.batch_size, self.learning_rate, self.noise)
            learn(mixture, rows, judged, Learning(*options), generator)
        some = rows.some(CHOOSE, generator)
        judged = None if judged is None else judged.some(CHOOSE, generator)
        penalty = best_penalty(mixture, some, judged, self.window is not None)
        mixture.noise.fill_(log(penalty))
        self.mixture.load_state_dict(mixture.state_dict())
        self.typical.copy_(median(mixture.distance(some.x[:SPREAD], some.x[:SPREAD])))

    def _choice(self) -> Choice:
        """Returns a copy of what was chosen, without the examples."""
        return Choice(copy.deepcopy(self.mixture), self.typical.clone())

    def _average(self, choices: Sequence[Choice]) -> None:
        """Takes the mean of several choices; the examples are still to be remembered."""
        self.mixture.average([choice.mixture for choice in choices])
        self.typical.copy_(torch.stack([choice.typical for choice in choices]).log().mean().exp())

    def _remember(self, table: Table, generator: torch.Generator) -> None:
        if self.window is not None:
            table = table.some(max(WINDOWS, self.memory_size), generator)
        kept = table.some(self.memory_size, generator)
        self.memory.zero_()
        self.memory[: len(kept)] = kept.x
        self.coefficients.zero_()
        mixture = self._wide_mixture()
        for number in range(len(self._subsets)):
            at, all_of_them = (t.having(self._columns(number)) for t in (kept, table))
            if not len(at):
                self.slope[number], self.offset[number] = 0.0, 0.0
                continue
            rows = self._wide(table.pick(all_of_them), number)
            basis = self._wide(kept.pick(at), number)
            some = basis.some(SPREAD, generator).x
            self.spread[number] = median(mixture.distance(some, some)) / self.typical
            found = solve(mixture, rows, basis.x, self.spread[number])
            self.coefficients[number, at] = found[0].to(self.coefficients.dtype)
            self.slope[number], self.offset[number] = found[1:]

    def _wide(self, table: Table, number: int) -> Table:
        """Returns a subset's view of examples, in ``float32`` or wider."""
        dtype = torch.promote_types(table.x.dtype, torch.float32)
        return replace(table, x=self._masked(table.x, number)).to(dtype)

    def _wide_mixture(self) -> Mixture:
        """Returns a copy of the kernel in ``float32`` or wider."""
        dtype = torch.promote_types(self.memory.dtype, torch.float32)
        return copy.deepcopy(self.mixture).to(dtype)

    def _most_complete(self, table: Table) -> tuple[Table, int]:
        """Returns the examples of the first subset that a fair share of all examples has."""
        for number in range(len(self._subsets)):
            rows = table.pick(table.having(self._columns(number)))
            if 2 * len(rows) >= min(len(table), self.memory_size):
                return rows, number
        number = max(range(len(self._subsets)), key=lambda n: len(table.having(self._columns(n))))
        return table.pick(table.having(self._columns(number))), number
