from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from physiosync.errors import SplitError
from physiosync.splits import (
    Protocol,
    Split,
    both_split,
    folds,
    stimulus_split,
    subject_folds,
    subject_split,
)
from tests.trial_table import trial_table


def test_parts_share_no_stimulus_and_cover_every_trial() -> None:
    table = trial_table()
    split = stimulus_split(table, seed=3)
    parts = [split.trials(table, name) for name in ("train", "validation", "test")]
    assert sorted(i for part in parts for i in part) == list(table.index)
    stimuli = [set(table.loc[part, "stimulus"]) for part in parts]
    assert sum(map(len, stimuli)) == len(set.union(*stimuli))
    assert [len(s) for s in stimuli] == [12, 4, 4]


def test_seed_decides() -> None:
    table = trial_table()
    assert stimulus_split(table, seed=1) == stimulus_split(table.sample(frac=1), seed=1)
    assert stimulus_split(table, seed=1) != stimulus_split(table, seed=2)


def test_folds_leave_the_test_part_alone_and_are_fresh() -> None:
    table = trial_table()
    split = stimulus_split(table)
    found = folds(split)
    assert found[0] == split
    held = [set(fold.validation.stimuli) for fold in found]
    assert len(found) == 4
    assert sum(len(h) for h in held) == len(set.union(*held)), "no stimulus validates twice"
    for fold in found:
        assert fold.test == split.test
        assert not set(fold.train.stimuli) & set(fold.validation.stimuli)
        assert set(fold.train.stimuli) | set(fold.validation.stimuli) == set(
            split.train.stimuli
        ) | set(split.validation.stimuli)


def _held_out(protocol: Protocol) -> tuple[pd.DataFrame, Split]:
    table = trial_table(n_subjects=10)
    return table, subject_split(table) if protocol == "subject" else both_split(table)


@pytest.mark.parametrize("protocol", ["subject", "both"])
def test_held_out_people_are_in_one_part_alone(protocol: Protocol) -> None:
    table, split = _held_out(protocol)
    assert split.protocol == protocol
    parts = [split.trials(table, name) for name in ("train", "validation", "test")]
    people = [set(table.loc[part, "subject"]) for part in parts]
    clips = [set(table.loc[part, "stimulus"]) for part in parts]
    assert [len(p) for p in people] == [6, 2, 2]
    assert len(set.union(*people)) == 10
    if protocol == "subject":
        assert clips[1] == clips[2] == clips[0] - set(split.calibration)
        assert len(split.calibration) == 4
    else:
        assert [len(c) for c in clips] == [12, 4, 4]
        assert len(set.union(*clips)) == 20
    known = split.known(table)
    assert not set(table.loc[known, "subject"]) & people[2]
    assert set(known) >= {*parts[0], *parts[1]}


@pytest.mark.parametrize("protocol", ["subject", "both"])
def test_everybody_is_scaled_alike_and_never_on_what_is_asked(protocol: Protocol) -> None:
    table, split = _held_out(protocol)
    for final, asked in ((False, "validation"), (True, "test")):
        scale = split.scale_trials(table, final=final)
        for part in ("train", asked):
            subjects = set(table.loc[split.trials(table, part), "subject"])
            assert subjects <= set(table.loc[scale, "subject"]), part
        assert not set(scale) & {*split.trials(table, asked), *split.trials(table, "test")}
        assert {*table.loc[scale, "stimulus"]} == {*split.calibration}
    assert not set(table.loc[split.scale_trials(table, final=False), "subject"]) & set(
        split.test.subjects
    )


def test_known_people_are_scaled_on_what_they_are_trained_on() -> None:
    table = trial_table()
    split = stimulus_split(table)
    train, both = split.trials(table, "train"), split.trials(table, "train", "validation")
    assert split.scale_trials(table, final=False).tolist() == train.tolist()
    assert split.scale_trials(table, final=True).tolist() == both.tolist()
    assert split.known(table).tolist() == both.tolist()


@pytest.mark.parametrize("protocol", ["subject", "both"])
def test_folds_of_people_are_fresh_and_leave_the_test_people_alone(protocol: Protocol) -> None:
    _, split = _held_out(protocol)
    found = folds(split)
    assert found[0] == split
    assert len(found) == 4
    held = [set(fold.validation.subjects) for fold in found]
    assert sum(map(len, held)) == len(set.union(*held)), "nobody validates twice"
    for fold in found:
        assert fold.test == split.test
        people = set(fold.train.subjects), set(fold.validation.subjects), set(fold.test.subjects)
        assert len(set.union(*people)) == sum(map(len, people)) == 10
        assert not set(fold.calibration) & {*fold.validation.stimuli, *fold.test.stimuli}
        if protocol == "both":
            assert not set(fold.train.stimuli) & set(fold.validation.stimuli)
            assert fold.calibration == fold.train.stimuli


@pytest.mark.parametrize("split_of", [subject_split, both_split])
def test_each_part_has_its_share_of_each_site(split_of: Callable[..., Split]) -> None:
    """As of DEAP's 22 people in Twente and 10 in Geneva."""
    table = trial_table(n_subjects=32)
    sites = {f"s{k}": "Twente" if k < 22 else "Geneva" for k in range(32)}
    for seed in range(10):
        split = split_of(table, seed=seed, sites=sites)
        parts = [split.test, *(fold.validation for fold in folds(split, seed=seed))]
        assert len(parts) > 3
        for part in parts:
            geneva = sum(sites[name] == "Geneva" for name in part.subjects)
            assert len(part.subjects) == 6
            # 1.9 are due; what a part takes too few, the next ones have.
            assert 1 <= geneva <= 3
    assert split_of(table, seed=1, sites=dict.fromkeys(sites, "Twente")).test == (
        split_of(table, seed=1).test
    ), "one site is none"


def test_subject_folds_test_everybody_once() -> None:
    table = trial_table(n_subjects=10)
    found = subject_folds(table, 4, calibration=["v00"])
    tested = [name for fold in found for name in fold.test.subjects]
    assert sorted(tested) == sorted(set(table["subject"]))
    for fold in found:
        assert {*fold.train.subjects} == {*table["subject"]} - {*fold.test.subjects}
        assert "v00" in fold.train.stimuli
        assert "v00" not in fold.test.stimuli
        assert not len(fold.trials(table, "validation"))
    for n in (1, 11):
        with pytest.raises(SplitError, match=f"2 to 10 subject folds, found {n}"):
            subject_folds(table, n, calibration=["v00"])


@pytest.mark.parametrize("seed", range(5))
def test_who_shares_no_stimulus_is_calibrated_and_tested_too(seed: int) -> None:
    table = pd.DataFrame(
        [{"subject": f"s{s}", "stimulus": f"s{s}-{k}"} for s in range(10) for k in range(2 + s % 3)]
    )
    split = subject_split(table, seed=seed)
    for _, mine in table.groupby("subject"):
        assert 0 < mine["stimulus"].isin(split.calibration).sum() < len(mine)


def test_calibration_has_to_be_there_and_leave_something_to_test() -> None:
    table = trial_table(n_subjects=10, n_stimuli=2)
    with pytest.raises(SplitError, match="among v00, v01, found v7"):
        subject_split(table, calibration=["v7"])
    with pytest.raises(SplitError, match="found 2 calibration stimuli of 2"):
        subject_split(table, calibration=["v00", "v01"])


def test_too_few_subjects() -> None:
    for split in (subject_split, both_split):
        with pytest.raises(SplitError, match=r"at least 4 subjects .* found 3"):
            split(trial_table(n_subjects=3))


def test_round_trip(tmp_path: Path) -> None:
    split = stimulus_split(trial_table())
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


@pytest.mark.parametrize("text", ["", "{}", '{"seed": 1, "train": 3}'])
def test_a_damaged_split_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(SplitError, match=r"split\.json"):
        Split.load(path)


def test_too_few_stimuli() -> None:
    with pytest.raises(SplitError, match="found 3"):
        stimulus_split(trial_table(n_stimuli=3))
