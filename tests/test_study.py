"""The whole study, started as a user would, killed and taken up again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from physiosync.audit.run import audit, kept_audit
from physiosync.errors import PhysioSyncError, RecordingError, StudyError
from physiosync.model import PhysioSync
from physiosync.recordings.deap import find_deap, read_deap, write_deap
from physiosync.study import Study
from physiosync.tables import METHODS
from physiosync.windows import WindowStore
from tests import small_study


class Program:
    """tests/small_study.py in a process group of its own."""

    def __init__(self, folder: Path, trials: int = 4, *places: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.small_study", str(folder), str(trials), *places],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self.lines: list[str] = []

    def until(self, text: str) -> None:
        """Read what it prints, up to a line with `text`."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            if text in line:
                return
        pytest.fail(f"never printed {text!r}:\n{''.join(self.lines)}")

    def end(self, with_signal: int | None = None) -> int:
        """Wait for its end, after a signal if one is given; returns its exit code."""
        if with_signal == signal.SIGKILL:
            # The driver alone, as the out-of-memory killer would.
            self._process.kill()
        elif with_signal is not None:
            self._process.send_signal(with_signal)
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)
        return self._process.wait()

    @property
    def output(self) -> str:
        return "".join(self.lines)


def test_killed_while_searching_promoting_and_fine_tuning(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    for moment in ("search: 1/4 done", "finalists: 1/2 done", "finetune: 2/"):
        program = Program(tmp_path)
        program.until(moment)
        assert program.end(signal.SIGKILL) == -signal.SIGKILL
    program = Program(tmp_path)
    assert program.end() == 0, program.output
    results = tmp_path / "results" / "small"

    study = optuna.load_study(study_name="small", storage=f"sqlite:///{results / 'study.db'}")
    assert [t.number for t in study.trials] == [0, 1, 2, 3], "none lost, none doubled"
    for trial in study.trials:
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert trial.state != TrialState.COMPLETE or len(epochs) == 2

    for name in (
        "study.json", "study.log", "split.json", "report.html", "artifacts", "tune/search",
        "best/rank-1/config.json", "best/rank-1/model.safetensors", "best/rank-1/metrics.json",
        "best/rank-1/README.md", "finetune.parquet", "predictions.parquet", "baselines.parquet",
        "audit.json", "best/rank-1/seen.json",
    ):  # fmt: skip
        assert (results / name).exists(), name
    assert not (results / "best" / "rank-2").exists()
    PhysioSync.from_pretrained(results / "best" / "rank-1")
    # What fine-tuning started from knows no test clip, after four drivers as after one.
    store = WindowStore.open(tmp_path / "shards", ("eeg",), tmp_path / "cache")
    audited = audit(store, results / "split.json", checkpoint=results / "best" / "rank-1")
    assert audited.passed, audited.lines()
    assert "audit of the split, protocol stimulus: passed" in program.output
    kept = kept_audit(results / "audit.json")
    assert kept is not None
    asked = [v for v in kept.verdicts if v.check == "pretraining"]
    assert {v.status for v in asked} == {"passed"}
    assert [v.said.split("-")[0] for v in asked] == ["rank", "shuffled", "simclr", "scratch"], (
        "the study asked all encoders that it fine-tunes or compares with"
    )
    assert "pretrained less scratch" in program.output
    for method, words in METHODS.items():
        # Nobody has seen a test clip in this protocol; all else has its row.
        assert (words in program.output) == (method != "clip_consensus"), method
    for control in ("shuffled", "simclr", "scratch-pooled"):
        (path,) = (results / "tune" / "encoders").glob(f"{control}-*")
        told = audit(store, results / "split.json", checkpoint=path)
        assert told.passed, told.lines()
    predictions = pd.read_parquet(results / "predictions.parquet")
    split = json.loads((results / "split.json").read_text())
    assert set(predictions["stimulus"]) == set(split["test"]["stimuli"])
    each = predictions.groupby(["method", "target", "trial", "start_seconds"]).size()
    assert (each == 1).all(), "no prediction is doubled"
    assert "synthetic" in (results / "report.html").read_text().lower()

    again = Program(tmp_path)
    assert again.end() == 0
    assert again.output.count("are done") == 4, again.output
    openings = json.loads((results / "study.json").read_text())["test_openings"]
    assert len(openings) == 2, "the killed one and the one that ended; none for the rerun"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: int) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    program = Program(tmp_path)
    program.until("search: 1/4 done")
    assert program.end(number) == 128 + number
    assert "stopping; what runs goes on" in program.output
    assert "run the same command again" in program.output
    assert "Traceback" not in program.output
    database = f"sqlite:///{tmp_path / 'results' / 'small' / 'study.db'}"
    states = {t.state for t in optuna.load_study(study_name="small", storage=database).trials}
    assert TrialState.RUNNING not in states


# ---- bad input, before any compute is spent


def test_missing_folder_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="recordings"):
        small_study.study(small_study.options(tmp_path)).run()
    (tmp_path / "recordings").mkdir()
    with pytest.raises(RecordingError, match="recordings"):
        small_study.study(small_study.options(tmp_path)).run()


def test_a_truncated_file_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings", 2)
    bad = tmp_path / "recordings" / "s02.dat"
    bad.write_bytes(bad.read_bytes()[:-1000])
    with pytest.raises(PhysioSyncError, match=r"s02\.dat"):
        small_study.study(small_study.options(tmp_path)).run()
    assert [p.name for p in (tmp_path / "shards").glob("*.parquet")] == ["s01.parquet"]


def test_too_few_subjects_for_a_batch(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings", 1)
    with pytest.raises(PhysioSyncError, match="at least 2 subjects"):
        small_study.study(small_study.options(tmp_path)).run()


def test_a_split_that_fails_its_audit_stops_the_study(tmp_path: Path) -> None:
    """One recording holds the same signals under all its clips, so on both sides of any split."""
    small_study.write_recordings(tmp_path / "recordings")
    data = np.random.default_rng(9).standard_normal(small_study.SHAPE)
    data[:, 36] = 1e5 * (1 + 0.1 * np.random.default_rng(8).random(small_study.SHAPE[2]))
    data[:] = data[0]
    write_deap(tmp_path / "recordings" / "s02.dat", data, np.tile([[2.0, 8.0, 5.0, 5.0]], (12, 1)))
    study = small_study.study(small_study.options(tmp_path))
    with (
        study.session(),
        pytest.raises(StudyError, match=r"split\.json: .*exact copies: [1-9]\d* of .*s02/"),
    ):
        study.prepare()
    leaky = kept_audit(study.folder / "audit.json")
    assert leaky is not None
    assert not leaky.passed, "which is kept, to be looked at"


def test_a_folder_of_another_configuration(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    first = small_study.study(small_study.options(tmp_path))
    with first.session():
        first.prepare()
    other = small_study.study(small_study.options(tmp_path, seed=7, threshold=4.0))
    with pytest.raises(StudyError, match=r"(?s)seed: was 0, is 7.*threshold: was 5\.0, is 4\.0"):
        other.run()
    more = small_study.study(small_study.options(tmp_path, trials=9, cpus_per_trial=2.0))
    with more.session():
        more.prepare()  # more trials on other hardware are the same study


def test_a_refused_configuration_leaves_the_shards_alone(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    first = small_study.study(small_study.options(tmp_path))
    with first.session():
        first.prepare()
    before = {path: path.read_bytes() for path in (tmp_path / "shards").glob("*.parquet")}
    with pytest.raises(StudyError, match="preset: was 'small', is 'paper'"):
        small_study.study(small_study.options(tmp_path, preset="paper")).run()
    assert before == {path: path.read_bytes() for path in (tmp_path / "shards").glob("*.parquet")}


def test_excluding_nobody_is_refused_and_case_does_not_matter(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings", 5)
    with pytest.raises(StudyError, match="--exclude: expected subjects of this study, found s77"):
        small_study.study(small_study.options(tmp_path, exclude=("S01", "s77"))).run()
    study = small_study.study(small_study.options(tmp_path, exclude=("S01",)))
    with study.session():
        study.prepare()
    assert list(study.store.subjects) == ["s02", "s03", "s04", "s05"]


def test_too_few_stimuli_for_the_finalists_folds(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    with pytest.raises(StudyError, match="for 2 finalist folds of 5 stimuli, found room for 1"):
        small_study.study(
            small_study.options(tmp_path, validation_share=0.4, finalist_folds=2)
        ).run()


@pytest.mark.parametrize("stage", ["promote", "report"])
def test_a_stage_alone_says_which_must_come_first(tmp_path: Path, stage: str) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    study = small_study.study(small_study.options(tmp_path))
    with study.session():
        study.prepare()
    with pytest.raises(StudyError, match="expected the stage 'finalists' to be done"):
        small_study.study(small_study.options(tmp_path)).run_stage(stage)


def test_a_stage_alone_knows_that_the_cohort_is_synthetic(tmp_path: Path) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    study = small_study.study(small_study.options(tmp_path))
    with study.session():
        study.prepare()
    alone = Study(small_study.options(tmp_path), find=find_deap, read=read_deap)
    with alone.session():
        alone.check()
    assert alone.synthetic
