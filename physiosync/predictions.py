"""The table of predictions that every method fills alike, and the scores that follow from it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from physiosync.labels import Labels
from physiosync.scoring import balanced_accuracy, mean_by


def prediction_rows(
    table: pd.DataFrame,
    trials: NDArray[np.int64],
    starts: NDArray[np.int64],
    target: str,
    probabilities: NDArray[np.floating],
    *,
    labels: Labels,
    sfreq: float,
) -> pd.DataFrame:
    """One row a window: who, what, when, the true class, and a probability for each class.

    "rating" is the number that the class was made of; NaN for targets that are no rating.

    Parameters
    ----------
    table : trials (index: trial id) with "subject", "stimulus" and the ratings
    trials, starts : (n_windows,) trial id and first sample
    probabilities : (n_windows, n_classes)
    """
    truth = labels.classes(table, target)
    rows = pd.DataFrame(
        {
            "subject": table["subject"].loc[trials].to_numpy(),
            "stimulus": table["stimulus"].loc[trials].to_numpy(),
            "trial": trials,
            "start_seconds": starts / sfreq,
            "target": target,
            "truth": truth.loc[trials].to_numpy(),
            "rating": table[target].loc[trials].to_numpy(dtype=np.float64)
            if target in labels.ratings
            else np.nan,
        }
    )
    for c in range(max(labels.targets.values())):
        rows[f"p{c}"] = probabilities[:, c] if c < probabilities.shape[1] else np.nan
    return rows[rows["truth"] >= 0].reset_index(drop=True)


def probability_columns(windows: pd.DataFrame) -> list[str]:
    """The columns "p0", "p1", ... of the classes of *one* target; tables have some for the most."""
    columns = [f"p{c}" for c in range(windows.shape[1]) if f"p{c}" in windows]
    return [name for name in columns if windows[name].notna().any()]


def trial_predictions(windows: pd.DataFrame) -> pd.DataFrame:
    """From windows to trials of *one* method and target, by the mean probability.

    Returns
    -------
    A row a trial with "subject", "stimulus", "truth", "predicted" and a probability for each class
    ("p0", "p1", ...).
    """
    columns = probability_columns(windows)
    trials, mean = mean_by(windows[columns].to_numpy(), windows["trial"].to_numpy(dtype=np.int64))
    first = windows.drop_duplicates("trial").set_index("trial").loc[trials]
    return pd.DataFrame(
        {
            "subject": first["subject"].to_numpy(),
            "stimulus": first["stimulus"].to_numpy(),
            "truth": first["truth"].to_numpy(dtype=np.int64),
            "predicted": mean.argmax(axis=1),
            **{name: mean[:, c] for c, name in enumerate(columns)},
        }
    )


def scores_of(windows: pd.DataFrame) -> pd.DataFrame:
    """Scores of each subject and target, for windows and for whole trials.

    Parameters
    ----------
    windows : predictions of one method

    Returns
    -------
    Columns "subject", "target", "level" ("window" or "trial"), "n", "accuracy",
    "balanced_accuracy" and "f1" (macro), NaN where the subject shows one class: whoever always
    answers that class would score 1.
    """
    rows = []
    for target, of_target in windows.groupby("target", sort=True):
        columns = probability_columns(of_target)
        as_windows = of_target.assign(predicted=of_target[columns].to_numpy().argmax(axis=1))
        for level, table in (("window", as_windows), ("trial", trial_predictions(of_target))):
            for subject, mine in table.groupby("subject", sort=True):
                truth = mine["truth"].to_numpy(dtype=np.int64)
                predicted = mine["predicted"].to_numpy(dtype=np.int64)
                defined = len(np.unique(truth)) > 1
                f1 = f1_score(truth, predicted, average="macro", zero_division=0)
                rows.append(
                    {
                        "subject": subject,
                        "target": target,
                        "level": level,
                        "n": len(mine),
                        "accuracy": float(np.mean(truth == predicted)),
                        "balanced_accuracy": balanced_accuracy(truth, predicted),
                        "f1": float(f1) if defined else float("nan"),
                    }
                )
    return pd.DataFrame(rows)
