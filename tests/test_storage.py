"""Which database a study has, and what is said and waited for when it can't be reached."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError, OperationalError

from physiosync.errors import StudyError
from physiosync.options import StudyOptions
from physiosync.search import requeue_orphans
from physiosync.storage import (
    dashboard_argument,
    default_storage,
    is_shared,
    open_study,
    patiently,
    without_password,
)

SECRET = "postgresql://physio:hunter2@db.example:5432/studies"


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_local_is_sqlite_and_shared_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_storage(tmp_path) == f"sqlite:///{tmp_path / 'study.db'}"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert default_storage(tmp_path) == f"journal:///{tmp_path / 'study.journal'}"


@pytest.mark.parametrize(
    ("kind", "shared"),
    [("nfs4", True), ("fuse.sshfs", True), ("lustre", True), ("ext4", False), ("tmpfs", False)],
)
def test_the_file_system_says_what_is_shared(
    monkeypatch: pytest.MonkeyPatch, kind: str, shared: bool
) -> None:
    monkeypatch.setattr("physiosync.storage._file_system", lambda folder: kind)
    assert is_shared(Path("/anywhere")) is shared


def test_a_study_keeps_the_database_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.journal").touch()
    assert default_storage(tmp_path).startswith("journal:")
    (tmp_path / "study.journal").unlink()
    (tmp_path / "study.db").touch()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert default_storage(tmp_path).startswith("sqlite:")


def test_sqlite_on_a_shared_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(StudyError, match="expected a local disk for SQLite, found a shared one"):
        open_study("x", f"sqlite:///{tmp_path / 'study.db'}", "i", seed=0, trials=1)
    assert not (tmp_path / "study.db").exists()


def test_a_journal_does_all_that_a_search_asks_of_it(tmp_path: Path) -> None:
    url = f"journal:///{tmp_path / 'new' / 'study.journal'}"
    trial = open_study("x", url, "i", seed=0, trials=4).ask()
    trial.report(0.5, 1)
    again = open_study("x", url, "i", seed=0, trials=4)
    assert requeue_orphans(again) == 1
    assert again.trials[0].state == TrialState.WAITING
    taken_up = again.ask()
    assert taken_up.number == 0
    again.tell(taken_up, 0.75)
    assert open_study("x", url, "i", seed=0, trials=4).best_value == 0.75


@pytest.mark.parametrize("url", ["nonsense://user:hunter2@nowhere/db", SECRET, "user:hunter2@x"])
def test_a_password_is_never_repeated(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OperationalError("select", {}, Exception(f"no route for {url}"))

    monkeypatch.setattr("physiosync.storage.RDBStorage", refuse)
    with pytest.raises(StudyError) as caught:
        open_study("x", url, "i", seed=0, trials=1)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None, "a traceback would show the driver's own message"
    assert "hunter2" not in without_password(url)
    assert "hunter2" not in dashboard_argument(url)
    options = StudyOptions(results=tmp_path, storage=url)
    assert "hunter2" not in json.dumps(options.without_secrets())


def test_folders_and_storage_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RECORDINGS", "SHARDS", "RESULTS"):
        monkeypatch.setenv(f"PHYSIOSYNC_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("PHYSIOSYNC_STORAGE", SECRET)
    options = StudyOptions(name="deap")
    assert options.recordings == tmp_path / "recordings"
    assert options.shards_folder == tmp_path / "shards" / "deap"
    assert options.folder == tmp_path / "results" / "deap"
    assert options.storage_url == SECRET
    assert StudyOptions(shards=tmp_path / "mine").shards_folder == tmp_path / "mine"


def test_trials_of_another_study_of_this_name_are_not_adopted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    open_study("x", url, "these data", seed=0, trials=1)
    open_study("x", url, "these data", seed=0, trials=1)
    with pytest.raises(StudyError, match="found one of other data or settings"):
        open_study("x", url, "other data", seed=0, trials=1)


# ---- outages


def _outage() -> StorageInternalError:
    error = StorageInternalError("an exception is raised during the commit")
    error.__cause__ = OperationalError("select", {}, Exception("server closed the connection"))
    return error


def test_an_outage_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    failures = [_outage(), OSError(errno.EIO, "away")]

    def call() -> str:
        if failures:
            raise failures.pop()
        return "there"

    assert patiently(call) == "there"


def test_but_not_for_ever() -> None:
    def call() -> None:
        raise _outage()

    with pytest.raises(StudyError, match="expected it back within 0 s"):
        patiently(call, patience=0.0)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OperationalError("insert", {}, Exception("database or disk is full")),
    ],
)
def test_a_full_disk_is_said_at_once(error: Exception) -> None:
    def call() -> None:
        raise error

    with pytest.raises(StudyError, match="found it full; the same command goes on"):
        patiently(call)


def test_what_is_no_outage_is_not_waited_for() -> None:
    def call() -> None:
        raise IntegrityError("insert", {}, Exception("duplicate key"))

    with pytest.raises(IntegrityError):
        patiently(call)
