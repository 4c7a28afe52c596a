"""cluster/slurm.sbatch on a Slurm of one machine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from physiosync.recordings.synthetic import CohortConfig, write_cohort
from tests.cluster.hosts import REPOSITORY
from tests.cluster.launching import wait
from tests.cluster.slurm import Slurm, missing

SMALL = shlex.split(
    "--name small --trials 4 --max-epochs 2 --epoch-seconds 1000 --finalists 2 --finalist-folds 1 "
    "--promote 1 --finetune-epochs 1 --no-controls"
)


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    if reason := missing():
        pytest.skip(reason)
    # Not in pytest's folders: others may not pass through them.
    with tempfile.TemporaryDirectory(prefix="physiosync-slurm-") as name:
        Path(name).chmod(0o755)
        running = Slurm(Path(name))
        yield running
        running.stop()


def edited(folder: Path) -> Path:
    """The script with its four paths changed, as it asks, and with the machine's own size."""
    text = (REPOSITORY / "cluster/slurm.sbatch").read_text()
    for name, path in {
        "VENV": sys.prefix,
        "export PHYSIOSYNC_RECORDINGS": folder / "recordings",
        "export PHYSIOSYNC_SHARDS": folder / "shards",
        "export PHYSIOSYNC_RESULTS": folder / "results",
    }.items():
        text, n = re.subn(rf"(?m)^{name}=.*$", f"{name}={path}", text)
        assert n == 1, name
    for name, value in {"nodes": 1, "cpus-per-task": os.cpu_count(), "mem": "5G"}.items():
        text, n = re.subn(rf"(?m)^#SBATCH --{name}=.*$", f"#SBATCH --{name}={value}", text)
        assert n == 1, name
    script = folder / "slurm.sbatch"
    script.write_text(text)
    return script


def test_a_job_is_stopped_and_its_study_goes_on_in_the_next(slurm: Slurm, tmp_path: Path) -> None:
    write_cohort(CohortConfig(n_subjects=4), tmp_path / "recordings")
    script = str(edited(tmp_path))
    slurm.call(f"{sys.prefix}/bin/ray", "get-auth-token", "--generate")
    study = str(REPOSITORY / "studies/deap.py")

    first = slurm.submit(script, study, *SMALL)
    wait(lambda: "search: 1/4 done" in first.output, 240, lambda: first.output)
    slurm.call("scancel", "--batch", "--signal=TERM", first.number)
    wait(first.over, 90, lambda: first.output)
    assert "stopped by SIGTERM; run the same command again to go on" in first.output
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], check=False).returncode == 1

    second = slurm.submit(script, study, *SMALL)
    wait(second.over, 480, lambda: second.output)
    results = tmp_path / "results/small"
    assert (results / "report.html").exists(), second.output
    storage = JournalStorage(JournalFileBackend(str(results / "study.journal")))
    trials = optuna.load_study(study_name="small", storage=storage).trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
