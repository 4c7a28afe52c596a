"""One driver a study, on a local disk and on a shared one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from physiosync.driving import Lease, only_driver
from physiosync.errors import StudyError

SQLITE = "sqlite:///study.db"
_HOLD = """
import sys
from pathlib import Path
from physiosync.driving import only_driver

with only_driver(Path(sys.argv[1]), "deap", "sqlite:///study.db"):
    print("driving", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _other_driver(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HOLD, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "driving\n"
        try:
            yield other
        finally:
            other.kill()


@pytest.fixture(params=["local", "shared"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder on a local disk, and where `RAY_ADDRESS` says that it is a cluster's."""
    if request.param == "shared":
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        monkeypatch.setattr("physiosync.driving.BEAT", 0.5)
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path / "study"


def test_a_second_driver_is_told_who_the_first_is(folder: Path) -> None:
    with _other_driver(folder) as other:
        message = rf'only driver, found another: .*"pid": {other.pid}\b'
        with pytest.raises(StudyError, match=message), only_driver(folder, "deap", SQLITE):
            pass
        other.communicate("")  # it still holds what the refused one asked for, and gives it back
    with only_driver(folder, "deap", SQLITE):
        (said,) = (*folder.glob("driver.json"), *folder.glob("driver.lease"))
        assert json.loads(said.read_text())["pid"] == os.getpid()
    assert not said.exists()


def test_a_killed_driver_holds_nobody_up(folder: Path) -> None:
    with _other_driver(folder) as other:
        other.kill()
        other.wait()
        began = time.monotonic()
        with only_driver(folder, "deap", SQLITE):
            assert time.monotonic() - began < 5  # far less than a stale lease takes


def test_a_failed_driver_leaves_no_lock(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_driver(folder, "deap", SQLITE):
        _ = 1 / 0
    with only_driver(folder, "deap", SQLITE):
        pass


# ---- the lease alone: holders on other machines


def _elsewhere(path: Path, **changes: object) -> dict[str, object]:
    """Write the lease of a driver on another machine."""
    content = {
        "host": "head-1", "pid": 1, "since": "2026-01-01T00:00:00+00:00",
        "place": "another boot pid:[1]", "started": "1", "token": "t", "beats": 3,
    } | changes  # fmt: skip
    path.write_text(json.dumps(content))
    return content


def test_a_lease_that_nobody_renews_is_taken_over(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "driver.lease", beat=0.1, stale=1.0)
    _elsewhere(lease.path)
    began = time.monotonic()
    with lease.held():
        assert time.monotonic() - began > 0.9
        assert json.loads(lease.path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_is_renewed_is_not(tmp_path: Path) -> None:
    path, done = tmp_path / "driver.lease", threading.Event()
    _elsewhere(path)

    def renew() -> None:
        beats = 3
        while not done.wait(0.3):
            beats += 1
            _elsewhere(path, beats=beats)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        refused = pytest.raises(StudyError, match=r'found another: .*"host": "head-1"')
        with refused, Lease(path, beat=0.1, stale=5.0).held():
            pass
    finally:
        done.set()
        thread.join()
    assert json.loads(path.read_text())["host"] == "head-1"


def test_of_many_who_want_a_stale_lease_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "driver.lease"
    _elsewhere(path)
    together, got, refused = threading.Barrier(6), [], []

    def drive() -> None:
        together.wait()
        try:
            with Lease(path, beat=0.1, stale=0.5).held(on_loss=lambda: got.append("lost")):
                got.append("held")
                time.sleep(1.5)
        except StudyError:
            refused.append(1)

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["held"]
    assert len(refused) == 5


def test_a_driver_that_slept_too_long_is_told_that_another_took_over(tmp_path: Path) -> None:
    lease, lost = Lease(tmp_path / "driver.lease", beat=0.1), threading.Event()
    with lease.held(on_loss=lost.set):
        other = _elsewhere(lease.path, token="another")
        assert lost.wait(5)
    assert json.loads(lease.path.read_text()) == other, "and it leaves the other's lease alone"


def test_a_damaged_lease_is_stale_in_time(tmp_path: Path) -> None:
    lease = Lease(tmp_path / "driver.lease", beat=0.1, stale=0.5)
    lease.path.write_text('{"host": "he')
    with lease.held():
        assert json.loads(lease.path.read_text())["pid"] == os.getpid()
