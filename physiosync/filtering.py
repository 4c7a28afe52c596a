"""Filters that every format shares: another rate, a band, eye movements, the average reference.

Pure: arrays in, arrays out, (n_chans, n_times). All filters are symmetric, so nothing is delayed.
"""

from __future__ import annotations

from fractions import Fraction

import mne
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.signal import firwin, kaiserord, oaconvolve, resample_poly

from physiosync.config import Config

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

#: What the anti-aliasing filter leaves of what the new rate can't hold, in dB below it.
_STOP_DB = 80.0
#: Share of the band below the lower rate's Nyquist frequency in which that filter falls.
_FALL = 0.2
#: Eye movements and blinks are largest below the EEG's usual band, so the weights with which they
#: reach each electrode are fitted from here on, in Hz.
_EYES_FROM = 1.0


class Band(Config):
    """What a filter keeps, in Hz; None leaves a side open."""

    low: float | None = Field(default=None, gt=0)
    high: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _rising(self) -> Band:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high, but got {self.low:g} and {self.high:g} Hz")
        return self

    def check(self, sfreq: float) -> None:
        """Raise ValueError unless both edges lie below the Nyquist frequency of a rate."""
        for edge in (self.low, self.high):
            if edge is not None and edge >= sfreq / 2:
                raise ValueError(
                    f"band edges must lie below {sfreq / 2:g} Hz at {sfreq:g} Hz, but got {edge:g}"
                )


def resample(x: Floats | Array, ratio: Fraction) -> Floats:
    """Change the rate of (n_chans, n_times) by `ratio`, to ceil(n_times * ratio) samples.

    Up to 0.8 of the lower rate's Nyquist frequency all is kept (within 0.01 %), what lies above
    that frequency is 80 dB down. Sample k of the result stands for the time k / new rate.
    """
    if ratio == 1:
        return np.asarray(x, dtype=np.float32)
    highest = max(ratio.numerator, ratio.denominator)
    n_taps, beta = kaiserord(_STOP_DB, _FALL / highest)
    taps = firwin(n_taps | 1, (1 - _FALL / 2) / highest, window=("kaiser", beta))
    # Up-sampling leaves a trace of the offset at the old rate's multiples, so that goes first.
    mean = x.mean(axis=1, keepdims=True, dtype=np.float64)
    # "line": without it the filter would take the signal for zero beyond its ends, and every trial
    # of a signal that drifts (temperature, skin conductance) would begin and end in a step.
    y = resample_poly(
        x - mean,
        ratio.numerator,
        ratio.denominator,
        axis=1,
        window=taps,  # type: ignore[call-overload]  # An array is allowed, by its documentation.
        padtype="line",
    )
    return np.asarray(y + mean, dtype=np.float32)


def band_pass(x: Floats, sfreq: float, band: Band) -> Floats:
    """Keep what lies between two frequencies of (n_chans, n_times), without a delay.

    A linear-phase FIR filter as MNE designs it, with a Blackman window: all is kept between the
    edges, and beyond them it falls by 60 dB within a quarter of the edge's frequency (within 2 Hz
    at least, where there is room). Beyond its ends a piece goes on as its own mirror image, so that
    an offset makes no step there (on noise with the spectrum of EEG, half of the error that a point
    reflection makes). Still, the first and last `settling` samples rest on mirrored ones.

    Raises
    ------
    ValueError
        If an edge of the band is not below sfreq / 2.
    """
    if band == Band() or not x.size:
        return x
    taps = _taps(sfreq, band)
    width = len(taps) // 2
    y = np.empty(x.shape, dtype=np.float32)
    # Row by row: a session in float64, extended and transformed, takes several times its size.
    for row, channel in enumerate(x):
        exact = channel.astype(np.float64)
        # Rounding errors follow the size of what is filtered, so an offset goes first.
        mean = exact.mean()
        extended = np.pad(exact - mean, width, mode="symmetric")
        y[row] = oaconvolve(extended, taps, mode="valid") + (mean if band.low is None else 0)
    return y


def settling(sfreq: float, band: Band) -> int:
    """Samples at each end of a piece on which what lies beyond it has an influence."""
    return 0 if band == Band() else len(_taps(sfreq, band)) // 2


def average_reference(eeg: Floats, used: NDArray[np.bool_]) -> Floats:
    """Subtract the mean of the electrodes `used`, (n_chans,), from these; others stay as they are.

    An electrode that records nothing would otherwise pull the mean, and show it upside down.
    """
    if not used.any():
        return eeg
    mean = eeg[used].mean(axis=0, dtype=np.float64)
    return np.asarray(eeg - np.where(used[:, None], mean, 0), dtype=np.float32)


def eye_weights(eeg: Floats, eog: Floats, sfreq: float, spans: list[slice]) -> Array:
    """How much of each eye channel reaches each electrode, (n_eeg, n_eog).

    Gratton et al. (1983), as `mne.preprocessing.EOGRegression` does it: linear regression of the
    electrodes on the eye channels, both from 1 Hz on.

    Parameters
    ----------
    eeg, eog : whole recordings in one unit; the electrodes with their final reference; no eye
        channel constant or a multiple of another
    spans : samples that the regression sees; what lies between trials may hold anything
    """
    both = np.concatenate([eeg, eog])
    names = [str(k) for k in range(len(both))]
    filtered = band_pass(both, sfreq, Band(low=_EYES_FROM))
    seen = np.concatenate([filtered[:, span] for span in spans], axis=1)
    kinds = ["eeg"] * len(eeg) + ["eog"] * len(eog)
    raw = mne.io.RawArray(seen, mne.create_info(names, sfreq, kinds), verbose="error")
    raw.set_eeg_reference([], verbose="error")  # It has been chosen already.
    weights: Array = mne.preprocessing.EOGRegression(proj=False).fit(raw).coef_
    return weights


def without_eyes(eeg: Floats, eog: Floats, weights: Array) -> Floats:
    """Subtract the share of the eye channels from each electrode; see `eye_weights`."""
    level = eog.mean(axis=1, keepdims=True, dtype=np.float64)
    moves = np.asarray(eog - level, dtype=np.float32)
    return np.asarray(eeg - weights.astype(np.float32) @ moves, dtype=np.float32)


def _taps(sfreq: float, band: Band) -> Array:
    band.check(sfreq)
    # Raw electrodes drift by millivolts; MNE's usual window keeps 1/200 of what is at 0.5 Hz.
    taps: Array = mne.filter.create_filter(
        None, sfreq, band.low, band.high, fir_window="blackman", verbose="error"
    )
    return taps
