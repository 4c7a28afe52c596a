"""Outer folds: every stimulus and every person is tested once."""

from __future__ import annotations

import pytest

from physiosync.errors import SplitError
from physiosync.split_folds import outer_folds
from physiosync.splits import Protocol, Split, folds
from tests.trial_table import trial_table

HELD_OUT = {"stimulus": ["stimuli"], "subject": ["subjects"], "both": ["subjects", "stimuli"]}
COLUMN = {"subjects": "subject", "stimuli": "stimulus"}


def _names(found: tuple[Split, ...], kind: str) -> list[list[str]]:
    return [list(getattr(split.test, kind)) for split in found]


@pytest.mark.parametrize("n_folds", [2, 3, 10])
@pytest.mark.parametrize("protocol", ["stimulus", "subject", "both"])
def test_everything_that_is_held_out_is_tested_once(protocol: Protocol, n_folds: int) -> None:
    table = trial_table()
    found = outer_folds(table, n_folds, protocol=protocol, validation=0.1, seed=5)
    assert len(found) == n_folds
    tested = [trial for split in found for trial in split.trials(table, "test")]
    assert len(tested) == len(set(tested)), "no trial twice"
    subjects, stimuli = (
        [name for part in _names(found, kind) for name in part] for kind in ("subjects", "stimuli")
    )
    if protocol != "subject":
        assert sorted(stimuli) == sorted(table["stimulus"].unique())
    if protocol != "stimulus":
        assert sorted(subjects) == sorted(table["subject"].unique())
    if protocol == "stimulus":
        assert sorted(tested) == list(table.index), "and every trial"
    if protocol == "subject":
        calibration = found[0].calibration
        assert {split.calibration for split in found} == {calibration}
        asked = table.index[~table["stimulus"].isin(calibration)]
        assert sorted(tested) == list(asked), "and every trial but those of calibration"


@pytest.mark.parametrize("protocol", ["stimulus", "subject", "both"])
def test_no_fold_mixes_its_parts_and_the_first_trains_on_least(protocol: Protocol) -> None:
    table = trial_table()
    found = outer_folds(table, 3, protocol=protocol)
    for split in found:
        parts = split.train, split.validation, split.test
        for kind in HELD_OUT[protocol]:
            names = [name for part in parts for name in getattr(part, kind)]
            assert sorted(names) == sorted(set(table[COLUMN[kind]]))
        assert not set(split.calibration) & {*split.validation.stimuli, *split.test.stimuli}
        assert folds(split)[1].test == split.test, "a finalist's fold leaves the test part alone"
        for kind in ("subjects", "stimuli"):
            assert len(getattr(split.train, kind)) >= len(getattr(found[0].train, kind))
    assert len({split.validation for split in found}) == 3, "each draws its own validation part"


def test_the_seed_decides_the_folds() -> None:
    table = trial_table()
    assert outer_folds(table, 4, seed=1) == outer_folds(table.sample(frac=1), 4, seed=1)
    assert outer_folds(table, 4, seed=1) != outer_folds(table, 4, seed=2)


@pytest.mark.parametrize("protocol", ["subject", "both"])
def test_every_fold_has_its_share_of_every_site(protocol: Protocol) -> None:
    """As of DEAP's 22 people in Twente and 10 in Geneva."""
    table = trial_table(n_subjects=32)
    sites = {f"s{k}": "Twente" if k < 22 else "Geneva" for k in range(32)}
    for seed in range(5):
        found = outer_folds(table, 4, protocol=protocol, validation=0.25, seed=seed, sites=sites)
        for split in found:
            for part in (split.test, split.validation):
                from_geneva = sum(sites[name] == "Geneva" for name in part.subjects)
                assert len(part.subjects) == 8
                assert from_geneva in (2, 3)


@pytest.mark.parametrize(
    ("protocol", "n_folds", "message"),
    [
        ("stimulus", 21, "2 to 20 folds of stimuli, found 21"),
        ("subject", 11, "2 to 10 folds of subjects, found 11"),
        ("both", 11, "2 to 10 folds of subjects, found 11"),
        ("window", 21, "2 to 20 folds of stretches, found 21"),
    ],
)
def test_too_many_folds_are_refused(protocol: Protocol, n_folds: int, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        outer_folds(trial_table(), n_folds, protocol=protocol)


def test_folds_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(SplitError, match="at least 13 stimuli for 5 validation and 6 test"):
        outer_folds(trial_table(n_stimuli=12), 2, validation=0.4)
