"""Intervals that resample subjects and clips."""

from __future__ import annotations

import numpy as np
import pandas as pd

from physiosync.statistics.scores import Floats


def two_way_interval(
    scores: pd.DataFrame, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the mean over subjects, resampling subjects *and* stimuli.

    Subjects who share clips are not independent of each other, so an interval over subjects alone
    would be too narrow (Owen 2007, "The pigeonhole bootstrap", who also shows that this one is a
    little too wide).

    Parameters
    ----------
    scores : a row a trial with "subject", "stimulus", "truth" and "score", of one method
        (`correctness`) or of a difference (`difference`)

    Returns
    -------
    Lower and upper bound; NaN if no subject shows two classes.
    """
    subjects, s = np.unique(scores["subject"].to_numpy(dtype=str), return_inverse=True)
    stimuli, c = np.unique(scores["stimulus"].to_numpy(dtype=str), return_inverse=True)
    truth = scores["truth"].to_numpy(dtype=np.int64)
    n_classes = int(truth.max(initial=0)) + 1
    count = np.zeros((len(subjects), n_classes, len(stimuli)))
    total = np.zeros_like(count)
    np.add.at(count, (s, truth, c), 1.0)
    np.add.at(total, (s, truth, c), scores["score"].to_numpy(dtype=np.float64))
    rng = np.random.default_rng(seed)
    draws = np.full(n_resamples, np.nan)
    for i in range(n_resamples):
        weight = np.bincount(rng.integers(len(stimuli), size=len(stimuli)), minlength=len(stimuli))
        people = rng.integers(len(subjects), size=len(subjects))
        draws[i] = _mean((count @ weight)[people], (total @ weight)[people])
    if np.isnan(draws).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _mean(count: Floats, total: Floats) -> float:
    """Mean over subjects who show two classes, of the mean over their classes.

    Parameters
    ----------
    count, total : (n_subjects, n_classes) trials, and the sum of their scores
    """
    shown = count > 0
    usable = shown.sum(axis=1) >= 2
    if not usable.any():
        return float("nan")
    means = np.divide(total, count, out=np.zeros_like(total), where=shown)[usable]
    return float((means.sum(axis=1) / shown[usable].sum(axis=1)).mean())
