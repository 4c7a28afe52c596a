"""Ratings as numbers: rank correlation within subjects, where subjects share clips."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def spearman_by_subject(rows: pd.DataFrame) -> pd.Series[float]:
    """Spearman's correlation of each subject's trials; NaN where one side is constant.

    Within subjects, because people use a scale differently and that is no matter of signals.

    Parameters
    ----------
    rows : a row a trial with "subject", "stimulus", "truth" (the rating) and "predicted"
    """
    truth, predicted, subjects = _grids(rows)
    return pd.Series(_spearman(truth, predicted), index=subjects, name="spearman")


def spearman_interval(
    rows: pd.DataFrame, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the mean over subjects, resampling subjects *and* stimuli.

    As `bootstrap.two_way_interval`. A clip that is drawn twice is a tie with itself, which brings
    correlations a little nearer to 0.

    Parameters
    ----------
    rows : see `spearman_by_subject`

    Returns
    -------
    Lower and upper bound; NaN if no subject has a correlation.
    """
    truth, predicted, _ = _grids(rows)
    rng = np.random.default_rng(seed)
    n_subjects, n_stimuli = truth.shape
    clips = rng.integers(n_stimuli, size=(n_resamples, n_stimuli))
    people = rng.integers(n_subjects, size=(n_subjects, n_resamples))
    each = _spearman(truth[:, clips], predicted[:, clips])
    drawn = np.take_along_axis(each, people, axis=0)
    known = ~np.isnan(drawn)
    usable = known.any(axis=0)
    if not usable.any():
        return float("nan"), float("nan")
    means = np.where(known, drawn, 0.0).sum(axis=0)[usable] / known.sum(axis=0)[usable]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _grids(rows: pd.DataFrame) -> tuple[Floats, Floats, list[str]]:
    """(n_subjects, n_stimuli) ratings and predictions, NaN where one is missing; the subjects."""
    truth, predicted = (
        rows.pivot_table(index="subject", columns="stimulus", values=name, dropna=False)
        for name in ("truth", "predicted")
    )
    t, p = truth.to_numpy(dtype=np.float64), predicted.to_numpy(dtype=np.float64)
    missing = np.isnan(t) | np.isnan(p)
    return np.where(missing, np.nan, t), np.where(missing, np.nan, p), [str(s) for s in truth.index]


def _spearman(a: Floats, b: Floats) -> Floats:
    """Along the last axis of two arrays whose gaps coincide: correlation of the ranks."""
    known = ~np.isnan(a)
    n = np.maximum(1, known.sum(axis=-1, keepdims=True))
    centred = []
    for x in (a, b):
        # What is missing gets the highest ranks, so that it moves no other's.
        ranks = stats.rankdata(np.where(known, x, np.inf), axis=-1) * known
        centred.append(np.where(known, ranks - ranks.sum(axis=-1, keepdims=True) / n, 0.0))
    up = (centred[0] * centred[1]).sum(axis=-1)
    down = np.sqrt((centred[0] ** 2).sum(axis=-1) * (centred[1] ** 2).sum(axis=-1))
    return np.where(down > 1e-12, up / np.where(down > 1e-12, down, 1.0), np.nan)
