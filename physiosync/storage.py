"""Where a study's Optuna database lies: SQLite, a journal file, or a server that may go away.

A file on a local disk is SQLite. Network file systems have no locks that SQLite could trust, so a
file there is Optuna's journal. A server's outage is waited for: a study of days should not end
because a database was restarted.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psycopg
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from physiosync.errors import StudyError
from physiosync.files import causes, disk_is_full
from physiosync.progress import log, readable

#: How long an outage of a database server is waited for, in seconds.
PATIENCE = 900.0
#: File systems over a network; besides these, any FUSE file system is taken for one.
_NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "lustre", "gpfs", "beegfs", "ceph",
        "glusterfs", "pvfs2", "orangefs", "panfs", "wekafs", "virtiofs",
    }
)  # fmt: skip


def is_shared(folder: Path) -> bool:
    """Whether other machines see this folder too.

    It is on a network file system, or this is a Ray cluster (`RAY_ADDRESS` is set there), where
    results have to be shared, whatever the file system is called.
    """
    if os.environ.get("RAY_ADDRESS"):
        return True
    kind = _file_system(folder)
    return kind in _NETWORK or kind.startswith("fuse.")


def default_storage(folder: Path) -> str:
    """URL of a study's database in its own folder; the one that is there already, if any."""
    journal, sqlite = folder / "study.journal", folder / "study.db"
    if journal.exists() or (not sqlite.exists() and is_shared(folder)):
        return f"journal:///{journal}"
    return f"sqlite:///{sqlite}"


def dashboard_argument(url: str) -> str:
    """What `optuna-dashboard` has to be given; without a password."""
    return url.removeprefix("journal:///") if url.startswith("journal:") else without_password(url)


def without_password(url: str) -> str:
    """The URL as it may be shown and stored."""
    if url.startswith("journal:"):
        return url
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        # Not a URL at all; what could be a password in it is still not repeated.
        return re.sub(r":[^:/@]*@", ":***@", url)


def open_study(name: str, url: str, identity: str, *, seed: int, trials: int) -> optuna.Study:
    """The named Optuna study, made if it does not exist.

    Parameters
    ----------
    url : "sqlite:///PATH", "journal:///PATH", or a server's, such as
        "postgresql://USER@HOST/DATABASE" with the password in ~/.pgpass or `PGPASSWORD`
    identity : of the study's data and settings; kept with its trials

    Raises
    ------
    StudyError
        If the storage can't be reached (passwords are never repeated), or holds a study of this
        name and another identity, whose trials would be taken for this one's.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, n_startup_trials=min(10, max(4, trials // 3))
    )
    try:
        study = optuna.create_study(
            study_name=name,
            storage=_open(url),
            direction="maximize",
            sampler=sampler,
            load_if_exists=True,
        )
        if "identity" not in study.user_attrs:
            study.set_user_attr("identity", identity)
        theirs = study.user_attrs["identity"]
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(
            f"Optuna storage {without_password(url)}: expected to open study {name!r}, found "
            f"{type(error).__name__}: {reason_of(error, url)}"
        ) from None
    if theirs != identity:
        raise StudyError(
            f"Optuna storage {without_password(url)}: expected study {name!r} to be this one, "
            "found one of other data or settings; give this one another --name"
        )
    return study


def _open(url: str) -> BaseStorage:
    if url.startswith("journal:///"):
        path = Path(url.removeprefix("journal:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    if url.startswith("sqlite:///"):
        folder = Path(url.removeprefix("sqlite:///")).resolve().parent
        if is_shared(folder):
            raise StudyError(
                f"Optuna storage {url}: expected a local disk for SQLite, found a shared one "
                f"({folder}), where two machines can damage it; leave --storage out (a journal "
                "file), or give a PostgreSQL URL"
            )
        return RDBStorage(url)
    storage = RDBStorage(with_driver(url), engine_kwargs={"pool_pre_ping": True})
    # Only now: a first connection that fails is a wrong address or password, not an outage.
    event.listen(storage.engine, "do_connect", _connect_patiently)
    return storage


def with_driver(url: str) -> str:
    """The URL with the one PostgreSQL driver that we install."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def _connect_patiently(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
    return patiently(lambda: dialect.connect(*arguments, **options))


def patiently(call: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
    """The result of `call`, tried again while the database, or the disk it is on, is away.

    Raises
    ------
    StudyError
        If it stays away for `patience` seconds, or the disk is full: that needs a hand.
    """
    began, pause = time.monotonic(), 0.5
    while True:
        try:
            result = call()
        except (DBAPIError, StorageInternalError, psycopg.OperationalError, OSError) as error:
            if disk_is_full(error):
                raise StudyError(
                    "Optuna storage: expected room on its disk, found it full; the same command "
                    "goes on after space is made"
                ) from None
            if not any(isinstance(cause, _OUTAGES) for cause in causes(error)):
                raise
            if time.monotonic() - began > patience:
                raise StudyError(
                    f"Optuna storage: expected it back within {readable(patience)}, found "
                    f"{type(error).__name__}; the same command goes on once it is there"
                ) from None
            if pause == 0.5:
                log.info("  the database does not answer (%s); waiting", type(error).__name__)
            time.sleep(pause)
            pause = min(5.0, 2 * pause)
            continue
        if pause > 0.5:
            log.info("  the database answers again after %s", readable(time.monotonic() - began))
        return result


_OUTAGES = (OperationalError, InterfaceError, psycopg.OperationalError, OSError)


def reason_of(error: BaseException, url: str) -> str:
    """What went wrong, in one line, whatever of the password a driver repeats taken out."""
    *_, cause = causes(error)
    text = " ".join(str(cause).split())
    try:
        password = make_url(url).password
    except (ArgumentError, ValueError):
        password = None
    for secret in (password, os.environ.get("PGPASSWORD")):
        if secret:
            text = text.replace(str(secret), "***")
    return re.sub(r":[^:/@\s]*@", ":***@", text)[:300]


def _file_system(folder: Path) -> str:
    """Its type as Linux names it; "" where that can't be known."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    where, kind = "", ""
    target = folder.absolute().resolve()
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = fields.split(" ")[4].replace("\\040", " ")
        # Later mounts cover earlier ones at the same point.
        if target.is_relative_to(point) and len(point) >= len(where):
            where, kind = point, rest.split(" ")[0]
    return kind
