"""Methods side by side on the same trials, with p corrected over targets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from physiosync.predictions import probability_columns, trial_predictions
from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.crossed import crossed_test
from physiosync.statistics.scores import correctness, difference, weighted

#: What a method is compared with when it is compared with nothing but guessing.
CHANCE = "chance"


def compare(
    predictions: pd.DataFrame, pairs: Sequence[tuple[str, str]], *, seed: int = 0
) -> pd.DataFrame:
    """Compare methods, target by target.

    Parameters
    ----------
    predictions : rows of windows as `predictions.prediction_rows` makes them, with "method" and
        "seed"; correctness is averaged over seeds, trial by trial
    pairs : (method, reference); the reference may be `CHANCE`. Pairs with a method that is not
        there are left out, and `CHANCE` where it is not known (see `chance_level`)
    seed : of the bootstrap

    Returns
    -------
    Columns "target", "method", "reference"; "difference" of mean balanced accuracy with "low" and
    "high" (95 % bootstrap interval over subjects and clips); "p" of the primary test
    (`crossed_test`), "p_holm" (corrected over the targets of this pair), "effect_size",
    "minimal_detectable" (80 % power), "degrees_of_freedom", "n_subjects", "n_stimuli"; and, as a
    description only because subjects who share clips are not independent, "wilcoxon_p".
    """
    rows = []
    for target, of_target in predictions.groupby("target", sort=False):
        tables = {
            str(method): [trial_predictions(run) for _, run in of_method.groupby("seed")]
            for method, of_method in of_target.groupby("method")
        }
        for method, reference in pairs:
            if method not in tables or (reference != CHANCE and reference not in tables):
                continue
            guessing = chance_level(len(probability_columns(of_target)))
            if reference == CHANCE and np.isnan(guessing):
                continue
            chance = guessing if reference == CHANCE else 0.0
            scores = correctness(tables[method])
            if reference != CHANCE:
                scores = difference(scores, correctness(tables[reference]))
            test = crossed_test(scores, null=chance)
            low, high = two_way_interval(scores, seed=seed)
            rows.append(
                {
                    "target": target,
                    "method": method,
                    "reference": reference,
                    "difference": test.difference,
                    "low": low - chance,
                    "high": high - chance,
                    "p": test.p,
                    "effect_size": test.effect_size,
                    "minimal_detectable": test.minimal_detectable,
                    "degrees_of_freedom": test.degrees_of_freedom,
                    "n_subjects": test.n_subjects,
                    "n_stimuli": test.n_stimuli,
                    "wilcoxon_p": wilcoxon_over_subjects(scores, null=chance),
                }
            )
    table = pd.DataFrame(rows)
    if not len(table):
        return table
    table.insert(
        table.columns.get_loc("p") + 1,
        "p_holm",
        table.groupby(["method", "reference"])["p"].transform(lambda p: holm(p.to_numpy())),
    )
    return table


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's (1979) correction; NaN stays NaN and counts as no test."""
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * (len(order) - np.arange(len(order)))
    out[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return out


def wilcoxon_over_subjects(scores: pd.DataFrame, *, null: float = 0.0) -> float:
    """Signed-rank p over subjects: a description, no test, because subjects share clips.

    Parameters
    ----------
    scores : see `crossed_test`
    """
    gap = weighted(scores).by_subject - null
    if not (np.abs(gap) > 1e-12).any():
        return float("nan")
    # "auto" permutes ties of few subjects, for seconds: too much for a description.
    return float(stats.wilcoxon(gap, method="approx").pvalue)


def chance_level(n_classes: int) -> float:
    """What guessing scores, in balanced accuracy of subjects: 0.5; NaN with more than two classes.

    Recalls are averaged over the classes that a subject shows. Of two classes these are both, or
    there is no score. Of more, a subject may show K: a constant answer then scores 1 / K if it is
    among them and else 0, so guessing has no one level. Compare with "majority" instead.
    """
    return 0.5 if n_classes == 2 else float("nan")


def at_or_below_chance(by_subject: pd.Series[float], chance: float) -> int:
    """How many subjects' balanced accuracy is no better than guessing; undefined ones are none."""
    return int((by_subject <= chance + 1e-12).sum())
