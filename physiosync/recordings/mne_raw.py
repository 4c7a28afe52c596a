"""Any recording that MNE opens, with a table of events: one `Recording` a subject.

EEG, ECG, EOG and EMG come in uV, GSR in Ohm, uS or nS, everything else in the file's unit. A
subject may have several files. What is missing is told: a modality that a file lacks is absent from
its trials.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, JsonValue

from physiosync.errors import RecordingError, StudyError
from physiosync.files import sha256
from physiosync.recordings.base import MODALITIES, Channels, Recording, Trial
from physiosync.recordings.events import Event, Events, read_events
from physiosync.recordings.raw_file import Floats, RawFile, ReadingOptions, open_raw

#: Part of every fingerprint: shards of another way of reading are made again.
_READER = 1


class MneOptions(ReadingOptions):
    """How recordings and their table are read; part of a shard's fingerprint."""

    ratings: tuple[str, ...] = ()
    """Columns of the table to take; all that have no other meaning if empty."""
    baseline_seconds: float = Field(default=0.0, ge=0)
    """Before each onset, where the table names no baseline. 0: none."""
    dataset: str = "mne"
    """Name of the data set, kept in the shards."""


@dataclass(frozen=True)
class MneSource:
    """What one subject's recording is made of: rows of the table, files, options.

    Parameters
    ----------
    subject : as the table names it
    path : of the subject's first file
    folder : that the table's files lie in
    layout : modality -> names of the channels to take, the same for every subject
    files : everything the recording lies in
    """

    subject: str
    path: Path
    folder: Path
    events: tuple[Event, ...]
    codes: Mapping[str, Mapping[str, int]]
    layout: Mapping[str, tuple[str, ...]]
    options: MneOptions
    files: tuple[Path, ...]

    def provenance(self) -> dict[str, JsonValue]:
        """Everything but the samples that the recording comes from, as plain JSON values."""
        plain: dict[str, JsonValue] = json.loads(
            json.dumps(
                {
                    "reader": _READER,
                    "options": self.options.identity(),
                    "events": [vars(event) for event in self.events],
                    "codes": self.codes,
                    "layout": self.layout,
                }
            )
        )
        return plain

    def fingerprint(self) -> str:
        """SHA-256 of the bytes of all files, the rows of the table and the options.

        Raises
        ------
        RecordingError
            If a file is missing.
        """
        digests = {}
        for file in self.files:
            if not file.is_file():
                raise RecordingError(file, "", expected="a recording", found="nothing")
            digests[file.name] = sha256(file)
        text = json.dumps({"files": digests, **self.provenance()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def typed(pairs: Sequence[str]) -> dict[str, str]:
    """Channel -> modality, of pairs such as "EDA=gsr"."""
    types = dict(pair.rpartition("=")[::2] for pair in pairs)
    for channel, modality in types.items():
        if not channel or modality not in (*MODALITIES, "drop"):
            raise StudyError(
                f"types: expected NAME=TYPE with a type of {', '.join(MODALITIES)} or drop, "
                f"found {channel}={modality}"
            )
    return types


def find_mne(folder: Path, *, events: Path, options: MneOptions | None = None) -> list[MneSource]:
    """The subjects of a table, as `preparation.prepare` takes them.

    Only headers are read. A file that can't be opened is none of this function's business: reading
    its subject says so, and the others go on.

    Parameters
    ----------
    folder : that the table's files lie in
    events : the table, see `recordings.events`

    Raises
    ------
    RecordingError
        If the table can't be used, or the channels of two subjects differ.
    """
    options = options or MneOptions()
    return _sources(folder, read_events(events, ratings=options.ratings), options)


def read_mne(source: MneSource) -> Recording:
    """Read one subject.

    A trial that ends after its file does is cut if half of it is there. A modality whose channels
    are all constant is left out of a trial; a trial in which that is the EEG is left out whole.

    Returns
    -------
    Recording
        signals are (n_chans, n_times) float32, each modality at its own rate, in the order of
        `source.layout`. `left_out` tells what is missing

    Raises
    ------
    RecordingError
        If a file is missing, damaged or none that MNE reads, its channels are not those of
        `source.layout`, the files of the subject differ in rate or unit, a trial is not in its
        file, a sample is NaN, infinite or beyond 1e9, or no trial is left.
    """
    fingerprint = source.fingerprint()
    opened: dict[str, RawFile] = {}
    modalities: dict[str, Channels] = {}
    notes: dict[str, None] = {}
    trials = []
    for event in source.events:
        if event.file not in opened:
            opened.clear()  # One at a time: a filtered file lies in memory as a whole.
            opened[event.file] = file = open_raw(source.folder / event.file, source.options)
            _join(modalities, file, source)
            notes |= dict.fromkeys(file.ignored)
        trial, said = _trial(opened[event.file], event, source)
        notes |= dict.fromkeys(said)
        if trial is not None:
            trials.append(trial)
    if not trials:
        raise RecordingError(
            source.path,
            f"subject {source.subject}",
            expected="trials to use",
            found=f"none: {'; '.join(notes)}",
        )
    return Recording(
        dataset=source.options.dataset,
        subject=source.subject,
        modalities={m: c for m, c in modalities.items() if any(m in t.signals for t in trials)},
        trials=tuple(trials),
        source=source.path,
        fingerprint=fingerprint,
        left_out=tuple(notes),
        provenance=source.provenance(),
    )


def _sources(folder: Path, events: Events, options: MneOptions) -> list[MneSource]:
    layout: dict[str, tuple[str, ...]] = {}
    whose: dict[str, str] = {}
    files: dict[str, tuple[Path, ...]] = {}
    for event in events.rows:
        if event.file in files:
            continue
        path = folder / event.file
        try:
            opened = open_raw(path, options.model_copy(update={"highpass": None, "lowpass": None}))
        except RecordingError:
            files[event.file] = (path,)
            continue
        files[event.file] = opened.files
        for modality, channels in opened.channels.items():
            names = tuple(channel.name for channel in channels)
            if set(layout.setdefault(modality, names)) != set(names):
                raise RecordingError(
                    path,
                    f"{modality} channels",
                    expected=f"those of {whose[modality]}: {' '.join(layout[modality])} (drop what "
                    "others lack)",
                    found=" ".join(names),
                )
            whose.setdefault(modality, event.file)
    sources = []
    for subject in events.subjects:
        rows = events.of(subject)
        mine = dict.fromkeys(path for row in rows for path in files[row.file])
        sources.append(
            MneSource(
                subject=subject,
                path=folder / rows[0].file,
                folder=folder,
                events=rows,
                codes=events.codes,
                layout=layout,
                options=options,
                files=tuple(mine),
            )
        )
    return sources


def _join(modalities: dict[str, Channels], file: RawFile, source: MneSource) -> None:
    """Add a file's modalities to those of the subject's other files."""
    for modality, names in source.layout.items():
        having = {channel.name: channel for channel in file.channels.get(modality, ())}
        if not having:
            continue
        lacking = [name for name in names if name not in having]
        if lacking:
            raise RecordingError(
                file.path,
                f"{modality} channels",
                expected=" ".join(names),
                found=f"none named {' '.join(lacking)}",
            )
        channels = Channels(names, having[names[0]].unit, file.sfreq[modality])
        other = modalities.setdefault(modality, channels)
        if other != channels:
            raise RecordingError(
                file.path,
                modality,
                expected=f"{other.sfreq:g} Hz and {other.unit}, as in the subject's other files",
                found=f"{channels.sfreq:g} Hz and {channels.unit}",
            )


def _trial(file: RawFile, event: Event, source: MneSource) -> tuple[Trial | None, list[str]]:
    """A row's trial, and what there is to say of it."""
    where = f"trial {event.order} ({event.stimulus})"
    notes = []
    there = file.seconds - event.onset
    duration = there if event.duration is None else event.duration
    if there <= 0 or there < duration / 2:
        raise RecordingError(
            file.path,
            where,
            expected=f"half of its {duration:g} s from {event.onset:g} s on (the table is in "
            "seconds from the file's first sample)",
            found=f"a recording of {file.seconds:g} s",
        )
    if there < duration - 1 / min(file.sfreq.values(), default=1.0):
        notes.append(f"last {duration - there:g} s of {where}: after the end of the recording")
    signals: dict[str, Floats] = {}
    baseline: dict[str, Floats] = {}
    for modality, names in source.layout.items():
        if modality not in file.channels:
            notes.append(f"{modality} of {where}: not in {event.file}")
            continue
        x = file.span(modality, names, event.onset, duration)
        flat = np.ptp(x, axis=1) == 0 if x.size else np.ones(len(x), dtype=bool)
        if flat.all():
            what = "" if modality == "eeg" else f"{modality} of "
            notes.append(f"{what}{where}: every {modality} channel is constant; left out")
            if modality == "eeg":
                return None, notes
            continue
        notes += [
            f"channel {name} of {where}: constant; kept"
            for name, is_flat in zip(names, flat, strict=True)
            if is_flat
        ]
        signals[modality] = x
        rest = _baseline(file, event, source.options)
        if rest is not None:
            baseline[modality] = file.span(modality, names, *rest)
    trial = Trial(event.stimulus, event.order, signals, baseline, dict(event.ratings))
    return trial, notes


def _baseline(file: RawFile, event: Event, options: MneOptions) -> tuple[float, float] | None:
    """Onset and duration of the rest before a trial, if the file has it whole."""
    rest: Any = event.baseline
    if rest is None and options.baseline_seconds > 0:
        rest = (event.onset - options.baseline_seconds, options.baseline_seconds)
    if rest is None or rest[0] < 0 or sum(rest) > file.seconds:
        return None
    return rest[0], rest[1]
