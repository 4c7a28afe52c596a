"""Whether an encoder's pretraining saw what the split holds out."""

from __future__ import annotations

from pathlib import Path

from physiosync.audit.assignment import Assignment
from physiosync.audit.verdict import Verdict
from physiosync.errors import CheckpointError
from physiosync.provenance import FILE, Seen
from physiosync.windows import WindowStore


def check_pretraining(store: WindowStore, assignment: Assignment, checkpoint: Path) -> Verdict:
    """Compare the checkpoint's record with the test part, by names and by samples.

    Beside the test trials themselves, the protocol forbids clips (stimulus), people (subject) or
    either (both) of the test part in pretraining.

    Raises
    ------
    CheckpointError
        If there is no such folder, or its record is damaged.
    """
    if not checkpoint.is_dir():
        raise CheckpointError(checkpoint, "", expected="a model folder", found="no such folder")
    check = "pretraining"
    seen = Seen.load(checkpoint)
    if seen is None:
        said = f"the checkpoint has no {FILE}, so what it saw can't be known"
        return Verdict(check=check, status="failed", number=None, said=said)
    spans = assignment.spans
    test = spans.loc[spans["part"] == "test", "trial"].unique()
    mine = Seen.of(store, test)
    trials = set(mine.names) & set(seen.names)
    copies = set(mine.contents) & set(seen.contents)
    subjects = set(mine.subjects) & set(seen.subjects)
    stimuli = set(mine.stimuli) & set(seen.stimuli)
    counts = {"test trials by name": len(trials), "by their samples": len(copies)}
    if assignment.protocol in ("stimulus", "both"):
        counts["test stimuli"] = len(stimuli)
    if assignment.protocol in ("subject", "both"):
        counts["test subjects"] = len(subjects)
    found = ", ".join(f"{n} {what}" for what, n in counts.items())
    if assignment.protocol == "window":
        found += " (seconds of them, or all)"
    return Verdict(
        check=check,
        status="failed" if any(counts.values()) else "passed",
        number=max(len(trials), len(copies)),
        said=f"saw {found}, of {len(test)} test trials",
    )
