"""A study's folder and its copy in an object store; verified copies of single files.

The store is the truth and the folder a working copy: it is made anew when a driver starts, and what
changes in it is uploaded after each stage and each finished job. What a job wrote on another node
goes to the store from there.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock
from pydantic import PrivateAttr

from physiosync.config import Config
from physiosync.errors import RemoteError
from physiosync.files import atomic_path, sha256
from physiosync.remote import Remote, working_folder

#: Uploaded last of a model's folder; a folder of the finalists that lacks it is not whole.
_LAST = "metrics.json"
_FINALISTS = ("tune", "encoders")


class Mirror(Config):
    """A study's folder on this machine and the URL that it is kept at.

    Parameters
    ----------
    folder : the working copy, at this path on all nodes
    url : None for a study on a disk, for which all methods do nothing
    """

    folder: Path
    url: str | None = None
    _uploaded: dict[str, tuple[int, int]] = PrivateAttr(default_factory=dict)

    def pull(self) -> None:
        """Make the folder what the store holds, and nothing else."""
        if self.url is None:
            return
        for name in self._here():
            (self.folder / name).unlink()
        for empty in (self.folder / "tune" / "encoders", self.folder / "best"):
            shutil.rmtree(empty, ignore_errors=True)
        self._uploaded.clear()
        self.fetch_missing()

    def fetch_missing(self) -> None:
        """Download what the folder lacks, such as what jobs on other nodes wrote."""
        if self.url is None:
            return
        remote = Remote(self.url)
        there = {name for name in remote.sizes() if _is_kept(name)}
        for name in sorted(there - self._here().keys(), key=_order):
            finalist = name.split("/")[:-1]
            if tuple(finalist[:2]) == _FINALISTS and "/".join([*finalist, _LAST]) not in there:
                continue  # its node was lost while it uploaded
            remote.fetch(name, self.folder / name)
            self._uploaded[name] = _stamp(self.folder / name)

    def push(self, *, patient: bool = True) -> None:
        """Upload what changed since this process last up- or downloaded it; remove what is gone.

        Parameters
        ----------
        patient : whether to wait for an outage of the store
        """
        if self.url is None:
            return
        remote, here = Remote(self.url, patient=patient), self._here()
        for name in sorted(here, key=_order):
            if self._uploaded.get(name) != here[name]:
                remote.put(self.folder / name, name)
                self._uploaded[name] = here[name]
        for name in self._uploaded.keys() - here.keys():
            remote.remove(name)
            del self._uploaded[name]

    def put(self, path: Path) -> None:
        """Upload one file or folder of the study's folder."""
        if self.url is None:
            return
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        names = [file.relative_to(self.folder).as_posix() for file in files]
        for name in sorted(names, key=_order):
            Remote(self.url).put(self.folder / name, name)

    def url_of(self, path: Path) -> str:
        """Where a user finds a path of the folder."""
        if self.url is None:
            return str(path)
        return f"{self.url}/{path.relative_to(self.folder).as_posix()}".removesuffix("/.")

    def _here(self) -> dict[str, tuple[int, int]]:
        """Name -> stamp of the files that the store keeps too."""
        found = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if _is_kept(name) and path.is_file():
                found[name] = _stamp(path)
        return found


class Copies(Config):
    """Files of an object store, known by their digests, and where nodes keep their copies.

    Parameters
    ----------
    url : that they lie under
    folder : of the copies, at this path on all nodes
    files : name, bytes and SHA-256 of each
    """

    url: str
    folder: Path
    files: tuple[tuple[str, int, str], ...]

    @classmethod
    def of_model(cls, path: Path, url: str) -> Copies:
        """A model's folder that lies at `path` here and under `url` in the store."""
        files = [path / name for name in ("config.json", "model.safetensors")]
        known = tuple((file.name, file.stat().st_size, sha256(file)) for file in files)
        return cls(url=url, folder=working_folder("encoders", repr(known)), files=known)

    def without(self, names: Iterable[str]) -> Copies:
        """The same with fewer files."""
        left_out = set(names)
        return self.model_copy(
            update={"files": tuple(file for file in self.files if file[0] not in left_out)}
        )

    @property
    def paths(self) -> list[Path]:
        """Of the copies."""
        return [self.folder / name for name, _, _ in self.files]

    def fetch(self) -> list[str]:
        """Have a whole copy of every file; any number of processes may ask at once.

        Returns
        -------
        damaged : names of copies that had another content and were fetched again

        Raises
        ------
        RemoteError
            If the store can't give a file, or not the one that is meant.
        """
        damaged = []
        for name, size, digest in self.files:
            path = self.folder / name
            if _is_same(path, size, digest):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{name}.lock")):
                if _is_same(path, size, digest):
                    continue
                if path.exists():
                    damaged.append(name)
                self._fetch(name, digest, path)
        return damaged

    def _fetch(self, name: str, digest: str, path: Path) -> None:
        remote = Remote(self.url)
        with atomic_path(path) as part:
            remote.fetch(name, part)
            if (found := sha256(part)) != digest:
                raise RemoteError(
                    f"{remote.url}/{name}: expected SHA-256 {digest[:16]}..., found {found[:16]}..."
                )


def _is_same(path: Path, size: int, digest: str) -> bool:
    return path.is_file() and path.stat().st_size == size and sha256(path) == digest


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _is_kept(name: str) -> bool:
    """Whether the store keeps it: no lock, nothing half-written or kept there by Tune.

    What lies in the folder of a fold belongs to the fold's own mirror.
    """
    parts = name.split("/")
    if re.fullmatch(r"fold-\d+", parts[0]):
        return False
    if parts[0].startswith("driver.") or any(part.startswith(".") for part in parts):
        return False
    return parts[0] != "tune" or tuple(parts[:2]) == _FINALISTS


def _order(name: str) -> tuple[bool, str]:
    return name.endswith(f"/{_LAST}"), name
