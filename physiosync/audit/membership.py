"""What the parts of a split share in names and in time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from physiosync.audit.assignment import CALIBRATION, PARTS, Assignment
from physiosync.audit.verdict import Verdict, from_count

#: Nearer than this, two windows of one recording are not independent (method of the negatives).
NEAR_SECONDS = 10.0


def check_names(assignment: Assignment) -> list[Verdict]:
    """Subjects, stimuli and trials that two parts share, as far as the protocol forbids it."""
    spans, protocol = assignment.spans, assignment.protocol
    verdicts = []
    for check, column, protocols in (
        ("subjects", "subject", ("subject", "both")),
        ("stimuli", "stimulus", ("stimulus", "both")),
    ):
        shared = _shared(spans, column)
        demanded = protocol in protocols
        said = f"{check} in two parts"
        if not demanded:
            said += f"; protocol {protocol} shares them"
        verdicts.append(from_count(check, len(shared), said, demanded=demanded, examples=shared))
    trials = _shared(spans, "trial")
    names = spans.drop_duplicates("trial").set_index("trial")
    examples = [f"{names['subject'][t]}/{names['stimulus'][t]}" for t in trials[:3]]
    verdicts.append(
        from_count("trials", len(trials), "trials with samples in two parts", examples=examples)
    )
    return verdicts


def check_calibration(assignment: Assignment) -> Verdict:
    """Calibration stimuli that held-out people are also judged on.

    Their scale would then be fitted on the very trials that it is tested with.
    """
    spans, calibration = assignment.spans, assignment.calibration
    if assignment.protocol not in ("subject", "both") or not calibration:
        said = "nobody is scaled on calibration trials"
        return Verdict(check=CALIBRATION, status="not applicable", number=None, said=said)
    judged = set(spans.loc[spans["part"] != "train", "stimulus"])
    both = sorted(judged & set(calibration))
    said = f"of {len(calibration)} calibration stimuli in validation or test"
    return from_count(CALIBRATION, len(both), said, examples=both)


def check_time(assignment: Assignment, sfreq: float) -> list[Verdict]:
    """Windows that overlap with another part's, or lie near them in the same recording.

    Trials that held-out people are calibrated on count as a part.
    """
    near = round(NEAR_SECONDS * sfreq)
    overlapping = neighbours = 0
    for later, earlier in _pairs_within_trials(assignment.all_spans):
        gap = np.maximum(
            earlier["start"].to_numpy()[None] - later["stop"].to_numpy()[:, None],
            later["start"].to_numpy()[:, None] - earlier["stop"].to_numpy()[None],
        )
        overlapping += int((gap < 0).any(axis=1).sum())
        neighbours += int(((gap >= 0) & (gap < near)).any(axis=1).sum())
    return [
        from_count("windows", overlapping, "held-out windows that overlap another part's"),
        from_count(
            "neighbours",
            neighbours,
            f"held-out windows within {NEAR_SECONDS:g} s of another part's, in one recording",
        ),
    ]


def _shared(spans: pd.DataFrame, column: str) -> list[str]:
    parts = spans.groupby(column)["part"].nunique()
    return sorted(parts.index[parts > 1])


def _pairs_within_trials(
    spans: pd.DataFrame,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """(spans of a later part, spans of an earlier one) of each trial that has both."""
    parts = spans.groupby("trial")["part"].nunique()
    of_two = spans[spans["trial"].isin(parts.index[parts > 1])]
    for _, mine in of_two.groupby("trial"):
        for earlier, later in combinations((*PARTS, CALIBRATION), 2):
            one, two = mine[mine["part"] == later], mine[mine["part"] == earlier]
            if len(one) and len(two):
                yield one, two
