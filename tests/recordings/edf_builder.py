"""EDF and BDF files, byte for byte as their specification has them, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Signal:
    """One signal: physical values within `low`..`high`, a whole number of records long."""

    label: str
    values: Floats
    unit: str = "uV"
    low: float = -3276.8
    high: float = 3276.7
    sfreq: int = 128


def digital(signal: Signal, bits: int = 16) -> NDArray[np.int64]:
    """The numbers that the file holds."""
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    gain = (signal.high - signal.low) / (highest - lowest)
    return np.rint((signal.values - signal.low) / gain).astype(np.int64) + lowest


def held(signal: Signal, bits: int = 16) -> Floats:
    """The physical values that the file holds, after quantisation."""
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    gain = (signal.high - signal.low) / (highest - lowest)
    return (digital(signal, bits) - lowest) * gain + signal.low


def write_edf(
    path: Path,
    signals: list[Signal],
    *,
    n_records: int | None = None,
    seconds: int = 1,
    plus: str = "",
    annotations: bool = False,
) -> Path:
    """Write a file; BDF if it is named so.

    Parameters
    ----------
    n_records : in the header, if not the true number
    seconds : of a record
    plus : "EDF+C" or "EDF+D"
    annotations : whether an empty annotation signal is added
    """
    bdf = path.suffix.lower() == ".bdf"
    bits, width = (24, 3) if bdf else (16, 2)
    true = len(signals[0].values) // (signals[0].sfreq * seconds)
    fields: list[list[object]] = [
        [s.label for s in signals],
        ["" for _ in signals],
        [s.unit for s in signals],
        [f"{s.low:.6g}" for s in signals],
        [f"{s.high:.6g}" for s in signals],
        [-(2 ** (bits - 1)) for _ in signals],
        [2 ** (bits - 1) - 1 for _ in signals],
        ["" for _ in signals],
        [s.sfreq * seconds for s in signals],
        ["" for _ in signals],
    ]
    if annotations:
        lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        extra = ["EDF Annotations", "", "", -1, 1, lowest, highest, "", 16, ""]
        for column, value in zip(fields, extra, strict=True):
            column.append(value)
    n_signals = len(fields[0])
    head = b"\xffBIOSEMI" if bdf else b"0       "
    head += text("X X X X", 80) + text("Startdate X X X X", 80) + b"01.01.2501.02.03"
    head += text(256 * (n_signals + 1), 8) + text(plus, 44)
    head += text(true if n_records is None else n_records, 8) + text(seconds, 8)
    head += text(n_signals, 4)
    for column, size in zip(fields, (16, 80, 8, 8, 8, 8, 8, 80, 8, 32), strict=True):
        head += b"".join(text(value, size) for value in column)
    with path.open("wb") as stream:
        stream.write(head)
        numbers = [digital(s, bits) for s in signals]
        for k in range(true):
            for signal, its in zip(signals, numbers, strict=True):
                n = signal.sfreq * seconds
                stream.write(integers(its[k * n : (k + 1) * n], width))
            if annotations:
                stream.write(f"+{k * seconds}\x14\x14".encode().ljust(16 * width, b"\0"))
    return path


def text(value: object, width: int) -> bytes:
    return str(value).encode("latin-1").ljust(width)


def integers(values: NDArray[np.int64], width: int) -> bytes:
    """Little-endian two's complement of 2 or 3 bytes."""
    raw = np.ascontiguousarray(values.astype("<i4")).view(np.uint8).reshape(-1, 4)
    return raw[:, :width].tobytes()


def noise(
    label: str, seconds: float, *, seed: int = 0, sfreq: int = 128, unit: str = "uV"
) -> Signal:
    """Gaussian noise that no other label has."""
    rng = np.random.default_rng([seed, *label.encode()])
    values = rng.normal(0, 50, round(seconds * sfreq))
    return Signal(label, values, unit, sfreq=sfreq)


def session(seconds: float = 8.0, *, seed: int = 0, eeg: tuple[str, ...] = ()) -> list[Signal]:
    """EEG, ECG in mV and GSR at a slow rate."""
    rng = np.random.default_rng(seed)
    labels = eeg or ("EEG Fp1", "EEG FP2-REF", "EEG T3", "EEG A2-A1")
    gsr = rng.uniform(2, 20, round(seconds * 16))
    ecg = rng.normal(0, 0.4, round(seconds * 256))
    return [
        *(noise(label, seconds, seed=seed) for label in labels),
        Signal("ECG ECG", ecg, "mV", -5.0, 5.0, 256),
        Signal("GSR", gsr, "uS", 0.0, 100.0, 16),
    ]


def write_events(path: Path, rows: list[str], header: str = "") -> Path:
    header = header or "file,subject,onset,duration,stimulus,valence,arousal"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path
