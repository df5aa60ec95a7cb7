import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modimpute._checks import check_sizes
from modimpute._keys import Keys
from modimpute._leave_one_out import learn
from modimpute._reading import Given, check_index
from modimpute._remembering import Remembering
from modimpute._table import Table

__all__ = ["RetrievalTranslator"]

TINY = 1e-6


class RetrievalTranslator(Remembering):
    r"""Translates by attention over a memory of training examples.

    .. math:: \hat{y} = \sum_j a_j \, y_j + T \Big(z - \sum_j a_j z_j\Big), \qquad
              a_j = \frac{1}{H} \sum_h \operatorname{softmax}_j \big(
              -\lVert P_h (z - z_j) \rVert^2 \big)

    where :math:`y_j` are the targets of at most ``memory_size`` training examples, :math:`z =
    z(x)` are learned keys of the standardised sources (a linear map that starts with their
    principal components, plus a network that starts at zero), :math:`P_h` is the metric of a
    head, the mean over the heads is weighted, and the linear map :math:`T`, zero at first,
    corrects for what the neighbours are not. A missing source is missing in the memory, too:
    sources are compared that the sample has, as in :class:`LinearTranslator`, where also
    places, window and patch are described.

    :meth:`fit` trains leave-one-out: an example never sees itself or others of its sample in
    the memory, noise is added to what is compared, sources are dropped at random, and the mean
    of the last weights is kept; validation samples say when to stop. In a loop of your own,
    call :meth:`remember`, then ``forward`` with ``index``, the number of each sample among the
    remembered ones, which leaves it out.

    Before, and for a sample with no valid source step, the answer is zero: no opinion. The memory
    takes ``memory_size`` times the number of features and answers; of more examples, a random
    part is kept.

    Args:
        source_dim: As of :class:`LinearTranslator`.
        target_dim: The number of target features :math:`D_t`.
        key_dim: The number of features of a key.
        num_heads: The number of heads :math:`H`.
        hidden_dim: The hidden width of the keys' network.
        memory_size: The number of examples that are kept at most.
        source_places: As of :class:`LinearTranslator`.
        target_places: As of :class:`LinearTranslator`.
        window: As of :class:`LinearTranslator`.
        patch: As of :class:`LinearTranslator`.
        aligned: Whether target step :math:`t` belongs to source step :math:`t`.
        steps: The number of training steps of :meth:`fit`.
        batch_size: The number of examples of each.
        learning_rate: The learning rate (AdamW, warm-up, then half a cosine).
        noise: The deviation of the noise in training; features have deviation 1.
        device: The device of parameters and memory.
        dtype: The dtype of parameters and memory.

    Shape:
        - source: :math:`(B, L_s, D_s)`, any floating dtype, or a mapping of names to such
        - valid: :math:`(B, L_s)`, bool, or a mapping; ``False``: padding or missing, never read
        - target_valid: :math:`(B, L_t)`, bool; ``False``: the step does not exist
        - index: :math:`(B)`, int64
        - Output: :math:`(B, L_t, D_t)`, in the dtype of the parameters, under autocast too;
          aligned: :math:`L_t = L_s`

    Raises:
        TypeError: If an argument has the wrong type or dtype.
        ValueError: If a size, shape, name or device does not fit.

    References:
        Nadaraya, On Estimating Regression, 1964, and Watson, 1964 (the sum); Gorishniy et al.,
        TabR: Tabular Deep Learning Meets Nearest Neighbors, 2023 (the correction). Our choice:
        the keys, the heads' metrics, missing sources.

    Example:
        >>> image = torch.randn(300, 1, 5)
        >>> audio = torch.cat([image, -image], -1)
        >>> translator = RetrievalTranslator(5, 10, memory_size=300, steps=50).fit(image, audio)
        >>> translator(image[:2]).shape
        torch.Size([2, 1, 10])
    """

    memory: Tensor
    values: Tensor
    value_valid: Tensor
    available: Tensor
    owner: Tensor

    def __init__(
        self,
        source_dim: int | Mapping[str, int],
        target_dim: int,
        *,
        key_dim: int = 64,
        num_heads: int = 4,
        hidden_dim: int = 128,
        memory_size: int = 2048,
        source_places: int | Mapping[str, int] = 1,
        target_places: int = 1,
        window: int | None = None,
        patch: int = 0,
        aligned: bool = True,
        steps: int = 300,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        noise: float = 0.4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_sizes(key_dim=key_dim, num_heads=num_heads, hidden_dim=hidden_dim)
        check_sizes(memory_size=memory_size, steps=steps, batch_size=batch_size)
        view = (source_places, target_places, window, patch, aligned)
        super().__init__(source_dim, target_dim, *view, device, dtype)
        self.key_dim, self.num_heads, self.hidden_dim = key_dim, num_heads, hidden_dim
        self.memory_size, self.steps, self.batch_size = memory_size, steps, batch_size
        self.learning_rate, self.noise = learning_rate, noise
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        size, answer = sum(self.examples.sizes.values()), self.examples.target_size
        sizes = tuple(self.examples.sizes.values())
        self.keys = Keys(sizes, key_dim, hidden_dim, device, dtype)
        self.metric = nn.Parameter(torch.empty(num_heads, key_dim, key_dim, **place))
        self.sharpness = nn.Parameter(torch.empty(num_heads, **place))
        self.share = nn.Parameter(torch.empty(num_heads, **place))
        self.correction = nn.Linear(key_dim, answer, bias=False, **place)
        self.register_buffer("memory", torch.empty(memory_size, size, **place))
        self.register_buffer("values", torch.empty(memory_size, answer, **place))
        flags: dict[str, Any] = {"device": device, "dtype": torch.bool}
        places = self.examples.target_steps
        self.register_buffer("value_valid", torch.empty(memory_size, places, **flags))
        self.register_buffer("available", torch.empty(memory_size, len(self._dims), **flags))
        flags["dtype"] = torch.int64
        self.register_buffer("owner", torch.empty(memory_size, **flags))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new weights and forgets the memory."""
        self.keys.reset()
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.share)
        with torch.no_grad():
            self.metric.copy_(torch.eye(self.key_dim, device=self.metric.device))
            spread = torch.linspace(-0.7, 0.7, self.num_heads, device=self.metric.device)
            self.sharpness.copy_(spread)
        for buffer in (self.memory, self.values, self.value_valid, self.available):
            buffer.zero_()
        self.owner.fill_(-1)

    def extra_repr(self) -> str:
        """Lists the arguments for ``repr``."""
        more = f"key_dim={self.key_dim}, num_heads={self.num_heads}"
        return f"{super().extra_repr()}, {more}, memory_size={self.memory_size}"

    def forward(
        self,
        source: Given,
        *,
        valid: Given | None = None,
        target_length: int | None = None,
        target_valid: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """Returns the translation ``(B, L_target, target_dim)``.

        Args:
            source: As of :class:`LinearTranslator`, as the next three.
            valid: Which source steps hold a real value.
            target_length: The number of target steps.
            target_valid: Which target steps exist.
            index: The number of each sample among those that :meth:`remember` was given: it
                does not see itself. Default: all see the whole memory.
        """
        check_index(index, source)
        return self._translate(source, valid, target_length, target_valid, index)

    def _answer(self, x: Tensor, number: int, index: Tensor | None) -> Tensor:
        owner = None if index is None else index.repeat_interleave(x.shape[1])
        y = self._read(
            x.flatten(0, 1), number, self.memory, self.values, self.value_valid,
            self._hidden_from(number, owner, self.available, self.owner),
        )  # fmt: skip
        return y.view(x.shape[0], x.shape[1], y.shape[-1])

    def _hidden_from(
        self, number: int, index: Tensor | None, available: Tensor, owner: Tensor
    ) -> Tensor:
        """Returns ``(1 or n, N)``: what may not be seen, as it lacks a source or is one's own."""
        lacks = [~available.select(-1, column) for column in self._columns(number)]
        hidden = functools.reduce(torch.logical_or, lacks).unsqueeze(0)
        if index is not None:
            hidden = hidden | (index.unsqueeze(-1) == owner)
        return hidden

    def _read(
        self,
        x: Tensor,
        number: int,
        memory: Tensor,
        values: Tensor,
        value_valid: Tensor,
        hidden: Tensor,
    ) -> Tensor:
        """Returns what examples ``(n, F)`` are told by the memory: ``(n, Q)``."""
        z, keys = self.keys(x), self.keys(self._masked(memory, number))
        dtype = torch.promote_types(x.dtype, torch.float32)
        sharp = (0.5 * self.sharpness).exp().view(-1, 1, 1)
        queries, others = ((part @ self.metric * sharp).to(dtype) for part in (z, keys))
        scores = 2 * queries @ others.mT - others.square().sum(-1).unsqueeze(1)
        # Where nothing may be seen, all weights are zeroed below.
        scores = scores.masked_fill(hidden, torch.finfo(dtype).min)
        weights = scores.softmax(-1).masked_fill(hidden, 0.0).to(x.dtype)
        weights = (self.share.softmax(0).view(-1, 1, 1) * weights).sum(0)
        there = value_valid.to(x.dtype)
        known = weights @ there
        steps = values.view(len(values), there.shape[1], self.target_dim)
        y = weights @ (steps * there.unsqueeze(-1)).flatten(1)
        y = y.view(x.shape[0], there.shape[1], self.target_dim) / (known + TINY).unsqueeze(-1)
        away = weights.sum(-1, keepdim=True) * z - weights @ keys
        return y.flatten(1) + self.correction(away)  # type: ignore[no-any-return]

    def _choose(self, table: Table, held: Table | None, generator: torch.Generator) -> None:
        if len(table) >= 2:
            learn(self, table, held, generator)

    def _remember(self, table: Table, generator: torch.Generator) -> None:
        kept = table.some(self.memory_size, generator)
        for buffer in (self.memory, self.values, self.value_valid, self.available):
            buffer.zero_()
        self.memory[: len(kept)] = kept.x
        self.values[: len(kept)] = kept.y
        self.value_valid[: len(kept)] = kept.there(self.examples.target_steps)
        self.available[: len(kept)] = kept.has
        self.owner[: len(kept)] = kept.owner

    def _told(self, x: Tensor, number: int, kept: Table, owner: Tensor | None) -> Tensor:
        """Returns what examples are told by a table instead of the memory."""
        hidden = self._hidden_from(number, owner, kept.has, kept.owner)
        x = self._masked(x, number)
        return self._read(
            x, number, kept.x, kept.y, kept.there(self.examples.target_steps), hidden
        )
