"""What a report says beside the scores: comparisons with their p, chance, calibration, protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from physiosync.predictions import probability_columns, trial_predictions
from physiosync.scoring import chance_corrected
from physiosync.splits import PROTOCOLS
from physiosync.statistics.calibration import brier_score, calibration_error, reject_curve
from physiosync.statistics.comparison import CHANCE, compare

#: What is compared in every study; the first is the question that it asks.
PAIRS = (
    ("pretrained", "scratch"),
    ("pretrained", "scratch_pooled"),
    ("pretrained", "majority"),
    ("pretrained_probe", "untrained_probe"),
    ("pretrained_probe", "simclr_probe"),
    ("pretrained_probe", "shuffled_probe"),
    ("pretrained", CHANCE),
)
_WORDS = {
    ("pretrained", "scratch"): "pretrained less scratch",
    ("pretrained", "scratch_pooled"): "pretrained less scratch on everyone",
    ("pretrained", "majority"): "pretrained less majority",
    ("pretrained_probe", "untrained_probe"): "frozen pretrained less untrained",
    ("pretrained_probe", "simclr_probe"): "frozen pretrained less SimCLR",
    ("pretrained_probe", "shuffled_probe"): "frozen pretrained less shuffled pairs",
    ("pretrained", CHANCE): "pretrained less chance",
}
#: For a terminal: what the p of the printed table is.
WHAT_P_IS = (
    "p: would new people with new clips show the same difference? Crossed test, subjects and\n"
    "clips both random, two-sided, Holm over targets. [ ]: 95 % interval, bootstrap over both."
)
HOW_TO_READ_P = (
    "p is of the primary test: trials weighted to balanced accuracy, subjects and clips both as "
    "random effects (two-way cluster-robust variance), two-sided, Holm-corrected over targets. The "
    "interval is a two-way bootstrap; drawing people and clips, it counts the noise of single "
    "trials twice, so it is wider than the test and may hold 0 where p is small. Effect size: the "
    "difference in standard deviations of a single trial's difference. Detectable: the true "
    "difference that this design would find with 80 % power. Wilcoxon over subjects is a "
    "description only: subjects who share clips are not independent, and it finds differences "
    "where there are none. Where the majority scores what chance does, the differences to both are "
    "equal, but not their p: the majority's answers vary from person to person and clip to clip, "
    "guessing does not."
)
WHAT_PROBABILITIES_ARE_WORTH = (
    "Brier score: mean squared distance of a trial's probabilities from the truth; 0 is perfect, "
    "and with two classes 0.5 says nothing, as probabilities of one half do. Calibration error: by "
    "how much the confidence of trials differs from their accuracy, on average; 0 is perfect. "
    "Surest half: the trials with the highest confidence."
)


def protocol_in_words(protocol: str) -> str:
    """ "stimulus" -> "stimulus: known people, new clips"; "window" says that it is leaky."""
    return f"{protocol}: {PROTOCOLS[protocol]}" if protocol in PROTOCOLS else protocol


def comparisons(predictions: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """`compare` for `PAIRS`."""
    return compare(predictions, PAIRS, seed=seed)


def comparison_lines(table: pd.DataFrame, target: str) -> list[str]:
    """The pairs of `PAIRS` that are about training from scratch, for one target and a terminal."""
    if not len(table):
        return []
    return [
        f"  {_WORDS[pair]:<38} {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        f"  p {number(row['p_holm'])} (detectable {number(row['minimal_detectable'])})"
        for pair in PAIRS[:2]
        for _, row in table[
            (table["method"] == pair[0])
            & (table["reference"] == pair[1])
            & (table["target"] == target)
        ].iterrows()
    ]


def readable_comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """For the page: words and rounded numbers."""
    return pd.DataFrame(
        {
            "target": table["target"],
            "comparison": [
                _WORDS.get(pair, " less ".join(pair))
                for pair in zip(table["method"], table["reference"], strict=True)
            ],
            "difference": [_signed(d) for d in table["difference"]],
            "95 % interval": [
                "-" if np.isnan(a) else f"{a:+.3f} to {b:+.3f}"
                for a, b in zip(table["low"], table["high"], strict=True)
            ],
            "p (Holm)": table["p_holm"].map(number),
            "p": table["p"].map(number),
            "effect size": ["-" if np.isnan(e) else f"{e:.2f}" for e in table["effect_size"]],
            "detectable": table["minimal_detectable"].map(number),
            "subjects, clips": [
                f"{s}, {c}" for s, c in zip(table["n_subjects"], table["n_stimuli"], strict=True)
            ],
            "Wilcoxon (description)": table["wilcoxon_p"].map(number),
        }
    )


def probability_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """How good the probabilities of whole trials are, a row for each target and method.

    Returns
    -------
    Columns "target", "method", "brier", "calibration_error" and "accuracy_surest_half" (of the most
    confident half of the trials, with ties), means over seeds.
    """
    rows: list[dict[str, Any]] = []
    for (target, method), some in predictions.groupby(["target", "method"], sort=False):
        each = []
        for _, run in some.groupby("seed"):
            trials = trial_predictions(run)
            truth = trials["truth"].to_numpy(dtype=np.int64)
            p = trials[probability_columns(trials)].to_numpy(np.float64)
            curve = reject_curve(truth, p)
            half = curve.loc[curve["coverage"] >= 0.5, "accuracy"].iloc[0]
            each.append((brier_score(truth, p), calibration_error(truth, p), half))
        names = ("brier", "calibration_error", "accuracy_surest_half")
        means = dict(zip(names, np.mean(each, axis=0).tolist(), strict=True))
        rows.append({"target": target, "method": method} | means)
    return pd.DataFrame(rows)


def readable_probabilities(predictions: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """For the page: `probability_table`, beside the subjects at or below chance.

    Parameters
    ----------
    table : `tables.main_table`
    """
    both = table.merge(probability_table(predictions), on=["target", "method"])
    at_chance = zip(both["at_or_below_chance"], both["n_subjects"], strict=True)
    return pd.DataFrame(
        {
            "target": both["target"],
            "method": both["method"].astype(str),
            "subjects at or below chance": [
                "-" if np.isnan(k) else f"{k:.0f} of {n:.0f}" for k, n in at_chance
            ],
            "Brier score": both["brier"].map("{:.3f}".format),
            "calibration error": both["calibration_error"].map("{:.3f}".format),
            "accuracy, surest half": both["accuracy_surest_half"].map("{:.3f}".format),
        }
    )


def validation_beside_test(
    table: pd.DataFrame, validation: float, targets: Sequence[str], *, unit: str = "trials"
) -> str:
    """The search's measure on validation clips beside its like on test clips, in one sentence.

    Not quite the same: validation scores the middle of all people's trials together, which also
    pays for knowing who says "high" often; test scores whole trials, person by person.

    Parameters
    ----------
    table : `tables.main_table`
    validation : mean of the promoted configuration's runs on fresh folds, rescaled alike
    targets : that the objective is the mean of
    unit : what is scored
    """
    rows = table[(table["method"] == "pretrained_probe") & table["target"].isin(targets)]
    test = np.mean(
        [
            chance_corrected(row["balanced_accuracy"], int(row["n_classes"]))
            for _, row in rows.iterrows()
        ]
    )
    zero = "0 chance" if rows["chance"].notna().all() else "0 is one over the number of classes"
    return (
        f"{validation:.3f}, on test {unit} {test:.3f} (frozen probe of rank-1, {zero}, 1 perfect; "
        "validation scores all people together, test each alone)"
    )


def openings_in_words(openings: Sequence[Mapping[str, Any]], trials: int) -> str:
    """How often the test part was opened; exploratory if the search went on after that.

    Parameters
    ----------
    openings : of the ledger, each with the number of "trials" that had ended by then
    trials : that have ended now
    """
    later = max((trials - int(opening["trials"]) for opening in openings), default=0)
    if later <= 0:
        return str(len(openings))
    return f"{len(openings)}; EXPLORATORY: {later} search trials were added after it was opened"


def _signed(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.3f}"


def number(value: float) -> str:
    """A p or a detectable difference, for people; "-" where it is not known."""
    if np.isnan(value):
        return "-"
    if value > 1:
        return ">1"  # No difference of balanced accuracies is as large.
    return "<0.001" if 0 <= value < 0.001 else f"{value:.3f}"
