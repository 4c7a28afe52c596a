"""Features of whole trials, on each person's own scale, and one classifier over all people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from physiosync.baselines.classifiers import Classify
from physiosync.labels import Labels
from physiosync.predictions import prediction_rows
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]

#: A trial id -> its features, (n_features,).
Describe = Callable[[WindowStore, int], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Trials:
    """Ids of the trials that a classifier meets.

    Parameters
    ----------
    train : that it is fitted on, of all people
    test : that it answers for
    scale : that give each person's scale, without labels
    """

    train: Ints
    test: Ints
    scale: Ints

    @property
    def every(self) -> Ints:
        """All of them, each once, ascending."""
        return np.unique(np.concatenate([self.train, self.test, self.scale]))


def described(store: WindowStore, trials: Trials, describe: Describe) -> pd.DataFrame:
    """Features of all trials on each person's own scale: a row a trial (index: its id)."""
    every = trials.every
    features = pd.DataFrame(
        np.stack([describe(store, trial) for trial in every.tolist()]), index=every
    )
    return standardised(features, store.trials["subject"], trials)


def standardised(features: pd.DataFrame, subject: pd.Series[str], trials: Trials) -> pd.DataFrame:
    """Each feature less its mean and over its spread in the subject's own scale trials.

    Subjects without any get the training trials of everyone; one trial alone gives a mean and
    leaves the spread as it is.

    Parameters
    ----------
    features : a row a trial (index: its id)
    subject : of every trial
    """
    out = features.copy()
    for ids in features.groupby(subject.loc[features.index]).groups.values():
        mine = np.intersect1d(ids.to_numpy(), trials.scale)
        reference = features.loc[mine] if len(mine) else features.loc[trials.train]
        spread = reference.std().replace(0.0, 1.0).fillna(1.0)
        out.loc[ids] = (features.loc[ids] - reference.mean()) / spread
    return out


def classified(
    features: pd.DataFrame,
    table: pd.DataFrame,
    trials: Trials,
    labels: Labels,
    classify: Classify,
    *,
    grouped_by: str = "stimulus",
) -> pd.DataFrame:
    """Answers of one classifier over all people, a row a test trial and target.

    Parameters
    ----------
    features : a row a trial (index: its id)
    table : of the store; ratings of test trials are only copied to the answers
    grouped_by : column of `table` whose values a classifier must not tear apart where it holds
        trials out to judge itself
    """
    rows = []
    for target, n_classes in labels.targets.items():
        y = labels.classes(table, target).loc[trials.train]
        rated = y[y >= 0]
        p = classify(
            features.loc[rated.index].to_numpy(),
            rated.to_numpy(),
            table[grouped_by].loc[rated.index].to_numpy(dtype=str),
            features.loc[trials.test].to_numpy(),
            n_classes,
        )
        rows.append(trial_rows(table, trials.test, target, p, labels))
    return pd.concat(rows, ignore_index=True)


def trial_rows(
    table: pd.DataFrame, trials: Ints, target: str, p: NDArray[np.float64], labels: Labels
) -> pd.DataFrame:
    """`prediction_rows` of whole trials."""
    starts = np.zeros(len(trials), dtype=np.int64)
    return prediction_rows(table, trials, starts, target, p, labels=labels, sfreq=1.0)
