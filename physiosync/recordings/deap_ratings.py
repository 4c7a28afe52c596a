"""DEAP's `participant_ratings.csv`: which video each trial showed, and how it was rated.

One row a trial: `Participant_id`, `Trial` (the order of presentation), `Experiment_id` (the video),
`Start_time`, `Valence`, `Arousal`, `Dominance`, `Liking` from 1 to 9, and `Familiarity` from 1 to
5, which participants 2, 15 and 23 did not give.

What spreadsheets make of such a file is read as well: a byte order mark, UTF-16, and semicolons,
then with a comma or a point in numbers.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from physiosync.errors import RecordingError
from physiosync.recordings.base import require_file
from physiosync.recordings.numbered import instead_of_data

FILE_NAME = "participant_ratings.csv"
#: Rating -> highest value of its scale, which begins at 1.
SCALES = {"valence": 9, "arousal": 9, "dominance": 9, "liking": 9, "familiarity": 5}

_INTEGER = re.compile(r"[0-9]{1,4}")
_NUMBER = re.compile(r"[0-9]{1,2}([.,][0-9]+)?")
_NONE = ("", "nan", "na", "n/a")
_KEYS = ("participant_id", "trial", "experiment_id")
#: The whole cohort's is some 80 KB.
_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Rated:
    """One trial of one participant.

    Parameters
    ----------
    trial : position in the session, from 1
    video : number of the video, from 1
    ratings : those that were given
    """

    trial: int
    video: int
    ratings: Mapping[str, float]


def find_ratings(folder: Path) -> Path:
    """The table of ratings in a folder, or in the folder `metadata_csv` in or beside it.

    Raises
    ------
    RecordingError
        If it is in none of them.
    """
    places = [folder, folder / "metadata_csv", folder.resolve().parent / "metadata_csv"]
    for place in places:
        if (path := place / FILE_NAME).is_file():
            return path
    raise RecordingError(
        folder,
        "",
        expected=f"{FILE_NAME} in it, or in the folder metadata_csv in or beside it",
        found="none (--ratings names another place)",
    )


def read_ratings(path: Path, participant: int, *, n_trials: int = 40) -> list[Rated]:
    """The trials of one participant, in the order of presentation.

    Empty cells, and "NaN" or "NA", are ratings that were not given. All rows of the file have to be
    sound in the columns that say whose they are; the others only for this participant.

    Parameters
    ----------
    n_trials : that were shown, and the number of videos; only tests need another

    Raises
    ------
    RecordingError
        For a missing file, bytes that are no text, missing or repeated columns, rows of another
        length, cells that are no numbers or off their scale, a trial or a video that comes twice,
        and a participant who is not in it.
    """
    rows = list(_rows(path))
    mine: list[Rated] = []
    others: set[int] = set()
    for line, row in rows:
        who = _whole(path, line, "Participant_id", row["participant_id"])
        if who != participant:
            others.add(who)
            continue
        given = {
            name: value
            for name, highest in SCALES.items()
            if (value := _rating(path, line, name, row.get(name, ""), highest)) is not None
        }
        mine.append(
            Rated(
                trial=_whole(path, line, "Trial", row["trial"], n_trials),
                video=_whole(path, line, "Experiment_id", row["experiment_id"], n_trials),
                ratings=given,
            )
        )
    if not mine:
        found = f"{len(rows)} rows of {len(others)} other participants"
        raise RecordingError(
            path, "Participant_id", expected=f"rows of participant {participant}", found=found
        )
    for column, numbers in (("Trial", [r.trial for r in mine]), ("Experiment_id", _videos(mine))):
        twice = sorted({n for n in numbers if numbers.count(n) > 1})
        if twice:
            raise RecordingError(
                path,
                f"participant {participant}, {column}",
                expected="every number once",
                found=f"{twice[0]} in {numbers.count(twice[0])} rows",
            )
    return sorted(mine, key=lambda rated: rated.trial)


def _videos(rated: list[Rated]) -> list[int]:
    return [one.video for one in rated]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column, in lower case."""
    text = _text(path)
    first = text.split("\n", 1)[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    # Strict, so that a quote that nobody closes is an error instead of one endless cell.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        needed = [*_KEYS, *(name for name in SCALES if name != "familiarity")]
        if any(names.count(name) != 1 for name in needed) or names.count("familiarity") > 1:
            raise RecordingError(
                path,
                "columns",
                expected=", ".join(name.capitalize() for name in needed) + ", each once",
                found=ascii(first.strip()[:200]),
            )
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            line = reader.line_num
            if len(cells) != len(names):
                expected, found = f"{len(names)} cells", f"{len(cells)}"
                raise RecordingError(path, f"line {line}", expected=expected, found=found)
            yield line, dict(zip(names, (cell.strip() for cell in cells), strict=True))
    except csv.Error as error:
        where = f"line {reader.line_num}"
        raise RecordingError(
            path, where, expected="comma-separated cells", found=str(error)
        ) from error


def _text(path: Path) -> str:
    require_file(path, "a table of ratings")
    if path.stat().st_size > _MOST_BYTES:
        found = f"{path.stat().st_size:,} bytes"
        raise RecordingError(path, "", expected=f"less than {_MOST_BYTES:,} bytes", found=found)
    raw = path.read_bytes()
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"{error.reason} at byte {error.start}"
        raise RecordingError(path, "", expected="text in UTF-8 or UTF-16", found=found) from error
    if "\0" in text:
        expected, found = "text", "null characters, as in UTF-16 without its byte order mark"
        raise RecordingError(path, "", expected=expected, found=found)
    if text.startswith("version https://git-lfs"):
        found = instead_of_data(path).removeprefix(", ")
        raise RecordingError(path, "", expected="a table of ratings", found=found)
    return text


def _whole(path: Path, line: int, column: str, cell: str, highest: int | None = None) -> int:
    value = int(cell) if _INTEGER.fullmatch(cell) else 0
    if value < 1 or (highest is not None and value > highest):
        where, upto = f"line {line}, {column}", f" to {highest}" if highest else ""
        expected = f"a whole number from 1{upto}"
        raise RecordingError(path, where, expected=expected, found=ascii(cell))
    return value


def _rating(path: Path, line: int, name: str, cell: str, highest: int) -> float | None:
    if cell.lower() in _NONE:
        return None
    value = float(cell.replace(",", ".")) if _NUMBER.fullmatch(cell) else 0.0
    if not 1 <= value <= highest:
        where = f"line {line}, {name.capitalize()}"
        expected = f"a rating from 1 to {highest}"
        raise RecordingError(path, where, expected=expected, found=ascii(cell))
    return value
