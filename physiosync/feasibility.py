"""Whether a study can be run at all on its data, before any compute is spent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from physiosync.errors import StudyError
from physiosync.labels import Labels
from physiosync.options import StudyOptions
from physiosync.pretraining import moment_sampler
from physiosync.probing import Probe
from physiosync.splits import Split, folds


def check_feasible(
    options: StudyOptions, table: pd.DataFrame, sfreq: float, split: Split
) -> list[str]:
    """See that batches can be drawn, folds be made and probes be scored.

    Parameters
    ----------
    table : all trials (index: trial id) with ratings
    sfreq : in Hz

    Returns
    -------
    What is possible but worth knowing, in sentences.

    Raises
    ------
    SamplingError
        If subjects, stimuli or seconds are too few for the default configuration.
    SplitError
        If a validation part shows one class only.
    StudyError
        If no trial has the label, or the training part has no room for the finalists' folds.
    """
    if options.label is not None and options.label not in table:
        raise StudyError(
            f"--label: expected a rating of the recordings, found {options.label!r}; they have "
            + ", ".join(name for name in table.columns if table[name].dtype == float)
        )
    moment_sampler(options.pretraining, table.loc[split.trials(table, "train")], sfreq)
    every_fold = folds(split, seed=options.seed)
    if len(every_fold) <= options.finalist_folds:
        people = f"{len(split.validation.subjects)} subjects"
        clips = f"{len(split.validation.stimuli)} stimuli"
        sizes = {"stimulus": clips, "subject": people, "both": f"{people} and {clips}"}
        raise StudyError(
            f"expected enough to train on for {options.finalist_folds} finalist "
            f"folds of {sizes[split.protocol]}, found room for "
            f"{len(every_fold) - 1}; a smaller --validation-share or --finalist-folds makes room"
        )
    for fold in every_fold:
        Probe(
            options.probe,
            table,
            fold.trials(table, "train"),
            fold.trials(table, "validation"),
            options.labels,
        )
    return [
        f"{subject} shows one class of {target} in training"
        for subject, target in one_sided(table, split, options.labels)
    ]


def one_sided(table: pd.DataFrame, split: Split, labels: Labels) -> Iterator[tuple[str, str]]:
    """(subject, target) pairs whose training trials show one class only."""
    rows = table.loc[split.known(table)]
    for target in labels.targets:
        for subject, mine in rows.groupby("subject"):
            if len(np.unique(labels.classes(mine, target))) < 2:
                yield str(subject), target
