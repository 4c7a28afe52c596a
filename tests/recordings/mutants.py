"""Damaged files are read in a child process with a limit of memory, so that a crash is seen too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="limits of memory are POSIX")


def print_result(read: Callable[[], Any], memory: int) -> None:
    """In the child: read with at most `memory` bytes, and print the result for the parent."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    print(json.dumps(read()))


def result_of_child(file: str, *arguments: str, seconds: float) -> Any:
    """In the parent: run a test file of this folder as a program; what it printed."""
    child = subprocess.run(
        [sys.executable, "-m", f"tests.recordings.{Path(file).stem}", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return json.loads(child.stdout)


def assert_all_well(counts: Mapping[str, int], n_mutants: int, allowed: tuple[str, ...]) -> None:
    """Every mutant was read, and each came to one of the allowed outcomes."""
    assert sum(counts.values()) == n_mutants
    wrong = [what for what in counts if what.split(": ")[1] not in allowed]
    assert wrong == []
