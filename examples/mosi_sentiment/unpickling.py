"""Reads pickles from strangers: arrays, numbers, strings and plain containers, nothing else.

A pickle is a program. Ours runs with only the few callables of ``ADMITTED``, each a stand-in that
checks what it is given; whatever else it asks for is refused by name and never looked up. The
interpreter is the one that the standard library has in Python: the one in C allocates whatever a
few bytes of a file ask for.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

from examples.mosi_sentiment.checks import check_download
from examples.mosi_sentiment.stand_ins import ADMITTED, Array, Refused, Stand

ALLOWED = "only arrays, numbers, strings and plain containers"


class Reader:
    """A file that hands out all that it is asked for, or raises; before it allocates anything."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def read(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise EOFError
        return self.file.read(count)

    def readline(self) -> bytes:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line


# Extensions, objects and memory from outside the file.
OUTSIDE = ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER")
UNUSED = {getattr(pickle, name)[0] for name in OUTSIDE}


class Unpickler(pickle._Unpickler):
    """The standard library's interpreter with our callables. Strings of Python 2 are latin1."""

    def __init__(self, file: Reader) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Stand:
        if (module, name) not in ADMITTED:
            stacks = [*self.metastack, self.stack]
            items = (item for stack in stacks for item in stack)
            inside = any(isinstance(item, Array) and not item.size for item in items)
            where = " from inside an array of objects" if inside else ""
            raise Refused(f"it asks to call {module}.{name}{where}")
        return ADMITTED[module, name]

    def load_bytearray8(self) -> None:
        """Reads before it allocates, unlike the original."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    dispatch = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code not in UNUSED
    } | {pickle.BYTEARRAY8[0]: load_bytearray8}


def read_pickle(path: Path) -> Any:
    """Returns what a pickle holds, of Python 2 or 3; refuses by name what it tried to call."""
    check_download(path, "pickle")
    rule = f"{path} must be a whole pickle"
    with open(path, "rb") as file:
        size = path.stat().st_size
        try:
            return Unpickler(Reader(file, size)).load()
        except Refused as error:
            fact = f"{error}; nothing of it was run"
            raise ValueError(f"{path} must hold {ALLOWED}, however: {fact}") from None
        except EOFError:
            fact = f"it ends in the middle, at {size} bytes; download it again"
            raise ValueError(f"{rule}, however: {fact}") from None
        except Exception as error:  # a program of a stranger may fail in any way
            fact = f"byte {file.tell()} makes no sense ({type(error).__name__}: {error})"
            raise ValueError(f"{rule}, however: {fact}") from None
