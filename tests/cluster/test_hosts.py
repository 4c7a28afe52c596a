"""The hosts that the other tests stand on: apart from each other, this machine and the world."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cluster.hosts import HOME, REPOSITORY, Hosts

REACH = "ssh -i ~/.ssh/id_ed25519 -o StrictHostKeyChecking=no -o ConnectTimeout=2 root@"


@pytest.fixture(scope="module")
def fresh(hosts: Hosts) -> Hosts:
    hosts.renew()
    return hosts


def test_a_host_is_reached_by_ssh_until_its_cable_is_cut(fresh: Hosts) -> None:
    ssh = f"{REACH}{fresh.hosts['worker-1'].address} hostname"
    assert fresh.launch(ssh).stdout.splitlines()[-1] == "worker-1"
    fresh.cut("worker-1")
    assert fresh.launch(ssh, check=False).returncode != 0
    fresh.mend("worker-1")
    assert fresh.launch(ssh).stdout.splitlines()[-1] == "worker-1"


def test_a_killed_host_loses_its_processes_and_keeps_its_files(fresh: Hosts) -> None:
    fresh.run("worker-2", "echo kept > note; sleep 987 &")
    fresh.kill("worker-2")
    ssh = f"{REACH}{fresh.hosts['worker-2'].address} hostname"
    assert fresh.launch(ssh, check=False).returncode != 0
    fresh.start("worker-2")
    assert fresh.run("worker-2", "cat note").stdout == "kept\n"
    assert fresh.run("worker-2", "pgrep -f '^sleep 987'", check=False).stdout == ""


def test_hosts_share_one_folder_and_nothing_else(fresh: Hosts) -> None:
    fresh.run("head", "for at in /shared ~ /tmp /run /dev/shm; do echo > $at/from-head; done")
    found = fresh.run("worker-1", "ls {/shared,~,/tmp,/run,/dev/shm}/from-head", check=False)
    assert [line for line in found.stdout.splitlines() if "cannot" not in line] == [
        "/shared/from-head"
    ]
    assert not any(Path(at, "from-head").exists() for at in (HOME, "/tmp", "/run", "/dev/shm"))


def test_a_host_finds_neither_a_way_out_nor_our_code(fresh: Hosts) -> None:
    assert (REPOSITORY / "physiosync").exists()
    fresh.run("head", f"test ! -e {REPOSITORY}/physiosync")
    python = "~/.physiosync/venv/bin/python"
    assert fresh.run("head", f"{python} -c 'import ray, torch'").stdout == ""
    lost = fresh.run("head", f"{python} -c 'import physiosync'", check=False)
    assert "ModuleNotFoundError" in lost.stdout
    away = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
    assert fresh.run("head", f'{python} -c "{away}"', check=False).returncode != 0
    spoil = fresh.run("head", f"touch {sys.prefix}/spoiled", check=False)
    assert "Read-only" in spoil.stdout


def test_what_is_running_is_seen_as_left_over(fresh: Hosts) -> None:
    assert any(line.startswith("process") for line in fresh.leftovers())
