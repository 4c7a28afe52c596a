"""Band power and differential entropy of the EEG."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import get_window, welch

from physiosync.baselines.classifiers import linear
from physiosync.baselines.features import Trials, classified, described
from physiosync.labels import Labels
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]

#: Frequency bands in Hz; the recordings are band-passed at 4-45 Hz.
BANDS = {"theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 45.0)}
#: Five bands, as is usual for differential entropy, but within what the recordings keep: no delta,
#: and beta in two.
ENTROPY_BANDS = {
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "low beta": (13.0, 20.0),
    "high beta": (20.0, 30.0),
    "gamma": (30.0, 45.0),
}
#: Inverse strength of the L2 penalty on z-scored band power (scikit-learn's C).
BAND_POWER_PENALTY = 0.01
#: A constant channel has no power at all; this keeps its logarithm finite.
_FLOOR = 1e-12


def band_power(
    store: WindowStore,
    *,
    train: Ints,
    test: Ints,
    labels: Labels,
    penalty: float = BAND_POWER_PENALTY,
    scale: Ints | None = None,
) -> pd.DataFrame:
    """Log band power of each EEG channel, z-scored per subject, and one linear classifier over all
    subjects.

    Parameters
    ----------
    scale : ids of the trials that give each subject's mean and spread, by default `train`. Subjects
        without any get everyone's; one trial alone gives a mean and leaves the spread as it is
    """
    trials = Trials(train=train, test=test, scale=train if scale is None else scale)
    features = described(store, trials, log_band_power)
    return classified(features, store.trials, trials, labels, linear(penalty))


def band_power_features(
    store: WindowStore, *, train: Ints, test: Ints, scale: Ints
) -> pd.DataFrame:
    """What `band_power` classifies: a row a trial (index: its id)."""
    return described(store, Trials(train=train, test=test, scale=scale), log_band_power)


def log_band_power(
    store: WindowStore,
    trial: int,
    modality: str = "eeg",
    bands: Mapping[str, tuple[float, float]] = BANDS,
) -> NDArray[np.float64]:
    """Of each band and channel of a trial, (n_bands * n_chans,), by Welch's method."""
    x = store.read(modality, trial)
    sfreq = store.sfreq
    frequencies, power = welch(x, fs=sfreq, nperseg=min(len(x), round(2 * sfreq)), axis=0)
    each = [
        power[(frequencies >= low) & (frequencies < high)].mean(axis=0)
        for low, high in bands.values()
    ]
    return np.log(np.maximum(np.concatenate(each), _FLOOR))


def differential_entropy(store: WindowStore, trial: int) -> NDArray[np.float64]:
    """Mean over a trial's seconds of the EEG's differential entropy, (n_bands * n_chans,)."""
    return entropy_of(store.read("eeg", trial), store.sfreq)


def entropy_of(x: NDArray[np.floating], sfreq: float) -> NDArray[np.float64]:
    """Differential entropy of each band and channel, in nats, mean over windows of a second.

    In a band a signal is close to Gaussian, of which it is log(2 pi e variance) / 2 (Duan, Zhu, Lu
    2013). The variance is that of a Hann window's spectrum; windows don't overlap, and what is left
    after the last whole one is not used.

    Parameters
    ----------
    x : (n_times, n_chans); padded with zeros if it is shorter than a second

    Returns
    -------
    (n_bands * n_chans,), the bands of `ENTROPY_BANDS` that lie below half of `sfreq`.
    """
    length = round(sfreq)
    if len(x) < length:
        x = np.pad(x, ((0, length - len(x)), (0, 0)))
    windows = x[: len(x) // length * length].reshape(-1, length, x.shape[1])
    windows = windows - windows.mean(axis=1, keepdims=True)
    taper = get_window("hann", length)
    spectrum = np.abs(fft.rfft(windows * taper[:, None], axis=1)) ** 2
    # Each frequency but the first and the last stands for itself and its negative.
    variance = 2 * spectrum / (length * np.sum(taper**2))
    frequencies = fft.rfftfreq(length, 1 / sfreq)
    each = [
        variance[:, inside].sum(axis=1)
        for low, high in ENTROPY_BANDS.values()
        if (inside := (frequencies >= low) & (frequencies < high)).any()
    ]
    entropy = 0.5 * np.log(2 * np.pi * np.e * np.maximum(np.stack(each, axis=1), _FLOOR))
    return entropy.mean(axis=0).ravel()
