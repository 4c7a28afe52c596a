"""What a pickled numpy array is made of: a few globals, calls and states, taken apart by hand.

The functions that such a pickle names are recognised here, never imported or called. An array is a
view of the file's own bytes, made only once its dtype, its shape and the number of its bytes agree.
So numpy never sees a state that a stranger wrote: its own `__setstate__` would take an array of
objects from raw bytes, which is an array of wild pointers, or reserve whatever a shape asks for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

_MAX_WORD = 64
_MAX_DIMENSIONS = 4


class Refused(Exception):
    """A pickle holds something that no pickle of numeric arrays does."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected, self.found = expected, found


class Global(Enum):
    """The globals a file may name."""

    RECONSTRUCT = auto()
    NDARRAY = auto()
    DTYPE = auto()
    FROMBUFFER = auto()
    ENCODE = auto()


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): Global.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): Global.RECONSTRUCT,
    ("numpy", "ndarray"): Global.NDARRAY,
    ("numpy", "dtype"): Global.DTYPE,
    ("numpy.core.numeric", "_frombuffer"): Global.FROMBUFFER,
    ("numpy._core.numeric", "_frombuffer"): Global.FROMBUFFER,
    ("_codecs", "encode"): Global.ENCODE,
}


@dataclass(frozen=True, eq=False)
class Text:
    """A text string, decoded only where its characters are needed."""

    utf8: memoryview

    @cached_property
    def latin1(self) -> memoryview:
        """Bytes that Python 3 wrote as text, because protocol 2 knows no bytes."""
        try:
            return memoryview(str(self.utf8, "utf-8").encode("latin1"))
        except UnicodeError:
            raise Refused("bytes written as latin-1 text", "other characters") from None


@dataclass(eq=False)
class Dtype:
    """ "f8" or "f4"; its state brings the byte order, "<" or ">"."""

    name: str
    byte_order: str = ""


@dataclass(eq=False)
class Array:
    """An array that was announced; its state brings the values."""

    values: FloatArray | None = None


def find_global(module: object, name: object) -> Global:
    """The global a file names, or `Refused` with its full name."""
    module_name, own_name = (word(x) if isinstance(x, Text) else None for x in (module, name))
    full = (module_name or "(unreadable)", own_name or "(unreadable)")
    if full not in _GLOBALS:
        raise Refused("no global but those of numpy arrays", ascii(".".join(full))[1:-1])
    return _GLOBALS[full]


def call(function: object, arguments: object) -> Array | Dtype | memoryview:
    """What a call that the file asks for stands for (opcode REDUCE)."""
    match function, arguments:
        case Global.RECONSTRUCT, (Global.NDARRAY, (0,), kind) if word(kind) == "b":
            return Array()
        case Global.DTYPE, (name, 0, 1):  # the two numbers: no alignment, a copy
            return _dtype(word(name))
        case Global.ENCODE, (Text() as text, Text() as codec) if word(codec) == "latin1":
            return text.latin1
        case Global.FROMBUFFER, (raw, Dtype() as dtype, shape, Text() as order):
            return Array(_array(raw, dtype, shape, word(order)))
        case Global.FROMBUFFER, (raw, Dtype() as dtype, shape, Text() as order, axes):
            return Array(_array(raw, dtype, shape, word(order), axes))
    raise Refused("a call that makes an array", f"another call of a {kind_of(function)}")


def build(target: object, state: object) -> None:
    """Give `target` the state the file asks for (opcode BUILD); once only."""
    match target, state:
        case Dtype(byte_order="") as dtype, (3, order, None, None, None, -1, -1, 0):
            dtype.byte_order = _byte_order(word(order))
        case Array(values=None) as array, (1, shape, Dtype() as dtype, bool() as fortran, raw):
            array.values = _array(raw, dtype, shape, "F" if fortran else "C")
        case _:
            raise Refused("the state of an array or a dtype", f"another, for a {kind_of(target)}")


def word(value: object) -> str | None:
    """A short string, whichever of Python's three kinds it was written as; None for all else."""
    data = value.utf8 if isinstance(value, Text) else value
    if isinstance(data, memoryview) and len(data) <= _MAX_WORD:
        return str(data, "latin1")
    return None


def kind_of(value: object) -> str:
    """What a value is, in a word; never its contents, which may be endless."""
    return {"memoryview": "byte string", "Text": "text string"}.get(
        type(value).__name__, type(value).__name__
    )


def _dtype(name: str | None) -> Dtype:
    if name not in ("f8", "f4"):
        objects = name is not None and name.startswith("O")
        found = "Python objects" if objects else f"dtype {name!a}"
        raise Refused("float64 or float32 numbers (dtype 'f8' or 'f4')", found)
    return Dtype(name)


def _byte_order(mark: str | None) -> str:
    if mark not in ("<", ">"):
        raise Refused("byte order '<' or '>'", f"{mark!a}")
    return mark


def _array(
    raw: object, dtype: Dtype, shape: object, order: str | None, axes: object = None
) -> FloatArray:
    if not isinstance(raw, memoryview):
        raise Refused("an array's bytes", f"a {kind_of(raw)}")
    if not dtype.byte_order:
        raise Refused("a dtype with its byte order", "one without")
    if not _is_ints(shape) or not 1 <= len(shape) <= _MAX_DIMENSIONS or min(shape) < 1:
        raise Refused(f"1 to {_MAX_DIMENSIONS} positive integers as an array's shape", "others")
    needed = math.prod(shape) * int(dtype.name[1])
    if len(raw) != needed:
        raise Refused(f"{needed:,} bytes for an array of shape {shape}", f"{len(raw):,}")
    flat: FloatArray = np.frombuffer(raw, dtype=dtype.byte_order + dtype.name)
    if order == "C" and axes is None:
        return flat.reshape(shape)
    if order == "F" and axes is None:
        return flat.reshape(shape[::-1]).T
    if order == "K" and _is_ints(axes) and sorted(axes) == list(range(len(shape))):
        return flat.reshape(shape).transpose(axes)
    raise Refused("memory layout C, F, or K with an order of the axes", f"{order!a}")


def _is_ints(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and all(type(number) is int for number in value)
