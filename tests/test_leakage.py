"""The leakage gap: what a leaky split invents from noise, and a clean one doesn't."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from physiosync.errors import ShardError
from physiosync.leakage import (
    LeakageConfig,
    LeakageJob,
    dealt,
    jobs_for,
    permuted,
    run_all,
    side_by_side,
)
from physiosync.preprocessing import PreprocessingConfig, subtract_template
from physiosync.pretraining import PretrainingConfig
from physiosync.shards import write_shard
from physiosync.windows import WindowStore
from tests.conftest import made_up_recording
from tests.test_pretraining import TINY

CONFIG = LeakageConfig(
    pretraining=PretrainingConfig(
        pps=("gsr",),
        encoder=TINY,
        moments=4,
        epochs=1,
        epoch_seconds=400,
        lag_skin_seconds=0,
        lag_body_seconds=0,
    ),
    noise=True,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three people and 12 clips of 20 s, with a template in every trial and without one."""
    place = tmp_path_factory.mktemp("leakage")
    for k in range(3):
        for baseline in ("template", "none"):
            recording = made_up_recording(f"s{k + 1:02d}", n_stimuli=12, seconds=20, n_eeg=8)
            if baseline == "template":
                for trial in recording.trials:
                    rest = np.random.default_rng([k, trial.order]).standard_normal((8, 128))
                    x = trial.signals["eeg"]
                    x[:] = subtract_template(x, 3 * rest.astype(np.float32), 128)
            config = PreprocessingConfig(baseline=baseline)  # type: ignore[arg-type]
            write_shard(recording, place / baseline, config)
    return [place / "template", place / "none"]


def _store(folder: Path) -> WindowStore:
    return WindowStore.open(folder, ("eeg", "gsr"), folder.parent / "cache")


def test_ratings_are_permuted_within_each_person(folders: list[Path]) -> None:
    table = _store(folders[1]).trials
    other = permuted(table, seed=3)
    assert list(other) == ["valence", "arousal"]
    assert other.index.equals(table.index)
    for _, mine in table.groupby("subject"):
        pairs, mixed = (
            sorted(map(tuple, rows[["valence", "arousal"]].to_numpy()))
            for rows in (mine, other.loc[mine.index])
        )
        assert pairs == mixed, "the same ratings, those of a trial together"
        assert not other.loc[mine.index, "valence"].equals(mine["valence"])
    assert not permuted(table, seed=4).equals(other)


def test_two_folders_of_one_kind_are_no_comparison(folders: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    twin.symlink_to(folders[0])
    with pytest.raises(ShardError, match=r"expected another than in .*template, found template"):
        jobs_for(CONFIG, [*folders, twin], [0], None)


@pytest.mark.parametrize("protocol", ["window", "stimulus"])
def test_both_protocols_score_stretches_and_choose_nothing(
    folders: list[Path], protocol: str
) -> None:
    recorded = _store(folders[1])
    store, split = dealt(recorded, CONFIG, protocol, 0)  # type: ignore[arg-type]
    train, test = (split.trials(store.trials, part) for part in ("train", "test"))
    assert sorted([*train, *test]) == list(store.trials.index)
    assert len(test) == 3 * 48 / 4
    clips = [
        set(store.trials["stimulus"].loc[part].str.partition("@")[0]) for part in (train, test)
    ]
    assert bool(clips[0] & clips[1]) is (protocol == "window")


def test_a_template_lets_shuffled_windows_read_noise(folders: list[Path]) -> None:
    jobs = jobs_for(CONFIG, folders, [0, 1], folders[0].parent / "cache")
    told: list[LeakageJob] = []
    rows = run_all(jobs, workers=1, on_job=lambda job, _: told.append(job))
    assert told == jobs
    scores = rows.groupby(["protocol", "baseline", "method"])["balanced_accuracy"].mean()
    leaky = scores["window", "template"]
    for method in ("band_power", "pretrained"):
        assert leaky[method] > 0.6, method
        for clean in (("window", "none"), ("stimulus", "template"), ("stimulus", "none")):
            assert scores[clean][method] < leaky[method] - 0.08, (clean, method)
    assert (scores.xs("majority", level="method") == 0.5).all()
    text = side_by_side(rows)
    head, _, *lines = text.splitlines()
    assert head.count("window (LEAKY)") == 2
    assert len(lines) == 2 * 4
    assert lines[0].count("| 0.500 (0.000), ") == 4


def test_the_table_tells_means_and_spread_over_seeds() -> None:
    rows = pd.DataFrame(
        {
            "target": "arousal",
            "method": method,
            "protocol": protocol,
            "baseline": baseline,
            "seed": seed,
            "balanced_accuracy": 0.5 + 0.1 * seed,
            "accuracy": 0.25,
        }
        for method in ("majority", "band_power", "pretrained_probe", "pretrained")
        for protocol in ("stimulus", "window")
        for baseline in ("mean_slow", "template")
        for seed in (0, 2)
    )
    head, _, line, *_ = side_by_side(rows).splitlines()
    assert head == (
        "| target | method | window (LEAKY), with template | window (LEAKY), without | "
        "stimulus, with template | stimulus, without |"
    )
    cell = "0.600 (0.141), 0.250"
    assert line == f"| arousal | majority of the training trials |{f' {cell} |' * 4}"
