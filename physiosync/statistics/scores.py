"""Trial scores: the one table that every statistic here takes, and balanced accuracy as its sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_KEYS = ["subject", "stimulus"]


def correctness(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """How often each trial was answered rightly.

    Parameters
    ----------
    runs : predictions of one method, a table for each seed with "subject", "stimulus", "truth" and
        "predicted"; all of the same trials

    Returns
    -------
    Columns "subject", "stimulus", "truth" and "score" (share of the runs that were right), ordered
    by subject and stimulus.

    Raises
    ------
    ValueError
        If a run has a trial twice, or runs differ in their trials.
    """
    each = [
        run.assign(score=(run["truth"] == run["predicted"]).astype(float)).set_index(_KEYS)[
            ["truth", "score"]
        ]
        for run in runs
    ]
    for one in each:
        if one.index.has_duplicates:
            twice = one.index[one.index.duplicated()][0]
            raise ValueError(f"expected each trial once, found {twice} again")
        if len(one) != len(each[0]) or not one.index.isin(each[0].index).all():
            raise ValueError("expected runs of the same trials, found others")
    score = pd.concat([one["score"] for one in each], axis=1).mean(axis=1)
    return each[0].assign(score=score).reset_index().sort_values(_KEYS, ignore_index=True)


def difference(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Scores of `a` less those of `b`, trial by trial.

    Trials that only one of them has are left out.

    Parameters
    ----------
    a, b : tables of `correctness`
    """
    both = a.merge(b, on=[*_KEYS, "truth"], suffixes=("", "_b"))
    return both.assign(score=both["score"] - both["score_b"]).drop(columns="score_b")


@dataclass(frozen=True, eq=False)
class Weighted:
    """The mean balanced accuracy of subjects, as a weighted sum of trial scores.

    With n(s, k) trials of class k from subject s, who shows K(s) classes, a trial weighs
    1 / (S K(s) n(s, k)), so that `weight @ score` is the mean over the S subjects of the mean over
    their classes of the mean score (for scores of 0 and 1: of the recalls). Subjects who show one
    class only have no balanced accuracy; their trials are left out.

    Parameters
    ----------
    subject, stimulus, truth : (n_trials,) positions in the sorted names, of the trials that count
    score, weight : (n_trials,)
    n_subjects, n_stimuli : that count
    """

    subject: Ints
    stimulus: Ints
    truth: Ints
    score: Floats
    weight: Floats
    n_subjects: int
    n_stimuli: int

    @property
    def estimate(self) -> float:
        """The mean over subjects; NaN if there are none."""
        return float(self.weight @ self.score) if len(self.score) else float("nan")

    @property
    def by_subject(self) -> Floats:
        """(n_subjects,) mean over classes of the mean score; `estimate` is their mean."""
        total = np.zeros(self.n_subjects)
        np.add.at(total, self.subject, self.weight * self.score)
        return total * self.n_subjects


def weighted(scores: pd.DataFrame) -> Weighted:
    """Give each trial of a table of `correctness` or `difference` its weight."""
    subject, subjects = _places(scores["subject"])
    truth, labels = _places(scores["truth"])
    count = np.zeros((len(subjects), len(labels)))
    np.add.at(count, (subject, truth), 1.0)
    n_classes = (count > 0).sum(axis=1)
    usable = n_classes >= 2
    kept = usable[subject]
    subject, truth = subject[kept], truth[kept]
    stimulus, stimuli = _places(scores["stimulus"][kept])
    # A class that only left-out subjects show is none.
    shown, _ = _places(scores["truth"][kept])
    return Weighted(
        subject=(np.cumsum(usable) - 1)[subject],
        stimulus=stimulus,
        truth=shown,
        score=scores["score"].to_numpy(dtype=np.float64)[kept],
        weight=1.0 / (usable.sum() * n_classes[subject] * count[subject, truth]),
        n_subjects=int(usable.sum()),
        n_stimuli=len(stimuli),
    )


def _places(names: pd.Series[object]) -> tuple[Ints, Ints]:
    """Position of each name among the sorted different ones, and those."""
    place, different = pd.factorize(names, sort=True)
    return place.astype(np.int64), np.asarray(different)
