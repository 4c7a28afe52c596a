"""Whether a study can be run at all on its data, before any compute is spent."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from physiosync.cohort import rating_names
from physiosync.errors import StudyError
from physiosync.labels import Labels
from physiosync.loading import usable_trials
from physiosync.options import StudyOptions
from physiosync.pretraining import moment_sampler
from physiosync.probing import Probe
from physiosync.splits import Split, folds
from physiosync.wording import counted


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
    _check_labels(options, table)
    config = options.pretraining
    modalities, n_times = ("eeg", *config.pps), round(config.long_seconds * sfreq)
    train, _, _ = usable_trials(table, split, modalities, n_times)
    moment_sampler(config, table.loc[train], sfreq)
    every_fold = folds(split, seed=options.seed)
    if len(every_fold) <= options.finalist_folds:
        people = counted(len(split.validation.subjects), "subject")
        clips = counted(len(split.validation.stimuli), "stimulus", "stimuli")
        sizes = {"stimulus": clips, "subject": people, "both": f"{people} and {clips}"}
        sizes["window"] = f"{len(split.validation.stimuli)} stretches"
        room = len(every_fold) - 1
        raise StudyError(
            f"expected enough to train on for {counted(options.finalist_folds, 'finalist fold')} "
            f"of {sizes[split.protocol]}, found room for "
            f"{room}; "
            + (f"--finalist-folds {room} works, and " if room else "")
            + "a smaller --validation-share makes room"
        )
    for fold in every_fold[: options.finalist_folds + 1]:
        train, validation, _ = usable_trials(table, fold, modalities, n_times)
        Probe(options.probe, table, train, validation, options.labels)
    return [
        *_odd_thresholds(options, table),
        *(
            f"{subject} shows one class of {target} in training"
            for subject, target in one_sided(table, split, options.labels)
        ),
    ]


def _check_labels(options: StudyOptions, table: pd.DataFrame) -> None:
    """Refuse a study whose recordings don't hold what it is to predict."""
    ratings = rating_names(table)
    held = ", ".join(ratings) or "none"
    if options.label is not None and options.label not in ratings:
        raise StudyError(
            f"--label: expected a rating of the recordings, found {options.label!r}; they have "
            + held
        )
    for target in options.labels.targets:
        try:
            options.labels.classes(table[ratings], target)
        except ValueError as error:
            raise StudyError(
                f"expected recordings with {target!r}, found: {error}. They hold {held};"
                " --label NAME predicts one that holds a class (0, 1, ...)"
            ) from error


def _odd_thresholds(options: StudyOptions, table: pd.DataFrame) -> Iterator[str]:
    """Sentences on thresholds that fit another rating scale."""
    threshold = options.labels.threshold
    for name in ("arousal", "valence"):
        if threshold is None or name not in table:
            continue
        low, high = table[name].min(), table[name].max()
        if not low < threshold < high:
            yield (
                f"{name} is rated from {low:g} to {high:g}, and only {threshold:g} and more counts "
                "as high (--threshold)"
            )


def one_sided(table: pd.DataFrame, split: Split, labels: Labels) -> Iterator[tuple[str, str]]:
    """(subject, target) pairs whose training trials show one class only."""
    rows = table.loc[split.known(table)]
    for target in labels.targets:
        for subject, mine in rows.groupby("subject"):
            shown = labels.classes(mine, target)
            if shown[shown >= 0].nunique() < 2:
                yield str(subject), target
