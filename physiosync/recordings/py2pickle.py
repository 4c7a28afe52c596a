"""Read a pickled dictionary of numeric arrays without running it.

A pickle is a program: `pickle.load` calls whatever a downloaded file tells it to call. `read_arrays`
starts no unpickler. It follows the few opcodes that a dictionary of arrays is made of, as Python 2
wrote it or as Python 3 saves it again (protocols 2 to 5), and refuses every other one. The
functions such a file names are recognised, never imported or called. An array is a view of the
file's own bytes, made only once its dtype, its shape and the number of its bytes agree; so no
opcode can ask for more memory than the file takes, and numpy never sees a state that a stranger
wrote (an array of objects from raw bytes would be an array of wild pointers).

The opcodes are described in the standard library's `pickletools`.
"""

from __future__ import annotations

import math
import pickle as op  # for the names of the opcodes; nothing in it is called
import pickletools
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physiosync.errors import RecordingError

FloatArray = NDArray[np.floating[Any]]

#: Real files need about 80 opcodes, written by Python 3 up to 130.
_MAX_OPCODES = 500
_MAX_WORD = 64
_MAX_DIMENSIONS = 4


class _Global(Enum):
    """What a file may name. None of it is ever called."""

    RECONSTRUCT = auto()
    NDARRAY = auto()
    DTYPE = auto()
    FROMBUFFER = auto()
    ENCODE = auto()


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _Global.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Global.RECONSTRUCT,
    ("numpy", "ndarray"): _Global.NDARRAY,
    ("numpy", "dtype"): _Global.DTYPE,
    ("numpy.core.numeric", "_frombuffer"): _Global.FROMBUFFER,
    ("numpy._core.numeric", "_frombuffer"): _Global.FROMBUFFER,
    ("_codecs", "encode"): _Global.ENCODE,
}

#: Opcode -> bytes of its little-endian argument: a length before data, an integer, a memo index.
_BYTES = {
    op.SHORT_BINSTRING: 1,
    op.BINSTRING: 4,
    op.SHORT_BINBYTES: 1,
    op.BINBYTES: 4,
    op.BINBYTES8: 8,
    op.BYTEARRAY8: 8,
}
_TEXT = {op.SHORT_BINUNICODE: 1, op.BINUNICODE: 4, op.BINUNICODE8: 8}
_INTEGERS = {op.BININT1: 1, op.BININT2: 2, op.BININT: 4}
_PUTS = {op.BINPUT: 1, op.LONG_BINPUT: 4}
_GETS = {op.BINGET: 1, op.LONG_BINGET: 4}

_CONSTANTS = {op.NONE: None, op.NEWTRUE: True, op.NEWFALSE: False, op.EMPTY_TUPLE: ()}
_TUPLES = {op.TUPLE1: 1, op.TUPLE2: 2, op.TUPLE3: 3}


@dataclass(frozen=True, eq=False)
class _Text:
    """A text string, decoded only where its characters are needed."""

    utf8: memoryview


@dataclass(eq=False)
class _Dtype:
    """ "f8" or "f4"; BUILD adds the byte order, "<" or ">"."""

    name: str
    byte_order: str = ""


@dataclass(eq=False)
class _Array:
    """An array that was announced; BUILD brings its values."""

    values: FloatArray | None = None


def read_arrays(raw: bytes, path: Path) -> dict[str, FloatArray]:
    """Arrays of a pickled dictionary, by key.

    Parameters
    ----------
    raw : the whole file
    path : where it was read; named in errors

    Returns
    -------
    dict
        read-only views of `raw`, float32 or float64 in the file's byte order and memory layout

    Raises
    ------
    RecordingError
        for anything but a dictionary of float32 or float64 arrays: another opcode, a global outside
        numpy's own (named in full), a truncated file, bytes after its end, an array whose bytes do
        not fit its shape
    """
    return _Reader(raw, path).read()


class _Reader:
    """Follows the opcodes of one file with a stack, marks and a memo, as an unpickler would."""

    def __init__(self, raw: bytes, path: Path) -> None:
        self._raw, self._path = memoryview(raw), path
        self._at = self._opcode_at = 0
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._bytes_encoded = 0

    def read(self) -> dict[str, FloatArray]:
        start = bytes(self._take(2))
        if start[:1] != op.PROTO or start[1] not in range(2, 6):
            raise self._refuse("a pickle of protocol 2 to 5", f"a file that starts with {start!r}")
        for _ in range(_MAX_OPCODES):
            self._opcode_at = self._at
            opcode = bytes(self._take(1))
            if opcode == op.STOP:
                return self._result()
            self._follow(opcode)
        raise self._refuse(f"at most {_MAX_OPCODES} opcodes", "more")

    def _follow(self, opcode: bytes) -> None:
        if opcode in _BYTES:
            self._stack.append(self._take(self._number(_BYTES[opcode])))
        elif opcode in _TEXT:
            self._stack.append(_Text(self._take(self._number(_TEXT[opcode]))))
        elif opcode in _INTEGERS:
            self._stack.append(self._number(_INTEGERS[opcode], signed=opcode == op.BININT))
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLES:
            self._stack.append(tuple(self._pop(_TUPLES[opcode])))
        elif opcode in _PUTS:
            self._memo[self._number(_PUTS[opcode])] = self._top()
        elif opcode in _GETS:
            self._stack.append(self._recall(self._number(_GETS[opcode])))
        else:
            self._follow_rare(opcode)

    def _follow_rare(self, opcode: bytes) -> None:
        match opcode:
            case op.MARK:
                self._marks.append(len(self._stack))
            case op.TUPLE:
                self._stack.append(tuple(self._pop_to_mark()))
            case op.EMPTY_DICT:
                self._stack.append({})
            case op.SETITEM:
                self._set_items(self._pop(2))
            case op.SETITEMS:
                self._set_items(self._pop_to_mark())
            case op.MEMOIZE:
                self._memo[len(self._memo)] = self._top()
            case op.LONG1:  # lengths of axes, where Python 2 ran on Windows
                self._stack.append(self._number(min(self._number(1), 8), signed=True))
            case op.GLOBAL:
                self._stack.append(self._global(self._line(), self._line()))
            case op.STACK_GLOBAL:
                module, name = self._pop(2)
                self._stack.append(self._global(_word(module), _word(name)))
            case op.REDUCE:
                function, arguments = self._pop(2)
                self._stack.append(self._call(function, arguments))
            case op.BUILD:
                (state,) = self._pop(1)
                self._build(self._top(), state)
            case op.FRAME:  # only says how much to buffer
                self._number(8)
            case _:
                known = pickletools.code2op.get(opcode.decode("latin1"))
                found = f"opcode {known.name}" if known else f"byte {opcode.hex()}, no opcode"
                raise self._refuse("only the opcodes of a dictionary of arrays", found)

    # --- what globals stand for ---------------------------------------------------------------

    def _global(self, module: str | None, name: str | None) -> _Global:
        known = _GLOBALS.get((module or "", name or ""))
        if known is None:
            found = ascii(f"{module}.{name}")[1:-1] if module and name else "an unreadable one"
            raise self._refuse("no global but those of numpy arrays", found)
        return known

    def _call(self, function: object, arguments: object) -> object:
        if isinstance(arguments, tuple):
            match function, *arguments:
                case _Global.RECONSTRUCT, _Global.NDARRAY, shape, kind if (
                    shape == (0,) and _word(kind) == "b"
                ):
                    return _Array()
                case _Global.DTYPE, name, 0, 1:  # the numbers are: aligned, copied
                    return self._dtype(_word(name))
                case _Global.ENCODE, _Text() as text, codec if _word(codec) == "latin1":
                    return self._encode(text)
                case _Global.FROMBUFFER, raw, _Dtype() as dtype, shape, order, *axes:
                    return _Array(self._array(raw, dtype, shape, _word(order), *axes[:1]))
        raise self._refuse("a call that makes an array", f"another call ({_kind(function)})")

    def _build(self, target: object, state: object) -> None:
        if isinstance(state, tuple):
            match target, *state:
                case _Dtype(byte_order=""), 3, order, None, None, None, -1, -1, 0 if (
                    _word(order) in ("<", ">")
                ):
                    target.byte_order = _word(order) or ""
                    return
                case _Array(values=None), 1, shape, _Dtype() as dtype, bool() as fortran, raw:
                    target.values = self._array(raw, dtype, shape, "F" if fortran else "C")
                    return
        raise self._refuse("the state of an array or of its dtype", f"another ({_kind(target)})")

    def _dtype(self, name: str | None) -> _Dtype:
        if name not in ("f8", "f4"):
            kind = "Python objects" if name and name.startswith(("O", "|O")) else f"dtype {name!r}"
            raise self._refuse("float64 or float32 numbers (dtype 'f8' or 'f4')", kind)
        return _Dtype(name)

    def _encode(self, text: _Text) -> memoryview:
        """Bytes that Python 3 wrote as latin-1 text because protocol 2 has no bytes."""
        self._bytes_encoded += len(text.utf8)
        if self._bytes_encoded > len(self._raw):
            raise self._refuse("each text once", "one text encoded again and again")
        try:
            return memoryview(str(text.utf8, "utf-8").encode("latin1"))
        except UnicodeError:
            raise self._refuse("bytes written as latin-1 text", "other characters") from None

    def _array(
        self, raw: object, dtype: _Dtype, shape: object, order: str | None, axes: object = None
    ) -> FloatArray:
        if not isinstance(raw, memoryview) or dtype.byte_order == "":
            raise self._refuse("an array's bytes and a complete dtype", _kind(raw))
        if not _is_shape(shape):
            raise self._refuse("an array's shape: 1 to 4 positive whole numbers", "another")
        needed = math.prod(shape) * int(dtype.name[1])
        if len(raw) != needed:
            raise self._refuse(f"{needed:,} bytes for shape {shape}", f"{len(raw):,} bytes")
        flat: FloatArray = np.frombuffer(raw, dtype=dtype.byte_order + dtype.name)
        match order, axes:
            case ("C" | "F") as layout, None:
                return flat.reshape(shape, order=layout)
            case "K", tuple() if sorted(map(str, axes)) == sorted(map(str, range(len(shape)))):
                return flat.reshape(shape).transpose(axes)
        raise self._refuse("a memory layout: C, F, or K with the order of the axes", "another")

    def _set_items(self, items: list[object]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(items) % 2:
            raise self._refuse("pairs of keys and values for a dictionary", _kind(target))
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = _word(key)
            if name is None or name in target:
                raise self._refuse("short, distinct strings as keys", f"{_kind(key)} {name!r}")
            target[name] = value

    def _result(self) -> dict[str, FloatArray]:
        left = len(self._raw) - self._at
        if left:
            raise self._refuse("the end of the file after STOP", f"{left:,} more bytes")
        if len(self._stack) != 1 or self._marks or not isinstance(self._stack[0], dict):
            raise self._refuse("one dictionary", ", ".join(map(_kind, self._stack[:4])) or "none")
        arrays: dict[str, FloatArray] = {}
        for name, value in self._stack[0].items():
            if not isinstance(value, _Array) or value.values is None:
                raise self._refuse(f"an array as {name!r}", _kind(value))
            arrays[name] = value.values
        return arrays

    # --- bytes, stack, memo -------------------------------------------------------------------

    def _take(self, size: int) -> memoryview:
        left = len(self._raw) - self._at
        if size > left:
            raise self._refuse(f"{size:,} more bytes", f"{left:,}: the file is truncated")
        self._at += size
        return self._raw[self._at - size : self._at]

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _line(self) -> str:
        ahead = bytes(self._raw[self._at : self._at + 2 * _MAX_WORD])
        return str(self._take(ahead.find(b"\n") + 1), "latin1")[:-1]

    def _pop(self, count: int) -> list[object]:
        return self._cut(len(self._stack) - count)

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise self._refuse("a mark on the stack", "none")
        return self._cut(self._marks.pop())

    def _cut(self, start: int) -> list[object]:
        if start < (self._marks[-1] if self._marks else 0):
            raise self._refuse("a value on the stack", "none")
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _top(self) -> object:
        (top,) = self._pop(1)
        self._stack.append(top)
        return top

    def _recall(self, index: int) -> object:
        if index not in self._memo:
            raise self._refuse(f"something remembered as {index}", "nothing")
        return self._memo[index]

    def _refuse(self, expected: str, found: str) -> RecordingError:
        where = f"pickle, byte {self._opcode_at:,}"
        return RecordingError(self._path, where, expected=expected, found=found)
