"""From a reader's recording to what the shards hold: one rate, physical units, baseline handled.

Pure: recordings in, recordings out. Nothing is standardised here, because a scale has to be fitted
on training data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from physiosync.config import Config
from physiosync.errors import RecordingError
from physiosync.filtering import resample
from physiosync.recordings.base import Recording, Trial
from physiosync.shard_layout import BASE_SECONDS
from physiosync.skin import log_conductance

Floats = NDArray[np.float32]

#: Modalities that change so slowly that a trial's level only means something against its baseline.
SLOW = ("gsr", "temp")


Preset = Literal["small", "paper"]


class PreprocessingConfig(Config):
    """How recordings become shards."""

    sfreq: float = Field(default=128.0, gt=0)
    """Rate of every modality in Hz; even, so that half a second is a whole number of samples."""
    baseline: Literal["mean_slow", "template", "none"] = "mean_slow"
    """mean_slow: its mean is subtracted from skin conductance and temperature. template: the
    paper's one-second template is subtracted from every second of every modality, which marks all
    windows of a trial alike."""
    skin_conductance: Literal["log", "raw"] = "log"
    """log: log10 of microsiemens. raw: as recorded."""

    @field_validator("sfreq")
    @classmethod
    def _whole_base_window(cls, sfreq: float) -> float:
        if not (sfreq * BASE_SECONDS).is_integer():
            raise ValueError(f"sfreq must hold whole samples in {BASE_SECONDS} s, but got {sfreq}")
        return sfreq

    @classmethod
    def paper(cls) -> PreprocessingConfig:
        """What the paper did (section IV, "Data preprocessing")."""
        return cls(baseline="template", skin_conductance="raw")

    @classmethod
    def of(cls, preset: Preset) -> PreprocessingConfig:
        """That of a preset."""
        return cls.paper() if preset == "paper" else cls()


def preprocess(recording: Recording, config: PreprocessingConfig) -> Recording:
    """Bring all modalities to one rate and length, and handle their baseline.

    Parameters
    ----------
    recording : as a reader gives it; left as it is

    Returns
    -------
    recording : all modalities at `config.sfreq`, equally long within a trial. Its `left_out` tells
        what was skipped

    Raises
    ------
    RecordingError
        If a sample is NaN or infinite, the baseline that the configuration needs is missing, skin
        conductance has an unknown unit, or nothing is left.
    """
    _check(recording)
    recording = _without_short(recording)
    if config.skin_conductance == "log":
        recording = log_conductance(recording)
    recording = _resampled(recording, config.sfreq)
    if config.baseline == "mean_slow":
        recording = _minus_mean(recording)
    elif config.baseline == "template":
        recording = _minus_template(recording, round(config.sfreq))
    recording = _equally_long(recording)
    if not recording.trials:
        reasons = "; ".join(recording.left_out)
        raise RecordingError(
            recording.source, "trials", expected="at least one usable", found=f"none: {reasons}"
        )
    used = {modality for trial in recording.trials for modality in trial.signals}
    return replace(
        recording, modalities={m: c for m, c in recording.modalities.items() if m in used}
    )


def subtract_template(x: Floats, baseline: Floats, second: int) -> Floats:
    """Average the one-second blocks of a baseline and subtract the result from every second.

    PhysioSync, section IV. The template is one waveform, so every window of a trial carries it:
    classifiers of shuffled windows then recognise trials. For the `paper` preset only.

    Parameters
    ----------
    x : (n_chans, n_times)
    baseline : (n_chans, n_baseline), at least one second; what follows its last whole second is
        not used
    second : samples in a second
    """
    n_chans, n_times = x.shape
    n_blocks = baseline.shape[1] // second
    blocks = baseline[:, : n_blocks * second].reshape(n_chans, n_blocks, second)
    template = blocks.mean(axis=1, dtype=np.float64)
    repeated = np.tile(template, -(-n_times // second))[:, :n_times]
    return np.asarray(x - repeated, dtype=np.float32)


def _check(recording: Recording) -> None:
    for trial in recording.trials:
        where = f"trial {trial.order} ({trial.stimulus})"
        for part, signals in (("", trial.signals), ("baseline of ", trial.baseline)):
            for modality, x in signals.items():
                ch_names = recording.modalities[modality].ch_names
                if x.ndim != 2 or len(x) != len(ch_names):
                    raise RecordingError(
                        recording.source,
                        f"{part}{where}, {modality}",
                        expected=f"({len(ch_names)} channels, samples)",
                        found=f"{x.shape}",
                    )
                bad = ~np.isfinite(x)
                if bad.any():
                    k = int(np.flatnonzero(bad.any(axis=1))[0])
                    raise RecordingError(
                        recording.source,
                        f"{part}{where}, channel {ch_names[k]}",
                        expected="finite samples",
                        found=f"{int(bad[k].sum())} of {x.shape[1]} NaN or infinite",
                    )


def _without_short(recording: Recording) -> Recording:
    """Leave out modalities far shorter than their trial, and trials without a base window."""
    kept, sentences = [], []
    for trial in recording.trials:
        where = f"trial {trial.order} ({trial.stimulus})"
        seconds = {m: x.shape[1] / recording.modalities[m].sfreq for m, x in trial.signals.items()}
        longest = max(seconds.values(), default=0.0)
        if longest < BASE_SECONDS:
            sentences.append(f"{where}: {longest:g} s, shorter than {BASE_SECONDS} s; left out")
            continue
        short = [m for m, s in seconds.items() if s < max(BASE_SECONDS, longest / 2)]
        sentences += [
            f"{m} of {where}: {seconds[m]:g} s of the trial's {longest:g} s; left out"
            for m in short
        ]
        kept.append(replace(trial, signals=_without(trial.signals, short)))
    return _with(recording, kept, sentences)


def _resampled(recording: Recording, sfreq: float) -> Recording:
    ratios = {
        m: (Fraction(sfreq) / Fraction(c.sfreq)).limit_denominator(10_000)
        for m, c in recording.modalities.items()
    }
    trials = [
        replace(
            trial,
            signals={m: resample(x, ratios[m]) for m, x in trial.signals.items()},
            baseline={m: resample(x, ratios[m]) for m, x in trial.baseline.items() if x.shape[1]},
        )
        for trial in recording.trials
    ]
    channels = {m: replace(c, sfreq=sfreq) for m, c in recording.modalities.items()}
    return replace(recording, modalities=channels, trials=tuple(trials))


def _minus_mean(recording: Recording) -> Recording:
    """Subtract the mean of the baseline from the slow modalities."""
    sentences: list[str] = []
    trials = list(recording.trials)
    for modality in SLOW:
        having = [t for t in trials if modality in t.signals]
        if having and not any(modality in t.baseline for t in having):
            sentences.append(f"baseline of {modality}: none recorded, so none subtracted")
            continue
        for k, trial in enumerate(trials):
            if modality not in trial.signals:
                continue
            if modality in trial.baseline:
                x = trial.signals[modality]
                mean = trial.baseline[modality].mean(axis=1, keepdims=True, dtype=np.float64)
                level = {modality: (x - mean).astype(np.float32)}
                trials[k] = replace(trial, signals={**trial.signals, **level})
            else:
                trials[k] = replace(trial, signals=_without(trial.signals, [modality]))
                sentences.append(
                    f"{modality} of trial {trial.order} ({trial.stimulus}): no baseline, unlike "
                    "other trials; left out"
                )
    return _with(recording, trials, sentences)


def _minus_template(recording: Recording, second: int) -> Recording:
    trials = []
    for trial in recording.trials:
        signals = {}
        for modality, x in trial.signals.items():
            baseline = trial.baseline.get(modality)
            n_times = 0 if baseline is None else baseline.shape[1]
            if baseline is None or n_times < second:
                raise RecordingError(
                    recording.source,
                    f"trial {trial.order} ({trial.stimulus}), baseline of {modality}",
                    expected="at least 1 s, for the template that is subtracted",
                    found=f"{n_times / second:g} s",
                )
            signals[modality] = subtract_template(x, baseline, second)
        trials.append(replace(trial, signals=signals))
    return replace(recording, trials=tuple(trials))


def _equally_long(recording: Recording) -> Recording:
    """Cut the modalities of each trial to the shortest; leave out trials that have none left."""
    kept, sentences = [], []
    for trial in recording.trials:
        where = f"trial {trial.order} ({trial.stimulus})"
        lengths = {m: x.shape[1] for m, x in trial.signals.items()}
        if not lengths:
            sentences.append(f"{where}: no usable signal; left out")
            continue
        n_times = min(lengths.values())
        sfreq = next(iter(recording.modalities.values())).sfreq
        cut = (max(lengths.values()) - n_times) / sfreq
        if cut >= BASE_SECONDS:
            shortest = min(lengths, key=lambda m: lengths[m])
            sentences.append(f"last {cut:g} s of {where}: not in {shortest}; left out")
        signals = {m: x[:, :n_times] for m, x in trial.signals.items()}
        kept.append(replace(trial, signals=signals))
    return _with(recording, kept, sentences)


def _without(signals: Mapping[str, Floats], modalities: Iterable[str]) -> dict[str, Floats]:
    return {m: x for m, x in signals.items() if m not in modalities}


def _with(recording: Recording, trials: Iterable[Trial], sentences: Iterable[str]) -> Recording:
    return replace(recording, trials=tuple(trials), left_out=(*recording.left_out, *sentences))
