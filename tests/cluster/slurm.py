"""Slurm on this machine alone: one controller, one node, and the keys they trust each other by."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.cluster.launching import wait

_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=6000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing() -> str | None:
    """Why Slurm can't be run here, or None."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    lost = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    return f"not installed: {', '.join(lost)}" if lost else None


class Slurm:
    """One machine that takes jobs.

    Parameters
    ----------
    folder : for its state, which others may pass through
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._host = socket.gethostname().split(".")[0]
        self._environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": _PATH,
            "HOME": str(folder / "home"),
        }
        for name in ("munge", "state", "spool", "home"):
            (folder / name).mkdir(parents=True)
        (folder / "munge").chmod(0o711)
        key = folder / "munge/key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        (folder / "slurm.conf").write_text(
            _CONFIG.format(
                host=self._host, folder=folder, ports=_free_ports(2), cpus=os.cpu_count()
            )
        )
        munge = folder / "munge"
        self.call(
            "munged", "--force", f"--socket={munge}/socket", f"--key-file={key}",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self.call("slurmctld", "-c")
        self.call("slurmd", "-N", self._host)

    def call(self, *words: str) -> str:
        """Run one of Slurm's commands; returns what it prints."""
        done = subprocess.run(
            words, cwd=self._folder, env=self._environment, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *words: str) -> Job:
        """`sbatch` a script."""
        number = self.call("sbatch", "--parsable", *words).strip()
        return Job(self, number, self._folder / f"slurm-{number}.out")

    def stop(self) -> None:
        """End all jobs and daemons."""
        self.call("scancel", "--user=root")
        wait(lambda: not self.call("squeue", "--noheader"), 60, lambda: self.call("squeue"))
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            pid = int((self._folder / name).read_text())
            os.kill(pid, signal.SIGTERM)
            # They write until they end, and then their folder is removed.
            wait(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 30, lambda name=name: name)


class Job:
    """A job, and what it has printed."""

    def __init__(self, slurm: Slurm, number: str, output: Path) -> None:
        self._slurm, self.number, self._output = slurm, number, output

    @property
    def output(self) -> str:
        """What it has printed; nothing before it runs."""
        return self._output.read_text() if self._output.exists() else ""

    def over(self) -> bool:
        """Whether it has left the queue."""
        return self.number not in self._slurm.call("squeue", "--noheader", "--format=%i").split()


def _free_ports(n: int) -> list[int]:
    probes = [socket.socket() for _ in range(n)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
