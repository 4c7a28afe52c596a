"""DREAMER: one `DREAMER.mat` with EEG and ECG of 23 people who watched 18 film clips.

Everybody saw the same clips and rated them from 1 to 5 [1]_. The index of a cell is the clip; the
order of presentation is not in the file. EEG has 14 channels at 128 Hz, the ECG two leads at a rate
of its own, 256 Hz. Both are as the devices gave them, unfiltered and with their offsets (some 4200
for EEG); a band-pass of the EEG is an option. The authors name no unit. The headset's maker says
that "one emotiv unit is almost exactly one microvolt", so the EEG is taken for uV; the ECG is in
arbitrary units.

.. [1] Katsigiannis, Ramzan (2018). DREAMER: A Database for Emotion Recognition Through EEG and ECG
   Signals From Wireless Low-cost Off-the-Shelf Devices. IEEE Journal of Biomedical and Health
   Informatics 22(1), 98-107. https://doi.org/10.1109/JBHI.2017.2688239
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from physiosync.errors import RecordingError
from physiosync.filtering import Band, band_pass, settling
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Recording, Trial
from physiosync.recordings.dreamer_file import (
    CHANNELS,
    EEG_NAMES,
    Floats,
    checked,
    film,
    matrices,
    ratings_of,
    subjects_of,
    take,
    write_dreamer,
)
from physiosync.shard_layout import BASE_SECONDS

__all__ = [
    "CHANNELS",
    "EEG_NAMES",
    "DreamerPreprocessing",
    "find_dreamer",
    "read_dreamer",
    "write_dreamer",
]

Part: TypeAlias = Literal["first", "last"]
_RATE = CHANNELS["eeg"].sfreq
_ALL = Band()


class DreamerPreprocessing(PreprocessingConfig):
    """Preprocessing that knows which part of the clips was read, so that another is read again.

    The default part is not in the identity: its shards are those that a study makes.
    """

    seconds: float = Field(default=60.0, ge=BASE_SECONDS)
    """Taken of each clip."""
    part: Part = "last"
    """Which end of the clip they are."""
    band: Band = _ALL
    """Of the EEG that is kept; by default all, its offset too."""

    @model_validator(mode="after")
    def _band_fits(self) -> DreamerPreprocessing:
        self.band.check(_RATE)
        return self

    def identity(self) -> dict[str, Any]:
        """Everything that changes a result, as plain JSON values."""
        plain = super().identity()
        if (self.seconds, self.part) == (60.0, "last"):
            del plain["seconds"], plain["part"]
        if self.band == _ALL:
            del plain["band"]
        return plain


def find_dreamer(path: Path) -> list[tuple[Path, str]]:
    """The subjects of a DREAMER file, as `preparation.prepare` takes them.

    Parameters
    ----------
    path : the file, or the folder that holds `DREAMER.mat`

    Returns
    -------
    pairs (file, "s01"), (file, "s02"), ..., by the cells of `Data`

    Raises
    ------
    RecordingError
        if there is no such file, or it is none of MATLAB 5
    """
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir() if p.is_file())
        named = [name for name in names if name.lower() == "dreamer.mat"]
        if not named:
            found = f"{len(names)} other files ({', '.join(names[:3])})" if names else "no files"
            raise RecordingError(path, "", expected="DREAMER.mat in it", found=found)
        path = path / named[0]
    return [(path, subject) for subject in subjects_of(path)]


def read_dreamer(
    path: Path,
    subject: str,
    *,
    seconds: float = 60.0,
    part: Part = "last",
    band: Band = _ALL,
) -> Recording:
    """Read one subject.

    Clips last from one to several minutes, so only a part of each is taken: the same seconds of the
    clip in both modalities and for every subject, counted from the first sample. Where a clip ends
    is what most subjects' EEG says. A process that has read one subject reads the others in no
    time, but holds what is left of the file's 2 GB until then (`dreamer_file.take`).

    Parameters
    ----------
    path : the file
    subject : "s01" for the first cell of `Data`, ...
    seconds : taken of each clip; shorter clips are taken whole. `prepare` can't see this option and
        the next: give it a `DreamerPreprocessing` that holds the same
    part : which end of the clip they are
    band : of the EEG that is kept. Clip and baseline are filtered on their own, as they need not
        follow on each other. Samples of the clip around the part are heard too, so that only where
        the clip itself begins or ends, and at both ends of the baseline, the filter has to go on as
        if the signal were mirrored (`filtering.band_pass`): for 4-45 Hz, 1.25 s

    Returns
    -------
    Recording
        one trial per clip, "film-01" in cell 1; `order` is the cell. Signals are (n_chans, n_times)
        float32, each modality at its own rate; the baseline is that of the same cell. `left_out`
        tells of trials whose EEG is constant or ends before half of the part is over, of trials
        without an ECG that varies, of single constant channels, and of recordings that end early.

    Raises
    ------
    RecordingError
        for a missing, truncated or foreign file, another subject, missing fields, sampling rates
        other than 128 and 256 Hz, other electrodes, arrays that are not (samples, channels), a
        rating outside 1..5, NaN, Inf or a number beyond 1e9 in what is taken, and a subject without
        any trial to use
    """
    if not seconds >= BASE_SECONDS or part not in ("first", "last"):
        raise ValueError(
            f"seconds must be at least {BASE_SECONDS} and part 'first' or 'last', "
            f"but got {seconds} and {part!r}"
        )
    dataset, fields = take(path, subject)
    n_clips = len(dataset.n_times)
    ratings = ratings_of(fields, path, subject, n_clips)
    notes = _Notes()
    arrays = {"eeg": matrices(fields, "eeg", path, subject, n_clips)}
    if "ECG" in fields.dtype.names:
        arrays["ecg"] = matrices(fields, "ecg", path, subject, n_clips)
    else:
        notes.add("ecg left out, not in the file")
    trials = []
    for k, n_clip in enumerate(dataset.n_times):
        n_times = min(n_clip, round(seconds * _RATE))
        begin = n_clip - n_times if part == "last" else 0
        if 0 < n_times < round(seconds * _RATE):
            notes.add(f"clips shorter than {seconds:g} s, taken whole", k, n_times / _RATE)
        signals, baseline, around, within = {}, {}, {}, {}
        for modality, (stimuli, rests) in arrays.items():
            ratio = CHANNELS[modality].sfreq / _RATE
            margin = settling(_RATE, band) if modality == "eeg" else 0
            span = slice(round(begin * ratio), round((begin + n_times) * ratio))
            first = max(0, span.start - margin)
            where = f"{subject}, {modality.upper()}"
            around[modality] = checked(
                stimuli[k][first : span.stop + margin],
                modality,
                path,
                f"{where}.stimuli, {film(k)}",
                first,
            )
            within[modality] = slice(span.start - first, span.stop - first)
            signals[modality] = around[modality][:, within[modality]]
            baseline[modality] = checked(rests[k], modality, path, f"{where}.baseline, {film(k)}")
        usable = _usable(signals, k, n_times / _RATE, notes)
        if "eeg" in usable:
            signals["eeg"] = band_pass(around["eeg"], _RATE, band)[:, within["eeg"]]
            baseline["eeg"] = band_pass(baseline["eeg"], _RATE, band)
            trials.append(
                Trial(
                    stimulus=film(k),
                    order=k + 1,
                    signals={m: signals[m] for m in usable},
                    baseline={m: baseline[m] for m in usable if baseline[m].size},
                    ratings={name: values[k] for name, values in ratings.items()},
                )
            )
    if not trials:
        found = f"none: {'; '.join(notes.sentences())}"
        raise RecordingError(path, f"{subject}, EEG", expected="trials to use", found=found)
    return Recording(
        dataset="dreamer",
        subject=subject,
        modalities={m: c for m, c in CHANNELS.items() if any(m in t.signals for t in trials)},
        trials=tuple(trials),
        source=path,
        fingerprint=dataset.fingerprint,
        left_out=notes.sentences(),
    )


class _Notes:
    """What was left out, and of which films."""

    def __init__(self) -> None:
        self._films: dict[str, list[str]] = {}

    def add(self, reason: str, k: int | None = None, seconds: float | None = None) -> None:
        films = self._films.setdefault(reason, [])
        if k is not None:
            films.append(film(k) if seconds is None else f"{film(k)} ({seconds:g} s)")

    def sentences(self) -> tuple[str, ...]:
        return tuple(f"{r}: {', '.join(films)}" if films else r for r, films in self._films.items())


def _usable(signals: Mapping[str, Floats], k: int, seconds: float, notes: _Notes) -> list[str]:
    """Modalities that have half of the part, and vary; none without EEG."""
    usable: list[str] = []
    constant = []
    for modality, x in signals.items():
        what = "whole trial" if modality == "eeg" else modality
        channels = CHANNELS[modality]
        has = x.shape[1] / channels.sfreq
        flat = np.ptp(x, axis=1) == 0 if x.size else np.ones(len(x), dtype=bool)
        if has < max(seconds / 2, 1 / channels.sfreq):
            notes.add(f"{what} left out where {modality} has less than half of the part", k, has)
        elif flat.all():
            notes.add(f"{what} left out where every {modality} channel is constant", k)
        else:
            usable.append(modality)
            if has <= seconds - BASE_SECONDS:
                notes.add(f"part cut short where {modality} ends early", k, has)
            names = zip(channels.ch_names, flat, strict=True)
            constant += [name for name, is_flat in names if is_flat]
        if "eeg" not in usable:
            return []
    for name in constant:
        notes.add(f"channel {name} kept where it is constant", k)
    return usable
