"""What is refused, or told, before a study computes anything."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from physiosync.errors import SplitError, StudyError
from physiosync.feasibility import check_feasible
from physiosync.options import StudyOptions
from physiosync.splits import stimulus_split
from physiosync.windows import WindowStore
from tests import small_study


def _check(store: WindowStore, table: pd.DataFrame, **options: object) -> list[str]:
    settings = StudyOptions(pps=("gsr",), finalist_folds=2, **options)  # type: ignore[arg-type]
    return check_feasible(settings, table, store.sfreq, stimulus_split(table))


def test_recordings_without_ratings_ask_for_a_label(store: WindowStore) -> None:
    table = store.trials.drop(columns=["arousal", "valence"]).assign(task=1.0)
    with pytest.raises(StudyError, match=r"recordings with 'arousal'.*They hold task.*--label"):
        _check(store, table)


def test_a_label_has_to_hold_classes_and_be_a_rating(store: WindowStore) -> None:
    with pytest.raises(StudyError, match=r"recordings with 'arousal'.*whole numbers from 0 to 1"):
        _check(store, store.trials, label="arousal")
    with pytest.raises(StudyError, match="expected a rating of the recordings, found 'order'"):
        _check(store, store.trials, label="order")


def test_a_threshold_for_another_scale_is_told(store: WindowStore) -> None:
    table = store.trials.assign(arousal=store.trials["arousal"].clip(1, 5))
    told = [note for note in _check(store, table) if "--threshold" in note]
    assert len(told) == 1
    assert "arousal is rated from" in told[0]


def test_an_unrated_trial_is_no_class(store: WindowStore) -> None:
    mine = store.trials["subject"] == "s01"
    table = store.trials.copy()
    table.loc[mine, "arousal"] = 9.0
    table.loc[mine.idxmax(), "arousal"] = float("nan")
    assert "s01 shows one class of arousal in training" in _check(store, table)


def test_trials_that_no_worker_can_use_count_for_nothing(store: WindowStore) -> None:
    """A validation part may show both classes only as long as nobody asks for skin conductance."""
    table = store.trials.copy()
    validated = stimulus_split(table).trials(table, "validation")
    high = [trial for trial in validated if table.loc[trial, "arousal"] >= 5]
    assert 0 < len(high) < len(validated)
    _check(store, table)
    table.loc[high, "has_gsr"] = False
    with pytest.raises(SplitError, match="both classes of arousal"):
        _check(store, table)


def test_shards_of_another_preset_are_refused(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    made = small_study.study(small_study.options(tmp_path))
    with made.session():
        made.prepare()
    other = small_study.options(tmp_path, recordings=None, name="other", preset="paper")
    study = small_study.study(other)
    with pytest.raises(StudyError, match="baseline 'template', as preset 'paper' has it"):
        study.check()


def test_calibration_belongs_to_a_protocol() -> None:
    with pytest.raises(ValueError, match="--calibration belongs to --protocol subject"):
        StudyOptions(calibration=("video-01",))
