"""MATLAB 5 files: one struct out of them, and clear errors where that can't be.

SciPy's reader runs nothing in a file, but damage can make it crash, and the process with it: 9 of
3,000 bits flipped in an uncompressed file did (SciPy 1.17). So it is only given what has passed its
checksum. Compressed variables have one, and MATLAB compresses since version 7; others are refused,
and so is HDF5 (7.3).
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from physiosync.errors import RecordingError
from physiosync.recordings.base import require_file

_MAGIC = b"MATLAB 5.0 MAT-file"
_HEADER_BYTES = 128
#: Of the format: types of elements, and classes of arrays.
_COMPRESSED, _MATRIX = 15, 14
_CELL, _STRUCT = 1, 2
_CHUNK = 2**20


def load_struct(path: Path, name: str) -> Any:
    """Read the variable `name`, as `scipy.io.loadmat` gives it: nothing squeezed.

    Raises
    ------
    RecordingError
        if the file is missing, truncated, damaged, not compressed, of another format, or has no
        such variable
    """
    _check_start(path)
    _check_sums(path)
    try:
        found = loadmat(path, appendmat=False, variable_names=[name])
    except Exception as error:  # Damage raises a dozen kinds of error, zlib's own among them.
        first = (str(error).splitlines() or [""])[0]
        found_words = f"{path.stat().st_size:,} bytes, truncated or damaged ({first})"
        raise RecordingError(path, "", expected="a MATLAB 5 file", found=found_words) from error
    if name not in found:
        raise RecordingError(path, "", expected=f"a variable {name}", found="none of that name")
    return found[name]


def member(parent: Any, name: str, path: Path, where: str) -> Any:
    """The field `name` of a struct of size 1; `where` names the struct in errors."""
    names = parent.dtype.names if isinstance(parent, np.ndarray) and parent.size == 1 else None
    if names is None:
        raise RecordingError(path, where, expected="a struct", found=what(parent))
    if name not in names:
        raise RecordingError(path, where, expected=f"a field {name}", found=", ".join(names))
    return parent.flat[0][name]


def cells(value: Any, path: Path, where: str) -> list[Any]:
    """The cells of a row or a column of cells."""
    if not isinstance(value, np.ndarray) or value.dtype != object or not is_line(value):
        raise RecordingError(path, where, expected="a row or column of cells", found=what(value))
    return list(value.flat)


def numbers(value: Any, path: Path, where: str) -> NDArray[Any]:
    """An array of real numbers, whole or not, in whatever dtype the file keeps them."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise RecordingError(path, where, expected="real numbers", found=what(value))
    return value


def is_line(value: NDArray[Any]) -> bool:
    """Whether an array is a row or a column."""
    return value.ndim > 0 and value.size == max(value.shape)


def what(value: Any) -> str:
    """Shape and kind of something that was not expected, for an error."""
    if not isinstance(value, np.ndarray):
        return f"a {type(value).__name__}"
    kinds = {"O": "cells", "U": "text", "c": "complex numbers", "V": "a struct"}
    return f"{kinds.get(value.dtype.kind, 'numbers')} of shape {value.shape}"


def n_cells(path: Path, name: str, field: str) -> int | None:
    """How many cells the first field of the struct `name` has, from the first bytes of a file.

    A compressed struct has no table of contents, so reading the smallest part of it in the regular
    way takes as long as reading it all.

    Returns
    -------
    None where `name` is not the file's first variable, `field` not its first field, or that not a
    cell array; and for damage, which `load_struct` will tell

    Raises
    ------
    RecordingError
        if the file is missing or of another format
    """
    _check_start(path)
    with path.open("rb") as stream:
        order = _byte_order(stream.read(_HEADER_BYTES))
        start = stream.read(2**16)
    try:
        first = zlib.decompressobj().decompress(start[8:], 2**16)
        return _n_cells(first, order, name.encode(), field.encode())
    except (struct.error, zlib.error):
        return None


def _n_cells(x: bytes, order: str, name: bytes, field: bytes) -> int | None:
    array_class, _, at = _array_start(x, 0, order)
    its_name, at = _element(x, at, order)
    width, at = _element(x, at, order)
    fields, at = _element(x, at, order)
    first = fields[: struct.unpack(order + "I", width)[0]].rstrip(b"\0")
    if (array_class, its_name, first) != (_STRUCT, name, field):
        return None
    array_class, shape, _ = _array_start(x, at, order)
    return math.prod(shape) if array_class == _CELL else None


def _array_start(x: bytes, at: int, order: str) -> tuple[int, tuple[int, ...], int]:
    """Class and shape of the array at `at`, and where its name begins."""
    kind, _ = struct.unpack_from(order + "II", x, at)
    if kind != _MATRIX:
        return 0, (), at
    flags, at = _element(x, at + 8, order)
    shape, at = _element(x, at, order)
    array_class = struct.unpack_from(order + "I", flags)[0] & 0xFF
    return array_class, struct.unpack(f"{order}{len(shape) // 4}i", shape), at


def _element(x: bytes, at: int, order: str) -> tuple[bytes, int]:
    """Bytes of the element at `at`, and where the next begins, at a multiple of 8."""
    kind, n_bytes = struct.unpack_from(order + "II", x, at)
    if kind >> 16:  # A small element: length, type and up to four bytes in eight.
        return x[at + 4 : at + 4 + min(kind >> 16, 4)], at + 8
    return x[at + 8 : at + 8 + n_bytes], at + 8 + -(-n_bytes // 8) * 8


def _check_start(path: Path) -> None:
    """Refuse what is not a MATLAB 5 file, or shorter than its variables say they are."""
    require_file(path)
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
        if not start.startswith(_MAGIC) or len(start) < _HEADER_BYTES:
            found = _instead(start, size)
            raise RecordingError(path, "", expected="a MATLAB 5 file", found=found)
        end = _HEADER_BYTES
        while end < size:
            stream.seek(end)
            tag = stream.read(8).ljust(8, b"\0")
            end += 8 + struct.unpack(_byte_order(start) + "II", tag)[1]
    if end > size:
        expected, found = f"at least {end:,} bytes", f"{size:,}: the file is truncated or damaged"
        raise RecordingError(path, "", expected=expected, found=found)


def _check_sums(path: Path) -> None:
    """Decompress all variables to nothing, which compares their checksums."""
    with path.open("rb") as stream:
        order = _byte_order(stream.read(_HEADER_BYTES))
        while tag := stream.read(8):
            kind, left = struct.unpack(order + "II", tag)
            if kind != _COMPRESSED:
                expected = "compressed variables, which have a checksum (`save -v7`)"
                raise RecordingError(
                    path, "", expected=expected, found=f"an element of type {kind}"
                )
            unpacker = zlib.decompressobj()
            try:
                while packed := stream.read(min(left, _CHUNK)):
                    left -= len(packed)
                    while packed:
                        unpacker.decompress(packed, 16 * _CHUNK)
                        packed = unpacker.unconsumed_tail
                if not unpacker.eof:
                    raise zlib.error("incomplete stream")
            except zlib.error as error:
                expected, found = "whole compressed variables", f"a damaged one ({error})"
                raise RecordingError(path, "", expected=expected, found=found) from error


def _byte_order(header: bytes) -> str:
    return "<" if header.endswith(b"IM") else ">"


def _instead(start: bytes, size: int) -> str:
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer to the data (`git lfs pull` fetches it)"
    if start.startswith(b"MATLAB 7.3"):
        return "one of MATLAB 7.3 (HDF5); save it with `save -v7`"
    hint = ", perhaps a pointer to the data" if size < 1024 else ""
    return f"{size:,} bytes that start with {start[:16]!r}{hint}"
