"""The `physiosync` command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tyro

from physiosync import cli, stages
from physiosync.errors import StudyError
from physiosync.options import StudyOptions
from tests import small_study


def test_a_stage_needs_only_the_name_of_a_study_that_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    begun = small_study.study(small_study.options(tmp_path, storage="postgresql://me:secret@h/db"))
    monkeypatch.setattr("physiosync.session.only_driver", lambda *_: begun.interruption.deferred())
    with begun.session():
        begun.prepare()
    monkeypatch.setattr(
        sys,
        "argv",
        ["physiosync", "promote", "--name", "small", "--results", f"{tmp_path}/results"],
    )
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert "configuration" not in said, "the study's own options are taken"
    assert "expected the stage 'finalists' to be done" in said


def test_a_stage_of_no_study_has_the_defaults(tmp_path: Path) -> None:
    nowhere = ["search", "--name", "none", "--results", str(tmp_path)]
    assert stages._as_begun(nowhere).name == "deap"
    assert stages._as_begun(nowhere).pps == ("gsr", "resp", "ppg")


def test_a_study_of_shards_that_are_there_needs_no_recordings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    made = small_study.study(small_study.options(tmp_path))
    with made.session():
        made.prepare()
    without = small_study.options(tmp_path, recordings=None, name="other")
    again = small_study.study(without)
    with again.session():
        again.prepare()
    assert again.store.trials["subject"].nunique() == 4
    again.plan()
    assert "none; 4 shards as they are" in capsys.readouterr().out
    strangers = small_study.study(
        small_study.options(tmp_path, recordings=None, name="third", exclude=("s09",))
    )
    with pytest.raises(StudyError, match="--exclude: expected subjects of this study, found s09"):
        strangers.plan()
    nowhere = small_study.study(small_study.options(tmp_path / "elsewhere", recordings=None))
    with pytest.raises(StudyError, match="expected --recordings DIR, or shards in"):
        nowhere.plan()


def test_a_mistyped_name_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/study.json").write_text("{}")
    words = ["physiosync", "report", "--name", "demmo", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        cli.main()
    assert f"expected a study 'demmo' in {tmp_path}, found demo" in capsys.readouterr().err
    assert not (tmp_path / "demmo").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocol", "both", "--pooled"], "--pooled belongs to protocols stimulus and window"),
        (["--calibration", "v1"], "--calibration belongs to --protocol subject"),
        (["--trials", "0"], "--trials: expected greater than or equal to 1, found 0"),
        (["--validation-share", "2"], "--validation-share: expected less than 1, found 2.0"),
        (["--reuse-search"], "--reuse-search needs --folds of at least 2"),
        (["--name", "../up"], "--name: expected a match of pattern"),
    ],
)
def test_options_that_cannot_be_are_named_as_they_were_given(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(StudyOptions, args=words)
    printed = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert said in printed
    assert "pydantic" not in printed
