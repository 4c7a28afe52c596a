"""Baselines that need no signal: what a person, or everybody about a clip, usually says."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from physiosync.baselines.features import trial_rows
from physiosync.labels import Labels

Ints = NDArray[np.int64]


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
        rows.append(trial_rows(table, test, target, p, labels))
    return pd.concat(rows, ignore_index=True)


def _shares(labels: pd.Series[int], n_classes: int) -> NDArray[np.float64]:
    known = labels[labels >= 0].to_numpy(dtype=np.int64)
    return np.bincount(known, minlength=n_classes) / max(1, len(known))
