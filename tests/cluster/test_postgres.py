"""PostgreSQL as the storage of a study: outages, passwords, and one driver a name."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from physiosync.storage import with_driver
from tests import small_study
from tests.cluster.postgres import PASSWORD, Server, needs_server
from tests.test_study import Program

pytestmark = needs_server


@pytest.fixture
def folder(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A study's folder, in an environment that names the server."""
    small_study.write_recordings(tmp_path / "recordings")
    monkeypatch.setenv("PHYSIOSYNC_STORAGE", server.url())
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    yield tmp_path
    monkeypatch.setenv("PGPASSWORD", PASSWORD)  # Tests may have taken it away.
    optuna.delete_study(study_name="small", storage=with_driver(server.url()))


def _trials(server: Server) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="small", storage=with_driver(server.url())).trials


def _holds_password(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if PASSWORD.encode() in path.read_bytes()]


def test_a_study_outlives_a_restart_and_an_outage(folder: Path, server: Server) -> None:
    program = Program(folder)
    program.until("search: 1/4 done")
    server.stop()
    server.start()
    program.until("search: 2/4 done")
    server.stop()
    time.sleep(30)
    server.start()
    assert program.end() == 0, program.output
    assert "the database answers again" in program.output
    trials = _trials(server)
    told = [(trial.number, trial.state.name, trial.params != {}) for trial in trials]
    assert [number for number, _, _ in told] == [0, 1, 2, 3], f"one lost or doubled: {told}"
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))


def test_a_wrong_password_is_said_and_never_shown(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna.create_study(study_name="small", storage=with_driver(server.url()))
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PHYSIOSYNC_STORAGE", server.url("wrong-" + PASSWORD))
    program = Program(folder)
    assert program.end() == 1
    assert 'password authentication failed for user "physio"' in program.output
    assert f"physio:***@127.0.0.1:{server.port}" in program.output
    assert PASSWORD not in program.output
    assert _holds_password(folder) == []


def test_a_password_in_the_url_reaches_no_file(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PHYSIOSYNC_STORAGE", server.url(PASSWORD))
    program = Program(folder, trials=1)
    program.until("search: 1 trial ")
    assert _holds_password(folder) == []
    assert program.end() == 0, program.output
    assert PASSWORD not in program.output
    assert _holds_password(folder) == []


def test_one_driver_a_name_wherever_its_folder_is(folder: Path, server: Server) -> None:
    first = Program(folder, trials=1)
    first.until("search: ")
    elsewhere = folder / "elsewhere"
    small_study.write_recordings(elsewhere / "recordings")
    second = Program(elsewhere, trials=1)
    assert second.end() == 1
    assert "only driver of study 'small', found another: physiosync small," in second.output
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    # The server frees a dead driver's lock, and its study is another driver's to finish.
    assert Program(folder, trials=1).end() == 0
