"""The tables of a report: scores of methods and of subjects, from predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from physiosync.predictions import probability_columns, scores_of, trial_predictions
from physiosync.scoring import score_by_subject
from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.comparison import at_or_below_chance, chance_level
from physiosync.statistics.scores import correctness
from physiosync.stretches import clip_of

#: Methods in the order of every table, with the words for them.
METHODS = {
    "majority": "majority of the training trials",
    "clip_consensus": "what others said of the clip",
    "peripheral": "peripheral statistics + linear",
    "artefacts": "eyes and muscles alone + linear",
    "band_power": "band power + linear",
    "entropy": "differential entropy + linear",
    "entropy_svm": "differential entropy + linear SVM",
    "entropy_peripheral": "entropy and peripheral + linear",
    "riemann": "Riemannian covariance + linear",
    "untrained_probe": "frozen untrained encoder + linear",
    "shuffled_probe": "frozen, pretrained on shuffled pairs",
    "simclr_probe": "frozen, within-subject SimCLR",
    "scratch": "same network from scratch",
    "scratch_pooled": "from scratch, on everyone first",
    "pretrained_probe_eeg": "frozen pretrained encoder, EEG alone",
    "pretrained_probe_pps": "frozen pretrained encoder, PPS alone",
    "pretrained_probe": "frozen pretrained encoder + linear",
    "pretrained": "pretrained, fine-tuned",
}


def main_table(
    predictions: pd.DataFrame, *, seed: int = 0, stretches: bool = False
) -> pd.DataFrame:
    """Scores of whole test trials, a row for each target and method.

    Parameters
    ----------
    predictions : rows of windows as `predictions.prediction_rows` makes them, with "method" and
        "seed"; several seeds are scored each and then averaged, over subjects and intervals alike
    seed : of the bootstrap
    stretches : whether what is scored are stretches; the bootstrap then resamples their clips

    Returns
    -------
    Columns "target", "method", "balanced_accuracy" (mean over subjects), "low", "high" (95 %
    bootstrap interval over subjects and clips), "accuracy", "f1", "n_subjects", "n_undefined"
    (subjects whose test trials show one class; they are in no mean), "n_classes", "chance" (see
    `chance_level`) and "at_or_below_chance" (subjects; NaN where chance is).
    """
    rows = []
    for target, of_target in predictions.groupby("target", sort=False):
        n_classes = len(probability_columns(of_target))
        chance = chance_level(n_classes)
        for method in _ordered(of_target["method"].unique()):
            runs = [run for _, run in of_target[of_target["method"] == method].groupby("seed")]
            beside = {"n_classes": n_classes, "chance": chance}
            beside["at_or_below_chance"] = _at_or_below(runs, chance)
            scored = _score_runs(runs, seed, stretches=stretches)
            rows.append({"target": target, "method": method, **scored, **beside})
    return pd.DataFrame(rows)


def _score_runs(runs: Sequence[pd.DataFrame], seed: int, *, stretches: bool) -> dict[str, float]:
    each = []
    for run in runs:
        trials = trial_predictions(run)
        by_subject = score_by_subject(trials)
        right = correctness([trials])
        if stretches:
            right["stimulus"] = right["stimulus"].map(clip_of)
        low, high = two_way_interval(right, seed=seed)
        of_trials = scores_of(run).query("level == 'trial'")
        each.append(
            {
                "balanced_accuracy": float(by_subject.mean()),
                "low": low,
                "high": high,
                "accuracy": float((trials["truth"] == trials["predicted"]).mean()),
                "f1": float(of_trials["f1"].mean()),
                "n_subjects": float(by_subject.notna().sum()),
                "n_undefined": float(by_subject.isna().sum()),
            }
        )
    return {name: float(np.mean([row[name] for row in each])) for name in each[0]}


def _at_or_below(runs: Sequence[pd.DataFrame], chance: float) -> float:
    if np.isnan(chance):
        return chance
    each = [score_by_subject(trial_predictions(run)) for run in runs]
    return at_or_below_chance(pd.concat(each, axis=1).mean(axis=1), chance)


def subject_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy of each subject's test trials.

    Returns
    -------
    Columns "target", "method", "subject", "score" and "chance" (see `chance_level`).
    """
    rows: list[dict[str, object]] = []
    for (target, method), some in predictions.groupby(["target", "method"], sort=False):
        chance = chance_level(len(probability_columns(some)))
        scores = pd.concat(
            [score_by_subject(trial_predictions(run)) for _, run in some.groupby("seed")], axis=1
        ).mean(axis=1)
        rows.extend(
            {"target": target, "method": method, "subject": subject, "score": score}
            | {"chance": chance}
            for subject, score in scores.items()
        )
    return pd.DataFrame(rows)


def label(method: str) -> str:
    """A method's name in words."""
    return METHODS.get(method, method)


def _ordered(methods: Sequence[str]) -> list[str]:
    known = [name for name in METHODS if name in methods]
    return known + sorted(name for name in methods if name not in METHODS)
