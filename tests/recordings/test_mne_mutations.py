"""Two thousand damaged EDF files and as many tables: each is read exactly, or refused by name.

A child process reads them under a memory limit and a clock. What is read of an EDF file is held
against a parser of this test's own, which knows the specification and nothing of MNE; what is read
of a table against the cells of the one that was damaged.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from physiosync.errors import RecordingError
from physiosync.recordings.events import Event, read_events
from physiosync.recordings.mne_raw import MneOptions, find_mne, read_mne
from tests.recordings.edf_builder import Signal, noise, write_edf, write_events
from tests.recordings.mutants import assert_all_well, posix_only, print_result, result_of_child

N_MUTANTS = 2000
SEED = 19920101
MEMORY = 3 * 2**30  # bytes
SECONDS = 4
FACTORS = {"uV": 1.0, "mV": 1e3, "V": 1e6, "nV": 1e-3}


# --- EDF ------------------------------------------------------------------------------------------


def originals(folder: Path) -> list[bytes]:
    """EDF, EDF+C with annotations, and EDF with a slow signal."""
    eeg = [noise(f"EEG {name}", SECONDS, sfreq=32) for name in ("Fp1", "T3", "Oz")]
    rng = np.random.default_rng(SEED)
    ecg = Signal("ECG ECG", rng.normal(0, 0.4, SECONDS * 32), "mV", -5.0, 5.0, 32)
    slow = Signal("GSR", rng.uniform(1, 9, SECONDS * 4), "uS", 0.0, 10.0, 4)
    path = folder / "sound.edf"
    return [
        write_edf(path, [*eeg, ecg]).read_bytes(),
        write_edf(path, [*eeg, ecg], plus="EDF+C", annotations=True).read_bytes(),
        write_edf(path, [*eeg, ecg, slow], seconds=2).read_bytes(),
    ]


def n_header(content: bytes) -> int:
    return int(content[184:192])


def header_flipped(rng: Generator, content: bytes) -> bytes:
    mutant = bytearray(content)
    mutant[rng.integers(n_header(content))] ^= 1 << rng.integers(8)
    return bytes(mutant)


def header_scrambled(rng: Generator, content: bytes) -> bytes:
    mutant = bytearray(content)
    for at in rng.integers(n_header(content), size=rng.integers(1, 6)):
        mutant[at] = rng.integers(256)
    return bytes(mutant)


def fields(content: bytes) -> list[tuple[int, int]]:
    """Start and width of every numeric field."""
    n = int(content[252:256])
    found = [(184, 8), (192, 44), (236, 8), (244, 8), (252, 4)]
    at = 256
    for width, is_number in (
        (16, False),
        (80, False),
        (8, True),
        (8, True),
        (8, True),
        (8, True),
        (8, True),
        (80, False),
        (8, True),
        (32, False),
    ):
        if is_number:
            found += [(at + k * width, width) for k in range(n)]
        at += n * width
    return found


def field_replaced(rng: Generator, content: bytes) -> bytes:
    """A number, or a unit, that looks like one but is another, or none."""
    values = [
        "0",
        "1",
        "-1",
        "2",
        "16",
        "32",
        "64",
        "1_0",
        "nan",
        "inf",
        "1e309",
        "",
        "0x10",
        "1.0",
    ]
    values += ["\u0663", "99999999", "-99999", "32,5", "1e3", "mV", "V", "nV", "uv", "EDF+D", "4 4"]
    at, width = fields(content)[rng.integers(len(fields(content)))]
    value = values[rng.integers(len(values))].encode("utf-8")[:width].ljust(width)
    return content[:at] + value + content[at + width :]


def digit_changed(rng: Generator, content: bytes) -> bytes:
    starts = fields(content)
    while True:
        at, width = starts[rng.integers(len(starts))]
        digits = [k for k in range(at, at + width) if content[k : k + 1].isdigit()]
        if digits:
            k = digits[rng.integers(len(digits))]
            return content[:k] + str(rng.integers(10)).encode() + content[k + 1 :]


def label_changed(rng: Generator, content: bytes) -> bytes:
    labels = ["Cz", "EEG Fp1", "T7", "EDF Annotations", "BDF Annotations", "Status", "GSR", "ECG"]
    labels += ["", "EDF Annotations\0", "EDF annotations", "\tOz", "EEG Pz-REF", "\xb5", "resp"]
    at = 256 + 16 * rng.integers(int(content[252:256]))
    return (
        content[:at]
        + labels[rng.integers(len(labels))].encode("latin-1").ljust(16)[:16]
        + content[at + 16 :]
    )


def truncated(rng: Generator, content: bytes) -> bytes:
    return content[: rng.integers(len(content))]


def lengthened(rng: Generator, content: bytes) -> bytes:
    return content + bytes(rng.integers(1, 5000))


def chunk_moved(rng: Generator, content: bytes) -> bytes:
    start, end = np.sort(rng.integers(n_header(content), size=2))
    end = min(end, start + 200)
    gone = content[:start] + content[end:]
    to = rng.integers(len(gone))
    return gone[:to] + content[start:end] + gone[to:]


def sample_changed(rng: Generator, content: bytes) -> bytes:
    mutant = bytearray(content)
    mutant[rng.integers(n_header(content), len(content))] ^= 1 << rng.integers(8)
    return bytes(mutant)


EDF_MUTATIONS: tuple[Callable[[Generator, bytes], bytes], ...] = (
    header_flipped,
    header_scrambled,
    field_replaced,
    digit_changed,
    label_changed,
    truncated,
    lengthened,
    chunk_moved,
    sample_changed,
    field_replaced,
)


def parsed(content: bytes) -> dict[str, tuple[str, float, np.ndarray]]:
    """Label -> unit, rate and physical values, as the specification has them."""
    n = int(content[252:256])
    columns: list[list[str]] = []
    at = 256
    for width in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32):
        cells = [content[at + k * width : at + (k + 1) * width] for k in range(n)]
        columns.append([cell.strip().decode("latin-1") for cell in cells])
        at += n * width
    labels, _, units, lows, highs, dlows, dhighs, _, lengths, _ = columns
    n_records, seconds = int(content[236:244]), float(content[244:252].replace(b",", b"."))
    samples = [int(text) for text in lengths]
    numbers = np.frombuffer(content[at:], "<i2").reshape(n_records, sum(samples))
    result, start = {}, 0
    for k, label in enumerate(labels):
        low, high, dlow, dhigh = (
            float(column[k].replace(",", ".")) for column in (lows, highs, dlows, dhighs)
        )
        own = numbers[:, start : start + samples[k]].ravel().astype(float)
        start += samples[k]
        if "Annotations" in label and label[:4] in ("EDF ", "BDF "):
            continue
        values = (own - dlow) * (high - low) / (dhigh - dlow) + low
        result[label] = (units[k], samples[k] / seconds, values)
    return result


def edf_outcome(content: bytes, folder: Path) -> str:
    """ "refused", "exact", or what went wrong."""
    path = folder / "a.edf"
    path.write_bytes(content)
    try:
        (source,) = find_mne(folder, events=folder / "events.csv", options=MneOptions())
        recording = read_mne(source)
    except RecordingError as error:
        return "refused" if str(folder) in str(error) else "an error without the file's name"
    truth = parsed(content)
    for modality, channels in recording.modalities.items():
        x = recording.trials[0].signals[modality]
        mine = [c for c in source_channels(folder) if c.modality == modality]
        if [c.name for c in mine] != list(channels.ch_names):
            return f"channels of {modality}"
        for channel, row in zip(mine, x, strict=True):
            unit, sfreq, values = truth[channel.raw_name]
            if abs(sfreq - channels.sfreq) > 1e-9 * sfreq:
                return f"rate {channels.sfreq} for {sfreq}"
            voltage = modality in ("eeg", "ecg", "eog", "emg")
            unit = unit.replace("\xb5", "u").strip()
            if voltage and unit not in FACTORS:
                return f"read {modality} in {unit!r}"
            right = values * (FACTORS[unit] if voltage else 1.0)
            right = right[: len(row)]
            if len(right) < len(row) or len(row) / sfreq < 0.5 * min(SECONDS, len(values) / sfreq):
                return f"{len(row)} samples of {len(values)}"
            if not np.allclose(row, right, rtol=1e-5, atol=1e-6 * np.abs(right).max()):
                return f"samples of {channel.raw_name!r}"
    named_in = {c.raw_name for c in source_channels(folder)}
    silent = set(truth) - named_in - {"Status"}
    if silent:
        return f"{silent} left out, but not told"
    return "exact"


def source_channels(folder: Path) -> list[Any]:
    from physiosync.recordings.raw_file import ReadingOptions, open_raw

    opened = open_raw(folder / "a.edf", ReadingOptions())
    return [channel for channels in opened.channels.values() for channel in channels]


# --- tables ---------------------------------------------------------------------------------------

HEADER = ["file", "subject", "onset", "duration", "stimulus", "valence", "mood"]
ROWS = [
    ["a.edf", "s1", "0", "2.5", "clip-1", "3", "calm"],
    ["a.edf", "s1", "10.25", "2", "clip-2", "", "glad"],
    ["b.edf", "s2", "1e1", "2", "clip-1", "7.5", "calm"],
    ["b.edf", "s2", "20", "", "clip-2", "n/a", ""],
]
_CELLS = ["", "-1", "0", "nan", "inf", "1e999", "5,5", "abc", "1_0", "x" * 300, "\u0663"]
_CELLS += [
    "1e-3",
    "None",
    "=",
    "../a.edf",
    "\u00e9",
    "clip-1",
    "s1",
    "S1",
    "0x10",
    " 7 ",
    "--",
    "1e6",
    "1e7",
    "None",
    "=",
]


def cells_of(rng: Generator) -> list[list[str]]:
    return [list(HEADER), *(list(row) for row in ROWS)]


def written(rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    return stream.getvalue().encode(encoding)


def a_cell(rng: Generator, rows: list[list[str]]) -> list[list[str]]:
    row, column = rng.integers(1, len(rows)), rng.integers(len(rows[0]))
    rows[row][column] = _CELLS[rng.integers(len(_CELLS))]
    return rows


def a_header(rng: Generator, rows: list[list[str]]) -> list[list[str]]:
    names = [*HEADER, "", "order", "baseline_onset", "Onset", "note"]
    rows[0][rng.integers(len(rows[0]))] = names[rng.integers(len(names))]
    return rows


def a_column(rng: Generator, rows: list[list[str]]) -> list[list[str]]:
    column = rng.integers(len(rows[0]))
    for row in rows:
        row.pop(column)
    return rows


def a_row(rng: Generator, rows: list[list[str]]) -> list[list[str]]:
    row = rng.integers(1, len(rows))
    change = rng.integers(4)
    if change == 0:
        rows.append(list(rows[row]))
    elif change == 1:
        rows[row].pop()
    elif change == 2:
        rows[row].append("1")
    else:
        rows.pop(row)
    return rows


def nothing(rng: Generator, rows: list[list[str]]) -> list[list[str]]:
    return rows


TABLE_MUTATIONS = (a_cell, a_header, a_column, a_row, nothing)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1")


def truth_of(rows: list[list[str]]) -> list[tuple[Any, ...]]:
    """What a sound table means, from its cells: one tuple a trial, by subject and order."""
    header = [name.strip().lower() for name in rows[0]]
    table = [
        dict(zip(header, (c.strip() for c in row), strict=True)) for row in rows[1:] if any(row)
    ]
    missing = ("", "n/a", "na", "nan")
    extras = [n for n in header if n not in HEADER[:5] and n not in ("order",)]
    codes = {}
    for name in extras:
        given = sorted({row[name] for row in table if row[name].lower() not in missing})
        if given and given[0][0].isalpha():
            codes[name] = {text: k for k, text in enumerate(given)}
    result = []
    for row in table:
        ratings = {
            name: float(codes[name][row[name]] if name in codes else row[name])
            for name in extras
            if row[name].lower() not in missing
        }
        duration = None if row["duration"].lower() in missing else float(row["duration"])
        result.append(
            (row["subject"], row["file"], row["stimulus"], float(row["onset"]), duration, ratings)
        )
    return result


def as_told(event: Event) -> tuple[Any, ...]:
    return (
        event.subject,
        event.file,
        event.stimulus,
        event.onset,
        event.duration,
        dict(event.ratings),
    )


def table_outcome(content: bytes, rows: list[list[str]] | None, path: Path) -> str:
    path.write_bytes(content)
    try:
        events = read_events(path)
    except RecordingError as error:
        return "refused" if str(path) in str(error) else "an error without the file's name"
    if rows is None:  # Bytes were changed, so the cells are those that Python's reader finds.
        text = content.decode("utf-16" if content[:1] in (b"\xff", b"\xfe") else "utf-8-sig")
        delimiter = max(",;\t", key=text.lstrip("\r\n").split("\n", 1)[0].count)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
        if delimiter != ",":
            rows = [[c.replace(",", ".") if decimal(c) else c for c in row] for row in rows]
    right = truth_of(rows)
    found = [as_told(event) for event in events.rows]
    if sorted(map(repr, found)) != sorted(map(repr, right)):
        return f"read {found} of {right}"
    for subject in events.subjects:
        mine = events.of(subject)
        if [event.order for event in mine] != sorted({event.order for event in mine}):
            return "orders"
        if len({event.stimulus for event in mine}) < len(mine):
            return "a stimulus twice"
    bad = [e for e in events.rows if e.onset < 0 or not (e.duration is None or e.duration > 0)]
    return f"{bad}" if bad else "exact"


def decimal(cell: str) -> bool:
    whole, _, part = cell.strip().lstrip("+-").partition(",")
    return whole.isdecimal() and part.isdecimal() and cell.isascii()


def table_mutant(rng: Generator, index: int) -> tuple[str, bytes, list[list[str]] | None]:
    mutation = TABLE_MUTATIONS[index % len(TABLE_MUTATIONS)]
    rows = mutation(rng, cells_of(rng))
    delimiter = ",;\t"[rng.integers(3)]
    encoding = ENCODINGS[rng.integers(len(ENCODINGS))]
    try:
        content = written(rows, delimiter, encoding)
    except UnicodeEncodeError:
        content, encoding = written(rows, delimiter), "utf-8"
    if delimiter != ",":
        rows = [[c.replace(",", ".") if decimal(c) else c for c in row] for row in rows]
    if index % 2 == 0:
        return mutation.__name__, content, rows
    raw = bytearray(content)
    change = rng.integers(3)
    if change == 0:
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
    elif change == 1:
        del raw[rng.integers(len(raw)) :]
    else:
        at = rng.integers(len(raw))
        raw[at:at] = bytes(rng.integers(256, size=rng.integers(1, 5), dtype=np.uint8))
    return f"bytes after {mutation.__name__}", bytes(raw), None


# --- the child ------------------------------------------------------------------------------------


def read_mutants(folder: Path) -> dict[str, dict[str, int]]:
    write_events(folder / "events.csv", [f"a.edf,a,0,{SECONDS},film,1,1"])
    sound, rng = originals(folder), np.random.default_rng(SEED)
    edf: Counter[str] = Counter()
    tables: Counter[str] = Counter()
    for index in range(N_MUTANTS):
        mutation = EDF_MUTATIONS[index % len(EDF_MUTATIONS)]
        content = mutation(rng, sound[rng.integers(len(sound))])
        try:
            result = edf_outcome(content, folder)
        except Exception as error:
            result = f"mutant {index}: {type(error).__name__}: {error}"
        edf[f"{mutation.__name__}: {result}"] += 1
        name, content, rows = table_mutant(rng, index)
        try:
            result = table_outcome(content, rows, folder / "table.csv")
        except Exception as error:
            result = f"mutant {index}: {type(error).__name__}: {error}"
        tables[f"{name}: {result}"] += 1
    return {"edf": edf, "tables": tables}


def main() -> None:
    print_result(lambda: read_mutants(Path(sys.argv[1])), MEMORY)


@posix_only
def test_mutants_are_read_exactly_or_refused(tmp_path: Path) -> None:
    result = result_of_child(__file__, str(tmp_path), seconds=240)
    for counts in result.values():
        assert_all_well(counts, N_MUTANTS, ("refused", "exact"))
    # Neither a reader that refuses everything passes, nor one that looks at no header.
    each = N_MUTANTS // len(EDF_MUTATIONS)
    assert result["edf"]["truncated: refused"] == each
    assert result["edf"]["lengthened: refused"] == each
    assert result["edf"]["sample_changed: exact"] > 0.9 * each
    assert result["edf"]["header_flipped: exact"] > each / 4
    assert result["edf"]["field_replaced: refused"] > each
    assert result["tables"]["nothing: exact"] > N_MUTANTS / 20
    assert result["tables"]["a_cell: refused"] > N_MUTANTS / 40


if __name__ == "__main__":
    main()
