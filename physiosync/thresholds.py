"""Other rules than the study's for what is high: each person's median, and no middle."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: Ratings within this distance of the threshold say little: 4.5 to 5.5 on a scale from 1 to 9.
MIDDLE = 0.5


def outside_the_middle(predictions: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The trials whose rating is further from the threshold than `MIDDLE`; both ends are dropped.

    What was trained on all trials may be scored on these: nothing was fitted to them.

    Parameters
    ----------
    predictions : of `predictions.prediction_rows`; rows without a rating are dropped
    """
    return predictions[(predictions["rating"] - threshold).abs() > MIDDLE]


def median_classes(table: pd.DataFrame, rating: str, train: Ints) -> pd.Series[int]:
    """1 where a rating is at or above the person's own median, else 0; -1 where it is missing.

    The median is of the person's training trials; for people without any, of everyone's.

    Parameters
    ----------
    table : trials (index: trial id) with "subject" and the rating
    train : ids of the training trials
    """
    known = table.loc[train]
    medians = known.groupby("subject")[rating].median()
    own = table["subject"].map(medians).fillna(known[rating].median())
    high = (table[rating] >= own).astype(np.int64)
    return high.where(table[rating].notna(), -1)
