"""Signals that are none: constant, nearly flat, or cut off at the end of a device's range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: uV; a signal that moves less within 2 s, in the median, is none: the R wave of a skin ECG has
#: some hundred, and an electrode without contact to the skin often stays below one.
LEAST_SWING = {"eeg": 1.0, "ecg": 100.0}
#: Samples in a row at a signal's own highest or lowest value that no living signal has.
_RUN = 4


def constant(x: Floats) -> NDArray[np.bool_]:
    """Which channels of (n_chans, n_times) never change; all without samples."""
    if not x.size:
        return np.ones(len(x), dtype=bool)
    return np.asarray(np.ptp(x, axis=1) == 0)


def swing(x: Floats, sfreq: float) -> NDArray[np.float64]:
    """Median over windows of 2 s of the distance between highest and lowest sample, (n_chans,)."""
    n_times = min(round(2 * sfreq), x.shape[1])
    if not n_times:
        return np.zeros(len(x))
    windows = x[:, : x.shape[1] // n_times * n_times].reshape(len(x), -1, n_times)
    return np.asarray(np.median(np.ptp(windows, axis=2), axis=1), dtype=np.float64)


def clipped(x: Floats) -> NDArray[np.float64]:
    """Share of samples in runs at a channel's own highest or lowest value, (n_chans,).

    A constant channel is not clipped. Resampled signals are hardly ever found clipped.
    """
    shares = np.zeros(len(x))
    for k, channel in enumerate(x):
        if not channel.size or channel.min() == channel.max():
            continue
        for edge in (channel.min(), channel.max()):
            at = np.concatenate([[False], channel == edge, [False]])
            steps = np.flatnonzero(np.diff(at.astype(np.int8)))
            lengths = steps[1::2] - steps[::2]
            shares[k] += lengths[lengths >= _RUN].sum() / channel.size
    return shares
