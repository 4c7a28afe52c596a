"""Read a pickled dictionary of numeric arrays without running it; write one as Python 2 did.

A pickle is a program: `pickle.load` calls whatever a downloaded file tells it to call. Here no
unpickler is started. `read_arrays` follows the few opcodes that a dictionary of arrays is made of,
as Python 2 wrote it or as Python 3 saves it again (protocols 2 to 5), and refuses every other one;
`pickled_arrays.py` knows what numpy's globals, calls and states stand for.

Nothing is copied but numbers that Python 3 wrote as text, so no opcode can make the reader take
much more memory than the file does. Every opcode is followed once, and their number is bounded.

The opcodes are described in the standard library's `pickletools`.
"""

from __future__ import annotations

import pickle as op  # for the names of the opcodes; nothing in it is called
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.recordings.pickled_arrays import (
    Array,
    FloatArray,
    Refused,
    Text,
    build,
    call,
    find_global,
    kind_of,
    word,
)

#: Files need about 80 opcodes; written by Python 3, up to 130.
_MAX_OPCODES = 500
_MAX_LINE = 64

#: Opcode -> bytes of its little-endian argument: an integer, or the length of what follows.
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
_CONSTANTS = {op.NONE: None, op.NEWTRUE: True, op.NEWFALSE: False, op.EMPTY_TUPLE: ()}
_TUPLES = {op.TUPLE1: 1, op.TUPLE2: 2, op.TUPLE3: 3}

_WRITTEN_CLASSES = b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
_WRITTEN_DTYPE = (
    b"cnumpy\ndtype\nq\x06U\x02f8K\x00K\x01\x87Rq\x07"
    b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)

_NAMES = {known.code.encode("latin1"): known.name for known in pickletools.opcodes}


def read_arrays(raw: bytes, path: Path) -> dict[str, FloatArray]:
    """Arrays of a pickled dictionary, by key.

    Parameters
    ----------
    raw : the whole file
    path : where it was read; named in errors

    Returns
    -------
    dict
        read-only views of `raw`: float32 or float64, in the file's byte order and memory layout

    Raises
    ------
    RecordingError
        for anything but a dictionary of float32 or float64 arrays: another opcode, a global that is
        not numpy's own (named in full), a truncated file, bytes after its end, an array whose bytes
        do not fit its shape
    """
    reader = _Reader(raw)
    try:
        return reader.read()
    except Refused as error:
        where = f"pickle, byte {reader.opcode_at:,}"
        raise RecordingError(path, where, expected=error.expected, found=error.found) from None


def write_arrays(stream: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write what cPickle of Python 2 and numpy 1 make of a dictionary of arrays, byte for byte.

    cPickle remembers (opcode q) what something else refers to at that moment, from number 1 on:
    the dictionary, its keys, the arrays and what they have in common.

    Parameters
    ----------
    stream : open for writing; the numbers go straight from the arrays into it
    arrays : two or more of two or three dimensions, in Python 2's order of the keys; written as
        little-endian float64 in C order
    """
    stream.write(b"\x80\x02}q\x01(")
    for position, (name, array) in enumerate(arrays.items()):
        first = position == 0
        key_number, number = (2, 5) if first else (6 + 2 * position, 7 + 2 * position)
        numbers = np.ascontiguousarray(array, dtype="<f8")
        shape = b"".join(map(_integer, array.shape)) + (op.TUPLE2, op.TUPLE3)[array.ndim - 2]
        stream.write(_string_start(len(name)) + name.encode("ascii") + b"q%c" % key_number)
        stream.write(_WRITTEN_CLASSES if first else b"h\x03h\x04")
        stream.write(b"K\x00\x85U\x01b\x87Rq%c(K\x01" % number + shape)
        stream.write((_WRITTEN_DTYPE if first else b"h\x07") + op.NEWFALSE)
        stream.write(_string_start(numbers.nbytes))
        stream.write(numbers.data)
        stream.write(b"tb")
    stream.write(b"u.")


def _string_start(size: int) -> bytes:
    if size < 2**8:
        return op.SHORT_BINSTRING + size.to_bytes(1, "little")
    return op.BINSTRING + size.to_bytes(4, "little")


def _integer(value: int) -> bytes:
    opcode, size = next((o, n) for o, n in _INTEGERS.items() if value < 2 ** (8 * n))
    return opcode + value.to_bytes(size, "little")


class _Reader:
    """Follows the opcodes of one file with a stack, marks and a memo, as an unpickler would."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = memoryview(raw), 0
        self.opcode_at = 0
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def read(self) -> dict[str, FloatArray]:
        """Follow all opcodes; the dictionary that is left at the end."""
        start = bytes(self._take(2))
        if start[:1] != op.PROTO or not 2 <= start[1] <= 5:
            raise Refused("a pickle of protocol 2 to 5", f"a file that starts with {start!r}")
        for _ in range(_MAX_OPCODES):
            self.opcode_at = self._at
            opcode = bytes(self._take(1))
            if opcode == op.STOP:
                return self._result()
            self._follow(opcode)
        raise Refused(f"at most {_MAX_OPCODES} opcodes", "more")

    def _follow(self, opcode: bytes) -> None:
        if opcode in _BYTES:
            self._stack.append(self._take(self._number(_BYTES[opcode])))
        elif opcode in _TEXT:
            self._stack.append(Text(self._take(self._number(_TEXT[opcode]))))
        elif opcode in _INTEGERS:
            self._stack.append(self._number(_INTEGERS[opcode], signed=opcode == op.BININT))
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLES:
            self._stack.append(tuple(self._pop(_TUPLES[opcode])))
        else:
            self._follow_other(opcode)

    def _follow_other(self, opcode: bytes) -> None:
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
            case op.BINPUT:
                self._memo[self._number(1)] = self._top()
            case op.BINGET:
                self._stack.append(self._recall(self._number(1)))
            case op.MEMOIZE:
                self._memo[len(self._memo)] = self._top()
            case op.LONG1:  # an axis of an array that Python 2 wrote on Windows
                self._stack.append(self._long())
            case op.GLOBAL:
                self._stack.append(find_global(self._line(), self._line()))
            case op.STACK_GLOBAL:
                self._stack.append(find_global(*self._pop(2)))
            case op.REDUCE:
                self._stack.append(call(*self._pop(2)))
            case op.BUILD:
                (state,) = self._pop(1)
                build(self._top(), state)
            case op.FRAME:  # a hint of how much to buffer; what is inside are opcodes like others
                ahead = self._take(self._number(8))
                self._at -= len(ahead)
            case _:
                found = _NAMES.get(opcode, "none of pickle's")
                raise Refused("an opcode of a dictionary of arrays", f"{found} ({opcode!r})")

    def _set_items(self, items: list[object]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(items) % 2:
            raise Refused("keys and values for a dictionary", f"others, for a {kind_of(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = word(key)
            if name is None or name in target:
                raise Refused("short, distinct strings as keys", f"a {kind_of(key)}, {name!a}")
            target[name] = value

    def _result(self) -> dict[str, FloatArray]:
        if left := len(self._raw) - self._at:
            raise Refused("the end of the file after STOP", f"{left:,} more bytes")
        result = self._top()
        if len(self._stack) > 1 or self._marks or not isinstance(result, dict):
            raise Refused("one dictionary", f"{len(self._stack)} values, last a {kind_of(result)}")
        arrays: dict[str, FloatArray] = {}
        for name, value in result.items():
            if not isinstance(value, Array) or value.values is None:
                raise Refused(f"an array as {name!a}", f"a {kind_of(value)}")
            arrays[name] = value.values
        return arrays

    # Bytes of the file

    def _take(self, size: int) -> memoryview:
        left = len(self._raw) - self._at
        if size > left:
            raise Refused(f"{size:,} more bytes", f"{left:,}: the file is truncated")
        self._at += size
        return self._raw[self._at - size : self._at]

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _long(self) -> int:
        size = self._number(1)
        if size > 8:
            raise Refused("an integer of at most 8 bytes", f"one of {size}")
        return self._number(size, signed=True)

    def _line(self) -> Text:
        size = bytes(self._raw[self._at : self._at + _MAX_LINE]).find(b"\n")
        if size < 0:
            raise Refused(f"a line of less than {_MAX_LINE} characters", "no end of line")
        return Text(self._take(size + 1)[:size])

    # Stack and memo

    def _pop(self, count: int) -> list[object]:
        return self._cut(len(self._stack) - count)

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise Refused("a mark on the stack", "none")
        return self._cut(self._marks.pop())

    def _cut(self, start: int) -> list[object]:
        if start < (self._marks[-1] if self._marks else 0):
            raise Refused("more values on the stack", "none")
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _top(self) -> object:
        (top,) = self._pop(1)
        self._stack.append(top)
        return top

    def _recall(self, index: int) -> object:
        if index not in self._memo:
            raise Refused(f"a value remembered as {index}", "none")
        return self._memo[index]
