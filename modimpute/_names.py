"""Modules kept by modality name.

``nn.ModuleDict`` refuses names that are attributes of its own ("keys", "type", …) or hold a
dot, and which names those are changes with the version of torch. Here the name stands behind
an ``@``, which no attribute has, with ``.`` and ``%`` percent-encoded: one to one, the same for
every version, and readable in a ``state_dict`` (``translators.@audio.output.weight``).
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


def encode(name: str) -> str:
    return "@" + name.replace("%", "%25").replace(".", "%2E")


class ModuleMapping(nn.Module, Mapping[str, M]):
    """A fixed mapping of modality names to modules, in the order of the sorted names."""

    __eq__ = nn.Module.__eq__  # by identity, as for every module
    __hash__ = nn.Module.__hash__

    def __init__(self, modules: Mapping[str, M]) -> None:
        super().__init__()
        self.names = tuple(sorted(modules))
        for name in self.names:
            self.add_module(encode(name), modules[name])

    def __getitem__(self, name: str) -> M:
        if name not in self.names:
            raise KeyError(f"name must be one of {self.names}, however: {name!r}")
        return cast(M, self._modules[encode(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
