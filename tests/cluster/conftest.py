"""Three hosts and a launcher for the session; a cluster on them for each test file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import Hosts, missing
from tests.cluster.launching import CONFIG, clone, wait_for
from tests.cluster.postgres import Server

NAMES = ("head", "worker-1", "worker-2")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, so that no test of these can be forgotten."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """Hosts, all up, without Ray; `Hosts.renew` gives the next test file fresh ones."""
    if reason := missing():
        pytest.skip(reason)
    made = Hosts(Path(tempfile.mkdtemp(prefix="physiosync-hosts-")), NAMES)
    try:
        made.open()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def cluster(hosts: Hosts) -> Hosts:
    """Fresh hosts with Ray running on all three, started by `ray up`."""
    hosts.renew()
    clone(hosts)
    hosts.launch(f"ray up -y {CONFIG}", timeout=180)
    wait_for(hosts, NAMES, seconds=120)
    return hosts


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL server for each test file."""
    # Not in pytest's folders: the server's own user may not pass through them.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        running = Server(Path(name) / "postgres")
        yield running
        running.stop()
