"""From a study's options and its trials to the split, what is searched, and the finalists' runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from physiosync import promotion
from physiosync.options import StudyOptions
from physiosync.space import of_one_length, space
from physiosync.splits import (
    Split,
    both_split,
    folds,
    stimulus_split,
    subject_split,
)
from physiosync.stretch_splits import window_split
from physiosync.tasks import FinalistTask, Workload


def new_split(
    options: StudyOptions, table: pd.DataFrame, sites: Mapping[str, str] | None = None
) -> Split:
    """The study's one split.

    Parameters
    ----------
    table : all trials, with "subject" and "stimulus"; stretches, where the options have them
    sites : subject -> where they were recorded

    Raises
    ------
    SplitError
        If there are too few subjects or stimuli for the protocol.
    """
    validation, test, seed = options.validation_share, options.test_share, options.seed
    if options.stretch_seconds is not None:
        return window_split(
            table,
            stretch_seconds=options.stretch_seconds,
            validation=validation,
            test=test,
            seed=seed,
        )
    if options.protocol == "subject":
        return subject_split(
            table,
            validation=validation,
            test=test,
            seed=seed,
            calibration=options.calibration or options.calibration_share,
            sites=sites,
        )
    if options.protocol == "both":
        return both_split(table, validation=validation, test=test, seed=seed, sites=sites)
    return stimulus_split(table, validation=validation, test=test, seed=seed)


def search_space(
    options: StudyOptions, table: pd.DataFrame, sfreq: float, split: Split
) -> dict[str, BaseDistribution]:
    """What is searched, as far as the training part can fill it.

    Parameters
    ----------
    table : all trials (index: trial id)
    sfreq : in Hz
    """
    alone = options.pairing == "recording"
    found = space(
        options.pretraining,
        n_subjects=len(split.train.subjects),
        n_stimuli=len(split.trials(table, "train")) if alone else len(split.train.stimuli),
        seconds=float(table["n_times"].min()) / sfreq,
    )
    if options.stretch_seconds is not None:
        found |= of_one_length(options.pretraining)
    return found


def finalist_tasks(
    options: StudyOptions, workload: Workload, trials: Sequence[FrozenTrial], folder: Path
) -> list[FinalistTask]:
    """The best configurations and the default, each on every fold with every seed.

    Parameters
    ----------
    trials : of the search, those that ended
    folder : the runs' results go to folders in it
    """
    configs = promotion.finalists(trials, options.pretraining, options.finalists)
    # Fold 0 chose them; it can't judge them too.
    fresh = folds(workload.split, seed=options.seed)[1:][: options.finalist_folds]
    return [
        FinalistTask(
            workload=workload,
            config=config,
            split=split,
            fold=fold,
            seed=options.seed + 1 + n,
            output=folder / f"{config.uid()}-fold-{fold}-seed-{n}",
        )
        for config in configs
        for fold, split in enumerate(fresh, 1)
        for n in range(options.finalist_seeds)
    ]
