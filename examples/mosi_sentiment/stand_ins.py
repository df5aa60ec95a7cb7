"""What a pickle may call, each with checks: NumPy's own state setters trust their input.

(A crafted dtype, for one, makes NumPy take bytes for pointers.)
"""

import math
import re
import reprlib  # shows a few characters, whatever is to be shown
from collections.abc import Callable
from typing import Any

import numpy as np

DTYPE = re.compile(r"[<>|=]?(b1|i[1248]|u[1248]|f[248]|[SU][1-9]\d*|O8?)")


class Refused(ValueError):
    """What a pickle asks for, in words that follow "however:"."""


class DType:
    """Stands in for a dtype; only the byte order of its state is read."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *flags: Any) -> None:
        if not isinstance(code, str) or not DTYPE.fullmatch(code) or len(flags) > 2:
            raise Refused(f"it has an array of type {reprlib.repr(code)}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *structure = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in structure[:3]):
            raise Refused("it has an array of a structured type")
        self.dtype = self.dtype.newbyteorder(order)


class Array(np.ndarray):
    """An array whose state is checked before NumPy sees it."""

    __slots__ = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if self.size:  # somebody may still look at the memory that would be freed
            raise Refused("it changes an array")
        _, shape, kind, fortran, values = state
        dtype = _dtype(kind)
        if dtype.hasobject:
            if not isinstance(values, list) or len(values) != _size(shape):
                raise Refused("it has an array of objects that does not have its own size")
        else:
            values = _raw(values)
            _check_size(values, shape, dtype)
        super().__setstate__((1, shape, dtype, bool(fortran), values))


class Stand:
    """An admitted callable. Without attributes, so that a pickle cannot set any."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused(f"it sets {name!r} of what it is only to call")

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


def _size(shape: Any) -> int:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise Refused(f"it has an array of shape {reprlib.repr(shape)}")
    return math.prod(shape)


def _dtype(kind: Any) -> np.dtype:
    if not isinstance(kind, DType):
        raise Refused(f"it has an array of type {reprlib.repr(kind)}")
    return kind.dtype


def _raw(values: Any) -> bytes | bytearray:
    """Bytes are strings in Python 2."""
    values = values.encode("latin1") if isinstance(values, str) else values
    if not isinstance(values, bytes | bytearray):
        raise Refused(f"it has an array made from {type(values).__name__}")
    return values


def _check_size(values: bytes | bytearray, shape: Any, dtype: np.dtype) -> None:
    if _size(shape) * dtype.itemsize != len(values):
        raise Refused(f"it has an array of shape {shape} of {dtype} from {len(values)} bytes")


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    """An empty array, whose state follows."""
    if kind is not NDARRAY or shape != (0,) or code not in (b"b", "b"):
        raise Refused("it builds an array in an unusual way")
    return np.ndarray.__new__(Array, (0,), "b")


def _frombuffer(values: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    values, dtype = _raw(values), _dtype(kind)
    _check_size(values, shape, dtype)
    order = "F" if order == "F" else "C"
    return np.frombuffer(values, dtype).reshape(shape, order=order).view(Array)


def _scalar(kind: Any, value: Any) -> Any:
    value, dtype = _raw(value), _dtype(kind)
    _check_size(value, (), dtype)
    return np.frombuffer(value, dtype)[0]


def _encode(text: Any, encoding: Any = None) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused(f"it calls _codecs.encode with {reprlib.repr(encoding)}")
    return text.encode("latin1")


def _bytes() -> bytes:
    return b""


def _not_called(*_: Any) -> None:
    raise Refused("it calls numpy.ndarray")


NDARRAY = Stand(_not_called)
ADMITTED = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Stand(DType),
    ("_codecs", "encode"): Stand(_encode),
    ("collections", "OrderedDict"): Stand(dict),  # which has an order, and no attributes
}
for module in ("numpy.core", "numpy._core"):
    ADMITTED[f"{module}.multiarray", "_reconstruct"] = Stand(_reconstruct)
    ADMITTED[f"{module}.multiarray", "scalar"] = Stand(_scalar)
    ADMITTED[f"{module}.numeric", "_frombuffer"] = Stand(_frombuffer)
for module in ("builtins", "__builtin__"):
    ADMITTED[module, "set"] = Stand(set)
    ADMITTED[module, "frozenset"] = Stand(frozenset)
    ADMITTED[module, "bytes"] = Stand(_bytes)
