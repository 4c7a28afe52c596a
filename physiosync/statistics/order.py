"""Early or late: the control for drift, whose labels are the places of trials in a session."""

from __future__ import annotations

import numpy as np
import pandas as pd


def halves(table: pd.DataFrame) -> pd.Series[int]:
    """0 for the trials of the first half of each person's session, 1 for those of the second.

    Parameters
    ----------
    table : all trials (index: trial id) with "subject" and "order"; the middle one of an odd number
        is early
    """
    place = table.groupby("subject")["order"].rank(method="first")
    n = table.groupby("subject")["order"].transform("size")
    return (place > np.ceil(n / 2)).astype(np.int64)


def tied_to_clips(table: pd.DataFrame) -> bool:
    """Whether every clip lies in the same half for all who saw it: then the half is the clip's.

    So it is where everybody saw clips in one order, or files do not tell the order.
    """
    of_clip = halves(table).groupby(table["stimulus"])
    return bool((of_clip.min() == of_clip.max()).all())
