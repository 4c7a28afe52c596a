"""Skin conductance in log microsiemens, from whatever a device records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.recordings.base import Recording

Floats = NDArray[np.float32]

#: Share of a trial's samples that may be missing (not positive) and are then interpolated.
MOST_MISSING = 0.05
#: Unit -> (factor, exponent): microsiemens = factor * x ** exponent.
_UNITS = {"Ohm": (1e6, -1), "nS": (1e-3, 1), "uS": (1.0, 1)}


def log_conductance(recording: Recording) -> Recording:
    """Turn GSR into log10 of microsiemens, so that its level and its slope are kept.

    Neither a resistance nor a conductance can be zero or negative, so such samples are missing. Up
    to 5 % of a trial are interpolated; a trial with more loses its GSR, or that of its baseline. If
    that would be most trials, the channel holds changes rather than an absolute value (a detrended
    signal is negative half of the time): it stays linear, and a resistance is turned upside down.

    Parameters
    ----------
    recording : "gsr" in Ohm, nS or uS; returned as it is without one

    Raises
    ------
    RecordingError
        If the unit is another.
    """
    channels = recording.modalities.get("gsr")
    if channels is None:
        return recording
    if channels.unit not in _UNITS:
        raise RecordingError(
            recording.source, "unit of gsr", expected=", ".join(_UNITS), found=channels.unit
        )
    factor, exponent = _UNITS[channels.unit]
    sentences: list[str] = []
    spoilt = [
        _missing(t.signals["gsr"]) > MOST_MISSING for t in recording.trials if "gsr" in t.signals
    ]
    relative = sum(spoilt) > len(spoilt) / 2
    unit = "log10 uS"
    if relative:
        unit = f"{channels.unit} (relative{', inverted' if exponent < 0 else ''})"
        sentences.append(
            f"level of gsr: more than {MOST_MISSING:.0%} of the samples are not positive in "
            f"{sum(spoilt)} of {len(spoilt)} trials, so it is not an absolute value; kept as {unit}"
        )

    def convert(signals: Mapping[str, Floats], where: str) -> Mapping[str, Floats]:
        if "gsr" not in signals:
            return signals
        x = signals["gsr"]
        if relative:
            return {**signals, "gsr": x * np.float32(exponent)}
        missing = _missing(x)
        if missing <= MOST_MISSING:
            return {**signals, "gsr": _log(x, factor, exponent)}
        sentences.append(
            f"{where}: {missing:.1%} of the samples are not positive, more than "
            f"{MOST_MISSING:.0%}; left out"
        )
        return {m: x for m, x in signals.items() if m != "gsr"}

    trials = []
    for trial in recording.trials:
        where = f"gsr of trial {trial.order} ({trial.stimulus})"
        signals = convert(trial.signals, where)
        baseline = convert(trial.baseline, f"baseline of {where}")
        trials.append(replace(trial, signals=signals, baseline=baseline))
    return replace(
        recording,
        modalities={**recording.modalities, "gsr": replace(channels, unit=unit)},
        trials=tuple(trials),
        left_out=(*recording.left_out, *sentences),
    )


def _missing(x: Floats) -> float:
    """Share of samples that are not positive, of the worst channel of (n_chans, n_times)."""
    return float((x <= 0).mean(axis=1).max()) if x.size else 0.0


def _log(x: Floats, factor: float, exponent: int) -> Floats:
    """log10 of microsiemens, (n_chans, n_times); samples that are not positive are interpolated."""
    filled = x.astype(np.float64)
    for channel in filled:
        there = np.flatnonzero(channel > 0)
        if len(there) < len(channel):
            channel[:] = np.interp(np.arange(len(channel)), there, channel[there])
    return np.asarray(np.log10(factor) + exponent * np.log10(filled), dtype=np.float32)
