"""The table that says what was shown to whom and when: one row a trial, in any file that MNE reads.

Columns, in any order: `file`, `subject`, `stimulus`, `onset` and `duration` in seconds from the
first sample of the file (an empty duration: until the file ends); optional are `order` (position
in the session; without it trials are ordered by file name and onset) and `baseline_onset` with
`baseline_duration`. Every other column is a rating or a class label. A column of numbers is taken
as it is; a column of names gets the codes 0, 1, ... in the sorted order of its names. An empty
cell, "n/a" and "nan" mean that nothing was rated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from physiosync.errors import RecordingError
from physiosync.recordings.tables import read_table
from physiosync.shards import natural_key

REQUIRED = ("file", "subject", "onset", "duration", "stimulus")
_OPTIONAL = ("order", "baseline_onset", "baseline_duration")
_LENGTHS = ("duration", "baseline_duration")
_MISSING = ("", "n/a", "na", "nan")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
#: Seconds; a longer recording is none of one session, so its onsets are in another unit.
_MAX_SECONDS = 1e6

Span = tuple[float, float]


@dataclass(frozen=True)
class Event:
    """One row of the table.

    Parameters
    ----------
    file : as the table names it
    onset, duration : in seconds from the file's first sample; no duration means until its end
    order : position in the subject's session, from 1
    baseline : onset and duration of the rest that belongs to it, where the table says so
    ratings : those that were given; class labels as codes
    """

    file: str
    subject: str
    stimulus: str
    onset: float
    duration: float | None
    order: int
    baseline: Span | None
    ratings: Mapping[str, float]


@dataclass(frozen=True)
class Events:
    """A whole table: its rows by subject and order, and column -> class -> code."""

    path: Path
    rows: tuple[Event, ...]
    codes: Mapping[str, Mapping[str, int]]

    def of(self, subject: str) -> tuple[Event, ...]:
        """The rows of one subject, in order."""
        return tuple(row for row in self.rows if row.subject == subject)

    @property
    def subjects(self) -> tuple[str, ...]:
        """In numeric order of their names."""
        return tuple(sorted({row.subject for row in self.rows}, key=natural_key))


def read_events(path: Path, *, ratings: Sequence[str] = ()) -> Events:
    """Read a table of events: UTF-8 or UTF-16 text with commas, semicolons or tabs.

    Parameters
    ----------
    ratings : columns to take as ratings or class labels; all that have no other meaning if empty.
        With semicolons or tabs a decimal comma is understood

    Raises
    ------
    RecordingError
        For a table that is missing, empty or not text, a column that is missing or comes twice, a
        row of another length, a cell that is not what its column holds (a negative onset, a
        duration that is not positive, text among numbers), and a subject who saw a stimulus twice.
    """
    header, lines = read_table(path)
    _check_header(path, header, ratings)
    numbers = [number for number, _ in lines]
    wanted = [
        name
        for name in header
        if name not in (*REQUIRED, *_OPTIONAL) and (not ratings or name in ratings)
    ]
    values: dict[str, list[float]] = {}
    codes: dict[str, dict[str, int]] = {}
    for name in wanted:
        values[name], found = _rating(path, name, [cells[name] for _, cells in lines], numbers)
        if found:
            codes[name] = found
    rows = []
    for k, (line, cells) in enumerate(lines):
        given = {name: column[k] for name, column in values.items() if math.isfinite(column[k])}
        rows.append(_event(path, line, cells, given))
    return events_of(path, rows, codes, ordered="order" in header)


def events_of(
    path: Path,
    rows: Sequence[Event],
    codes: Mapping[str, Mapping[str, int]],
    *,
    ordered: bool = False,
) -> Events:
    """Put rows in order, and check what no single row can tell.

    Parameters
    ----------
    ordered : whether the rows know their position in the session; otherwise file and onset say it

    Raises
    ------
    RecordingError
        If a subject saw a stimulus twice, has two trials of one position, or two subjects differ
        only in upper and lower case.
    """
    by_subject: dict[str, list[Event]] = {}
    for row in rows:
        by_subject.setdefault(row.subject, []).append(row)
    spelled: dict[str, str] = {}
    for subject in by_subject:
        other = spelled.setdefault(subject.lower(), subject)
        if other != subject:
            raise RecordingError(
                path,
                "column subject",
                expected="one spelling of each subject",
                found=f"{other} and {subject}",
            )
    placed: list[Event] = []
    for subject in sorted(by_subject, key=natural_key):
        mine = by_subject[subject]
        seen: dict[str, Event] = {}
        for row in mine:
            other_row = seen.setdefault(row.stimulus, row)
            if other_row is not row:
                raise RecordingError(
                    path,
                    f"subject {subject}, stimulus {row.stimulus}",
                    expected="one trial of each stimulus (give repetitions names of their own)",
                    found=f"two: {other_row.file} at {other_row.onset:g} s and "
                    f"{row.file} at {row.onset:g} s",
                )
        if ordered:
            placed += _by_order(path, subject, mine)
        else:
            mine = sorted(mine, key=lambda row: (natural_key(row.file), row.onset))
            placed += [replace(row, order=k) for k, row in enumerate(mine, start=1)]
    return Events(path, tuple(placed), codes)


def number(text: str) -> float | None:
    """The number that a cell holds, NaN if it holds nothing, None if it holds something else."""
    text = text.strip()
    if text.lower() in _MISSING:
        return math.nan
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _by_order(path: Path, subject: str, rows: Sequence[Event]) -> list[Event]:
    rows = sorted(rows, key=lambda row: row.order)
    for one, other in pairwise(rows):
        if one.order == other.order:
            raise RecordingError(
                path,
                f"column order, subject {subject}",
                expected="another position for each trial",
                found=f"{one.order} for {one.stimulus} and {other.stimulus}",
            )
    return rows


def _check_header(path: Path, header: Sequence[str], ratings: Sequence[str]) -> None:
    lacking = [name for name in (*REQUIRED, *ratings) if name not in header]
    baseline = [name for name in _OPTIONAL[1:] if name in header]
    if lacking or len(baseline) == 1:
        raise RecordingError(
            path,
            "header",
            expected=f"columns {', '.join(REQUIRED)}"
            + (f", and {' and '.join(_OPTIONAL[1:])} together" if len(baseline) == 1 else "")
            + (f", and {', '.join(ratings)}" if ratings else ""),
            found=", ".join(header) + (f" (lacking {', '.join(lacking)})" if lacking else ""),
        )


def _rating(
    path: Path, name: str, cells: Sequence[str], lines: Sequence[int]
) -> tuple[list[float], dict[str, int]]:
    """Values of a column, NaN where nothing was rated; and class -> code if it holds names."""
    values = [number(cell) for cell in cells]
    given = [cell for cell in cells if cell.lower() not in _MISSING]
    if given and all(cell[0].isalpha() for cell in given):
        codes = {text: code for code, text in enumerate(sorted(set(given)))}
        return [float(codes.get(cell, math.nan)) for cell in cells], codes
    for value, cell, line in zip(values, cells, lines, strict=True):
        if value is None:
            raise RecordingError(
                path,
                f"line {line}, column {name}",
                expected="a number as in its other rows, a class name that begins with a letter "
                "in all rows, or nothing",
                found=repr(cell),
            )
    return [math.nan if value is None else value for value in values], {}


def _event(path: Path, line: int, cells: Mapping[str, str], ratings: Mapping[str, float]) -> Event:
    for name in ("file", "subject", "stimulus"):
        if not cells[name]:
            raise RecordingError(
                path, f"line {line}, column {name}", expected="a name", found="nothing"
            )
    if not re.fullmatch(r"\w[\w .+-]*", cells["subject"]):
        raise RecordingError(
            path,
            f"line {line}, column subject",
            expected="a name for a file: letters, digits and _ . + -",
            found=repr(cells["subject"]),
        )

    def seconds(name: str, *, least: float, optional: bool = False) -> float | None:
        value = number(cells[name])
        if optional and value is not None and math.isnan(value):
            return None
        if value is None or not least <= value <= _MAX_SECONDS or (name in _LENGTHS and value == 0):
            above = "above 0" if name in _LENGTHS else f"from {least:g}"
            raise RecordingError(
                path,
                f"line {line}, column {name}",
                expected=f"seconds, {above} to {_MAX_SECONDS:g}",
                found=repr(cells[name]),
            )
        return value

    onset = seconds("onset", least=0)
    assert onset is not None
    baseline = None
    if "baseline_onset" in cells:
        begin = seconds("baseline_onset", least=0, optional=True)
        length = seconds("baseline_duration", least=0, optional=True)
        if (begin is None) != (length is None):
            raise RecordingError(
                path,
                f"line {line}",
                expected="baseline_onset and baseline_duration, or none of them",
                found=f"{cells['baseline_onset']!r} and {cells['baseline_duration']!r}",
            )
        baseline = None if begin is None or length is None else (begin, length)
    return Event(
        file=cells["file"],
        subject=cells["subject"],
        stimulus=cells["stimulus"],
        onset=onset,
        duration=seconds("duration", least=0, optional=True),
        order=_order(path, line, cells["order"]) if "order" in cells else 0,
        baseline=baseline,
        ratings=dict(ratings),
    )


def _order(path: Path, line: int, cell: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", cell):
        raise RecordingError(
            path,
            f"line {line}, column order",
            expected="a position from 1",
            found=repr(cell),
        )
    return int(cell)
