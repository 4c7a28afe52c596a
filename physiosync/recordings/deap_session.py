"""One of DEAP's original BDF files as rows named like those of the preprocessed ones.

A session of about an hour at 512 Hz. The header is checked by `bdf_header.py`, the samples are read
through MNE, a few channels at a time: all at once would be more than half a gigabyte in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import numpy as np
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.recordings.bdf_header import BdfChannel, BdfHeader, read_bdf_header
from physiosync.recordings.deap import EEG_NAMES, ROWS

Array = NDArray[np.float64]

#: Hz, of every channel.
RATE = 512
#: What the lower eight bits of Status hold when a video begins. The others may hold anything: s24
#: to s32 carry a constant there.
_ONSET, _CODE_BITS = 4, 0xFF
#: Row of the preprocessed files -> electrodes whose difference it is, or the one channel.
# fmt: off
_SENSORS: Mapping[str, tuple[str, ...]] = {name: (name,) for name in EEG_NAMES} | {
    "hEOG": ("EXG1", "EXG2"), "vEOG": ("EXG3", "EXG4"), "zEMG": ("EXG5", "EXG6"),
    "tEMG": ("EXG7", "EXG8"), "GSR": ("GSR1",), "Resp": ("Resp",), "Plet": ("Plet",),
    "Temp": ("Temp",),
}
# fmt: on
_UNUSED = ("GSR2", "Erg1", "Erg2")
_STATUS = "Status"
_ALIASES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_CANONICAL = {
    name.upper(): name for name in (*sum(_SENSORS.values(), ()), *_UNUSED, _STATUS)
} | _ALIASES
#: Limits of an electrode's channel in uV, so that a step is 31.25 nV in every BioSemi file.
_LIMITS, _STEPS = (-262144, 262143), (-(2**23), 2**23 - 1)
#: Rows read at once: of an hour, some 100 MB in float64.
_AT_ONCE = 6


@dataclass(frozen=True)
class Session:
    """An open file.

    Parameters
    ----------
    sensors : row -> the channels whose difference it is; rows that the file lacks are absent
    missing : modality -> why it is absent
    """

    path: Path
    header: BdfHeader
    sensors: Mapping[str, tuple[BdfChannel, ...]]
    missing: Mapping[str, str]
    status: BdfChannel
    _raw: Any

    @property
    def n_times(self) -> int:
        """Samples of each channel."""
        return self.header.n_times

    def onsets(self) -> NDArray[np.int64]:
        """Samples at which a video begins."""
        codes = self._integers(self.status) & _CODE_BITS
        begins = (codes == _ONSET) & (np.concatenate([[0], codes[:-1]]) != _ONSET)
        return np.flatnonzero(begins)

    def rows(self, names: Sequence[str]) -> Iterator[Array]:
        """Samples (n_times,) of one row after the other, in the units of the header."""
        for start in range(0, len(names), _AT_ONCE):
            group = names[start : start + _AT_ONCE]
            sensors = [channel for name in group for channel in self.sensors[name]]
            values = iter(self._read(sensors))
            for name in group:
                # EOG and EMG are bipolar: the first electrode less the second.
                row = next(values)
                for _ in self.sensors[name][1:]:
                    row -= next(values)
                yield row

    def _read(self, sensors: Sequence[BdfChannel]) -> Array:
        """(n_sensors, n_times) in the header's units; MNE gives volts for those of voltage."""
        try:
            values: Array = self._raw.get_data(picks=[sensor.index for sensor in sensors])
        except RuntimeError as error:
            raise RecordingError(
                self.path, "data", expected="samples that MNE reads", found=str(error)
            ) from error
        values /= np.array([[sensor.volts] for sensor in sensors])
        return values

    def _integers(self, channel: BdfChannel) -> NDArray[np.int64]:
        """The channel's integers, whatever scale the header gives them."""
        values = (self._read([channel])[0] - channel.physical_min) / channel.gain
        return np.rint(values).astype(np.int64) + channel.digital_min


def open_session(path: Path) -> Session:
    """Open a file, and find its channels by name.

    Names may be in any case, temporal and parietal electrodes under their older names (T3, T4, T5,
    T6). Status is known by its name, else it is the last channel if that has no other known name.
    A peripheral modality without all of its channels is missing, as `missing` tells.

    Raises
    ------
    RecordingError
        For what `read_bdf_header` refuses, another rate than 512 Hz, a known name that comes twice,
        missing or wrongly scaled EEG, a missing Status, and what MNE can't read.
    """
    header = read_bdf_header(path)
    if header.sfreq != RATE:
        found = f"{header.sfreq:g} Hz"
        raise RecordingError(path, "sampling rate", expected=f"{RATE} Hz", found=found)
    known: dict[str, BdfChannel] = {}
    for channel in header.channels:
        name = _CANONICAL.get(channel.label.upper())
        if name in known:
            found = f"channels {known[name].index + 1} and {channel.index + 1}"
            raise RecordingError(path, f"channel {name}", expected="one", found=found)
        if name is not None:
            known[name] = channel
    status = known.get(_STATUS, header.channels[-1])
    if status in known.values() and _STATUS not in known:
        expected, found = "Status, or a last channel of no known name", f"{status.label} last"
        raise RecordingError(path, "channel Status", expected=expected, found=found)
    lacking = [name for name in EEG_NAMES if name not in known]
    if lacking:
        labels = " ".join(ascii(channel.label)[1:-1] for channel in header.channels)
        found = f"no {', '.join(lacking)} among {labels}"
        raise RecordingError(path, "channels", expected="the 32 electrodes of DEAP", found=found)
    for name in EEG_NAMES:
        if (fault := _fault(known[name])) is not None:
            raise RecordingError(
                path, f"channel {name}", expected="-262144 to 262143 uV in 24 bits", found=fault
            )
    missing = _missing(known)
    sensors = {
        name: tuple(known[sensor] for sensor in _SENSORS[name])
        for name, modality, _ in ROWS
        if modality not in missing
    }
    return Session(path, header, sensors, missing, status, _open(path, header))


def _missing(known: Mapping[str, BdfChannel]) -> dict[str, str]:
    """Peripheral modality -> why its channels can't be used."""
    missing: dict[str, str] = {}
    for name, modality, _ in ROWS:
        for sensor in _SENSORS[name]:
            if sensor not in known:
                missing.setdefault(modality, f"no channel {sensor}")
            elif (fault := _fault(known[sensor])) is not None:
                missing.setdefault(modality, f"channel {sensor} is scaled as {fault}")
    return missing


def _fault(channel: BdfChannel) -> str | None:
    """What a BioSemi amplifier would not write.

    Electrodes have the same limits in all files. Other sensors have limits of their own, but as
    their zero is zero too, these mirror each other.
    """
    low, high = channel.physical_min, channel.physical_max
    electrode = channel.label.upper().startswith("EXG") or (
        _CANONICAL[channel.label.upper()] in EEG_NAMES
    )
    if (channel.digital_min, channel.digital_max) == _STEPS:
        if electrode:
            off = max(abs(low - _LIMITS[0]), abs(high - _LIMITS[1]))
            if channel.unit == "uV" and off <= 2:
                return None
        elif abs(low + high) <= 0.01 * high:
            return None
    steps = f"{channel.digital_min} to {channel.digital_max}"
    return f"{low:g} to {high:g} {ascii(channel.unit)[1:-1]} for {steps}"


def _open(path: Path, header: BdfHeader) -> Any:
    """The file as MNE sees it; nothing is read but the header."""
    # stim_channel=None: MNE would look for it by name, and keep 17 bits of it.
    try:
        raw = mne.io.read_raw_bdf(
            path, stim_channel=None, preload=False, encoding="latin1", verbose="error"
        )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # Fields that matter to nobody raise many kinds of error.
        lines = str(error).splitlines() or [""]
        found = f"{type(error).__name__}: {lines[0]}"
        raise RecordingError(path, "header", expected="one that MNE reads", found=found) from error
    seen = (len(raw.ch_names), raw.n_times, float(raw.info["sfreq"]))
    if seen != (len(header.channels), header.n_times, header.sfreq):
        raise RecordingError(
            path,
            "header",
            expected=f"{len(header.channels)} channels of {header.n_times} samples",
            found=f"{seen[0]} of {seen[1]} at {seen[2]:g} Hz, as MNE reads it",
        )
    return raw
