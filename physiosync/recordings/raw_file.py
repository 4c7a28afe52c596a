"""One file that MNE reads: its channels by modality, and spans of it in physical units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import numpy as np
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
)
from physiosync.recordings.edf_header import read_header
from physiosync.recordings.units import Written, edf_unit, scale, unit_of, written_unit

Floats = NDArray[np.float32]

#: No sensor gives more in any of the units that are kept.
_MAX_MAGNITUDE = 1e9


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
    names : of all channels, as the file has them
    ignored : one sentence for each channel that is of no modality
    """

    path: Path
    channels: dict[str, tuple[Channel, ...]]
    sfreq: dict[str, float]
    seconds: float
    files: tuple[Path, ...]
    names: tuple[str, ...]
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
    raws, written = _read(path)
    found: dict[str, list[tuple[Channel, Any]]] = {}
    ignored = []
    for entry, kind, raw in _entries(raws):
        raw_name = entry["ch_name"]
        modality = pick(options.types, raw_name) or modality_of(raw_name, kind)
        if modality == "drop" or named(options.drop, raw_name) is not None:
            continue
        if modality is None:
            if kind != "stim":
                ignored.append(f"channel {raw_name} of type {kind}: no modality of ours; left out")
            continue
        given = written(entry, raw)
        unit, factor = _unit(path, raw_name, modality, given, options)
        channel = Channel(raw_name, clean_name(raw_name), modality, unit, factor)
        found.setdefault(modality, []).append((channel, raw))
    channels = {m: tuple(c for c, _ in found[m]) for m in MODALITIES if m in found}
    rates = {m: [float(raw.info["sfreq"]) for _, raw in found[m]] for m in channels}
    _check(path, channels, rates)
    its = {m: found[m][0][1] for m in channels}
    if "eeg" in channels:
        _filter(its["eeg"], [c.raw_name for c in channels["eeg"]], options, path)
    return RawFile(
        path=path,
        channels=channels,
        sfreq={m: rates[m][0] for m in channels},
        seconds=min(raw.n_times / float(raw.info["sfreq"]) for raw in raws),
        files=_files(path, raws[0]),
        names=tuple(entry["ch_name"] for entry, _, _ in _entries(raws)),
        ignored=tuple(ignored),
        _raws=its,
    )


def _read(path: Path) -> tuple[list[Any], Callable[[dict[str, Any], Any], Written]]:
    """What MNE makes of a file, one rate at a time, and what tells a channel's unit.

    MNE would resample the slow signals of an EDF file, block by block.
    """
    if not path.exists():
        raise RecordingError(path, "", expected="a recording", found="nothing")
    if path.suffix.lower() not in (".edf", ".bdf"):
        return [_read_raw(path)], lambda entry, raw: written_unit(
            path.suffix, entry, raw._orig_units or {}
        )
    header = read_header(path)
    raws = []
    for rate in dict.fromkeys(header.sfreq.values()):
        others = [label for label, sfreq in header.sfreq.items() if sfreq != rate]
        # Annotations are not used, and many are not in the encoding that EDF+ asks for.
        raws.append(_read_raw(path, exclude=others, encoding="latin1"))
    return raws, lambda entry, raw: edf_unit(header.units[entry["ch_name"]])


def _read_raw(path: Path, **options: Any) -> Any:
    with mne_errors(path, ""):
        return mne.io.read_raw(path, preload=False, verbose="ERROR", **options)


def _entries(raws: Iterable[Any]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """MNE's entry of each channel, its type, and what to read it from."""
    for raw in raws:
        for entry, kind in zip(raw.info["chs"], raw.get_channel_types(), strict=True):
            yield entry, kind, raw


def _filter(raw: Any, names: list[str], options: ReadingOptions, path: Path) -> None:
    """Band-pass the EEG of a whole file, so that no trial begins or ends in a filter's edge."""
    if options.highpass is None and options.lowpass is None:
        return
    with mne_errors(path, "filter"):
        raw.load_data(verbose="ERROR")
        raw.filter(options.highpass, options.lowpass, picks=names, verbose="ERROR")


def _unit(
    path: Path, raw_name: str, modality: str, given: Written, options: ReadingOptions
) -> tuple[str, float]:
    """The unit that a channel is kept in, and the factor to it from what MNE gives."""
    override = pick(options.units, raw_name)
    unit = given.unit if override is None else unit_of(override)
    kept = scale(modality, unit)
    if kept is None:
        raise RecordingError(
            path,
            f"channel {raw_name}",
            expected=f"{modality} in uV, mV or V (say its unit in a table of channels, or drop it)",
            found=f"unit {unit}",
        )
    return kept[0], kept[1] / given.gain


def _check(
    path: Path, channels: dict[str, tuple[Channel, ...]], rates: dict[str, list[float]]
) -> None:
    seen: dict[str, Channel] = {}
    for modality, them in channels.items():
        units = {channel.unit for channel in them}
        if len(units) > 1 or len(set(rates[modality])) > 1:
            each = zip(them, rates[modality], strict=True)
            raise RecordingError(
                path,
                modality,
                expected="one unit and one rate (drop the other channels)",
                found=", ".join(f"{c.raw_name} in {c.unit} at {rate:g} Hz" for c, rate in each),
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
