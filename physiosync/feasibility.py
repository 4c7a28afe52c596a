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
from physiosync.splits import Split, stimulus_folds


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
        If the training stimuli have no room for the finalists' folds.
    """
    moment_sampler(options.pretraining, table.loc[split.trials(table, "train")], sfreq)
    folds = stimulus_folds(split, seed=options.seed)
    if len(folds) <= options.finalist_folds:
        raise StudyError(
            f"expected enough training stimuli for {options.finalist_folds} finalist "
            f"folds of {len(split.validation.stimuli)} stimuli, found room for "
            f"{len(folds) - 1}; a smaller --validation-share or --finalist-folds makes room"
        )
    for fold in folds:
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
    rows = table.loc[split.trials(table, "train", "validation")]
    for target in labels.targets:
        for subject, mine in rows.groupby("subject"):
            if len(np.unique(labels.classes(mine, target))) < 2:
                yield str(subject), target
