"""What careful users ask of a study beside its scores: tables, from the predictions that were kept.

Nothing here reads a signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from physiosync import kshot_curve
from physiosync.labels import Labels
from physiosync.predictions import probability_columns, trial_predictions
from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.calibration import reject_curve
from physiosync.statistics.crossed import crossed_test
from physiosync.statistics.noise_ceiling import consensus_scores
from physiosync.statistics.permutation import permutation_test
from physiosync.statistics.regression import spearman_by_subject, spearman_interval
from physiosync.statistics.scores import correctness, weighted
from physiosync.thresholds import MIDDLE, outside_the_middle

#: Test people or clips below which intervals and p of two-way resampling are not to be trusted:
#: with so few the spread over them is hardly known, and a bootstrap finds too little of it.
FEW = 5
#: Of the trials behind a point of a reject curve.
FEWEST_ANSWERED = 10
#: What is permuted, and asked for its rejects: what a study is about.
RANK_1 = "pretrained"


@dataclass(frozen=True, eq=False)
class Scrutiny:
    """Tables for the report; each may be empty.

    Parameters
    ----------
    kshot : see `kshot_curve.kshot_table`; empty where nobody is held out
    notes : what is in no k-shot curve, and why
    ratings, rules, ceilings, order, permutations, rejects : of the functions below
    """

    kshot: pd.DataFrame
    notes: tuple[str, ...]
    ratings: pd.DataFrame
    rules: pd.DataFrame
    ceilings: pd.DataFrame
    order: pd.DataFrame
    permutations: pd.DataFrame
    rejects: pd.DataFrame


def read(
    folders: Sequence[Path],
    predictions: pd.DataFrame,
    labels: Labels,
    shots: Sequence[int],
    *,
    held_out: bool,
) -> Scrutiny:
    """From the folders of a study: its own, or those of its folds.

    Parameters
    ----------
    predictions : of all folders; see `tables.main_table`
    shots : every k that was asked for, where people are held out
    held_out : whether they are
    """
    # If some folders alone have one, `missing` says so.
    curves = held_out and len({(folder / "kshot.parquet").exists() for folder in folders}) == 1
    kshot, analyses = (
        _together([folder / name for folder in folders])
        for name in ("kshot.parquet", "analyses.parquet")
    )
    return Scrutiny(
        kshot=kshot_curve.kshot_table(predictions, kshot) if len(kshot) else kshot,
        notes=tuple(kshot_curve.left_out(predictions, kshot, shots)) if curves else (),
        ratings=rating_table(analyses),
        rules=rule_table(predictions, analyses, labels),
        ceilings=ceiling_table(predictions),
        order=order_table(analyses),
        permutations=permutation_table(predictions),
        rejects=reject_table(predictions),
    )


def missing(folds: Sequence[Path]) -> list[str]:
    """What only some folds have, so that no section can be about all, in sentences.

    What none has is said elsewhere, or was never asked for.
    """
    said = []
    for name, words in (
        ("kshot", "k-shot curves"),
        ("analyses", "ratings as numbers, other rules and drift"),
    ):
        without = [fold.name for fold in folds if not (fold / f"{name}.parquet").exists()]
        if 0 < len(without) < len(folds):
            said.append(f"{words}: none here, as {', '.join(without)} could give none")
    return said


def _together(paths: Sequence[Path]) -> pd.DataFrame:
    """What all folders have; nothing if one has none, for then not everybody is in it."""
    if not all(path.exists() for path in paths):
        return pd.DataFrame()
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def rating_table(analyses: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Ratings as numbers.

    Parameters
    ----------
    analyses : of `analyses.analyse`, with "method"
    seed : of the bootstrap

    Returns
    -------
    Columns "target", "method", "spearman" (mean over subjects), "low", "high" (95 % bootstrap
    interval over subjects and clips), "n_positive" and "n_subjects".
    """
    rows = []
    for (target, method), some in _asked(analyses, "rating"):
        each = spearman_by_subject(some).dropna()
        low, high = spearman_interval(some, seed=seed)
        rows.append(
            {
                "target": target,
                "method": method,
                "spearman": float(each.mean()),
                "low": low,
                "high": high,
                "n_positive": int((each > 0).sum()),
                "n_subjects": len(each),
            }
        )
    return pd.DataFrame(rows)


def rule_table(
    predictions: pd.DataFrame, analyses: pd.DataFrame, labels: Labels, *, seed: int = 0
) -> pd.DataFrame:
    """Scores under other rules than the study's for what is high.

    Returns
    -------
    Columns "target", "rule", "method", "balanced_accuracy", "low", "high", "n_trials" and
    "n_subjects".
    """
    rows = []
    if labels.threshold is not None and "rating" in predictions:
        clear = outside_the_middle(predictions, labels.threshold)
        low, high = labels.threshold - MIDDLE, labels.threshold + MIDDLE
        for (target, method), some in clear.groupby(["target", "method"], sort=False):
            runs = [trial_predictions(run) for _, run in some.groupby("seed")]
            named = {"target": target, "rule": f"without {low:g} to {high:g}", "method": method}
            rows.append(named | _scored(runs, seed))
    for (target, method), some in _asked(analyses, "median"):
        named = {"target": target, "rule": "each person's median", "method": method}
        rows.append(named | _scored([some.astype({"truth": int, "predicted": int})], seed))
    return pd.DataFrame(rows)


def ceiling_table(predictions: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """What others said of the clip, as an answer; see `noise_ceiling.consensus_scores`.

    Returns
    -------
    Columns "target", "balanced_accuracy", "low", "high", "n_trials", "n_subjects"; no row for a
    target whose test clips too few people rated.
    """
    rows = []
    for target, some in predictions.groupby("target", sort=False):
        first = some[some["method"] == some["method"].iloc[0]]
        first = first[first["seed"] == first["seed"].iloc[0]]
        scores = consensus_scores(trial_predictions(first))
        if len(scores):
            rows.append({"target": target} | _of_scores(scores, seed))
    return pd.DataFrame(rows)


def order_table(analyses: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Whether features tell the first half of a session from the second.

    Returns
    -------
    Columns "method", "balanced_accuracy", "low", "high", "n_trials", "n_subjects" and "p" (primary
    test against 0.5).
    """
    rows = []
    for (_, method), some in _asked(analyses, "order"):
        trials = some.astype({"truth": int, "predicted": int})
        p = crossed_test(correctness([trials]), null=0.5).p
        rows.append({"method": method} | _scored([trials], seed) | {"p": p})
    return pd.DataFrame(rows)


def permutation_table(predictions: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Both label permutations of the fine-tuned rank 1, of its first seed.

    Returns
    -------
    Columns "target", "balanced_accuracy", "p_within_subject", "p_whole_clip".
    """
    rows = []
    of_rank_1 = predictions[predictions["method"] == RANK_1]
    for target, some in of_rank_1.groupby("target", sort=False):
        trials = trial_predictions(some[some["seed"] == some["seed"].min()])
        within = permutation_test(trials, "within_subject", seed=seed)
        clip = permutation_test(trials, "whole_clip", seed=seed)
        rows.append(
            {
                "target": target,
                "balanced_accuracy": within.score,
                "p_within_subject": within.p,
                "p_whole_clip": clip.p,
            }
        )
    return pd.DataFrame(rows)


def reject_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Reject curves, a row a point: "target", "method", and what `reject_curve` gives.

    Of the fine-tuned and the frozen rank 1, the network from scratch and band power; first seeds.
    A curve begins where `FEWEST_ANSWERED` trials are answered: the accuracy of one says nothing.
    """
    rows = []
    shown = [RANK_1, "pretrained_probe", "scratch", "band_power"]
    some = predictions[predictions["method"].isin(shown)]
    some = some[some["seed"] == some.groupby("method")["seed"].transform("min")]
    for (target, method), run in some.groupby(["target", "method"], sort=False):
        trials = trial_predictions(run)
        p = trials[probability_columns(trials)].to_numpy(dtype=np.float64)
        curve = reject_curve(trials["truth"].to_numpy(dtype=np.int64), p)
        answered = (curve["coverage"] * len(trials)).round()
        rows.append(curve[answered >= FEWEST_ANSWERED].assign(target=target, method=method))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def too_few(predictions: pd.DataFrame) -> list[str]:
    """A warning if intervals must be too narrow, because there are few test people or clips."""
    people, clips = (predictions[name].nunique() for name in ("subject", "stimulus"))
    few = [
        f"{n} test {one if n == 1 else many}"
        for n, one, many in ((people, "person", "people"), (clips, "clip", "clips"))
        if n < FEW
    ]
    if not few:
        return []
    found = " and ".join(few)
    return [f"WARNING: {found}: intervals and p are too optimistic with fewer than {FEW}"]


def _asked(analyses: pd.DataFrame, analysis: str) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of one analysis, by target and method."""
    if not len(analyses):
        return []
    mine = analyses[analyses["analysis"] == analysis]
    return [
        ((str(target), str(method)), rows)
        for (target, method), rows in mine.groupby(["target", "method"], sort=False)
    ]


def _scored(runs: Sequence[pd.DataFrame], seed: int) -> dict[str, float]:
    return _of_scores(correctness(runs), seed)


def _of_scores(scores: pd.DataFrame, seed: int) -> dict[str, float]:
    w = weighted(scores)
    low, high = two_way_interval(scores, seed=seed)
    return {
        "balanced_accuracy": w.estimate,
        "low": low,
        "high": high,
        "n_trials": len(w.score),
        "n_subjects": w.n_subjects,
    }
