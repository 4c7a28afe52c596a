"""Tables of text, whatever a spreadsheet made of them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from physiosync.errors import RecordingError

_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MOST_ROWS = 1_000_000


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a table with a header: UTF-8 or UTF-16 text with commas, semicolons or tabs.

    With semicolons or tabs a decimal comma becomes a point.

    Returns
    -------
    header : names of the columns in lower case
    rows : line number, and column -> cell without the space around it; empty lines are skipped

    Raises
    ------
    RecordingError
        If there is no such file, it is no text or no table, a column has no name or another's, a
        row has more or fewer cells than the header, or there are no rows.
    """
    text = _text(path)
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        for line in reader:
            cells = [cell.strip() for cell in line]
            if not any(cells):
                continue
            if not header:
                header = [name.lower() for name in cells]
                if "" in header or len(set(header)) < len(header):
                    found = ", ".join(name or "(no name)" for name in header)
                    expected = "a name of its own for every column"
                    raise RecordingError(path, "header", expected=expected, found=found)
                continue
            if len(cells) != len(header):
                raise RecordingError(
                    path,
                    f"line {reader.line_num}",
                    expected=f"{len(header)} cells as in the header",
                    found=f"{len(cells)}",
                )
            if delimiter != ",":
                cells = [c.replace(",", ".") if _COMMA.fullmatch(c) else c for c in cells]
            rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise RecordingError(
            path, f"line {reader.line_num}", expected="a table of text", found=str(error)
        ) from error
    if not rows or len(rows) > _MOST_ROWS:
        raise RecordingError(
            path,
            "",
            expected=f"a header and 1 to {_MOST_ROWS:,} rows",
            found=f"{len(rows)} rows under the header {', '.join(header)}" if header else "nothing",
        )
    return header, rows


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        found = "a folder" if path.is_dir() else str(error) if path.exists() else "nothing"
        raise RecordingError(path, "", expected="a table of text", found=found) from error
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise RecordingError(
            path,
            f"byte {error.start}",
            expected="UTF-8 text, or UTF-16 that begins with a byte order mark",
            found=repr(raw[error.start : error.start + 8]),
        ) from error
    bad = _CONTROL.search(text)
    if bad:
        raise RecordingError(
            path,
            f"character {bad.start()}",
            expected="text without control characters",
            found=repr(bad[0]),
        )
    return text
