"""What a cluster has to have in common, seen from every node before anything is computed."""

from __future__ import annotations

import platform
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import physiosync
from physiosync.cache import default_cache
from physiosync.errors import StudyError
from physiosync.files import sha256, write_text
from physiosync.progress import log

#: How long a node may take to answer, in seconds; a first answer includes starting a worker.
_ANSWER_SECONDS = 120.0
#: Free space that a results folder has to have, in bytes: checkpoints of a few trials.
_SPARE = 1 << 30
#: Distributions that have to be the same everywhere, or checkpoints and scores would differ.
_VERSIONS = ("torch", "numpy", "ray", "optuna")


def check_nodes(results: Path, shards: Sequence[Path], cache: Path | None) -> None:
    """See that all nodes can work for this driver.

    Parameters
    ----------
    results : the study's folder, which every node writes to
    shards : files that every node reads
    cache : where nodes keep decoded windows; None for each one's default

    Raises
    ------
    StudyError
        With one line for each thing that is wrong on a node.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    probe, token = results / f".probe-{uuid.uuid4().hex}", uuid.uuid4().hex
    write_text(probe, token)
    wanted = {str(path): (path.stat().st_size, sha256(path)) for path in shards}
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {
        look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(str(probe), wanted, None if cache is None else str(cache)): _name(node)
        for node in nodes
    }
    try:
        seen, problems = {}, []
        began = time.monotonic()
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
        for answer in ready:
            try:
                seen[asked[answer]] = ray.get(answer)
            except ray.exceptions.RayError as error:
                # The package is missing there, or the node was lost while it was asked.
                problems.append(f"{asked[answer]}: expected an answer, found {_short(error)}")
        problems += [
            f"{asked[answer]}: expected an answer within {_ANSWER_SECONDS:.0f} s, found none"
            for answer in late
        ]
    finally:
        probe.unlink(missing_ok=True)
    here = _versions()
    for name, found in sorted(seen.items()):
        problems += [f"{name}: {line}" for line in _compare(results, token, here, found)]
    if problems:
        raise StudyError(
            f"the {len(nodes)} nodes of this cluster can't run the study:\n  "
            + "\n  ".join(problems)
        )
    log.info("  %d nodes checked in %.0f s: %s", len(nodes), time.monotonic() - began,
             ", ".join(sorted(seen)))  # fmt: skip


def _look(probe: str, shards: Mapping[str, tuple[int, str]], cache: str | None) -> dict[str, Any]:
    """What one node sees; runs there."""
    path = Path(probe)
    damaged = []
    for name, (size, digest) in shards.items():
        shard = Path(name)
        if not shard.is_file():
            damaged.append(f"{name} (missing)")
        elif shard.stat().st_size != size or sha256(shard) != digest:
            damaged.append(f"{name} (another content)")
    try:
        token = path.read_text(encoding="utf-8")
        mark = path.with_name(f"{path.name}-{platform.node()}")
        write_text(mark, "")
        mark.unlink()
        written = ""
    except OSError as error:
        token, written = "", str(error)
    folder = default_cache() if cache is None else Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "token": token,
        "written": written,
        "damaged": damaged,
        "versions": _versions(),
        "free_results": shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0,
        "free_cache": shutil.disk_usage(folder).free,
        "cache": str(folder),
        # Decoded windows take about as much as their shards do: neither is compressed much.
        "needed": int(1.5 * sum(size for size, _ in shards.values())),
    }


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
