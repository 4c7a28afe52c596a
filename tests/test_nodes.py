"""What nodes are asked before a cluster study computes anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from physiosync.files import sha256, write_text
from physiosync.nodes import _compare, _look, _versions


def _shard(folder: Path) -> dict[str, tuple[int, str]]:
    path = folder / "s01.parquet"
    path.write_bytes(b"windows")
    return {str(path): (path.stat().st_size, sha256(path))}


def _seen(folder: Path, shards: dict[str, tuple[int, str]]) -> dict[str, Any]:
    results = folder / "results"
    write_text(results / ".probe", "token")
    return _look(str(results / ".probe"), shards, str(folder / "cache"))


def _complaints(folder: Path, found: dict[str, Any]) -> list[str]:
    return _compare(folder / "results", "token", _versions(), found)


def test_a_node_that_has_everything_gives_no_complaint(tmp_path: Path) -> None:
    assert _complaints(tmp_path, _seen(tmp_path, _shard(tmp_path))) == []
    assert [path.name for path in (tmp_path / "results").iterdir()] == [".probe"]


def test_a_missing_and_a_damaged_shard_are_named(tmp_path: Path) -> None:
    shards = _shard(tmp_path)
    (tmp_path / "s01.parquet").write_bytes(b"windowz")
    (line,) = _complaints(tmp_path, _seen(tmp_path, shards))
    assert line.endswith("s01.parquet (another content)")
    (tmp_path / "s01.parquet").unlink()
    (line,) = _complaints(tmp_path, _seen(tmp_path, shards))
    assert line.endswith("s01.parquet (missing)")


def test_results_that_are_not_shared_are_found_out(tmp_path: Path) -> None:
    found = _look(str(tmp_path / "results" / ".probe"), {}, str(tmp_path / "cache"))
    assert any("expected to read and write" in line for line in _complaints(tmp_path, found))
    write_text(tmp_path / "results" / ".probe", "of another folder with this name")
    found = _look(str(tmp_path / "results" / ".probe"), {}, str(tmp_path / "cache"))
    assert any("another folder of that name" in line for line in _complaints(tmp_path, found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"versions": _versions() | {"physiosync": "0.0.1"}}, "expected physiosync"),
        ({"free_results": 1 << 20}, "expected 1.0 GiB free in .*results, found 0.0"),
        ({"free_cache": 1 << 30, "needed": 3 << 30}, "expected 3.0 GiB free in .*cache, found 1.0"),
    ],
)
def test_versions_and_room_are_compared(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    found = _seen(tmp_path, _shard(tmp_path)) | change
    (line,) = _complaints(tmp_path, found)
    assert re.search(message, line)
