"""One driver a study: a file lock on a local disk, a lease on a shared one, a server's own lock.

File locks of network file systems can't be trusted, and they outlive hosts that lost power. So a
driver on a shared folder renews a lease, and a lease that nobody renews is taken over.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from physiosync.errors import StudyError
from physiosync.files import write_text
from physiosync.progress import log
from physiosync.storage import is_shared, reason_of, with_driver, without_password

#: Seconds between two renewals, and after how many without one a lease is stale.
BEAT, STALE = 5.0, 30.0


@contextmanager
def only_driver(folder: Path, name: str, url: str) -> Iterator[None]:
    """Be the only driver of the study `name` in `folder`, with its database at `url`.

    Raises
    ------
    StudyError
        If another process is, saying which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    in_folder = Lease(folder / "driver.lease").held() if is_shared(folder) else _locked(folder)
    on_server = _server_lock(name, url) if url.startswith("postgres") else nullcontext()
    with in_folder, on_server:
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's file lock, which the kernel frees however we end."""
    lock, holder = FileLock(folder / "driver.lock"), folder / "driver.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text() if holder.exists() else "an unknown process"
        raise _another(folder, who) from None
    try:
        write_text(holder, json.dumps(_me()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


class Lease:
    """A file that says who drives, renewed every `beat` seconds by a thread.

    Only exclusive creation and renaming are asked of the file system. Clocks of different machines
    are never compared: a lease is stale when whoever wants it has watched it unchanged for `stale`
    seconds, or at once if its holder was a process of this machine that is no more.
    """

    def __init__(self, path: Path, *, beat: float = BEAT, stale: float = STALE) -> None:
        self.path, self._beat, self._stale = path, beat, stale
        self._content = {**_me(), "token": uuid.uuid4().hex, "beats": 0}

    @contextmanager
    def held(self, on_loss: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lease for the length of the block.

        Parameters
        ----------
        on_loss : called by the renewing thread if another driver took the lease, which it may if
            this machine or its disk stood still for long; by default ends this process cleanly

        Raises
        ------
        StudyError
            If another driver renews it.
        """
        self._acquire()
        done = threading.Event()
        keeper = threading.Thread(
            target=self._keep, args=(done, on_loss or _end_this_driver), daemon=True
        )
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join(self._beat)
            if self._is_ours(self._read()):
                self.path.unlink(missing_ok=True)

    def _acquire(self) -> None:
        watched, since = None, time.monotonic()
        while not self._create():
            found = self._read()
            if found is None:
                continue
            if watched is None or found.get("token") != watched.get("token"):
                watched, since = found, time.monotonic()
                if not _is_dead(found):
                    log.info("waiting to see whether another driver is alive: %s", _public(found))
            elif found != watched:
                raise _another(self.path.parent, json.dumps(_public(found)))
            if _is_dead(found) or time.monotonic() - since > self._stale:
                self._take_over(found)
            else:
                time.sleep(min(0.2, self._beat / 5))

    def _create(self) -> bool:
        try:
            with self.path.open("x", encoding="utf-8") as stream:
                json.dump(self._content, stream)
        except FileExistsError:
            return False
        return True

    def _take_over(self, stale: dict[str, Any]) -> None:
        """Remove a stale lease; only one of those who want to can."""
        mark = self.path.with_name(f"{self.path.name}.{stale.get('token', 'damaged')}")
        try:
            mark.mkdir()
        except FileExistsError:
            time.sleep(self._beat / 5)
            return
        try:
            # Another may have taken it over before we made the mark.
            if self._read() == stale:
                self.path.unlink(missing_ok=True)
                log.info("  took over from a driver that is gone: %s", _public(stale))
        finally:
            mark.rmdir()

    def _keep(self, done: threading.Event, on_loss: Callable[[], None]) -> None:
        while not done.wait(self._beat):
            try:
                if not self._is_ours(found := self._read()):
                    log.error("another driver took over: %s; stopping", _public(found or {}))
                    on_loss()
                    return
                self._content["beats"] += 1
                write_text(self.path, json.dumps(self._content))
            except OSError as error:
                # An outage of the disk: the study waits for it as well, and so do others.
                log.debug("lease not renewed: %s", error)

    def _is_ours(self, found: dict[str, Any] | None) -> bool:
        return found is not None and found.get("token") == self._content["token"]

    def _read(self) -> dict[str, Any] | None:
        """None if there is none; empty if it is being written."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


@contextmanager
def _server_lock(name: str, url: str) -> Iterator[None]:
    """Hold PostgreSQL's advisory lock of a study, so that its name has one driver anywhere."""
    key = int.from_bytes(hashlib.sha256(f"physiosync {name}".encode()).digest()[:8], signed=True)
    me = _me()
    engine = create_engine(
        with_driver(url),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={
            "application_name": f"physiosync {name}, {me['host']}, pid {me['pid']}"[:63],
            # The server notices within half a minute that a driver's machine is gone.
            "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 "
            "-c tcp_keepalives_count=4",
        },
    )
    done = threading.Event()

    def locked() -> Connection | None:
        """A connection that holds the lock; None if another's does."""
        connection = engine.connect()
        if connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar():
            return connection
        connection.close()
        return None

    def keep(connection: Connection) -> None:
        while not done.wait(BEAT):
            try:
                connection.execute(text("SELECT 1"))
            except DBAPIError:
                # The server was away, and its locks with it. Whoever gets it first, has it.
                with suppress(DBAPIError):
                    connection.close()
                    again = locked()
                    if again is None:
                        log.error("another driver took over study %r on the server; stopping", name)
                        _end_this_driver()
                        return
                    connection = again
        with suppress(DBAPIError):
            connection.close()

    try:
        connection = locked()
        if connection is None:
            raise StudyError(
                f"{without_password(url)}: expected to be the only driver of study {name!r}, "
                f"found another: {_holder(engine, key)}"
            )
    except DBAPIError as error:
        raise StudyError(
            f"Optuna storage {without_password(url)}: {reason_of(error, url)}"
        ) from None
    keeper = threading.Thread(target=keep, args=(connection,), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join(BEAT)
        engine.dispose()


def _holder(engine: Any, key: int) -> str:
    query = text(
        "SELECT a.application_name, a.client_addr, a.backend_start FROM pg_locks l "
        "JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' "
        "AND ((l.classid::bigint << 32) | l.objid::bigint) = :key"
    )
    with engine.connect() as connection:
        row = connection.execute(query, {"key": key}).first()
    return "an unknown one" if row is None else f"{row[0]} ({row[1]}), since {row[2]}"


def _me() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "place": _place(),
        "started": _started(os.getpid()),
    }


def _public(lease: dict[str, Any]) -> dict[str, Any]:
    return {name: lease.get(name) for name in ("host", "pid", "since")}


def _place() -> str | None:
    """Where a process id means the same process; None where that can't be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process began, so that another with its number is not taken for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _is_dead(lease: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    place = _place()
    if place is None or lease.get("place") != place:
        return False
    return _started(int(lease["pid"])) != lease.get("started")


def _another(where: Path, who: str) -> StudyError:
    return StudyError(f"{where}: expected to be its only driver, found another: {who}")


def _end_this_driver() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
