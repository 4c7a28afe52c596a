"""From window probabilities to scores of trials; nothing is ever averaged over batches."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def mean_by(
    rows: NDArray[np.floating], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Average the rows that belong to one group.

    Parameters
    ----------
    rows : (n_windows, n) probabilities or features
    groups : (n_windows,) which trial, or which stretch of one, a window belongs to

    Returns
    -------
    The groups in ascending order, and (n_groups, n) means.
    """
    names, where = np.unique(groups, return_inverse=True)
    total = np.zeros((len(names), rows.shape[1]))
    np.add.at(total, where, rows)
    return names, total / np.bincount(where)[:, None]


def balanced_accuracy(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Mean recall over the classes present in `truth`; NaN if fewer than two are.

    With one class only, a constant answer would score 1; such a case says nothing and is reported
    as undefined instead of being counted.
    """
    present = np.unique(truth)
    if len(present) < 2:
        return float("nan")
    return float(np.mean([np.mean(predicted[truth == c] == c) for c in present]))


def chance_corrected(score: float, n_classes: int) -> float:
    """Balanced accuracy rescaled so that 0 is chance and 1 is perfect."""
    chance = 1.0 / n_classes
    return (score - chance) / (1.0 - chance)


def score_by_subject(predictions: pd.DataFrame) -> pd.Series[float]:
    """Balanced accuracy of each subject's trials, NaN where the subject shows one class only.

    Scores are taken within subjects because a classifier that only knew how often each person says
    "high" would beat 0.5 on a confusion matrix pooled over people.

    Parameters
    ----------
    predictions : a row a trial, with "subject", "truth" and "predicted"
    """
    scores = {
        str(subject): balanced_accuracy(
            rows["truth"].to_numpy(dtype=np.int64), rows["predicted"].to_numpy(dtype=np.int64)
        )
        for subject, rows in predictions.groupby("subject", sort=True)
    }
    return pd.Series(scores, dtype=np.float64, name="balanced_accuracy")
