"""Losing hosts, cables, drivers and the head in the middle of a study."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from physiosync.recordings.synthetic import CohortConfig, write_cohort
from tests.cluster.conftest import NAMES
from tests.cluster.hosts import Hosts
from tests.cluster.launching import CONFIG, HEAD, alive, seconds_to_notice, wait, wait_for

TRIALS, EPOCHS = 6, 4
SUBMIT = (
    f"ray submit {CONFIG} studies/deap.py -- --name small --trials {TRIALS} --max-epochs {EPOCHS} "
    "--epoch-seconds 2000 --finalists 2 --finalist-folds 1 --promote 1 --finetune-epochs 1 "
    "--no-controls"
)


@pytest.fixture
def study(cluster: Hosts) -> Iterator[Path]:
    """The folder of a study that is yet to run, on recordings of six synthetic people."""
    shared = cluster.shared / "physiosync"
    if not (shared / "recordings").exists():
        write_cohort(CohortConfig(n_subjects=6), shared / "recordings")
    yield shared / "results/small"
    for name in NAMES:
        if cluster.hosts[name].process is None:
            cluster.start(name)
        cluster.mend(name)
    cluster.run(HEAD, "rm -rf /shared/physiosync/results/small")


def submit(hosts: Hosts) -> None:
    """`ray submit` in the background; `submit.code` has its exit status when it ends."""
    hosts.launch(
        "rm -f submit.code; true > submit.log; "
        f"({SUBMIT}; echo $? > submit.code) >> submit.log 2>&1 < /dev/null &"
    )


def said(hosts: Hosts) -> str:
    """What the running `ray submit` has printed."""
    return (hosts.hosts["launcher"].home / "project/submit.log").read_text()


def until_done(n: int, seconds: float, hosts: Hosts) -> None:
    """Wait until this run says that at least `n` trials of the search have ended."""

    def reached() -> bool:
        counts = re.findall(r"search: (\d+)/\d+ done", said(hosts))
        return any(int(count) >= n for count in counts)

    wait(reached, seconds, lambda: said(hosts))


def ended(hosts: Hosts, seconds: float) -> int:
    """The exit status of `ray submit`, once it has ended."""
    code = hosts.hosts["launcher"].home / "project/submit.code"
    wait(lambda: code.exists() and bool(code.read_text()), seconds, lambda: said(hosts))
    return int(code.read_text())


def trials(study: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(study / "study.journal")))
    return optuna.load_study(study_name="small", storage=storage).trials


def check_whole(study: Path) -> None:
    """Every trial once, none running, every epoch known."""
    found = trials(study)
    assert [trial.number for trial in found] == list(range(TRIALS))
    assert {trial.state for trial in found} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in found:
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert trial.state != TrialState.COMPLETE or len(epochs) == EPOCHS
    assert not (study / "study.db").exists(), "SQLite on a shared folder"
    assert (study / "report.html").exists()


def test_a_study_outlives_a_killed_worker_and_a_cut_one(cluster: Hosts, study: Path) -> None:
    submit(cluster)
    until_done(1, 240, cluster)
    killed = seconds_to_notice(cluster, "worker-1", lambda: cluster.kill("worker-1"))
    cut = seconds_to_notice(cluster, "worker-2", lambda: cluster.cut("worker-2"))
    print(f"found out: a killed host after {killed:.1f} s, a cut one after {cut:.1f} s")
    assert ended(cluster, 600) == 0
    check_whole(study)
    assert killed < 30, "without the health checks of cluster.yaml Ray takes a minute"
    assert cut < 30, "without the health checks of cluster.yaml Ray takes a minute"


def test_a_driver_and_a_head_that_die_lose_nothing(cluster: Hosts, study: Path) -> None:
    # Hosts that were killed and started again have no Ray.
    cluster.launch(f"ray up -y {CONFIG}", timeout=180)
    wait_for(cluster, NAMES, seconds=120)
    submit(cluster)
    until_done(1, 240, cluster)
    cluster.run(HEAD, "pkill -KILL -f '^python .*/deap.py'")
    assert ended(cluster, 60) != 0
    before = {t.number: t.intermediate_values for t in trials(study) if t.intermediate_values}
    assert before

    began = time.monotonic()
    submit(cluster)
    wait(lambda: f"search: {TRIALS} trials" in said(cluster), 120, lambda: said(cluster))
    print(f"a killed driver's study went on after {time.monotonic() - began:.1f} s")
    until_done(3, 300, cluster)
    cluster.kill(HEAD)
    cluster.start(HEAD)
    began = time.monotonic()
    cluster.launch(f"ray up -y {CONFIG}", timeout=180)
    wait_for(cluster, NAMES, seconds=120)
    print(f"the cluster of a killed head was up again after {time.monotonic() - began:.1f} s")
    submit(cluster)
    assert ended(cluster, 900) == 0
    check_whole(study)
    for number, values in before.items():
        now = trials(study)[number].intermediate_values
        assert values.items() <= now.items(), "an epoch that was told is kept as it was"
    assert alive(cluster) == set(NAMES)
