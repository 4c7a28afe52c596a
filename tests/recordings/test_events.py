"""Tables of events: whatever a spreadsheet makes of them is understood, or refused by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from physiosync.errors import RecordingError
from physiosync.recordings.events import read_events

HEADER = "file,subject,onset,duration,stimulus,valence"
SOUND = f"{HEADER}\na.edf,s1,0,2.5,clip-1,3\na.edf,s1,5,2,clip-2,\n"


@pytest.mark.parametrize(
    "content",
    [
        SOUND.encode(),
        SOUND.encode("utf-8-sig"),
        SOUND.encode("utf-16"),
        SOUND.replace("\n", "\r\n").encode(),
        SOUND.replace(",", ";").replace("2.5", "2,5").encode(),
        SOUND.replace(",", "\t").encode("utf-16"),
        SOUND.replace("file", " File ").replace(",clip", ', "clip').replace("-1", '-1"').replace(
            "-2", '-2"'
        ).replace(', "', ',"').encode(),
        f"\n{SOUND}\n,,,,,\n".encode(),
        SOUND.replace("clip-2,", "clip-2,NaN").encode(),
        SOUND.replace("clip-2,", "clip-2,n/a").encode(),
    ],
)  # fmt: skip
def test_what_spreadsheets_write_is_understood(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(content)
    one, two = read_events(path).rows
    assert (one.file, one.subject, one.stimulus) == ("a.edf", "s1", "clip-1")
    assert (one.onset, one.duration, one.order, one.ratings) == (0, 2.5, 1, {"valence": 3})
    assert (two.onset, two.order, two.ratings) == (5, 2, {})


def changed(old: str, new: str) -> bytes:
    assert old in SOUND
    return SOUND.replace(old, new, 1).encode()


REFUSED = {
    "nothing": (b"", "expected a header and 1 to 1,000,000 rows, found nothing"),
    "a header only": (HEADER.encode(), "found 0 rows under the header file"),
    "a column lacking": (changed(",onset", ",when"), "header: .*lacking onset"),
    "a column twice": (changed("valence", "onset"), "header: expected a name of its own"),
    "a nameless column": (changed("valence", ""), "header: expected a name of its own"),
    "a cell too many": (changed("clip-1,3", "clip-1,3,4"), "line 2: expected 6 cells .* found 7"),
    "a cell lacking": (changed("clip-1,3", "clip-1"), "line 2: expected 6 cells .* found 5"),
    "a negative onset": (changed("s1,0", "s1,-0.5"), "line 2, column onset: .* found '-0.5'"),
    "no onset": (changed("s1,0", "s1,"), "line 2, column onset: expected seconds, from 0"),
    "milliseconds": (changed("s1,5", "s1,5000000"), "line 3, column onset: .* to 1e\\+06"),
    "no length": (changed("2.5", "0"), "line 2, column duration: expected seconds, above 0"),
    "an infinite length": (changed("2.5", "inf"), "line 2, column duration: .* found 'inf'"),
    "text among ratings": (changed("clip-2,", "clip-2,good"), "line 3, column valence: .*'good'"),
    "a decimal comma": (changed("1,3", '1,"3,5"'), "line 2, column valence: .*found '3,5'"),
    "an infinite rating": (changed("1,3", "1,1e999"), "line 2, column valence: .*'1e999'"),
    "a stimulus twice": (
        changed("clip-2", "clip-1"),
        "subject s1, stimulus clip-1: expected one trial .*a.edf at 0 s and a.edf at 5 s",
    ),
    "no stimulus": (changed("clip-2", ""), "line 3, column stimulus: expected a name"),
    "a subject that is no file": (
        changed("s1", "../s1"),
        "line 2, column subject: expected a name",
    ),
    "two spellings": (changed("s1", "S1"), "column subject: expected one spelling .*S1 and s1"),
    "UTF-16 without a mark": (SOUND.encode("utf-16-le"), "without control characters"),
    "Latin-1": (changed("clip-1", "caf\u00e9").decode().encode("latin-1"), "byte .* UTF-8 text"),
    "an open quotation": (changed("clip-1", '"clip-1'), "line .*expected a table of text"),
    "half a baseline": (changed("valence", "baseline_onset"), "baseline_duration together"),
    "one order twice": (
        SOUND.replace("valence", "order").replace("clip-2,", "clip-2,3").encode(),
        "column order, subject s1: expected another position .*found 3 for clip-1 and clip-2",
    ),
    "no order": (SOUND.replace("valence", "order").encode(), "line 3, column order: .* from 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_of_events_is_refused(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    path = tmp_path / "events.csv"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=rf"events\.csv: .*{message}|events\.csv: {message}"):
        read_events(path)


def test_a_missing_table_and_missing_ratings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"events\.csv: expected a table .*found nothing"):
        read_events(tmp_path / "events.csv")
    (tmp_path / "events.csv").write_text(SOUND)
    with pytest.raises(RecordingError, match="lacking arousal"):
        read_events(tmp_path / "events.csv", ratings=("arousal",))


def test_files_are_in_numeric_order_and_subjects_too(tmp_path: Path) -> None:
    rows = ["run-10.edf,s10,0,1,c,", "run-2.edf,s10,9,1,b,", "run-2.edf,s10,3,1,a,", "x,s2,0,1,a,"]
    (tmp_path / "events.csv").write_text("\n".join([HEADER, *rows]))
    events = read_events(tmp_path / "events.csv")
    assert events.subjects == ("s2", "s10")
    assert [(e.stimulus, e.order) for e in events.of("s10")] == [("a", 1), ("b", 2), ("c", 3)]
