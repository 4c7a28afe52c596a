"""The commands that cluster.yaml names, word for word, and who is let in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from physiosync.recordings.synthetic import CohortConfig, write_cohort
from tests.cluster.conftest import NAMES
from tests.cluster.hosts import REPOSITORY, Hosts
from tests.cluster.launching import CONFIG, HEAD, alive, wait_for

RESULTS = Path("/shared/physiosync/results")
SUBMIT = f"ray submit {CONFIG} studies/deap.py"
#: Of minutes.
SMALL = (
    "--name small --trials 4 --max-epochs 2 --epoch-seconds 1000 --finalists 2 --finalist-folds 1 "
    "--promote 1 --finetune-epochs 1 --no-controls"
)
INTRUDERS = {
    "without a token": "RAY_AUTH_MODE=disabled",
    "with another token": f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN={'0' * 64}",
}
_JOIN = """
import ray
ray.init(address="{address}:6379", log_to_driver=False, logging_level="ERROR")
print("JOINED", ray.get(ray.remote(lambda: 6 * 7).remote()))
"""
_EMBED = """
import json, sys, torch
from physiosync.model import PhysioSync
torch.set_num_threads(1)
model = PhysioSync.from_pretrained(sys.argv[1])
def wave(role):
    shape = (1, model.config.n_chans(role), model.config.long_times)
    return torch.sin(torch.arange(shape[1] * shape[2]) / 7).reshape(shape)
print("EMBEDDED", json.dumps(model.embed(wave("eeg"), wave("pps")).tolist()))
"""


# ---- who is let in


def test_the_dashboard_listens_on_the_head_alone(cluster: Hosts) -> None:
    """GCS and raylets listen everywhere, whatever address they are given: the token guards them."""
    lines = cluster.run(HEAD, "ss -Hltn").stdout.splitlines()
    listening = [line.split()[3].rpartition(":") for line in lines]
    assert [address for address, _, port in listening if port == "8265"] == ["127.0.0.1"]
    assert "6379" in [port for _, _, port in listening]


def test_only_its_owner_can_read_the_token(cluster: Hosts) -> None:
    for name in NAMES:
        assert cluster.run(name, "stat -c %a ~/.ray/auth_token").stdout.strip() == "600"


def join_as_program(hosts: Hosts, environment: str, seconds: int) -> str:
    """What a program says that would use the cluster, from the head itself."""
    python = _JOIN.format(address=hosts.hosts[HEAD].address)
    command = f"env {environment} timeout {seconds} python - 2>&1 <<'END'\n{python}END"
    return hosts.run(HEAD, command, check=False).stdout


def join_as_worker(hosts: Hosts, environment: str, seconds: int) -> set[str]:
    """Who is alive after the launcher tried to become a worker."""
    start = f"ray start --address={hosts.hosts[HEAD].address}:6379"
    hosts.launch(f"env {environment} timeout {seconds} {start}", check=False)
    try:
        return alive(hosts)
    finally:
        hosts.launch("ray stop --force", check=False)


@pytest.mark.parametrize("environment", INTRUDERS.values(), ids=list(INTRUDERS))
def test_nobody_joins(cluster: Hosts, environment: str) -> None:
    """Ray asks again for ever, so it is ended after a while."""
    environment = f"HOME=/tmp/nobody {environment}"
    said = join_as_program(cluster, environment, seconds=8)
    assert "InvalidAuthToken" in said
    assert "JOINED" not in said
    assert join_as_worker(cluster, environment, seconds=8) == set(NAMES)


def test_who_has_the_token_joins(cluster: Hosts) -> None:
    environment = "HOME=$HOME RAY_AUTH_MODE=token"
    assert "JOINED 42" in join_as_program(cluster, environment, seconds=40)
    assert join_as_worker(cluster, environment, seconds=40) == {"launcher", *NAMES}
    wait_for(cluster, NAMES, seconds=30)


# ---- a study


@pytest.fixture(scope="module")
def recordings(cluster: Hosts) -> Path:
    """Six made-up people where cluster.yaml says that recordings lie."""
    folder = cluster.shared / "physiosync/recordings"
    write_cohort(CohortConfig(n_subjects=6), folder)
    return folder


@pytest.mark.usefixtures("recordings")
def test_submitted_without_arguments_it_works_on_all_hosts(cluster: Hosts) -> None:
    cluster.launch(f"{SUBMIT} > submit.log 2>&1 < /dev/null &")
    project = cluster.hosts["launcher"].home / "project"
    at_work: set[str] = set()
    deadline = time.monotonic() + 120
    try:
        while at_work != set(NAMES):
            assert time.monotonic() < deadline, (project / "submit.log").read_text()
            time.sleep(1)
            at_work |= {
                name
                for name in NAMES
                if cluster.run(name, "pgrep -f '^ray::ImplicitFunc'", check=False).returncode == 0
            }
    finally:
        cluster.run(HEAD, "pkill -INT -f '^python .*/deap.py'", check=False)
    log = (cluster.shared / "physiosync/results/deap/study.log").read_text()
    assert "search: 64 trials of up to 27 epochs" in log
    cluster.run(
        HEAD, "while pgrep -f '^python .*/deap.py' > /dev/null; do sleep 0.2; done", timeout=60
    )


def test_a_whole_study_comes_home(cluster: Hosts) -> None:
    # demo.py on people of its own; a whole study of deap.py is run where hosts fail.
    cluster.launch(f"ray submit {CONFIG} studies/demo.py -- {SMALL}", timeout=600)
    cluster.launch(f"ray rsync-down {CONFIG} {RESULTS}/small results/")
    pulled = cluster.hosts["launcher"].home / "project/results/small"
    assert (pulled / "report.html").stat().st_size > 0
    assert (pulled / "predictions.parquet").stat().st_size > 0
    on_head = cluster.run(
        HEAD, f"python - {RESULTS}/small/best/rank-1 <<'END'\n{_EMBED}END", timeout=120
    ).stdout
    here = subprocess.run(
        [sys.executable, "-c", _EMBED, str(pulled / "best/rank-1")],
        cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    np.testing.assert_allclose(embedded(here), embedded(on_head), rtol=1e-6)
    assert np.ptp(embedded(here)) > 0


def embedded(output: str) -> list[list[float]]:
    """The vectors that `_EMBED` printed."""
    line = next(line for line in output.splitlines() if line.startswith("EMBEDDED"))
    vectors: list[list[float]] = json.loads(line.removeprefix("EMBEDDED"))
    return vectors


# ---- the end; last in this file, as nothing runs after it


def test_down_ends_ray_everywhere_within_seconds(cluster: Hosts) -> None:
    cluster.launch(f"ray down -y {CONFIG}", timeout=60)
    for name in NAMES:
        cluster.run(
            name, "while pgrep -x 'raylet|gcs_server' > /dev/null; do sleep 0.2; done", timeout=20
        )
