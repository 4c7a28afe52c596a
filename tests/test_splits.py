from pathlib import Path

import pandas as pd
import pytest

from physiosync.errors import SplitError
from physiosync.splits import Split, stimulus_folds, stimulus_split


def _table(n_subjects: int = 4, n_stimuli: int = 20) -> pd.DataFrame:
    rows = [
        {"subject": f"s{s}", "stimulus": f"v{k:02d}"}
        for s in range(n_subjects)
        for k in range(n_stimuli)
        if (s, k) != (1, 3)  # one trial was never recorded
    ]
    return pd.DataFrame(rows)


def test_parts_share_no_stimulus_and_cover_every_trial() -> None:
    table = _table()
    split = stimulus_split(table, seed=3)
    parts = [split.trials(table, name) for name in ("train", "validation", "test")]
    assert sorted(i for part in parts for i in part) == list(table.index)
    stimuli = [set(table.loc[part, "stimulus"]) for part in parts]
    assert sum(map(len, stimuli)) == len(set.union(*stimuli))
    assert [len(s) for s in stimuli] == [12, 4, 4]


def test_seed_decides() -> None:
    table = _table()
    assert stimulus_split(table, seed=1) == stimulus_split(table.sample(frac=1), seed=1)
    assert stimulus_split(table, seed=1) != stimulus_split(table, seed=2)


def test_folds_leave_the_test_part_alone_and_are_fresh() -> None:
    table = _table()
    split = stimulus_split(table)
    folds = stimulus_folds(split)
    assert folds[0] == split
    held = [set(fold.validation.stimuli) for fold in folds]
    assert len(folds) == 4
    assert sum(len(h) for h in held) == len(set.union(*held)), "no stimulus validates twice"
    for fold in folds:
        assert fold.test == split.test
        assert not set(fold.train.stimuli) & set(fold.validation.stimuli)
        assert set(fold.train.stimuli) | set(fold.validation.stimuli) == set(
            split.train.stimuli
        ) | set(split.validation.stimuli)


def test_round_trip(tmp_path: Path) -> None:
    split = stimulus_split(_table())
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
        stimulus_split(_table(n_stimuli=3))
