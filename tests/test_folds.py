"""Studies in folds: everything is tested once, and nothing is done twice."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pandas as pd
import pytest

from physiosync import cli
from physiosync.errors import PhysioSyncError, StudyError
from physiosync.evidence import comparisons
from physiosync.folded import Fold, FoldedStudy
from physiosync.forecast import forecast
from physiosync.report import render_text
from physiosync.stages import stages
from physiosync.tables import main_table
from tests import small_study

# ---- a whole study


class Killed(Exception):
    """Stands for the end of a driver."""


def _folded(folder: Path, **changes: object) -> FoldedStudy:
    few: dict[str, object] = {
        "folds": 2, "reuse_search": True, "trials": 2, "max_epochs": 1, "epoch_seconds": 100,
        "seed": 3, "controls": False,
        # One worker a stage, because starting them takes longest.
        "cpus_per_trial": float(os.cpu_count() or 1),
    }  # fmt: skip
    made = small_study.study(small_study.options(folder, **(few | changes)))
    assert isinstance(made, FoldedStudy)
    return made


def _stamps(folder: Path) -> dict[str, int]:
    """When the files of a fold that cost compute were written."""
    dear = [*folder.glob("tune/**/*"), *folder.glob("best/**/*"), *folder.glob("finetune/**/*")]
    return {str(path): path.stat().st_mtime_ns for path in dear if path.is_file()}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, ray_running: None) -> Path:
    """A study of two folds and one search, whose driver ended after the first fold."""
    folder = tmp_path_factory.mktemp("folded")
    small_study.write_recordings(folder / "recordings", 2)

    def dies(fold: Fold) -> None:
        raise Killed

    patch = pytest.MonkeyPatch()
    compute = Fold.compute
    patch.setattr(Fold, "compute", lambda fold: (compute if fold.options.fold == 1 else dies)(fold))
    with pytest.raises(Killed):
        _folded(folder).run()
    patch.undo()
    (folder / "before.json").write_text(json.dumps(_stamps(folder / "results/small/fold-1")))
    _folded(folder).run()
    return folder


@pytest.mark.slow
def test_a_finished_fold_is_not_done_again(ran: Path) -> None:
    results = ran / "results/small"
    before = json.loads((ran / "before.json").read_text())
    assert len(before) > 10
    assert _stamps(results / "fold-1") == before
    for fold in ("fold-1", "fold-2"):
        ledger = json.loads((results / fold / "study.json").read_text())
        assert len(ledger["test_openings"]) == 1
        for name in ("split.json", "audit.json", "report.html", "best/rank-1/metrics.json",
                     "finetune.parquet", "baselines.parquet", "predictions.parquet"):  # fmt: skip
            assert (results / fold / name).exists(), name


@pytest.mark.slow
def test_one_search_serves_all_folds_and_the_report_says_what_that_gives_away(ran: Path) -> None:
    results = ran / "results/small"
    database = f"sqlite:///{results / 'study.db'}"
    assert optuna.get_all_study_names(database) == ["small-fold-1"]
    configurations = []
    for fold in ("fold-1", "fold-2"):
        runs = [path.name for path in (results / fold / "tune/encoders").iterdir()]
        # Control encoders are named after what they control; they follow each fold's own winner.
        runs = [name for name in runs if not name.startswith(("shuffled-", "simclr-"))]
        configurations.append(sorted(re.sub("-fold-.*", "", name) for name in runs))
    assert configurations[0] == configurations[1], "the same finalists,"
    weights = [
        (results / f / "best/rank-1/model.safetensors").read_bytes() for f in ("fold-1", "fold-2")
    ]
    assert weights[0] != weights[1], "trained on each fold's own part"
    page = (results / "report.html").read_text()
    said = (results / "study.log").read_text()
    for text in (page, re.sub(r"\s+", " ", said)):
        assert "chosen by the search of fold 1" in text
        assert "share training data" in text
    assert "synthetic" in page.lower()
    assert "SYNTHETIC data, protocol stimulus" in said
    assert "audit       audit of the split, protocol stimulus: passed (2 folds)" in said


@pytest.mark.slow
def test_the_table_of_the_whole_is_that_of_all_trials_each_once(ran: Path) -> None:
    results = ran / "results/small"
    predictions = pd.read_parquet(results / "predictions.parquet")
    parts = [
        pd.read_parquet(results / f"fold-{k}/predictions.parquet").assign(fold=k) for k in (1, 2)
    ]
    together = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(predictions, together)
    each = predictions.groupby(["method", "target", "trial", "start_seconds"]).size()
    assert (each == 1).all()
    tested = predictions[predictions["method"] == "pretrained"]
    assert tested["stimulus"].nunique() == 12
    assert len(tested.groupby(["subject", "stimulus"])) == 2 * 12
    expected = render_text(main_table(together), comparisons(together), title="")
    said = (results / "study.log").read_text()
    assert expected.strip() in said


@pytest.mark.slow
def test_stages_alone_serve_all_folds(
    ran: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--name", "small", "--results", str(ran / "results")]
    for stage in ("search", "promote", "controls"):
        monkeypatch.setattr(sys, "argv", ["physiosync", stage, *words])
        cli.main()
    said = capsys.readouterr().err
    assert said.count("all 2 are done") == 2, "two folds' searches; this study has no controls"
    words = ["--name", "fold-1", "--results", str(ran / "results/small")]
    monkeypatch.setattr(sys, "argv", ["physiosync", "report", *words])
    with pytest.raises(SystemExit):
        cli.main()
    assert "expected a study, found fold 1 of the study 'small'" in capsys.readouterr().err


# ---- before any compute is spent


def test_no_stage_forgets_the_folds(tmp_path: Path) -> None:
    """One that is not told of them would work on a split of its own."""
    words = ["report", "--name", "none", "--results", str(tmp_path)]
    for name in stages(words).keys() - {"study"}:
        method = {"finalists": "run_finalists"}.get(name, name)
        assert method in vars(FoldedStudy), name
    with pytest.raises(NotImplementedError, match="a split for each"):
        _folded(tmp_path).new_split()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    small_study.write_recordings(folder / "recordings")
    made = small_study.study(small_study.options(folder, name="shards"))
    with made.session():
        made.prepare()
    return folder


def _refused(study: FoldedStudy, act: Callable[[], object], message: str) -> None:
    with pytest.raises(PhysioSyncError, match=message):
        act()
    assert not (study.folder / "study.json").exists(), "nothing is bound to what can't be run"
    assert not list(study.folder.glob("fold-*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 13}, "^--folds: expected 2 to 12 folds of stimuli, found 13"),
        ({"folds": 5, "protocol": "subject"}, "^--folds: expected 2 to 4 folds of subjects"),
        ({"finalist_folds": 3}, "^fold 1 of 2: expected enough to train on for 3 finalist folds"),
    ],
)
def test_what_can_not_be_run_is_refused_at_the_start(
    recordings: Path, changes: dict[str, object], message: str
) -> None:
    study = _folded(recordings, **changes)
    _refused(study, study.run, message)
    _refused(study, study.plan, message)


def test_a_forecast_counts_the_folds(tmp_path: Path) -> None:
    for reuse, said in ((False, "2, and for each this search"), (True, "2: this search once")):
        assert said in forecast(_folded(tmp_path, reuse_search=reuse).options, [], None)


def test_a_forecast_checks_the_label(recordings: Path) -> None:
    study = small_study.study(small_study.options(recordings, label="task"))
    with pytest.raises(StudyError, match="--label: expected a rating of the recordings"):
        study.plan()


def test_each_fold_has_its_own_search_in_the_same_database(recordings: Path) -> None:
    study = _folded(recordings, reuse_search=False)
    study.check()
    names = [fold.database.study_name for fold in study.folds]
    assert names == ["small-fold-1", "small-fold-2"]
    assert optuna.get_all_study_names(study.options.storage_url) == names
    assert [fold.split for fold in study.folds] == list(study.splits)
    assert study.store.sites == {f"s0{k}": "Twente" for k in (1, 2, 3, 4)}
    with pytest.raises(StudyError, match="reuse_search: was False, is True"):
        _folded(recordings).check()
