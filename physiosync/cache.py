"""Decoded shards on this node: one uncompressed Arrow file a modality, made once, mapped by all.

A file's name is the digest of its content, so it needs no invalidation: another shard has another
file. What a damaged file holds is never believed, and it is made anew from its shard: its size and
digest are checked when it is opened, the samples of a trial when they are first read.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray

from physiosync.errors import ShardError
from physiosync.files import atomic_path
from physiosync.shard_layout import ShardInfo, digest
from physiosync.shards import read_trials

Floats = NDArray[np.float32]


def default_cache() -> Path:
    """`$PHYSIOSYNC_CACHE`, else `~/.cache/physiosync/windows`."""
    given = os.environ.get("PHYSIOSYNC_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "physiosync" / "windows"


def clean_cache(cache: Path | None = None) -> int:
    """Remove every decoded shard; those in use stay readable for whoever holds them.

    Returns
    -------
    freed : bytes
    """
    freed = 0
    folder = default_cache() if cache is None else cache
    for pattern in ("*.arrow", "*.arrow.lock", ".*.arrow.*.part"):
        for path in folder.glob(pattern):
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
    return freed


class Column:
    """One modality of one shard, mapped read-only.

    Parameters
    ----------
    path : the Arrow file
    lengths : samples of each trial; 0 where it lacks the modality
    digests : of each trial's samples
    """

    def __init__(
        self, path: Path, key: str, lengths: list[int], n_chans: int, digests: list[str | None]
    ) -> None:
        self.path, self.n_chans = path, n_chans
        self._lengths, self._digests = lengths, digests
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        try:
            file = pa.ipc.open_file(pa.memory_map(str(path), "r"))
            metadata = file.schema.metadata or {}
            batch = file.get_batch(0)
            batch.validate()
            values = batch.column(0).values.to_numpy(zero_copy_only=True)
            if metadata.get(b"physiosync") != key.encode() or values.dtype != np.float32:
                raise ValueError("another content")
            self._x_TC: Floats = values.reshape(self._starts[-1], n_chans)
        except Exception as error:
            raise ShardError(
                path, "", expected=f"decoded samples with digest {key}", found=str(error)
            ) from error

    def trial(self, row: int) -> Floats:
        """Mapped samples of a trial, (n_times, n_chans), read-only, verified.

        Raises
        ------
        ShardError
            If they are damaged.
        """
        x = self._x_TC[self._starts[row] : self._starts[row + 1]]
        if digest(x) != self._digests[row]:
            raise ShardError(
                self.path,
                f"trial {row} of the file",
                expected="undamaged samples",
                found="a digest that differs",
            )
        return x


def open_column(
    shard: Path,
    info: ShardInfo,
    modality: str,
    cache: Path | None = None,
    *,
    row: int | None = None,
) -> Column | None:
    """Map a modality of a shard; decode it first if this node has not done so, or has it damaged.

    Any number of processes may ask at once: one decodes, the others wait.

    Parameters
    ----------
    row : a trial whose samples have to be whole as well

    Returns
    -------
    column : None if the shard lacks the modality

    Raises
    ------
    ShardError
        If the shard is damaged.
    """
    if modality not in info.channels:
        return None
    n_chans = len(info.channels[modality].ch_names)
    digests = [trial.digests.get(modality) for trial in info.trials]
    lengths = [t.n_times if modality in t.digests else 0 for t in info.trials]
    key = hashlib.sha256(json.dumps([n_chans, lengths, digests]).encode()).hexdigest()
    folder = default_cache() if cache is None else cache
    path = folder / f"{info.subject}-{modality}-{key[:16]}.arrow"

    def opened() -> Column:
        column = Column(path, key, lengths, n_chans, digests)
        if row is not None:
            column.trial(row)
        return column

    if path.exists():
        try:
            return opened()
        except ShardError:
            pass  # Made anew below.
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        try:
            # Somebody else may have made it while we waited.
            return opened()
        except ShardError:
            _decode(shard, modality, path, key)
    return opened()


def _decode(shard: Path, modality: str, path: Path, key: str) -> None:
    """Write the samples of all trials of a shard, one row each, in one record batch."""
    rows = [
        x[modality].T.reshape(-1) if modality in x else None
        for _, x in read_trials(shard, [modality])
    ]
    offsets = np.cumsum([0, *(0 if row is None else len(row) for row in rows)])
    flat = np.concatenate([row for row in rows if row is not None])
    values = pa.LargeListArray.from_arrays(
        pa.array(offsets), pa.array(flat), mask=pa.array([row is None for row in rows])
    )
    schema = pa.schema([(modality, values.type)], metadata={"physiosync": key})
    with atomic_path(path) as part, pa.ipc.new_file(str(part), schema) as writer:
        writer.write_batch(pa.record_batch([values], schema=schema))
