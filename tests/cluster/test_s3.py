"""A study whose results and shards lie in an object store, with its trials on PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import optuna
import pandas as pd
import pytest
import ray.util
from optuna.trial import TrialState

from physiosync.model import PhysioSync
from physiosync.remote import download
from physiosync.storage import with_driver
from tests import small_study
from tests.cluster.postgres import PASSWORD, Server, needs_server
from tests.object_store import SECRET, ObjectStore, damaged_copy
from tests.test_study import Program

pytestmark = needs_server
PLACES = ("results=s3://lab/results", "shards=s3://lab/shards")
RESULTS = "lab/results/small"


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    running = ObjectStore()
    yield running
    running.stop()


@pytest.fixture
def folder(
    tmp_path: Path, server: Server, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Recordings, in an environment that names both servers."""
    small_study.write_recordings(tmp_path / "recordings")
    monkeypatch.setenv("PHYSIOSYNC_STORAGE", server.url())
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setenv("PHYSIOSYNC_WORK", str(tmp_path / "work"))
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    if "small" in optuna.get_all_study_names(with_driver(server.url())):
        optuna.delete_study(study_name="small", storage=with_driver(server.url()))


def _holding_secrets(folder: Path, store: ObjectStore) -> list[str]:
    contents = {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()} | store.files()
    secrets = (SECRET.encode(), PASSWORD.encode())
    return [name for name, content in contents.items() if any(s in content for s in secrets)]


def _another_machine(folder: Path) -> None:
    """Take away all that the machine of the last driver knew."""
    shutil.rmtree(folder / "work")
    shutil.rmtree(folder / "cache")


def _trials(server: Server) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="small", storage=with_driver(server.url())).trials


def _check_trials(server: Server) -> None:
    trials = _trials(server)
    assert [trial.number for trial in trials] == [0, 1, 2, 3], "none lost, none doubled"
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in trials:
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))


def test_killed_and_taken_up_on_another_machine(
    folder: Path, server: Server, store: ObjectStore
) -> None:
    outputs = []
    for moment in ("search: 1/4 done", "finalists: 1/2 done", "finetune: 2/"):
        began = time.monotonic()
        program = Program(folder, 4, *PLACES)
        program.until("search: 4 trials")
        print(f"from the command to the search: {time.monotonic() - began:.1f} s")
        program.until(moment)
        assert program.end(signal.SIGKILL) == -signal.SIGKILL
        outputs.append(program.output)
        assert _holding_secrets(folder, store) == []
        _another_machine(folder)
    program = Program(folder, 4, *PLACES)
    assert program.end() == 0, program.output
    outputs.append(program.output)
    assert "best/rank-1" not in outputs[0]
    assert "search: 4 trials of up to 2 epochs\n  all 4 are done" in program.output
    assert "finalists: 2 jobs\n  all 2 are done" in program.output
    assert "encoders    s3://lab/results/small/best" in program.output
    _check_trials(server)

    files = store.files(RESULTS)
    for name in (
        "study.json", "study.log", "split.json", "report.html", "best/rank-1/config.json",
        "best/rank-1/model.safetensors", "best/rank-1/metrics.json", "best/rank-1/README.md",
        "finetune.parquet", "predictions.parquet", "baselines.parquet",
    ):  # fmt: skip
        assert name in files, name
    for start in ("artifacts/", "tune/search/", "tune/finalists", "tune/finetune", "finetune/"):
        assert any(name.startswith(start) for name in files), start
    assert not any(name.startswith(("driver", "best/rank-2", "study.db")) for name in files)
    predictions = pd.read_parquet(BytesIO(files["predictions.parquet"]))
    assert set(predictions["stimulus"]) == set(json.loads(files["split.json"])["test"]["stimuli"])
    each = predictions.groupby(["method", "target", "trial", "start_seconds"]).size()
    assert (each == 1).all(), "no prediction is doubled"
    assert len(json.loads(files["study.json"])["test_openings"]) == 2
    # What a driver wrote within its last moment, before the next upload, is lost with it.
    beginnings = files["study.log"].count(b"working copy of the results in")
    assert beginnings == 4, "each driver went on with the log of those before"
    assert _holding_secrets(folder, store) == []
    assert not [text for text in outputs if SECRET in text or PASSWORD in text]

    download("s3://lab/results/small/best/rank-1", folder / "mine")
    PhysioSync.from_pretrained(folder / "mine")
    _another_machine(folder)
    places = {name: Path(url) for name, _, url in (place.partition("=") for place in PLACES)}
    small_study.study(small_study.options(folder, **places)).run_stage("report")
    again = store.files(RESULTS)
    assert again["predictions.parquet"] == files["predictions.parquet"]
    assert len(again["study.log"]) > len(files["study.log"])


def test_a_store_that_is_away_is_waited_for(
    folder: Path, server: Server, store: ObjectStore
) -> None:
    program = Program(folder, 4, *PLACES)
    program.until("search: 1/4 done")
    store.stop()
    time.sleep(20)
    store.start()
    began = time.monotonic()
    program.until("search: 2/4 done")
    print(f"another trial had ended {time.monotonic() - began:.1f} s after the store was back")
    assert program.end() == 0, program.output
    _check_trials(server)
    assert "report.html" in store.files(RESULTS)


def test_what_is_wrong_is_said_before_anything_is_computed(
    folder: Path, server: Server, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(because: str, *places: str) -> None:
        program = Program(folder, 4, *places)
        assert program.end() == 1
        assert because in program.output
        assert "Traceback" not in program.output
        assert SECRET not in program.output
        assert "prepare:" not in program.output

    refused("expected a bucket of this name, found none", "results=s3://nobody/x", PLACES[1])
    refused("expected a bucket of this name, found none", PLACES[0], "shards=s3://nobody/x")
    store.demand_credentials(True)
    refused("s3://lab/results/small/.probe", *PLACES)
    refused("expected credentials that may read and write here, found them refused", *PLACES)
    store.demand_credentials(False)
    monkeypatch.delenv("PHYSIOSYNC_STORAGE")
    refused("expected --storage (or $PHYSIOSYNC_STORAGE)", *PLACES)
    monkeypatch.setenv("PHYSIOSYNC_STORAGE", server.url())
    store.stop()
    refused(f"expected an answer of http://127.0.0.1:{store.port}, found no connection", *PLACES)
    store.start()
    assert store.files() == {}


class Machines:
    """A Ray cluster of a head without CPUs, here, and a worker with a disk of its own.

    Parameters
    ----------
    work : the folder that the worker sees empty at first, and nobody else does
    """

    def __init__(self, folder: Path, work: Path) -> None:
        self._ray = str(Path(sys.executable).with_name("ray"))
        # Sockets have short names only.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self.work = work
        work.mkdir(parents=True)
        self.port = 20000 + os.getpid() % 20000
        self._log = (folder / "ray.log").open("w")
        ip = ray.util.get_node_ip_address()
        self.address = f"{ip}:{self.port}"
        self._head = self._start(
            f"{self._ray} start --head --block --num-cpus=0 --port={self.port} "
            f"--node-ip-address={ip} --include-dashboard=false --temp-dir={self._folder}"
        )
        time.sleep(8)
        self._worker = self._start(
            f"mount -t tmpfs none {work} && {self._ray} start --block --num-cpus=2 "
            f"--address={self.address} --node-ip-address={ip}",
            "unshare", "--mount", "--propagation", "private",
        )  # fmt: skip

    def on_worker(self, act: Callable[[Path], None]) -> None:
        """Do something with the worker's own folder."""
        pid = subprocess.check_output(["pgrep", "-g", str(self._worker.pid)], text=True).split()[-1]
        act(Path(f"/proc/{pid}/root{self.work}"))

    def close(self) -> None:
        """End the processes that were started here."""
        for process in (self._worker, self._head):
            os.killpg(process.pid, signal.SIGTERM)
        for process in (self._worker, self._head):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, command: str, *within: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*within, "bash", "-c", command],
            stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def test_nodes_without_a_common_disk(
    folder: Path, server: Server, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
    machines = Machines(folder, folder / "work")
    try:
        monkeypatch.setenv("RAY_ADDRESS", machines.address)
        program = Program(folder, 4, *PLACES)
        program.until("finalists: 1/2 done")
        assert program.end(signal.SIGKILL) == -signal.SIGKILL

        def damage(work: Path) -> None:
            (path,) = work.glob("shards/*/s02.parquet")
            damaged_copy(path)
            assert list(work.glob("results/*/small/tune/encoders/*/metrics.json"))
            assert not list(work.glob("results/*/small/study.json")), "the driver's alone"

        machines.on_worker(damage)
        again = Program(folder, 4, *PLACES)
        assert again.end() == 0, again.output
        assert "expected the digest of s02.parquet, found another; fetched again" in again.output
        assert "2 nodes checked" in again.output
        _check_trials(server)
        assert "report.html" in store.files(RESULTS)
        assert _holding_secrets(folder, store) == []
    finally:
        machines.close()
