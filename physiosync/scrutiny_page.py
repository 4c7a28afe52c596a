"""The sections of report.html that careful users ask for, in words and pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from physiosync import figures, kshot_curve
from physiosync.evidence import number
from physiosync.page import bullets, figure, html_table
from physiosync.scrutiny import FEWEST_ANSWERED, RANK_1, Scrutiny
from physiosync.statistics.noise_ceiling import OTHERS
from physiosync.tables import METHODS, label


def sections(found: Scrutiny, about: str) -> list[str]:
    """As HTML.

    Parameters
    ----------
    about : named in every caption: the data
    """
    return [
        *_kshot(found, about),
        *_ratings(found.ratings, about),
        *_rules(found.rules, about),
        *_ceilings(found.ceilings, about),
        *_permutations(found.permutations, about),
        *_order(found.order, about),
        *_rejects(found.rejects, about),
    ]


def _kshot(found: Scrutiny, about: str) -> list[str]:
    if not len(found.kshot) and not found.notes:
        return []
    parts = ["<h2>With labelled trials of the test people</h2>"]
    if len(found.kshot):
        parts += [
            figure(
                figures.kshot(found.kshot, METHODS),
                "k-shot curve: balanced accuracy by the number of labelled calibration trials; a "
                f"dot a subject, a line the mean, dotted: zero-shot. {about}.",
            ),
            html_table(kshot_curve.readable(found.kshot), caption=f"k-shot. {about}."),
            f"<p>{kshot_curve.HOW_TO_READ}</p>",
        ]
    return [*parts, bullets(found.notes)] if found.notes else parts


def _ratings(table: pd.DataFrame, about: str) -> list[str]:
    if not len(table):
        return []
    readable = pd.DataFrame(
        {
            "rating": table["target"],
            "features": [_features(m) for m in table["method"]],
            "Spearman": table["spearman"].map(_signed),
            "95 % interval": _interval(table, _signed),
            "subjects above 0": [
                f"{k} of {n}" for k, n in zip(table["n_positive"], table["n_subjects"], strict=True)
            ],
        }
    )
    return [
        "<h2>Ratings as numbers</h2>",
        html_table(readable, caption=f"Ridge regression to ratings. {about}."),
        "<p>Rank correlation of predicted and given ratings within each subject's test trials, "
        "mean over subjects. The regression learns how far a rating lies above the person's "
        "mean.</p>",
    ]


def _rules(table: pd.DataFrame, about: str) -> list[str]:
    if not len(table):
        return []
    readable = pd.DataFrame(
        {
            "target": table["target"],
            "rule": table["rule"],
            "method": [label(str(m)) for m in table["method"]],
            "balanced accuracy": table["balanced_accuracy"].map(_plain),
            "95 % interval": _interval(table, _plain),
            "trials, subjects with both classes": [
                f"{n:.0f}, {s:.0f}"
                for n, s in zip(table["n_trials"], table["n_subjects"], strict=True)
            ],
        }
    )
    return [
        "<h2>Other rules for what is high</h2>",
        html_table(readable, caption=f"Other thresholds. {about}."),
        "<p>Without the middle: the same predictions, scored on the trials whose rating is clear. "
        "Median: the linear classifiers fitted again; high is what lies at or above the median of "
        "a person's training ratings (of everyone's, for people who were not trained on).</p>",
    ]


def _ceilings(table: pd.DataFrame, about: str) -> list[str]:
    head = "<h2>How far labels follow from the clip</h2>"
    if not len(table):
        return [head, f"<p>No test clip was rated by more than {OTHERS} test people.</p>"]
    readable = pd.DataFrame(
        {
            "target": table["target"],
            "balanced accuracy": table["balanced_accuracy"].map(_plain),
            "95 % interval": _interval(table, _plain),
            "trials": table["n_trials"].map("{:.0f}".format),
            "subjects": table["n_subjects"].map("{:.0f}".format),
        }
    )
    return [
        head,
        html_table(readable, caption=f"Consensus of the other test people. {about}."),
        "<p>Each person's label, answered by what most other test people said of the same clip. "
        "Nobody rated a clip twice, so what an ideal rater could reach is not known; this is the "
        "part that clips explain. It reads no signal and knows test labels, so it is no rival. "
        "Signals can beat it where they tell what is a person's own; a score far above it asks for "
        "a reason. With few people it is too low, because their consensus is noisy.</p>",
    ]


def _permutations(table: pd.DataFrame, about: str) -> list[str]:
    if not len(table):
        return []
    readable = pd.DataFrame(
        {
            "target": table["target"],
            "balanced accuracy": table["balanced_accuracy"].map(_plain),
            "p, whole clips": table["p_whole_clip"].map(number),
            "p, within subjects": table["p_within_subject"].map(number),
        }
    )
    return [
        "<h2>Permuted labels</h2>",
        html_table(readable, caption=f"{label(RANK_1)}, 1000 permutations. {about}."),
        "<p>How often permuted test labels are answered as well, one-sided. Whole clips: clips "
        "swap their labels for everyone alike, so what people share stays. Within subjects: each "
        "person's labels are dealt anew, as if people were independent; where they share clips "
        "that p is too small.</p>",
    ]


def _order(table: pd.DataFrame, about: str) -> list[str]:
    head = "<h2>Drift</h2>"
    if not len(table):
        return [
            head,
            "<p>Each clip lay in the same half of the session for everybody, or files do not tell "
            "the order: drift can't be told from clips.</p>",
        ]
    readable = pd.DataFrame(
        {
            "features": [_features(m) for m in table["method"]],
            "balanced accuracy": table["balanced_accuracy"].map(_plain),
            "95 % interval": _interval(table, _plain),
            "p": table["p"].map(number),
        }
    )
    return [
        head,
        html_table(readable, caption=f"First or second half of the session. {about}."),
        "<p>Whether the features tell in which half of a session a test trial lay, chance 0.5; p "
        "of the primary test. What is decodable could pass for emotion wherever order and ratings "
        "go together.</p>",
    ]


def _rejects(table: pd.DataFrame, about: str) -> list[str]:
    if not len(table):
        return []
    return [
        "<h2>Answering only when sure</h2>",
        figure(
            figures.rejects(table, METHODS),
            "Reject curve: accuracy of the most confident test trials, by the share that is "
            f"answered, from {FEWEST_ANSWERED} trials on. {about}.",
        ),
    ]


def _features(method: object) -> str:
    return {"pretrained_probe": "frozen pretrained encoder", "band_power": "band power"}.get(
        str(method), str(method)
    )


def _interval(table: pd.DataFrame, text: Callable[[float], str]) -> list[str]:
    return [
        "-" if np.isnan(a) else f"{text(a)} to {text(b)}"
        for a, b in zip(table["low"], table["high"], strict=True)
    ]


def _plain(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.3f}"
