"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; rename it to `path` on success.

    The temporary file has to lie in the same folder because a rename is atomic only inside one
    file system. It is flushed to disk before the rename, and removed after an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`; it takes the place of `path` on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield part
        part.chmod(0o755)
        if path.exists():
            old = part.with_suffix(".old")
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        else:
            part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep(folder: Path, *, older_than_seconds: float = 3600.0) -> None:
    """Remove what writers that were killed left half done under `folder`.

    Younger leftovers stay: another process may still be writing them.
    """
    latest = time.time() - older_than_seconds
    for path in list(folder.rglob(".*")):
        with suppress(FileNotFoundError):
            if path.suffix in (".part", ".old") and path.stat().st_mtime < latest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and what it came from, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or getattr(cause, "orig", None) or cause.__context__


def disk_is_full(error: BaseException | str) -> bool:
    """Whether an exception, or the text of another process's, says that a disk is full."""
    if isinstance(error, str):
        return any(words in error for words in _FULL)
    return any(
        (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT))
        or disk_is_full(str(cause))
        for cause in causes(error)
    )


def has_room(folder: Path) -> bool:
    """Whether the disk of a folder has a mebibyte free; else it is taken for full."""
    return shutil.disk_usage(folder).free >= 1 << 20


#: How the operating system, SQLite and PostgreSQL say so.
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "disk is full")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
