"""k-shot curves: scores by the number of labelled calibration trials, from saved predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from physiosync.predictions import probability_columns, trial_predictions
from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.scores import correctness, weighted
from physiosync.tables import label

HOW_TO_READ = (
    "Zero-shot is the classifier of the table above, which knows nobody of the test part. With k, "
    "it is adapted to each person by k labelled trials with calibration clips, which are never "
    "tested: its last linear map is fitted again on frozen features, pulled towards the pooled "
    "weights by a strength that is fixed beforehand (a person's log odds are expected to differ by "
    "about 1). The k trials are drawn several times, those of 2 containing that of 1; scores are "
    "means over draws. Where people differ little, a few trials cost more than they tell."
)


def kshot_table(predictions: pd.DataFrame, kshot: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Scores of whole test trials by k, zero-shot (k = 0) among them.

    Parameters
    ----------
    predictions : of the classifiers as they are; see `tables.main_table`
    kshot : of `kshot.kshot_rows`, with "method" and "seed"
    seed : of the bootstrap

    Returns
    -------
    Columns "target", "method", "shots", "balanced_accuracy" (mean over subjects, correctness
    averaged over draws), "low", "high" (95 % bootstrap interval over subjects and clips) and
    "subjects" (their scores, a tuple). A k that not every tested person can give has no row.
    """
    methods = kshot["method"].unique()
    of_methods = predictions[predictions["method"].isin(methods)]
    tables, people = {}, {}
    for (target, method), some in of_methods.groupby(["target", "method"], sort=False):
        runs = [trial_predictions(run) for _, run in some.groupby("seed")]
        tables[target, method, 0] = correctness(runs)
        people[target, method] = set(some["subject"])
    for (target, method, k), some in kshot.groupby(["target", "method", "shots"], sort=False):
        if set(some["subject"]) == people.get((target, method)):
            tables[target, method, k] = _correctness(some)
    rows = []
    for (target, method, shots), scores in tables.items():
        w = weighted(scores)
        low, high = two_way_interval(scores, seed=seed)
        rows.append(
            {
                "target": target,
                "method": method,
                "shots": int(shots),
                "balanced_accuracy": w.estimate,
                "low": low,
                "high": high,
                "subjects": tuple(w.by_subject.tolist()),
            }
        )
    order = {str(m): n for n, m in enumerate(methods)}
    targets = list(predictions["target"].unique())
    rows.sort(key=lambda r: (targets.index(r["target"]), order[str(r["method"])], r["shots"]))
    return pd.DataFrame(rows)


def _correctness(rows: pd.DataFrame) -> pd.DataFrame:
    """`correctness` of rows that are whole trials, over seeds and draws."""
    p = rows[probability_columns(rows)].to_numpy(dtype=np.float64)
    right = (p.argmax(axis=1) == rows["truth"]).astype(np.float64)
    by_trial = rows.assign(score=right).groupby(["subject", "stimulus", "truth"])
    return by_trial["score"].mean().reset_index()


def left_out(predictions: pd.DataFrame, kshot: pd.DataFrame, shots: Sequence[int]) -> list[str]:
    """A sentence for each asked-for k that is in no curve, with who lacks trials."""
    available = dict.fromkeys(predictions["subject"].unique(), 0)
    if len(kshot):
        available |= kshot.groupby("subject")["available"].first().to_dict()
    said = []
    for k in shots:
        if few := [name for name, n in available.items() if n < k]:
            has = ", ".join(f"{name} has {available[name]}" for name in sorted(few)[:3])
            said.append(f"k = {k} is left out: it needs {k} calibration trials a person, and {has}")
    return said


def kshot_lines(table: pd.DataFrame, target: str) -> list[str]:
    """For a terminal: a line a method with the score of each k; none without a curve."""
    rows = table[table["target"] == target] if len(table) else table
    if not len(rows):
        return []
    ks = sorted(rows["shots"].unique())
    head = "".join(f"{f'k={k}' if k else 'zero-shot':>11}" for k in ks)
    lines = [f"  {'with k labelled calibration trials':<38}{head}"]
    for method, mine in rows.groupby("method", sort=False):
        scores = mine.set_index("shots")["balanced_accuracy"].reindex(ks)
        each = "".join(f"{'-' if np.isnan(s) else f'{s:.3f}':>11}" for s in scores)
        lines.append(f"  {label(str(method)):<38}{each}")
    return lines


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """For the page."""
    return pd.DataFrame(
        {
            "target": table["target"],
            "method": [label(str(m)) for m in table["method"]],
            "k": table["shots"].map(lambda k: str(k) if k else "zero-shot"),
            "balanced accuracy": table["balanced_accuracy"].map("{:.3f}".format),
            "95 % interval": [
                f"{a:.3f} to {b:.3f}" for a, b in zip(table["low"], table["high"], strict=True)
            ],
        }
    )
