"""How far labels follow from the clip at all: what others say of it, as a classifier."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: People besides the one asked who must have rated a clip, for their consensus to be one.
OTHERS = 2


def consensus_scores(trials: pd.DataFrame, *, others: int = OTHERS) -> pd.DataFrame:
    """Whether each person's class is that which most *other* people gave the same clip.

    What an ideal rater could reach is not known, because nobody rated a clip twice. This is the
    part of it that clips explain: the score of an answer that knows how everyone else felt. Signals
    can beat it, since they may tell what is a person's own; a score far above it asks for a
    reason. With few people it is too low, as their consensus is noisy itself.

    Parameters
    ----------
    trials : a row a trial with "subject", "stimulus" and "truth" (class)
    others : trials whose clip fewer other people rated are left out

    Returns
    -------
    Columns "subject", "stimulus", "truth" and "score": 1 if the commonest class of the others is
    the truth, 1 / n if n classes tie and it is one of them, else 0.
    """
    classes = np.unique(trials["truth"])
    truth = trials["truth"].to_numpy()
    mine = truth[:, None] == classes
    by_clip = pd.DataFrame(mine.astype(float), index=trials["stimulus"].to_numpy())
    votes = by_clip.groupby(level=0).transform("sum").to_numpy() - mine
    best = votes == votes.max(axis=1, keepdims=True)
    score = (best & mine).any(axis=1) / best.sum(axis=1)
    found = trials[["subject", "stimulus", "truth"]].assign(score=score)
    return found[votes.sum(axis=1) >= others].reset_index(drop=True)
