"""The header of an EDF or BDF file, checked before MNE sees it.

MNE guesses where a header is wrong: it takes the number of records from the file's size, a missing
range for 1, an unknown unit for volts, and plays a recording with gaps as if it had none. Here such
files are refused, so what MNE reads of the others is what they say [1]_.

.. [1] Kemp, Olivan (2003). European data format 'plus' (EDF+), an EDF alike standard format for the
   exchange of physiological data. Clinical Neurophysiology 114, 1755-1761.
   https://www.edfplus.info/specs/edf.html
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from physiosync.errors import RecordingError

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?")
#: Widths of the fields that come once for each signal, in the file's order.
_WIDTHS = {
    "label": 16,
    "transducer": 80,
    "unit": 8,
    "physical minimum": 8,
    "physical maximum": 8,
    "digital minimum": 8,
    "digital maximum": 8,
    "prefiltering": 80,
    "samples in a record": 8,
    "reserved": 32,
}
_ANNOTATIONS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class EdfHeader:
    """The signals of a file, without annotations.

    Parameters
    ----------
    units : label -> unit, as it is written
    sfreq : label -> rate in Hz
    """

    units: dict[str, str]
    sfreq: dict[str, float]


def read_header(path: Path) -> EdfHeader:
    """Read and check the header of an EDF, EDF+C or BDF file.

    Raises
    ------
    RecordingError
        If it is no such file, a number is none, a range is empty, two signals share a label, the
        recording has gaps (EDF+D) or was never closed, or the file is longer or shorter than its
        header says.
    """
    bdf = path.suffix.lower() == ".bdf"
    version = b"\xffBIOSEMI" if bdf else b"0       "
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(256)
        if len(head) < 256 or not head.startswith(version):
            raise _error(path, "", f"a {path.suffix.upper()[1:]} header", _instead(head, size))
        n_header = _integer(path, "bytes in the header", head[184:192])
        n_records = _integer(path, "number of records", head[236:244])
        seconds = _number(path, "seconds of a record", head[244:252])
        n_signals = _integer(path, "number of signals", head[252:256])
        if n_signals < 1 or n_header != 256 * (n_signals + 1):
            found = f"{n_header} bytes for {n_signals} signals"
            raise _error(path, "header", "256 bytes, and 256 for each signal", found)
        rest = stream.read(n_header - 256)
    if len(rest) < n_header - 256:
        raise _error(path, "", f"a header of {n_header:,} bytes", f"a file of {size:,} bytes")
    if head[192:236].rstrip(b" \0")[3:5] == b"+D":
        found = "EDF+D or BDF+D, which has gaps"
        raise _error(path, "continuity", "a recording without gaps (EDF+C)", found)
    if n_records < 1 or not seconds > 0:
        found = f"{n_records} of {seconds:g} s"
        raise _error(path, "records", "a closed recording with records of some length", found)
    signals = _signals(path, rest, n_signals, 24 if bdf else 16)
    n_samples = [int(signal["samples in a record"]) for signal in signals]
    expected = n_header + n_records * sum(n_samples) * (3 if bdf else 2)
    if size != expected:
        kind = "truncated" if size < expected else "longer than its header says"
        raise _error(path, "", f"{expected:,} bytes by its header", f"{size:,} bytes ({kind})")
    used = [k for k, signal in enumerate(signals) if signal["label"] not in _ANNOTATIONS]
    labels = [signals[k]["label"] for k in used]
    double = sorted({label for label in labels if labels.count(label) > 1})
    if double or not labels:
        found = f"several of {', '.join(map(repr, double))}" if double else "annotations only"
        raise _error(path, "labels", "signals, each with a label of its own", found)
    return EdfHeader(
        units={signals[k]["label"]: signals[k]["unit"] for k in used},
        sfreq={signals[k]["label"]: n_samples[k] / seconds for k in used},
    )


def _signals(path: Path, rest: bytes, n_signals: int, bits: int) -> list[dict[str, str]]:
    """Field -> text of each signal; ranges and lengths are checked."""
    signals: list[dict[str, str]] = [{} for _ in range(n_signals)]
    at = 0
    for field, width in _WIDTHS.items():
        for k in range(n_signals):
            raw = rest[at + k * width : at + (k + 1) * width]
            # As MNE strips: white space of bytes, before anything is decoded.
            signals[k][field] = raw.strip().decode("latin-1")
            if field in ("label", "unit") and re.search(r"[\x00-\x1f\x7f]", signals[k][field]):
                where = f"{field} of signal {k + 1}"
                raise _error(path, where, "text without control characters", repr(raw))
        at += n_signals * width
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for k, signal in enumerate(signals):
        name = f"signal {k + 1} ({signal['label']})"

        def number(field: str, signal: dict[str, str] = signal, name: str = name) -> float:
            return _number(path, f"{field} of {name}", signal[field].encode("latin-1"))

        low, high = number("digital minimum"), number("digital maximum")
        if not lowest <= low < high <= highest:
            expected = f"a rising one within {lowest}..{highest}"
            raise _error(path, f"digital range of {name}", expected, f"{low:g}..{high:g}")
        low, high = number("physical minimum"), number("physical maximum")
        if low == high:
            raise _error(path, f"physical range of {name}", "two values", f"{low:g}..{high:g}")
        where = f"samples in a record of {name}"
        if _integer(path, where, signal["samples in a record"].encode("latin-1")) < 1:
            raise _error(path, where, "at least 1", signal["samples in a record"])
    return signals


def _integer(path: Path, field: str, raw: bytes) -> int:
    text = raw.decode("latin-1").strip(" ")
    if not _INTEGER.fullmatch(text):
        raise _error(path, field, "a whole number", repr(text))
    return int(text)


def _number(path: Path, field: str, raw: bytes) -> float:
    text = raw.decode("latin-1").strip(" ")
    value = float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise _error(path, field, "a number", repr(text))
    return value


def _instead(head: bytes, size: int) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer to the data (`git lfs pull` fetches it)"
    hint = ", perhaps a pointer to the data" if size < 1024 else ""
    return f"{size:,} bytes that start with {head[:16]!r}{hint}"


def _error(path: Path, field: str, expected: str, found: str) -> RecordingError:
    return RecordingError(path, field, expected=expected, found=found)
