"""Whether probabilities mean what they say, and what is gained by not answering when unsure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def brier_score(truth: Ints, probabilities: Floats) -> float:
    """Mean squared distance from the truth, summed over classes: 0 is perfect, 2 the worst.

    Brier (1950), his original definition; for two classes it is twice scikit-learn's
    `brier_score_loss` with its default.

    Parameters
    ----------
    truth : (n_trials,)
    probabilities : (n_trials, n_classes)
    """
    hit = np.eye(probabilities.shape[1])[truth]
    return float(((probabilities - hit) ** 2).sum(axis=1).mean())


def calibration_error(truth: Ints, probabilities: Floats, *, n_bins: int = 10) -> float:
    """Expected calibration error: how far confidence lies from accuracy (Guo et al. 2017).

    Confidence is the largest probability; trials are put into `n_bins` equally wide bins of it, and
    |accuracy - mean confidence| is averaged over bins, weighted by their trials. With few trials it
    is above 0 also for perfect probabilities.

    Parameters
    ----------
    truth : (n_trials,)
    probabilities : (n_trials, n_classes)
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    place = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    gap = np.bincount(place, right - confidence, minlength=n_bins)
    return float(np.abs(gap).sum() / len(truth))


def reject_curve(truth: Ints, probabilities: Floats) -> pd.DataFrame:
    """Accuracy of the most confident trials, for each share of trials that are answered.

    Trials of equal confidence are answered together or not at all.

    Parameters
    ----------
    truth : (n_trials,)
    probabilities : (n_trials, n_classes)

    Returns
    -------
    Columns "coverage" (share answered, ascending), "accuracy" of those, "confidence" (the least).
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    n = np.arange(1, len(order) + 1)
    sorted_confidence = confidence[order]
    last = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)
    return pd.DataFrame(
        {
            "coverage": n[last] / len(order),
            "accuracy": (np.cumsum(right[order]) / n)[last],
            "confidence": sorted_confidence[last],
        }
    )
