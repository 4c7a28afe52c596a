"""DREAMER: from the file to shards and windows, and the command line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from physiosync.cli import main
from physiosync.filtering import Band
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.dreamer import (
    EEG_NAMES,
    DreamerPreprocessing,
    find_dreamer,
    read_dreamer,
    write_dreamer,
)
from physiosync.shards import read_info
from physiosync.windows import WindowStore
from tests.recordings.dreamer_builder import (
    CLIPS,
    cohort,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "DREAMER.mat"


def test_from_the_file_to_windows(path: Path, tmp_path: Path) -> None:
    subjects = cohort(3)
    write_dreamer(path, subjects)
    shards = tmp_path / "shards"
    paths = prepare(find_dreamer(path), read_dreamer, shards, PreprocessingConfig(), workers=2)
    assert [p.stem for p in paths] == ["s01", "s02", "s03"]

    store = WindowStore.open(shards, ("eeg", "ecg"), tmp_path / "cache")

    assert (store.subjects, store.stimuli) == (
        ["s01", "s02", "s03"],
        ["film-01", "film-02", "film-03"],
    )
    assert store.sfreq == 128
    assert store.channels["eeg"].ch_names == EEG_NAMES
    assert {m: c.unit for m, c in store.channels.items()} == {"eeg": "uV", "ecg": "a.u."}
    for row, (trial, it) in enumerate(store.trials.iterrows()):
        subject, k = subjects[row // 3], row % 3
        assert it["valence"] == subject["ScoreValence"][k]
        x = store.read("eeg", int(str(trial)))
        right = subject["EEG"]["stimuli"][k].astype(np.float32)
        np.testing.assert_array_equal(x, right[: len(x)])
        assert store.read("ecg", int(str(trial))).shape == (CLIPS[k] * 128, 2)


def prepared(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["physiosync", "prepare", *argv])
    main()
    return capsys.readouterr().out.splitlines()


def test_the_command_line_makes_shards_of_another_part_again(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_dreamer(path, cohort(2))
    shards = tmp_path / "shards"
    command = ["dreamer", str(path), str(shards)]
    written = ["s01 written, 1/2", "s02 written, 2/2"]
    kept = ["s01 is up to date, 1/2", "s02 is up to date, 2/2"]
    uids = []
    for options, said in (
        ([], written),
        (["--seconds", "60", "--part", "last"], kept),
        (["--seconds", "2"], written),
        (["--seconds", "2"], kept),
        (["--seconds", "2", "--part", "first"], written),
        ([], written),
        (["--preset", "paper", "--workers", "1"], written),
        (["--low", "4", "--high", "45"], written),
        (["--low", "4", "--high", "45"], kept),
    ):
        assert prepared([*command, *options], monkeypatch, capsys) == said
        uids.append(read_info(shards / "s01.parquet").config_uid)
    assert uids[0] == PreprocessingConfig().uid()  # so that a study keeps them
    assert uids[6] == PreprocessingConfig.paper().uid()
    assert len(set(uids)) == 5


def test_the_command_line_takes_each_formats_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path)
    for argv, code, message in (
        (["deap", folder, folder, "--preset", "paper", "--workers", "2"], 1, "files s01.dat"),
        (["dreamer", folder, folder, "--preset", "paper"], 1, "expected DREAMER.mat in it"),
        (["deap", folder, folder, "--seconds", "2"], 2, "--seconds"),
        (["dreamer", folder, folder, "--seconds", "0"], 2, "greater than or equal to 0.5"),
        (["dreamer", folder], 2, "required"),
        (["seed", folder, folder], 2, "deap, deap-bdf, dreamer"),
    ):
        with pytest.raises(SystemExit) as stop:
            prepared(argv, monkeypatch, capsys)
        assert stop.value.code == code
        assert message in re.sub(r"[\s│]+", " ", capsys.readouterr().err)


def test_a_part_is_in_the_identity_unless_it_is_the_default() -> None:
    assert DreamerPreprocessing().uid() == PreprocessingConfig().uid()
    assert DreamerPreprocessing(sfreq=64).uid() == PreprocessingConfig(sfreq=64).uid()
    others = [
        DreamerPreprocessing(seconds=30),
        DreamerPreprocessing(part="first"),
        DreamerPreprocessing(band=Band(low=4)),
    ]
    assert len({c.uid() for c in (*others, PreprocessingConfig())}) == 4
    with pytest.raises(ValueError, match="below 64 Hz"):
        DreamerPreprocessing(band=Band(high=64))


def test_a_band_is_taken_of_each_piece(path: Path) -> None:
    """The offset goes; the part is as in the whole clip, but where the clip ends."""
    rng = np.random.default_rng(0)
    people = cohort(1)
    seconds = np.arange(20 * 128) / 128
    rhythm = np.sin(2 * np.pi * 10 * seconds)[:, None] * rng.uniform(5, 9, 14)
    drift = 4200 + 40 * np.sin(2 * np.pi * 0.1 * seconds)[:, None] + rng.normal(0, 9, 14)
    eeg = people[0]["EEG"]
    eeg["stimuli"] = [rhythm + drift] * 3
    eeg["baseline"] = [(rhythm + drift)[: 61 * 8]] * 3
    people[0]["ECG"]["stimuli"] = [np.tile(people[0]["ECG"]["stimuli"][0], (4, 1))] * 3
    write_dreamer(path, people)
    band = Band(low=4, high=45)
    edge = 160
    for part, at in (("first", slice(0, 640)), ("last", slice(20 * 128 - 640, None))):
        plain = read_dreamer(path, "s01", seconds=5, part=part)
        trial = read_dreamer(path, "s01", seconds=5, part=part, band=band).trials[0]
        x, right = trial.signals["eeg"], rhythm[at].T
        inner = slice(edge, None) if part == "first" else slice(None, -edge)
        np.testing.assert_allclose(x[:, inner], right[:, inner], atol=0.1)
        assert np.abs(x).max() < 30  # Nor is there a step where the clip begins or ends.
        rest = trial.baseline["eeg"]
        np.testing.assert_allclose(rest[:, edge:-edge], rhythm.T[:, edge : 61 * 8 - edge], atol=0.1)
        np.testing.assert_array_equal(trial.signals["ecg"], plain.trials[0].signals["ecg"])
        np.testing.assert_array_equal(trial.baseline["ecg"], plain.trials[0].baseline["ecg"])
