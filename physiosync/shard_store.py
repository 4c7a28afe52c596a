"""Shards in an object store: a list of them with their digests, and this machine's copies.

The list, `shards.json`, is what counts: a shard is taken off it before it is replaced and put on it
once it is whole, so whoever reads the list finds what it says.
"""

from __future__ import annotations

import json
from pathlib import Path

from physiosync.errors import ShardError
from physiosync.files import sha256
from physiosync.mirror import Copies
from physiosync.remote import Remote, is_remote, url_of, working_folder
from physiosync.shards import find_shards, natural_key

_LIST = "shards.json"


class ShardStore:
    """The shards under one URL.

    Parameters
    ----------
    place : the URL, as a path
    """

    def __init__(self, place: Path) -> None:
        self.url = url_of(place)
        #: Of this machine's copies.
        self.folder = working_folder("shards", self.url)

    def copies(self) -> Copies:
        """All that the list names, in numeric order of subjects.

        Raises
        ------
        ShardError
            If there is no list, or it is damaged.
        """
        listed = self.listed()
        if not listed:
            raise ShardError(
                f"{self.url}/{_LIST}",
                "",
                expected="a list of shards (make them with `physiosync prepare`)",
                found="none",
            )
        names = sorted(listed, key=lambda name: natural_key(Path(name).stem))
        files = tuple((name, *listed[name]) for name in names)
        return Copies(url=self.url, folder=self.folder, files=files)

    def fetch(self) -> None:
        """Have copies of what there is, so that it is not made again."""
        if self.listed():
            self.copies().fetch()

    def add(self, path: Path) -> None:
        """Upload a shard, unless the store has it."""
        entry, listed = (path.stat().st_size, sha256(path)), self.listed()
        if listed.get(path.name) == entry:
            return
        if listed.pop(path.name, None):
            self._write(listed)
        Remote(self.url).put(path, path.name)
        self._write(listed | {path.name: entry})

    def listed(self) -> dict[str, tuple[int, str]]:
        """Name -> bytes and SHA-256."""
        remote = Remote(self.url)
        if _LIST not in remote.sizes():
            return {}
        try:
            return {
                str(name): (int(size), str(digest))
                for name, (size, digest) in json.loads(remote.read_text(_LIST)).items()
            }
        except (ValueError, TypeError, AttributeError) as error:
            raise ShardError(
                f"{self.url}/{_LIST}", "", expected="names, bytes and digests", found=str(error)
            ) from error

    def _write(self, listed: dict[str, tuple[int, str]]) -> None:
        Remote(self.url).write_text(_LIST, json.dumps(listed, indent=1))


def local_shards(place: Path) -> list[Path]:
    """Paths of the shards in a folder, or of this machine's copies of those under a URL.

    Raises
    ------
    ShardError
        If there are none.
    """
    if not is_remote(place):
        return find_shards(place)
    copies = ShardStore(place).copies()
    copies.fetch()
    return copies.paths
