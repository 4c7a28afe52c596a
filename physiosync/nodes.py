"""What a cluster has to have in common, seen from every node before anything is computed."""

from __future__ import annotations

import platform
import shutil
import time
import uuid
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import physiosync
from physiosync.cache import default_cache
from physiosync.errors import RemoteError, StudyError
from physiosync.files import sha256, write_text
from physiosync.mirror import Copies
from physiosync.progress import log
from physiosync.remote import Remote
from physiosync.tasks import Workload

#: How long a node may take to answer, in seconds; a first answer includes starting a worker.
_ANSWER_SECONDS = 120.0
#: Slowest download of shards that is waited for, in bytes a second.
_SLOWEST = 2e6
#: Free space that a results folder has to have, in bytes: checkpoints of a few trials.
_SPARE = 1 << 30
#: Distributions that have to be the same everywhere, or checkpoints and scores would differ.
_VERSIONS = ("torch", "numpy", "ray", "optuna")


def check_nodes(results: Path, workload: Workload) -> None:
    """See that all nodes can work for this driver.

    Nodes that lack shards of an object store, or have them damaged, get them now.

    Parameters
    ----------
    results : the study's folder, which every node writes to; or of which each has a working copy
    workload : names the shards that every node reads, and the cache of decoded windows

    Raises
    ------
    StudyError
        With one line for each thing that is wrong on a node.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    probe, token = results / f".probe-{uuid.uuid4().hex}", uuid.uuid4().hex
    mirror, copies = workload.mirror, workload.copies
    url = None if mirror is None else mirror.url
    if url is None:
        write_text(probe, token)
    else:
        Remote(url).write_text(probe.name, token)
    wanted, patience = {}, _ANSWER_SECONDS
    if copies is None:
        wanted = {str(path): (path.stat().st_size, sha256(path)) for path in workload.shards}
    else:
        patience += _bytes(copies) / _SLOWEST
    cache = None if workload.cache is None else str(workload.cache)
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {
        look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(str(probe), wanted, cache, url, copies): _name(node)
        for node in nodes
    }
    try:
        # Not by name: two nodes may run on one host.
        seen: list[tuple[str, dict[str, Any]]] = []
        problems = []
        began = time.monotonic()
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
        for answer in ready:
            try:
                seen.append((asked[answer], ray.get(answer)))
            except ray.exceptions.RayError as error:
                # The package is missing there, or the node was lost while it was asked.
                problems.append(f"{asked[answer]}: expected an answer, found {_short(error)}")
        problems += [
            f"{asked[answer]}: expected an answer within {patience:.0f} s, found none"
            for answer in late
        ]
    finally:
        if url is None:
            probe.unlink(missing_ok=True)
        else:
            Remote(url).remove(probe.name)
    here = _versions()
    for name, found in sorted(seen, key=lambda pair: pair[0]):
        problems += [f"{name}: {line}" for line in _compare(results, token, here, found)]
        for shard in found["mended"]:
            log.info("  %s: expected the digest of %s, found another; fetched again", name, shard)
    if problems:
        raise StudyError(
            f"the {len(nodes)} nodes of this cluster can't run the study:\n  "
            + "\n  ".join(problems)
        )
    log.info("  %d nodes checked in %.0f s: %s", len(nodes), time.monotonic() - began,
             ", ".join(sorted(name for name, _ in seen)))  # fmt: skip


def _look(
    probe: str,
    shards: Mapping[str, tuple[int, str]],
    cache: str | None,
    url: str | None = None,
    copies: Copies | None = None,
) -> dict[str, Any]:
    """What one node sees; runs there."""
    path = Path(probe)
    damaged: list[str] = []
    mended: list[str] = []
    for name, (size, digest) in shards.items():
        shard = Path(name)
        if not shard.is_file():
            damaged.append(f"{name} (missing)")
        elif shard.stat().st_size != size or sha256(shard) != digest:
            damaged.append(f"{name} (another content)")
    if copies is not None:
        try:
            mended = copies.fetch()
        except (RemoteError, OSError) as error:
            damaged.append(str(error))
    mark = path.with_name(f"{path.name}-{platform.node()}")
    try:
        if url is None:
            token = path.read_text(encoding="utf-8")
        else:
            token = _read_and_write(Remote(url), path.name, mark.name)
            path.parent.mkdir(parents=True, exist_ok=True)
        write_text(mark, "")
        mark.unlink()
        written = ""
    except (RemoteError, OSError) as error:
        token, written = "", str(error)
    folder = default_cache() if cache is None else Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "token": token,
        "written": written,
        "damaged": damaged,
        "mended": mended,
        "versions": _versions(),
        "free_results": shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0,
        "free_cache": shutil.disk_usage(folder).free,
        "cache": str(folder),
        # Decoded windows take about as much as their shards do: neither is compressed much.
        "needed": int(1.5 * (sum(size for size, _ in shards.values()) + _bytes(copies))),
    }


def _read_and_write(remote: Remote, probe: str, mark: str) -> str:
    """The text of the driver's probe, from a node that may write beside it."""
    token = remote.read_text(probe)
    remote.write_text(mark, "")
    remote.remove(mark)
    return token


def _bytes(copies: Copies | None) -> int:
    return 0 if copies is None else sum(size for _, size, _ in copies.files)


def _compare(
    results: Path, token: str, here: Mapping[str, str], found: Mapping[str, Any]
) -> list[str]:
    """What is wrong with a node, in sentences."""
    lines = []
    if found["written"]:
        lines.append(f"expected to read and write {results}, found {found['written']}")
    elif found["token"] != token:
        lines.append(f"expected {results} to be the driver's, found another folder of that name")
    lines += [f"expected the driver's shard, found {shard}" for shard in found["damaged"][:3]]
    lines += [
        f"expected {name} {there}, found {found['versions'].get(name)}"
        for name, there in here.items()
        if found["versions"].get(name) != there
    ]
    for what, folder, needed in (
        ("free_results", str(results), _SPARE),
        ("free_cache", found["cache"], found["needed"]),
    ):
        if found[what] < needed:
            lines.append(
                f"expected {needed / 2**30:.1f} GiB free in {folder}, "
                f"found {found[what] / 2**30:.1f}"
            )
    return lines


def _versions() -> dict[str, str]:
    found = {"physiosync": physiosync.__version__, "python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _short(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1][:200]
