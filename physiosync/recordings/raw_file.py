"""One file that MNE reads: its channels by modality, and spans of it in physical units."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import NDArray
from pydantic import Field

from physiosync.config import Config
from physiosync.errors import RecordingError
from physiosync.recordings.base import MODALITIES
from physiosync.recordings.channels import (
    Channel,
    clean_name,
    modality_of,
    named,
    pick,
    scale,
    unit_of,
)

Floats = NDArray[np.float32]

#: No sensor gives more in any of the units that are kept.
_MAX_MAGNITUDE = 1e9
_FIFF_UNITS = {
    int(FIFF.FIFF_UNIT_V): "V",
    int(FIFF.FIFF_UNIT_S): "S",
    int(FIFF.FIFF_UNIT_CEL): "degC",
}


class ReadingOptions(Config):
    """How files that MNE opens are read; part of a shard's fingerprint."""

    types: dict[str, str] = Field(default_factory=dict)
    """Channel (its name in the file, or the cleaned one) -> eeg, gsr, ecg, eog, emg, resp, ppg,
    temp or drop, where the file says nothing or something wrong."""
    units: dict[str, str] = Field(default_factory=dict)
    """Channel -> unit of the file's numbers, where the file says nothing or something wrong."""
    drop: tuple[str, ...] = ()
    """Channels to leave out, such as "A2-A1"."""
    highpass: float | None = Field(default=None, gt=0)
    """Hz; applied by MNE to the whole EEG of a file, before trials are cut. None: as recorded."""
    lowpass: float | None = Field(default=None, gt=0)
    """Hz; the same."""


@dataclass(frozen=True, eq=False)
class RawFile:
    """A file that was opened, not read.

    Parameters
    ----------
    channels : modality -> its channels, in the file's order
    sfreq : modality -> rate in Hz
    seconds : length of the recording
    files : every file that belongs to it
    ignored : one sentence for each channel that is of no modality
    """

    path: Path
    channels: dict[str, tuple[Channel, ...]]
    sfreq: dict[str, float]
    seconds: float
    files: tuple[Path, ...]
    ignored: tuple[str, ...]
    _raws: dict[str, Any]

    def span(self, modality: str, names: Iterable[str], onset: float, duration: float) -> Floats:
        """Samples of named channels, (n_chans, n_times) in their units, as far as the file goes.

        Raises
        ------
        RecordingError
            If they can't be read, or a sample is NaN, infinite or beyond 1e9.
        """
        raw, sfreq = self._raws[modality], self.sfreq[modality]
        by_name = {channel.name: channel for channel in self.channels[modality]}
        picked = [by_name[name] for name in names]
        start = round(onset * sfreq)
        stop = min(start + round(duration * sfreq), raw.n_times)
        if start >= stop:
            return np.empty((len(picked), 0), dtype=np.float32)
        with mne_errors(self.path, "samples"):
            x = raw.get_data([c.raw_name for c in picked], start, stop)
        x = x * np.array([[channel.factor] for channel in picked])
        with np.errstate(invalid="ignore"):
            bad = np.argwhere(~(np.abs(x) <= _MAX_MAGNITUDE))
        if len(bad):
            row, sample = bad[0]
            channel = picked[row]
            raise RecordingError(
                self.path,
                f"channel {channel.raw_name}, {(start + sample) / sfreq:g} s",
                expected=f"a number within {_MAX_MAGNITUDE:g} {channel.unit}",
                found=f"{x[row, sample]}",
            )
        return np.asarray(x, dtype=np.float32)


def open_raw(path: Path, options: ReadingOptions) -> RawFile:
    """Open a file with `mne.io.read_raw`, and find out what its channels are.

    Raises
    ------
    RecordingError
        If the file is missing, damaged or of a format that MNE can't read, two channels get one
        name, those of a modality differ in unit or rate, or a voltage has an unknown unit.
    """
    raw = _read(path)
    raws = {"": raw}
    kinds = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    written = {name: str(unit) for name, unit in (raw._orig_units or {}).items()}
    found: dict[str, list[Channel]] = {}
    ignored = []
    for entry in raw.info["chs"]:
        raw_name = entry["ch_name"]
        modality = pick(options.types, raw_name) or modality_of(raw_name, kinds[raw_name])
        if modality == "drop" or named(options.drop, raw_name) is not None:
            continue
        if modality is None:
            if kinds[raw_name] != "stim":
                ignored.append(
                    f"channel {raw_name} of type {kinds[raw_name]}: no modality of ours; left out"
                )
            continue
        unit, factor = _unit(path, raw_name, modality, entry, written.get(raw_name), options)
        found.setdefault(modality, []).append(
            Channel(raw_name, clean_name(raw_name), modality, unit, factor)
        )
    channels = {m: tuple(found[m]) for m in MODALITIES if m in found}
    _check(path, channels)
    if "eeg" in channels:
        _filter(raw, [c.raw_name for c in channels["eeg"]], options, path)
    return RawFile(
        path=path,
        channels=channels,
        sfreq={m: float(raw.info["sfreq"]) for m in channels},
        seconds=raw.n_times / float(raw.info["sfreq"]),
        files=_files(path, raw),
        ignored=tuple(ignored),
        _raws=dict.fromkeys(channels, raws[""]),
    )


def _read(path: Path, **options: Any) -> Any:
    if not path.exists():
        raise RecordingError(path, "", expected="a recording", found="nothing")
    with mne_errors(path, ""):
        return mne.io.read_raw(path, preload=False, verbose="ERROR", **options)


def _filter(raw: Any, names: list[str], options: ReadingOptions, path: Path) -> None:
    """Band-pass the EEG of a whole file, so that no trial begins or ends in a filter's edge."""
    if options.highpass is None and options.lowpass is None:
        return
    with mne_errors(path, "filter"):
        raw.load_data(verbose="ERROR")
        raw.filter(options.highpass, options.lowpass, picks=names, verbose="ERROR")


def _unit(
    path: Path,
    raw_name: str,
    modality: str,
    entry: dict[str, Any],
    written: str | None,
    options: ReadingOptions,
) -> tuple[str, float]:
    """The unit that a channel is kept in, and the factor to it from what MNE gives.

    MNE turns what it knows to be volts into volts, and leaves other numbers as they are.
    """
    given = unit_of(written or "")
    to_written = {"uV": 1e6, "mV": 1e3}.get(given, 1.0) if written is not None else 1.0
    if written is None:
        given = _FIFF_UNITS.get(int(entry["unit"]), "a.u.")
    override = pick(options.units, raw_name)
    unit = unit_of(override) if override is not None else given
    kept = scale(modality, unit)
    if kept is None:
        raise RecordingError(
            path,
            f"channel {raw_name}",
            expected=f"{modality} in uV, mV or V (say its unit in a table of channels, or drop it)",
            found=f"unit {unit}",
        )
    return kept[0], to_written * kept[1]


def _check(path: Path, channels: dict[str, tuple[Channel, ...]]) -> None:
    seen: dict[str, Channel] = {}
    for modality, them in channels.items():
        units = sorted({channel.unit for channel in them})
        if len(units) > 1:
            each = ", ".join(f"{c.raw_name} in {c.unit}" for c in them)
            raise RecordingError(
                path, f"units of {modality}", expected="one (drop a channel)", found=each
            )
        for channel in them:
            other = seen.setdefault(channel.name, channel)
            if other is not channel:
                raise RecordingError(
                    path,
                    "channels",
                    expected="one of each name (drop the other)",
                    found=f"{other.raw_name} and {channel.raw_name}, both {channel.name}",
                )


def _files(path: Path, raw: Any) -> tuple[Path, ...]:
    """Everything that a recording lies in, as a header may point to other files."""
    if path.is_dir():
        return tuple(sorted(p for p in path.rglob("*") if p.is_file()))
    beside = [p for p in path.parent.glob("*") if p.stem == path.stem and p.is_file()]
    named_by_mne = [Path(name) for name in raw.filenames if name is not None]
    return tuple(sorted({path, *beside, *named_by_mne}))


@contextmanager
def mne_errors(path: Path, field: str) -> Iterator[None]:
    """MNE raises whatever its readers meet: all of it means a recording that can't be used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise RecordingError(
            path,
            field,
            expected="a recording that MNE reads",
            found=f"{type(error).__name__}: {lines[0] if lines else ''}",
        ) from error
