"""Random choices among the steps and modalities that are there, without reading the data.

A seeded draw is a hash of the seed, the name of the modality, the number of the sample and the
place of the step, not the next number of a generator: it is the same in every batch, for every
order of the names, for every padding and on every device.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from modimpute._checks import check_batch, check_names, check_tensor, check_valids

_GAMMA = -0x61C8864680B583EB  # the constants of SplitMix64, as signed 64-bit numbers
_MIX = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1))


def all_valid(
    modalities: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    """Checks a batch and returns its ``valid`` for every modality, in the order of the names."""
    check_names("modalities", modalities)
    first = min(modalities)
    device = check_tensor(f"modalities[{first!r}]", modalities[first]).device
    check_batch("modalities", modalities, dict.fromkeys(modalities), device)
    check_valids(valid, "modalities", modalities)
    complete = {}
    for name in sorted(modalities):
        x = modalities[name]
        there = x.new_ones(x.shape[:2], dtype=torch.bool)
        complete[name] = there if valid is None else valid.get(name, there)
    return complete


def check_share(name: str, share: object) -> None:
    """Raises unless ``share`` is a number from 0 to 1, both included."""
    if not isinstance(share, int | float) or isinstance(share, bool):
        raise TypeError(f"{name} must be a float, however: {name}={share!r}")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], however: {name}={share}")


def one_of(available: Tensor, score: Tensor) -> Tensor:
    """Returns where the highest score of each row stands among what is available.

    It stands anywhere in a row in which nothing is available.
    """
    if available.shape[-1] == 0:
        return available
    best = torch.where(available, score, -1).argmax(-1, keepdim=True)
    return torch.arange(available.shape[-1], device=available.device) == best


class Draws:
    """The draws of one call for the samples of one batch."""

    def __init__(self, seed: int | None, index: Tensor | None, like: Tensor) -> None:
        if seed is None:  # on the CPU, whatever the default device: no GPU has to be waited for
            seed = int(torch.randint(2**62, (), device="cpu"))
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise TypeError(f"seed must be an int, however: seed={seed!r}")
        if index is None:
            index = torch.arange(like.shape[0], device=like.device)
        check_tensor("index", index)
        if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
            raise TypeError(f"index must be integer, however: index.dtype={index.dtype}")
        if tuple(index.shape) != (like.shape[0],):
            rule = f"index must have shape ({like.shape[0]},), one number per sample"
            raise ValueError(f"{rule}, however: index.shape={tuple(index.shape)}")
        self.seed, self.index = seed, index.to(like.device, torch.int64)

    def bits(self, name: str, purpose: str, place: Tensor | None = None) -> Tensor:
        """Returns ``(B, 1)`` or, with ``place`` ``(B or 1, L)``, ``(B, L)`` of 63 random bits."""
        key = hashlib.sha256(repr((self.seed, purpose, name)).encode()).digest()[:8]
        start = int.from_bytes(key, "little", signed=True)
        state = _mix(_mix(self.index * _GAMMA + start)).unsqueeze(-1)
        if place is not None:
            state = _mix(state + (place + 1) * _GAMMA)
        return _shift(state, 1)

    def uniform(self, name: str, purpose: str, place: Tensor | None = None) -> Tensor:
        """Returns the same as numbers in [0, 1), each of which float32 holds exactly."""
        return _shift(self.bits(name, purpose, place), 39).to(torch.float32) * 2.0**-24

    def between_blocks(self, name: str, valid: Tensor, rate: float, length: int) -> Tensor:
        """Returns the valid steps but for about the share ``rate``, in blocks of ``length``.

        What is laid out is a row of items, each a kept step or a whole block: every order of
        them is equally likely. Where there is room, a kept step follows each block.
        """
        steps = valid.sum(-1, keepdim=True)
        share = steps.to(torch.float32) * rate
        total = share.floor()
        total = (total + (self.uniform(name, "round") < share - total)).to(torch.int64)
        count = (total + length - 1) // length
        apart = (steps - total >= count - 1).to(torch.int64)
        items = steps - total + count - apart * (count - 1)
        place = torch.arange(valid.shape[1], device=valid.device).unsqueeze(0)
        score = self.bits(name, "block", place).masked_fill(place >= items, 2**63 - 1)
        order = score.argsort(-1).argsort(-1)
        chosen = order < count
        # One block, any, takes what is left over after whole ones.
        size = torch.where(order == 0, total - (count - 1) * length, length)
        size = torch.where(chosen, size, 0)
        width = torch.where(chosen, size - 1 + apart, 0)
        start = torch.where(chosen, place + width.cumsum(-1) - width, 0)
        change = valid.new_zeros((valid.shape[0], valid.shape[1] + 1), dtype=torch.int64)
        change = change.scatter_add(-1, start, chosen.to(torch.int64))
        change = change.scatter_add(-1, start + size, -chosen.to(torch.int64))
        outside = change.cumsum(-1) == 0
        return valid & outside.gather(-1, rank(valid))


def rank(valid: Tensor) -> Tensor:
    """Returns the number of valid steps before each step: padding does not count."""
    return valid.cumsum(-1) - valid.to(torch.int64)


def _mix(x: Tensor) -> Tensor:
    for shift, factor in _MIX:
        x = (x ^ _shift(x, shift)) * factor
    return x


def _shift(x: Tensor, by: int) -> Tensor:
    """Shifts to the right and fills with zeros; ``>>`` alone repeats the sign."""
    return x.bitwise_right_shift(by).bitwise_and((1 << (64 - by)) - 1)
