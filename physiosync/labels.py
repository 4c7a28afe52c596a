"""From ratings to classes: one rule, used by every stage."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: Target -> number of classes.
N_CLASSES = {"arousal": 2, "valence": 2, "quadrant": 4}
TARGETS = tuple(N_CLASSES)


def classes(trials: pd.DataFrame, target: str, threshold: float) -> NDArray[np.int64]:
    """Class of every trial; -1 where the rating is missing.

    A rating on the threshold is high, for the binary targets and for the quadrants alike, so that
    the two can never disagree.

    Parameters
    ----------
    trials : has the columns "arousal" and "valence"
    target : "arousal" or "valence" (0 low, 1 high), or "quadrant" (0 high arousal and high
        valence, 1 high/low, 2 low/high, 3 low/low)
    threshold : in the units of the rating scale

    Raises
    ------
    ValueError
        If the target is unknown.
    """
    if target not in N_CLASSES:
        raise ValueError(f"target must be one of {TARGETS}, but got {target!r}")
    if target != "quadrant":
        return _binary(trials[target], threshold)
    arousal, valence = (_binary(trials[name], threshold) for name in ("arousal", "valence"))
    quadrant = 2 * (1 - arousal) + (1 - valence)
    return np.where((arousal < 0) | (valence < 0), -1, quadrant)


def _binary(ratings: pd.Series[float], threshold: float) -> NDArray[np.int64]:
    values = ratings.to_numpy(dtype=np.float64)
    return np.where(np.isnan(values), -1, (values >= threshold).astype(np.int64))
