"""DEAP's table of ratings: what spreadsheets make of it is read, anything doubtful refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from physiosync.errors import RecordingError
from physiosync.recordings.deap_ratings import FILE_NAME, Rated, find_ratings, read_ratings
from tests.recordings.bdf_writer import rows_of, table

ROWS = [*rows_of(1, 4), *rows_of(2, 4, familiarity=False)]
TEXT = table(ROWS)


def right(participant: int) -> list[Rated]:
    return [
        Rated(
            int(str(row["Trial"])),
            int(str(row["Experiment_id"])),
            {
                name.lower(): float(str(row[name]))
                for name in ("Valence", "Arousal", "Dominance", "Liking", "Familiarity")
                if row[name]
            },
        )
        for row in ROWS
        if row["Participant_id"] == participant
    ]


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / FILE_NAME
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def reversed_lines(text: str) -> str:
    head, *rest = text.splitlines()
    return "\n".join([head, *rest[::-1], "", " , , "])


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        TEXT.replace("\r\n", "\n"),
        TEXT.replace("\r\n", "\r"),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        table(ROWS, ";"),
        table(ROWS, ";").replace(".", ","),
        ("sep" + TEXT)[3:].upper(),
        reversed_lines(TEXT),
        TEXT.replace(",", " , "),
        TEXT.replace("Participant_id", '"Participant_id"'),
        TEXT + "\r\n\r\n",
    ],
    ids=[
        "as it is", "lines of Unix", "lines of old Macs", "byte order mark", "UTF-16",
        "UTF-16 big", "semicolons", "decimal commas", "upper case", "other order", "blanks",
        "quotes", "empty lines",
    ],
)  # fmt: skip
def test_ratings_come_back(tmp_path: Path, content: str | bytes) -> None:
    path = written(tmp_path, content)
    assert read_ratings(path, 1) == right(1)
    assert read_ratings(path, 2) == right(2)
    assert set(read_ratings(path, 2)[0].ratings) == {"valence", "arousal", "dominance", "liking"}


def test_a_table_may_lack_familiarity(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "Familiarity"} for row in ROWS]
    path = written(tmp_path, table(rows))
    assert [r.video for r in read_ratings(path, 1)] == [r.video for r in right(1)]


def in_cell(line: int, column: str, cell: str) -> Callable[[str], str]:
    """Another text in one cell; line 2 is the first of participant 1."""

    def change(text: str) -> str:
        lines = text.split("\r\n")
        cells = lines[line - 1].split(",")
        cells[lines[0].split(",").index(column)] = cell
        lines[line - 1] = ",".join(cells)
        return "\r\n".join(lines)

    return change


def renamed(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_cell(2, "Valence", "9.01"), r"line 2, Valence: expected a rating from 1 to 9"),
        (in_cell(3, "Arousal", "0.99"), r"line 3, Arousal: expected a rating from 1 to 9"),
        (in_cell(3, "Liking", "-3"), r"line 3, Liking: expected a rating from 1 to 9, found '-3'"),
        (in_cell(3, "Liking", "high"), r"line 3, Liking: .*found 'high'"),
        (in_cell(3, "Liking", "1e0"), r"line 3, Liking: .*found '1e0'"),
        (in_cell(3, "Liking", "inf"), r"line 3, Liking: .*found 'inf'"),
        (in_cell(3, "Liking", "٣"), r"line 3, Liking: .*found '\\u0663'"),
        (in_cell(2, "Familiarity", "6"), r"line 2, Familiarity: expected a rating from 1 to 5"),
        (in_cell(2, "Trial", "0"), r"line 2, Trial: expected .* from 1 to 40, found '0'"),
        (in_cell(2, "Trial", "1.5"), r"line 2, Trial: expected a whole number from 1"),
        (in_cell(2, "Trial", ""), r"line 2, Trial: expected .* from 1 to 40, found ''"),
        (in_cell(2, "Trial", "41"), r"line 2, Trial: .* from 1 to 40, found '41'"),
        (in_cell(9, "Participant_id", "s02"), r"line 9, Participant_id: expected a whole number"),
        (in_cell(2, "Trial", "4"), r"participant 1, Trial: expected every .* once, found 4 in 2"),
        (in_cell(3, "Experiment_id", str(ROWS[0]["Experiment_id"])), r"Experiment_id: .* once"),
        (in_cell(2, "Valence", "5,5"), r"line 2: expected 9 cells, found 10"),
        (in_cell(2, "Valence", '"5'), r"line \d+: expected comma-separated cells, found"),
        (renamed("Valence", "Pleasure"), r"columns: expected .*, Valence, .*found 'Part"),
        (renamed("Trial", "Valence"), r"columns: expected .*each once"),
        (renamed("Start_time", "Familiarity"), r"columns: expected"),
        (lambda text: text.replace(",", "\t"), r"columns: expected"),
        (lambda text: text.split("\r\n", 1)[1], r"columns: expected"),
        (lambda _: "", r"columns: expected Participant_id, .* found ''"),
        (lambda text: text.split("\r\n", 1)[0], r"expected rows of participant 1, found 0 rows"),
        (lambda text: text.replace("\n1,", "\n3,"), r"found 8 rows of 2 other participants"),
        (lambda text: text.encode("utf-16-le"), r"found null characters, as in UTF-16 without"),
        (lambda text: text.encode("utf-16")[:-1], r"expected text in UTF-8 or UTF-16, found trunc"),
        (lambda text: text.encode() + b"\xff", r"expected text in UTF-8 or UTF-16, found invalid"),
        (lambda _: "version https://git-lfs.github.com/spec/v1\n", r"found a git-lfs pointer"),
        (lambda text: text + " " * 2**24, r"expected less than 16,777,216 bytes"),
    ],
)  # fmt: skip
def test_other_tables_are_refused(
    tmp_path: Path, change: Callable[[str], str | bytes], message: str
) -> None:
    path = written(tmp_path, change(TEXT))
    with pytest.raises(RecordingError, match=message) as raised:
        read_ratings(path, 1)
    assert str(raised.value).startswith(str(path))


def test_where_the_table_is_looked_for(tmp_path: Path) -> None:
    folder = tmp_path / "data_original"
    beside, below = tmp_path / "metadata_csv", folder / "metadata_csv"
    below.mkdir(parents=True)
    beside.mkdir()
    with pytest.raises(RecordingError, match=r"expected participant_ratings\.csv in it.*--ratings"):
        find_ratings(folder)
    for place in (beside, below, folder):
        written(place, TEXT)
        assert find_ratings(folder) == (place.resolve() if place == beside else place) / FILE_NAME
    for path, found in ((tmp_path / "no.csv", "nothing"), (folder, "a folder")):
        with pytest.raises(RecordingError, match=f"expected a table of ratings, found {found}"):
            read_ratings(path, 1)
