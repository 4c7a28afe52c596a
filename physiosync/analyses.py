"""What frozen features tell beside the study's classes: ratings as numbers, classes by each
person's median, and the half of the session that a trial lay in.

On the study's split, with linear models of a fixed penalty; nothing is tuned.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from physiosync.labels import Labels
from physiosync.probing import fit_predict
from physiosync.statistics.order import halves, tied_to_clips
from physiosync.thresholds import median_classes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ORDER = "second half of the session"


def analyse(
    features: pd.DataFrame,
    table: pd.DataFrame,
    *,
    train: Ints,
    test: Ints,
    labels: Labels,
    penalty: float,
) -> pd.DataFrame:
    """Fit on the training trials, answer for the test trials.

    Parameters
    ----------
    features : a row a trial (index: trial id)
    table : all trials (index: trial id) with "subject", "stimulus", "order" and the ratings
    penalty : inverse strength of the L2 penalty of classifiers (scikit-learn's C)

    Returns
    -------
    A row a test trial and question: "analysis" ("rating", "median" or "order"), "target",
    "subject", "stimulus", "trial", "truth", "predicted" (a rating less the person's mean; or a
    class). No "order" where halves are tied to clips, see `statistics.order`; without ratings only
    "order".
    """
    parts = []
    for target in labels.ratings:
        parts.append(_rating(features, table, target, train, test, penalty))
        classes = median_classes(table, target, train)
        parts.append(_classified("median", target, features, table, classes, train, test, penalty))
    if not tied_to_clips(table):
        half = halves(table)
        parts.append(_classified("order", ORDER, features, table, half, train, test, penalty))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _rating(
    features: pd.DataFrame,
    table: pd.DataFrame,
    target: str,
    train: Ints,
    test: Ints,
    penalty: float,
) -> pd.DataFrame:
    """Ridge regression to what a person's rating is above the mean of that person's."""
    rated = table.loc[train, target].dropna()
    own = rated.groupby(table["subject"].loc[rated.index]).transform("mean")
    # The curvature of a logistic loss is a quarter, so this is as strong as the classifiers'.
    model = make_pipeline(StandardScaler(), Ridge(alpha=4 / penalty))
    model.fit(features.loc[rated.index].to_numpy(), (rated - own).to_numpy())
    asked = table.loc[test, target].dropna()
    predicted = model.predict(features.loc[asked.index].to_numpy())
    return _rows("rating", target, table.loc[asked.index], asked.to_numpy(), predicted)


def _classified(
    analysis: str,
    target: str,
    features: pd.DataFrame,
    table: pd.DataFrame,
    classes: pd.Series[int],
    train: Ints,
    test: Ints,
    penalty: float,
) -> pd.DataFrame:
    train, test = (ids[(classes.loc[ids] >= 0).to_numpy()] for ids in (train, test))
    p = fit_predict(
        features.loc[train].to_numpy(),
        classes.loc[train].to_numpy(dtype=np.int64),
        features.loc[test].to_numpy(),
        n_classes=2,
        penalty=penalty,
    )
    return _rows(analysis, target, table.loc[test], classes.loc[test].to_numpy(), p.argmax(axis=1))


def _rows(
    analysis: str,
    target: str,
    asked: pd.DataFrame,
    truth: NDArray[np.number],
    predicted: NDArray[np.number],
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "analysis": analysis,
            "target": target,
            "subject": asked["subject"].to_numpy(),
            "stimulus": asked["stimulus"].to_numpy(),
            "trial": asked.index.to_numpy(),
            "truth": truth.astype(np.float64),
            "predicted": predicted.astype(np.float64),
        }
    )
