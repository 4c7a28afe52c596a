"""Stretches: pieces of trials that protocol "window" shuffles as if each were a clip of its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def stretch_name(stimulus: str, second: int) -> str:
    """ "v07" from second 5 on -> "v07@005"."""
    return f"{stimulus}@{second:03d}"


def clip_of(stretch: str) -> str:
    """ "v07@005" -> "v07"; only for names that `stretch_name` made."""
    return stretch.rpartition("@")[0]


def stretch_table(
    table: pd.DataFrame, seconds: int, sfreq: float
) -> tuple[pd.DataFrame, Ints, Ints]:
    """All whole stretches of trials, trial after trial and in order of time.

    Parameters
    ----------
    table : a row a trial with "stimulus" and "n_times", and whatever else
    seconds : of a stretch
    sfreq : in Hz

    Returns
    -------
    The same columns, a row a stretch (index: its id); the position of each one's trial in `table`;
    and its first sample there.

    Raises
    ------
    ValueError
        If no trial is as long as a stretch.
    """
    length = round(seconds * sfreq)
    counts = table["n_times"].to_numpy(dtype=np.int64) // length
    if not counts.any():
        raise ValueError(f"seconds must be at most those of the longest trial, got {seconds}")
    trial = np.repeat(np.arange(len(counts)), counts)
    number = np.concatenate([np.arange(n) for n in counts.tolist()])
    rows = table.iloc[trial]
    names = [
        stretch_name(stimulus, k * seconds)
        for stimulus, k in zip(rows["stimulus"], number.tolist(), strict=True)
    ]
    cut = rows.assign(stimulus=names, n_times=length).reset_index(drop=True).rename_axis("trial")
    return cut, trial, number * length
