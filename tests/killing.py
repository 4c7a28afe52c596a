"""Preparing with SIGKILL in between: what a power cut, or a cluster that takes its node, does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from physiosync.files import sha256


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Python with these arguments, and all that it starts, in a process group of their own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Wait for a process that must succeed."""
    _, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors.decode()[-2000:]


def kill_when(
    process: subprocess.Popen[bytes], due: Callable[[], bool], *, every: float = 0.002
) -> bool:
    """Kill a process and its workers as soon as something is so; False if it ended before."""
    while process.poll() is None:
        if due():
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(every)
    finish(process, 1)
    return False


def whole_shards(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of all that a reader of shards would see."""
    found = [p for p in folder.glob("*.parquet") if not p.name.startswith(".")]
    return {path.name: sha256(path) for path in found}
