"""The product's own commands on test hosts, given as a user gives them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable

from tests.cluster.hosts import REPOSITORY, Hosts

HEAD = "head"
CONFIG = "cluster/cluster.yaml"

#: Prints when the host with this address is no longer taken for alive.
_WATCH = """
import sys, time, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
def alive():
    return sys.argv[1] in (n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"])
assert alive()
print("WATCHING", flush=True)
while alive():
    time.sleep(0.2)
print("DEAD", time.time(), flush=True)
"""
_ALIVE = """
import ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
print("ALIVE", *sorted(n["NodeManagerAddress"] for n in ray.nodes() if n["Alive"]))
"""


def edited(text: str, hosts: Hosts) -> str:
    """cluster.yaml with the lines changed that it asks its users to change, and no others."""
    head, *workers = (host.address for name, host in hosts.hosts.items() if name != "launcher")
    edits = {
        "head_ip": f"  head_ip: {head}",
        "worker_ips": f"  worker_ips: [{', '.join(workers)}]",
        "auth": "auth: {ssh_user: root, ssh_private_key: ~/.ssh/id_ed25519}",
    }
    lines = text.splitlines()
    marked = [n for n, line in enumerate(lines) if line.endswith("# EDIT")]
    assert [lines[n].split(":")[0].strip() for n in marked] == list(edits)
    for n, line in zip(marked, edits.values(), strict=True):
        lines[n] = line
    return "\n".join(lines) + "\n"


def clone(hosts: Hosts) -> None:
    """Put on the launcher what a user has: the project, a wheel of it, and a token."""
    project = hosts.hosts["launcher"].home / "project"
    assert list((REPOSITORY / "dist").glob("*.whl")), "no wheel in dist/: run `make wheel` first"
    for folder in ("cluster", "studies", "dist"):
        shutil.copytree(REPOSITORY / folder, project / folder)
    config = project / CONFIG
    config.write_text(edited(config.read_text(), hosts))
    hosts.launch("ray get-auth-token --generate")


def alive(hosts: Hosts, name: str = HEAD) -> set[str]:
    """Names of the hosts that Ray, asked on the host `name`, takes for alive."""
    python = "python - <<'END'\n" + _ALIVE + "END"
    lines = hosts.run(name, python, timeout=60).stdout.splitlines()
    words = next(line for line in lines if line.startswith("ALIVE")).split()[1:]
    return {host.name for host in hosts.hosts.values() if host.address in words}


def seconds_to_notice(hosts: Hosts, name: str, strike: Callable[[], None]) -> float:
    """How long Ray takes to know that a host is gone, once `strike` has struck it."""
    said = hosts.hosts[HEAD].home / f"watch-{name}.log"
    script = hosts.hosts[HEAD].home / "watch.py"
    script.write_text(_WATCH)
    # Started before, so that what Python and Ray need to start is not counted.
    hosts.run(HEAD, f"python watch.py {hosts.hosts[name].address} > {said.name} 2>&1 &")
    wait(lambda: "WATCHING" in said.read_text(), 60, said.read_text)
    began = time.time()
    strike()
    wait(lambda: "DEAD" in said.read_text(), 60, said.read_text)
    return float(said.read_text().split("DEAD")[1]) - began


def wait(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Wait until a condition holds; AssertionError with what `what` says if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:g} s:\n{what()}"
        time.sleep(0.3)


def wait_for(hosts: Hosts, names: Iterable[str], seconds: float) -> float:
    """Wait until exactly these hosts are alive; gives how long that took."""
    began, wanted = time.monotonic(), set(names)
    while (found := alive(hosts)) != wanted:
        waited = time.monotonic() - began
        assert waited < seconds, f"after {waited:.0f} s alive: {sorted(found)}, not {wanted}"
        time.sleep(0.5)
    return time.monotonic() - began
