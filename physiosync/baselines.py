"""What any method has to beat, on the very same split and trials."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import welch

from physiosync.labels import Labels
from physiosync.loading import complete_trials, scaled_loader
from physiosync.model import PhysioSync
from physiosync.predictions import prediction_rows
from physiosync.probing import covering_windows, embedding, fit_predict, predict_trials
from physiosync.scoring import mean_by
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]

#: Frequency bands in Hz; the recordings are band-passed at 4-45 Hz.
BANDS = {"theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 45.0)}

#: Inverse strength of the L2 penalty on its z-scored features (scikit-learn's C).
BAND_POWER_PENALTY = 0.01


def majority(
    table: pd.DataFrame, *, train: Ints, test: Ints, labels: Labels, of: str = "subject"
) -> pd.DataFrame:
    """The commonest training class of each subject; everyone's where one has no training trial.

    Parameters
    ----------
    of : "subject"; or "stimulus" for what other people said of the clip
    """
    rows = []
    for target, n_classes in labels.targets.items():
        everyone = labels.classes(table, target).loc[train]
        shares = {}
        for name, mine in everyone.groupby(table[of].loc[train]):
            shares[name] = _shares(mine, n_classes)
        fallback = _shares(everyone, n_classes)
        p = np.stack([shares.get(name, fallback) for name in table[of].loc[test]])
        rows.append(_rows(table, test, target, p, labels))
    return pd.concat(rows, ignore_index=True)


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
    table = store.trials
    features = band_power_features(
        store, train=train, test=test, scale=train if scale is None else scale
    )
    rows = []
    for target, n_classes in labels.targets.items():
        y = labels.classes(table, target).loc[train].to_numpy()
        p = fit_predict(
            features.loc[train[y >= 0]].to_numpy(),
            y[y >= 0],
            features.loc[test].to_numpy(),
            n_classes=n_classes,
            penalty=penalty,
        )
        rows.append(_rows(table, test, target, p, labels))
    return pd.concat(rows, ignore_index=True)


def band_power_features(
    store: WindowStore, *, train: Ints, test: Ints, scale: Ints
) -> pd.DataFrame:
    """Log power of each band and EEG channel, z-scored per subject: a row a trial (index: its id).

    Parameters
    ----------
    scale : see `band_power`
    """
    table = store.trials
    trials = np.unique(np.concatenate([train, test, scale]))
    powers = np.stack([_log_band_power(store, int(trial)) for trial in trials])
    features = pd.DataFrame(powers, index=trials)
    for ids in table.loc[trials].groupby("subject").groups.values():
        mine = np.intersect1d(ids.to_numpy(), scale)
        reference = features.loc[mine] if len(mine) else features.loc[train]
        spread = reference.std().replace(0.0, 1.0).fillna(1.0)
        features.loc[ids] = (features.loc[ids] - reference.mean()) / spread
    return features


def frozen_probe(
    model: PhysioSync,
    store: WindowStore,
    *,
    train: Ints,
    test: Ints,
    labels: Labels,
    penalty: float,
    scale: Ints | None = None,
) -> pd.DataFrame:
    """A linear probe on the frozen encoders, over all subjects together.

    With an untrained model this is the baseline of what the architecture alone gives.

    Parameters
    ----------
    scale : ids of the trials that each subject's scale is fitted on; by default `train`
    """
    table = store.trials
    modalities = ("eeg", *model.config.pps_channels)
    n_times, sfreq = model.config.long_times, store.sfreq
    train, test = (complete_trials(table, trials, modalities, n_times) for trials in (train, test))
    scale = train if scale is None else scale
    loader = scaled_loader(store, scale, model.config.lags, model.config.scaling)
    windows = [
        covering_windows(table, trials, n_times=n_times, sfreq=sfreq, seconds=None)
        for trials in (train, test)
    ]
    probabilities = predict_trials(
        embedding(model, loader),
        table,
        windows[0],
        windows[1],
        labels=labels,
        targets=tuple(labels.targets),
        penalty=penalty,
    )
    return pd.concat(
        [
            prediction_rows(
                table,
                windows[1].trials,
                windows[1].starts,
                target,
                p,
                labels=labels,
                sfreq=sfreq,
            )
            for target, p in probabilities.items()
        ],
        ignore_index=True,
    )


def trial_features(
    model: PhysioSync, store: WindowStore, trials: Ints, *, scale: Ints
) -> pd.DataFrame:
    """Mean features of the windows that cover each trial: a row a trial (index: its id).

    Parameters
    ----------
    trials : ids; whole ones that the network can read
    scale : ids of the trials that each subject's scale is fitted on
    """
    windows = covering_windows(
        store.trials, trials, n_times=model.config.long_times, sfreq=store.sfreq, seconds=None
    )
    loader = scaled_loader(store, scale, model.config.lags, model.config.scaling)
    names, mean = mean_by(embedding(model, loader)(windows.trials, windows.starts), windows.trials)
    return pd.DataFrame(mean, index=names)


def _shares(labels: pd.Series[int], n_classes: int) -> NDArray[np.float64]:
    known = labels[labels >= 0].to_numpy(dtype=np.int64)
    return np.bincount(known, minlength=n_classes) / max(1, len(known))


def _log_band_power(store: WindowStore, trial: int) -> NDArray[np.float64]:
    x = store.read("eeg", trial)
    sfreq = store.sfreq
    frequencies, power = welch(x, fs=sfreq, nperseg=min(len(x), round(2 * sfreq)), axis=0)
    bands = [
        power[(frequencies >= low) & (frequencies < high)].mean(axis=0)
        for low, high in BANDS.values()
    ]
    # A constant channel has no power at all; the floor keeps its logarithm finite.
    return np.log(np.maximum(np.concatenate(bands), 1e-12))


def _rows(
    table: pd.DataFrame,
    trials: Ints,
    target: str,
    p: NDArray[np.float64],
    labels: Labels,
) -> pd.DataFrame:
    starts = np.zeros(len(trials), dtype=np.int64)
    return prediction_rows(table, trials, starts, target, p, labels=labels, sfreq=1.0)
