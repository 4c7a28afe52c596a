"""Any recording that MNE opens, with a table of events: one `Recording` a subject.

EEG, ECG, EOG and EMG come in uV, GSR in Ohm, uS or nS, everything else in the file's unit. A
subject may have several files. What is missing is told: a modality that a file lacks is absent from
its trials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.recordings.base import Channels, Recording, Trial
from physiosync.recordings.events import Event
from physiosync.recordings.mne_sources import MneOptions, MneSource, find_mne
from physiosync.recordings.raw_file import Floats, RawFile, open_raw

__all__ = ["MneOptions", "MneSource", "find_mne", "read_mne"]

#: uV; a signal that moves less within 2 s, in the median, is none: the R wave of a skin ECG has
#: some hundred, and an electrode without contact to the skin often stays below one.
_LEAST_SWING = {"eeg": 1.0, "ecg": 100.0}


def read_mne(source: MneSource) -> Recording:
    """Read one subject.

    A trial that ends after its file does is cut if half of it is there. A modality that a file
    lacks, or whose channels are all constant, is left out of a trial; where that is the EEG, the
    trial is left out whole. Single constant channels, and nearly flat EEG and ECG, are kept.

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
        what = "" if modality == "eeg" else f"{modality} of "
        if modality not in file.channels:
            notes.append(f"{what}{where}: no {modality} in {event.file}; left out")
            if modality == "eeg":
                return None, notes
            continue
        x = file.span(modality, names, event.onset, duration)
        flat = np.ptp(x, axis=1) == 0 if x.size else np.ones(len(x), dtype=bool)
        if flat.all():
            notes.append(f"{what}{where}: every {modality} channel is constant; left out")
            if modality == "eeg":
                return None, notes
            continue
        swing = _swing(x, file.sfreq[modality])
        for name, is_flat, much in zip(names, flat, swing, strict=True):
            if is_flat:
                notes.append(f"channel {name} of {where}: constant; kept")
            elif much < _LEAST_SWING.get(modality, 0.0):
                notes.append(
                    f"channel {name} of {where}: nearly flat, {much:.3g} uV in 2 s where "
                    f"{_LEAST_SWING[modality]:g} are expected; kept"
                )
        signals[modality] = x
        rest = _baseline(file, event, source.options)
        if rest is not None:
            baseline[modality] = file.span(modality, names, *rest)
    trial = Trial(event.stimulus, event.order, signals, baseline, dict(event.ratings))
    return trial, notes


def _swing(x: Floats, sfreq: float) -> NDArray[np.float64]:
    """Median over windows of 2 s of the distance between highest and lowest sample, (n_chans,)."""
    n_times = max(min(round(2 * sfreq), x.shape[1]), 1)
    windows = x[:, : x.shape[1] // n_times * n_times].reshape(len(x), -1, n_times)
    return np.asarray(np.median(np.ptp(windows, axis=2), axis=1), dtype=np.float64)


def _baseline(file: RawFile, event: Event, options: MneOptions) -> tuple[float, float] | None:
    """Onset and duration of the rest before a trial, if the file has it whole."""
    rest: Any = event.baseline
    if rest is None and options.baseline_seconds > 0:
        rest = (event.onset - options.baseline_seconds, options.baseline_seconds)
    if rest is None or rest[0] < 0 or sum(rest) > file.seconds:
        return None
    return rest[0], rest[1]
