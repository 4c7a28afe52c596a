"""A PostgreSQL server of our own on loopback, that tests can stop and start."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

PASSWORD = "hunter2-of-the-tests"


def binaries() -> Path | None:
    """Where Debian keeps the newest server's programs; they are not on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


needs_server = pytest.mark.skipif(
    binaries() is None or os.geteuid() != 0,
    reason="needs root and a PostgreSQL server (Debian: apt install postgresql)",
)


class Server:
    """One server with the role "physio" and the database "studies"; needs root.

    Parameters
    ----------
    folder : for its data, made here; anyone may pass through its parents
    """

    def __init__(self, folder: Path) -> None:
        bin_ = binaries()
        assert bin_ is not None
        self._bin, self._folder = bin_, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        folder.mkdir(parents=True)
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        # PostgreSQL refuses to run as root.
        for path in (folder, secret):
            shutil.chown(path, "postgres", "postgres")
        self._as_postgres(
            "initdb", "-U", "physio", "-A", "scram-sha-256", f"--pwfile={secret}", "-N",
            "-D", str(folder / "data"),
        )  # fmt: skip
        self.start()
        self._as_postgres(
            "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "physio", "studies"
        )

    def url(self, password: str | None = None) -> str:
        """For --storage."""
        secret = f":{password}" if password else ""
        return f"postgresql://physio{secret}@127.0.0.1:{self.port}/studies"

    def start(self) -> None:
        """Have it answer."""
        self._control("start", "-o", f"-p {self.port} -h 127.0.0.1 -k {self._folder}")

    def stop(self, mode: str = "immediate") -> None:
        """End it at once, as a crash would."""
        self._control("stop", "-m", mode)

    def _control(self, verb: str, *options: str) -> None:
        self._as_postgres(
            "pg_ctl", verb, "-w", "-D", str(self._folder / "data"),
            "-l", str(self._folder / "log"), *options,
        )  # fmt: skip

    def _as_postgres(self, program: str, *arguments: str) -> None:
        subprocess.run(
            ["runuser", "-u", "postgres", "--", str(self._bin / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env=os.environ | {"PGPASSWORD": PASSWORD},
            timeout=60,
        )
