"""Frozen encoders under a linear probe: trained or not, of both modalities or of one alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from physiosync.labels import Labels
from physiosync.loading import complete_trials, scaled_loader
from physiosync.model import PhysioSync
from physiosync.model_config import ROLES, Role
from physiosync.predictions import prediction_rows
from physiosync.probing import covering_windows, embedding, predict_trials
from physiosync.scoring import mean_by
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]


def frozen_probe(
    model: PhysioSync,
    store: WindowStore,
    *,
    train: Ints,
    test: Ints,
    labels: Labels,
    penalty: float,
    scale: Ints | None = None,
    roles: Sequence[Role] = ROLES,
) -> pd.DataFrame:
    """A linear probe on the frozen encoders, over all subjects together.

    With an untrained model this is the baseline of what the architecture alone gives.

    Parameters
    ----------
    scale : ids of the trials that each subject's scale is fitted on; by default `train`
    roles : whose features the probe is given
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
        embedding(model, loader, roles=roles),
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
