"""Two thousand damaged BDF files and as many damaged tables: each is read exactly or refused.

They are read in a child process under a memory limit, each under a clock, so that a crash, a hang
or a hunger for memory is seen. What is read of a BDF file is held against a decoder of our own that
believes every field of the header; what is read of a table, against pandas.
"""

from __future__ import annotations

import io
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.filtering import Band
from physiosync.recordings.base import Recording
from physiosync.recordings.deap import EEG_NAMES
from physiosync.recordings.deap_bdf import DeapBdfPreprocessing, read_deap_bdf
from physiosync.recordings.deap_ratings import FILE_NAME, Rated, read_ratings
from tests.recordings.bdf_writer import RATE, made_up, rows_of, table, write_ratings
from tests.recordings.mutants import assert_all_well, posix_only, print_result, result_of_child

N_MUTANTS = 2000
SEED = 20120102
MEMORY = 3 * 2**30  # bytes
SECONDS_EACH = 20
N_CHANS, N_TRIALS, SECONDS = 48, 2, 0.5
HEADER = 256 * (N_CHANS + 1)
CONFIG = DeapBdfPreprocessing(
    band=Band(), reference="recorded", eyes="keep", sfreq=RATE, seconds=SECONDS
)
#: Fields of a channel: where each begins in 256 bytes a channel, and its width.
FIELDS = {
    "label": (0, 16),
    "unit": (96, 8),
    "physical minimum": (104, 8),
    "physical maximum": (112, 8),
    "digital minimum": (120, 8),
    "digital maximum": (128, 8),
    "samples": (216, 8),
}
#: Fields of the file.
FILE_FIELDS = {"header": (184, 8), "records": (236, 8), "seconds": (244, 8), "channels": (252, 4)}
STRANGE = (  # noqa: SIM905
    "nan inf -inf -1 0 1 2 99999999 -9999999 1e300 1e-300 1_0 0x10 512.0 511 1024 +512 .5 5. -0 "
    "uV mV V Status status STATUS Fp1 T3 t7 GSR1 Ohm nS Resp \u00b5V BDF\u00a0Annot"
).split(" ")

Sensors = dict[str, NDArray[np.float64]]


def span_of(name: str, channel: int) -> slice:
    start, width = FIELDS[name]
    at = 256 + N_CHANS * start + channel * width
    return slice(at, at + width)


def replaced(content: bytes, at: slice, new: bytes) -> bytes:
    return (
        content[: at.start]
        + new[: at.stop - at.start].ljust(at.stop - at.start)
        + content[at.stop :]
    )


# --- mutations of a BDF file ----------------------------------------------------------------------


def bit(rng: Generator, content: bytes, low: int, high: int) -> bytes:
    damaged = bytearray(content)
    damaged[rng.integers(low, high)] ^= 1 << rng.integers(8)
    return bytes(damaged)


def sample_flipped(rng: Generator, content: bytes) -> bytes:
    return bit(rng, content, HEADER, len(content))


def status_flipped(rng: Generator, content: bytes) -> bytes:
    """The last channel of a record."""
    record = N_CHANS * RATE * 3
    end = HEADER + record * int(rng.integers(1, (len(content) - HEADER) // record + 1))
    return bit(rng, content, end - RATE * 3, end)


def header_flipped(rng: Generator, content: bytes) -> bytes:
    return bit(rng, content, 0, HEADER)


def header_scrambled(rng: Generator, content: bytes) -> bytes:
    damaged = bytearray(content)
    for at in rng.integers(0, HEADER, size=rng.integers(1, 5)):
        damaged[at] = rng.integers(256)
    return bytes(damaged)


def any_field(rng: Generator) -> slice:
    if rng.integers(3) == 0:
        at, width = FILE_FIELDS[list(FILE_FIELDS)[rng.integers(len(FILE_FIELDS))]]
        return slice(at, at + width)
    return span_of(list(FIELDS)[rng.integers(len(FIELDS))], int(rng.integers(N_CHANS)))


def digit_changed(rng: Generator, content: bytes) -> bytes:
    """One digit of a number is another digit, which no parser can see by itself."""
    while True:
        field = any_field(rng)
        digits = [k for k in range(field.start, field.stop) if chr(content[k]).isdigit()]
        if digits:
            damaged = bytearray(content)
            damaged[digits[rng.integers(len(digits))]] = 48 + int(rng.integers(10))
            return bytes(damaged)


def field_replaced(rng: Generator, content: bytes) -> bytes:
    text = STRANGE[rng.integers(len(STRANGE))].encode("latin1")
    return replaced(content, any_field(rng), text)


def fields_swapped(rng: Generator, content: bytes) -> bytes:
    name = list(FIELDS)[rng.integers(len(FIELDS))]
    one, other = (span_of(name, int(k)) for k in rng.choice(N_CHANS, 2, replace=False))
    return replaced(replaced(content, one, content[other]), other, content[one])


def truncated(rng: Generator, content: bytes) -> bytes:
    cuts = (rng.integers(len(content)), rng.integers(HEADER), len(content) - rng.integers(1, 9))
    return content[: int(cuts[rng.integers(3)])]


def chunk_moved(rng: Generator, content: bytes) -> bytes:
    start, to = (int(k) for k in rng.integers(0, [len(content), HEADER][rng.integers(2)], size=2))
    chunk = content[start : start + int(rng.integers(1, 300))]
    gone = content[:start] + content[start + len(chunk) :]
    kinds = [gone, content[:to] + chunk + content[to:], gone[:to] + chunk + gone[to:]]
    return kinds[rng.integers(3)]


def grown(rng: Generator, content: bytes) -> bytes:
    """More or less than the header says, or nothing of it."""
    record = N_CHANS * RATE * 3
    kinds = [
        content + content[-record:],
        content + bytes(int(rng.integers(1, 4000))),
        content[:-record],
        replaced(content, slice(236, 244), str(rng.integers(-3, 12)).encode()),
        replaced(content, slice(252, 256), str(rng.integers(0, 9999)).encode()),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    ]
    return kinds[rng.integers(len(kinds))]


BDF_MUTATIONS: tuple[Callable[[Generator, bytes], bytes], ...] = (
    sample_flipped,
    status_flipped,
    header_flipped,
    header_scrambled,
    digit_changed,
    field_replaced,
    fields_swapped,
    truncated,
    chunk_moved,
    grown,
)


# --- a decoder that believes the header -----------------------------------------------------------


def decoded(content: bytes) -> tuple[Sensors, dict[str, str], NDArray[np.int64]]:
    """Sensors in the header's units by upper-case name, their units, and the codes of Status."""
    n = int(content[252:256])

    def column(name: str) -> list[str]:
        start, width = FIELDS[name]
        first = 256 + n * start
        return [
            content[first + k * width : first + (k + 1) * width].strip().decode("latin1")
            for k in range(n)
        ]

    rate = int(column("samples")[0])
    data = np.frombuffer(content, dtype=np.uint8, offset=256 * (n + 1)).astype(np.int64)
    parts = data.reshape(-1, n, rate, 3)
    integers = parts[..., 0] + (parts[..., 1] << 8) + (parts[..., 2] << 16)
    integers -= (integers >= 2**23) * 2**24
    integers = integers.transpose(1, 0, 2).reshape(n, -1)
    older = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
    labels = [older.get(label.upper(), label.upper()) for label in column("label")]
    low, high = (np.array(column(f"physical {end}"), float) for end in ("minimum", "maximum"))
    least, most = (np.array(column(f"digital {end}"), float) for end in ("minimum", "maximum"))
    gain = ((high - low) / (most - least))[:, None]
    values = (integers - least[:, None]) * gain + low[:, None]
    status = labels.index("STATUS") if "STATUS" in labels else n - 1
    units = dict(zip(labels, column("unit"), strict=True))
    return dict(zip(labels, values, strict=True)), units, integers[status] & 0xFF


def difference(recording: Recording, content: bytes, rows: list[dict[str, object]]) -> str:
    """What a recording holds that the bytes do not; "" if nothing."""
    sensors, units, codes = decoded(content)
    onsets = np.flatnonzero((codes == 4) & (np.r_[0, codes[:-1]] != 4))
    right: dict[str, NDArray[np.float64]] = {}
    if "eeg" in recording.modalities:
        right["eeg"] = np.stack([sensors[name.upper()] for name in EEG_NAMES])
    for modality, first in (("eog", 1), ("emg", 5)):
        if modality in recording.modalities:
            pairs = [sensors[f"EXG{k}"] - sensors[f"EXG{k + 1}"] for k in (first, first + 2)]
            right[modality] = np.stack(pairs)
    for modality, label in (("resp", "RESP"), ("ppg", "PLET"), ("temp", "TEMP")):
        if modality in recording.modalities:
            right[modality] = sensors[label][None]
    if "gsr" in recording.modalities:
        conducts = units["GSR1"] == "nS" or (units["GSR1"] != "Ohm" and recording.subject == "s01")
        with np.errstate(divide="ignore"):
            ohm = 1e9 / sensors["GSR1"] if conducts else sensors["GSR1"]
        right["gsr"] = np.where((ohm <= 0) | (ohm > 1e9), np.nan, ohm)[None]
    for trial in recording.trials:
        row = rows[trial.order - 1]
        if trial.stimulus != f"video-{row['Experiment_id']:02d}":
            return "another video"
        if trial.ratings["valence"] != float(str(row["Valence"])):
            return "another rating"
        at = slice(onsets[trial.order - 1], onsets[trial.order - 1] + round(SECONDS * RATE))
        for modality, found in trial.signals.items():
            x = right[modality][:, at]
            if found.shape != x.shape or not np.isfinite(found).all():
                return f"shape or NaN of {modality}"
            there = np.isfinite(x)
            if not np.allclose(found[there], x[there], rtol=1e-6, atol=1e-4):
                return f"{modality} of {trial.stimulus}"
            if not there.all() and (modality != "gsr" or there.mean() < 0.95):
                return f"{modality} with gaps"
    complete = len(recording.modalities) == 7 and len(recording.trials) == N_TRIALS
    if not recording.left_out and not complete:
        return "something left out, but not told"
    return ""


# --- mutations of a table -------------------------------------------------------------------------

CELLS = (  # noqa: SIM905
    "nan;inf;-inf;;NA;9.01;0.99;1e1;1e400;0x5;5 5;5,5;5.5.5;-5;+5;5.;.5;abc;\u0665;1;9;10;1.0;"
    '00005;99999;1_0;=1+1;\'5;"5;5";\x00;\ufeff5'
).split(";")


def cell_replaced(rng: Generator, text: str) -> str | bytes:
    lines = text.split("\r\n")
    row = int(rng.integers(0, len(lines) - 1))
    cells = lines[row].split(",")
    cells[rng.integers(len(cells))] = CELLS[rng.integers(len(CELLS))]
    lines[row] = ",".join(cells)
    return "\r\n".join(lines)


def byte_flipped(rng: Generator, text: str) -> str | bytes:
    return bit(rng, text.encode(), 0, len(text))


def bytes_scrambled(rng: Generator, text: str) -> str | bytes:
    damaged = bytearray(text.encode())
    for at in rng.integers(0, len(damaged), size=rng.integers(1, 5)):
        damaged[at] = rng.integers(256)
    return bytes(damaged)


def text_truncated(rng: Generator, text: str) -> str | bytes:
    return text[: rng.integers(len(text))]


def encoded(rng: Generator, text: str) -> str | bytes:
    codecs = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "cp500", "utf-7")
    raw = text.encode(codecs[rng.integers(len(codecs))])
    return raw if rng.integers(2) else raw[: rng.integers(len(raw))]


def delimited(rng: Generator, text: str) -> str | bytes:
    by = (";", "\t", "|", " ", ",,", ", ", " ; ", "\r\n", '","')[rng.integers(9)]
    if rng.integers(2):
        return text.replace(",", by)
    parts = text.split(",")
    at = int(rng.integers(1, len(parts)))
    return ",".join(parts[:at]) + by + ",".join(parts[at:])


def rows_changed(rng: Generator, text: str) -> str | bytes:
    head, *rows = text.split("\r\n")[:-1]
    one, other = (int(k) for k in rng.integers(0, len(rows), size=2))
    kinds = [
        [*rows[:one], *rows[one + 1 :]],
        [*rows, rows[one]],
        [*rows[:one], rows[other], *rows[one + 1 :]],
        [rows[k] for k in rng.permutation(len(rows))],
        [*rows[:one], "", " ", *rows[one:]],
        [*rows[:one], head, *rows[one:]],
        [*rows[:one], rows[one] + ",9", *rows[one + 1 :]],
    ]
    return "\r\n".join([head, *kinds[rng.integers(len(kinds))]])


def columns_changed(rng: Generator, text: str) -> str | bytes:
    rows = [line.split(",") for line in text.split("\r\n")[:-1]]
    one, other = (int(k) for k in rng.choice(len(rows[0]), 2, replace=False))
    kind = rng.integers(4)
    for number, row in enumerate(rows):
        if kind == 0:
            row[one], row[other] = row[other], row[one]
        elif kind == 1:
            del row[one]
        elif kind == 2:
            row.insert(one, row[other])
        elif number == 0:
            row[one] = row[other]
    return "".join(",".join(row) + "\r\n" for row in rows)


def quoted(rng: Generator, text: str) -> str | bytes:
    at = int(rng.integers(len(text)))
    return (
        text[:at] + ('"', '""', "'", '"\n', "\r", "\n", "\x0b", "\x1a")[rng.integers(8)] + text[at:]
    )


def text_moved(rng: Generator, text: str) -> str | bytes:
    start, to = (int(k) for k in rng.integers(0, len(text), size=2))
    chunk = text[start : start + int(rng.integers(1, 60))]
    gone = text[:start] + text[start + len(chunk) :]
    return [gone, text[:to] + chunk + text[to:], gone[:to] + chunk + gone[to:]][rng.integers(3)]


CSV_MUTATIONS: tuple[Callable[[Generator, str], str | bytes], ...] = (
    cell_replaced,
    byte_flipped,
    bytes_scrambled,
    text_truncated,
    encoded,
    delimited,
    rows_changed,
    columns_changed,
    quoted,
    text_moved,
)


def stock(content: bytes, participant: int) -> list[Rated]:
    """What pandas makes of a table."""
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if wide else "utf-8-sig")
    first = text.split("\n", 1)[0]
    frame = pd.read_csv(
        io.StringIO(text, newline=""),
        sep=";" if first.count(";") > first.count(",") else ",",
        dtype=str,
        keep_default_na=False,
        index_col=False,
    )
    frame.columns = [name.strip().lower() for name in frame.columns]
    frame = frame.apply(lambda column: column.str.strip())
    frame = frame[(frame != "").any(axis=1)]
    mine = frame[frame["participant_id"].astype(int) == participant]
    names = ["valence", "arousal", "dominance", "liking", "familiarity"]
    rated = [
        Rated(
            int(row["trial"]),
            int(row["experiment_id"]),
            {
                name: float(row[name].replace(",", "."))
                for name in names
                if name in frame and re.search(r"\d", row[name])
            },
        )
        for _, row in mine.iterrows()
    ]
    return sorted(rated, key=lambda one: one.trial)


# --- the child that reads them --------------------------------------------------------------------


def read_bdf_mutants(folder: Path) -> Counter[str]:
    sessions = {n: made_up(n, n_trials=N_TRIALS, seconds=SECONDS, gap=0.0) for n in (1, 25)}
    sessions[25].labels = {"Status": ""}
    sound = {n: session.write(folder).read_bytes() for n, session in sessions.items()}
    rows = {n: rows_of(n, N_TRIALS) for n in sessions}
    ratings = write_ratings(folder, [*rows[1], *rows[25]])
    rng = np.random.default_rng(SEED)
    counts: Counter[str] = Counter()
    for index in range(N_MUTANTS):
        mutation = BDF_MUTATIONS[index % len(BDF_MUTATIONS)]
        number = (1, 25)[rng.integers(2)]
        content = mutation(rng, sound[number])
        path = folder / f"s{number:02d}.bdf"
        path.write_bytes(content)
        signal.alarm(SECONDS_EACH)
        try:
            recording = read_deap_bdf(path, ratings=ratings, config=CONFIG, n_trials=N_TRIALS)
        except RecordingError as error:
            named = str(path) in str(error)
            result = "refused" if named else "an error without the file's name"
        except Exception as error:
            result = f"mutant {index}: {type(error).__name__}: {error}"
        else:
            wrong = difference(recording, content, rows[number])
            same = not difference(recording, sound[number], rows[number]) and not recording.left_out
            result = wrong or ("exact" if same else "changed")
        signal.alarm(0)
        counts[f"{mutation.__name__}: {result}"] += 1
    return counts


def read_csv_mutants(folder: Path) -> Counter[str]:
    text = table([*rows_of(1, 6), *rows_of(2, 6, familiarity=False), *rows_of(3, 6)])
    path = folder / FILE_NAME
    right = {n: stock(text.encode(), n) for n in (1, 2, 3)}
    rng = np.random.default_rng(SEED)
    counts: Counter[str] = Counter()
    for index in range(N_MUTANTS):
        mutation = CSV_MUTATIONS[index % len(CSV_MUTATIONS)]
        mutant = mutation(rng, text)
        content = mutant if isinstance(mutant, bytes) else mutant.encode()
        path.write_bytes(content)
        participant = int(rng.integers(1, 4))
        signal.alarm(SECONDS_EACH)
        try:
            rated = read_ratings(path, participant)
        except RecordingError as error:
            named = str(path) in str(error)
            result = "refused" if named else "an error without the file's name"
        except Exception as error:
            result = f"mutant {index}: {type(error).__name__}: {error}"
        else:
            try:
                same = rated == stock(content, participant)
            except Exception as error:
                same = False
                result = f"read, where pandas finds {type(error).__name__} {error}"
            else:
                result = "exact" if rated == right[participant] else "changed"
                result = result if same else f"mutant {index}: not what the table says"
        signal.alarm(0)
        counts[f"{mutation.__name__}: {result}"] += 1
    return counts


def main() -> None:
    read = {"bdf": read_bdf_mutants, "csv": read_csv_mutants}[sys.argv[1]]
    print_result(lambda: read(Path(sys.argv[2])), MEMORY)


def counts_of(kind: str, folder: Path) -> dict[str, Any]:
    counts: dict[str, Any] = result_of_child(__file__, kind, str(folder), seconds=300)
    assert_all_well(counts, N_MUTANTS, ("refused", "exact", "changed"))
    return counts


@posix_only
def test_bdf_mutants_are_read_exactly_or_refused(tmp_path: Path) -> None:
    counts = counts_of("bdf", tmp_path)
    each = N_MUTANTS // len(BDF_MUTATIONS)
    assert counts["truncated: refused"] == each
    # Neither a reader that refuses everything passes, nor one that looks at no header.
    assert counts["sample_flipped: changed"] > each / 20
    assert counts["sample_flipped: exact"] > each / 2  # Between the trials.
    assert counts["digit_changed: refused"] > each / 2
    assert counts["fields_swapped: exact"] > each / 4


@posix_only
def test_csv_mutants_are_read_exactly_or_refused(tmp_path: Path) -> None:
    counts = counts_of("csv", tmp_path)
    each = N_MUTANTS // len(CSV_MUTATIONS)
    assert counts["cell_replaced: refused"] > each / 4
    assert counts["encoded: exact"] > each / 10
    assert counts["rows_changed: exact"] > each / 5


if __name__ == "__main__":
    main()
