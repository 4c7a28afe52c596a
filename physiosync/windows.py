"""`WindowStore`: windows of any length out of shards, fast, shared by all processes of a node.

Each modality of each shard is decoded once per node into an Arrow file (`cache.py`), time-major and
contiguous per trial, so a window is one contiguous slice of mapped memory. Only copies leave the
store: writing to mapped memory would end the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from physiosync.cache import Column, clean_cache, open_column
from physiosync.cohort import check, content_hash, joint_channels, trial_table
from physiosync.errors import PhysioSyncError, ShardError
from physiosync.recordings.base import Channels
from physiosync.shards import ShardInfo, find_shards, natural_key, read_info

__all__ = ["ClosedTrialError", "WindowStore", "clean_cache"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class ClosedTrialError(PhysioSyncError, PermissionError):
    """A trial was asked of a store that was restricted to others."""


class WindowStore:
    """The trials of many subjects; made by `open`.

    A trial's id is its row in `trials` of the whole store: subjects in numeric order, trials in the
    order of their shard. A restricted store keeps the ids. Pickling keeps no samples: the files are
    mapped again wherever the store arrives.
    """

    def __init__(
        self,
        shards: Sequence[tuple[Path, ShardInfo]],
        modalities: Sequence[str],
        cache: Path | None,
    ) -> None:
        self._shards, self._modalities, self._cache = tuple(shards), tuple(modalities), cache
        infos = [info for _, info in shards]
        #: Samples a second, of every modality.
        self.sfreq = infos[0].sfreq
        self._channels = {m: joint_channels(infos, m) for m in modalities}
        self._columns: dict[str, list[Column | None]] = {
            m: [open_column(path, info, m, cache) for path, info in shards] for m in modalities
        }
        self._table = trial_table(infos, modalities)
        n_trials = len(self._table)
        counts = [len(info.trials) for info in infos]
        self._shard = np.repeat(np.arange(len(counts)), counts)
        self._row = np.concatenate([np.arange(n) for n in counts])
        self._n_times = self._table["n_times"].to_numpy(dtype=np.int64)
        self._has = {m: self._table[f"has_{m}"].to_numpy(dtype=bool) for m in modalities}
        self._views: dict[str, list[Floats | None]] = {m: [None] * n_trials for m in modalities}
        self._is_open = np.ones(n_trials, dtype=bool)

    @classmethod
    def open(
        cls, shards: Sequence[Path] | Path, modalities: Sequence[str], cache: Path | None = None
    ) -> WindowStore:
        """Open shards, decoding those that this node has not decoded yet.

        Parameters
        ----------
        shards : a folder of them, or their paths in any order
        modalities : only these can be read
        cache : folder of decoded shards; by default `$PHYSIOSYNC_CACHE`, else
            `~/.cache/physiosync/windows`

        Raises
        ------
        ShardError
            If a shard is missing or damaged, two shards differ in rate, channels or preprocessing,
            two hold one subject, or no shard has one of the modalities.
        """
        if isinstance(shards, Path):
            shards = [shards] if shards.is_file() else find_shards(shards)
        cache = None if cache is None else cache.absolute()
        read = [(path.resolve(), read_info(path)) for path in shards]
        read.sort(key=lambda pair: natural_key(pair[1].subject))
        wanted = tuple(dict.fromkeys(modalities))
        check(read, wanted)
        return cls(read, wanted, cache)

    def restrict(self, trials: Iterable[int] | Ints) -> WindowStore:
        """The same store, with the same ids, that refuses to read any other trial.

        Raises
        ------
        ClosedTrialError
            If this store is restricted itself, and not to these.
        """
        ids = np.unique(np.asarray(list(trials), dtype=np.int64))
        self._check_open(ids)
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._is_open = np.zeros_like(self._is_open)
        view._is_open[ids] = True
        return view

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial, index: its id.

        Columns: subject, stimulus, order (in the session), n_times (samples), has_<modality>, and
        the ratings by name (NaN where not given).
        """
        return self._table[self._is_open].copy()

    @property
    def paths(self) -> list[Path]:
        """Of all shards, by subject."""
        return [path for path, _ in self._shards]

    @property
    def dataset(self) -> str:
        """As the shards name it; all names where they differ."""
        return ", ".join(sorted({info.dataset for _, info in self._shards}))

    @property
    def sites(self) -> dict[str, str]:
        """Subject -> where they were recorded, of those whose shards say so."""
        found = {info.subject: info.provenance.get("site") for _, info in self._shards}
        return {subject: str(site) for subject, site in found.items() if site is not None}

    @property
    def channels(self) -> dict[str, Channels]:
        """Modality -> its channels. Where subjects differ in unit, `unit` names all of them."""
        return dict(self._channels)

    @property
    def subjects(self) -> list[str]:
        """Subjects of the open trials, "s2" before "s10"."""
        return sorted(self._table["subject"][self._is_open].unique(), key=natural_key)

    @property
    def stimuli(self) -> list[str]:
        """Stimuli of the open trials, "2" before "10"."""
        return sorted(self._table["stimulus"][self._is_open].unique(), key=natural_key)

    @property
    def left_out(self) -> list[str]:
        """What preparation skipped, one sentence each, with the subject in front."""
        return [f"{i.subject}: {sentence}" for _, i in self._shards for sentence in i.left_out]

    @property
    def identity(self) -> str:
        """SHA-256 of what the open trials hold: samples, channels, rate, names and ratings."""
        return self._hash(self._is_open)

    def gather(self, modality: str, trials: Ints, starts: Ints, n_times: int) -> Floats:
        """Copy windows.

        Parameters
        ----------
        trials : (B,) trial ids
        starts : (B,) first sample of each window
        n_times : samples of each window

        Returns
        -------
        x : (B, n_times, n_chans), the caller's own, in the shards' units

        Raises
        ------
        ClosedTrialError
            If the store was restricted to other trials.
        IndexError
            If there is no such trial, or a window leaves its trial.
        ValueError
            If a trial, or the store, lacks the modality.
        ShardError
            If a decoded file is damaged, and its shard as well.
        """
        trials, starts = np.asarray(trials), np.asarray(starts)
        self._check_windows(modality, trials, starts, starts + n_times)
        views = self._views[modality]
        n_chans = len(self._channels[modality].ch_names)
        shape = (len(trials), n_times, n_chans)
        x: Floats = np.empty(shape, dtype=np.float32)
        for k, (trial, start) in enumerate(zip(trials.tolist(), starts.tolist(), strict=True)):
            view = views[trial]
            if view is None:
                view = self._view(modality, trial)
            x[k] = view[start : start + n_times]
        return x

    def read(self, modality: str, trial: int, start: int = 0, stop: int | None = None) -> Floats:
        """Copy one stretch of one trial, (n_times, n_chans); by default all of it.

        Raises the same errors as `gather`.
        """
        one = np.array([trial])
        self._check_open(one)
        end = int(self._n_times[trial]) if stop is None else stop
        x = self.gather(modality, one, np.array([start]), end - start)
        return x.reshape(x.shape[1:])

    def __len__(self) -> int:
        return int(self._is_open.sum())

    def __repr__(self) -> str:
        held = ", ".join(self._modalities)
        return f"<WindowStore: {len(self)} trials of {len(self.subjects)} subjects, {held}>"

    def __reduce__(self) -> tuple[object, ...]:
        ids = None if self._is_open.all() else np.flatnonzero(self._is_open)
        whole = self._hash(np.ones_like(self._is_open))
        return _reopen, (self.paths, self._modalities, self._cache, ids, whole)

    def _hash(self, which: NDArray[np.bool_]) -> str:
        rows = zip(self._shard[which].tolist(), self._row[which].tolist(), strict=True)
        return content_hash([info for _, info in self._shards], self._modalities, rows)

    def _view(self, modality: str, trial: int) -> Floats:
        """Mapped samples of a trial; verified the first time, and decoded again if damaged."""
        k, row = int(self._shard[trial]), int(self._row[trial])
        column = self._columns[modality][k]
        assert column is not None
        try:
            view = column.trial(row)
        except ShardError:
            path, info = self._shards[k]
            column = open_column(path, info, modality, self._cache, row=row)
            assert column is not None
            self._columns[modality][k] = column
            view = column.trial(row)
        self._views[modality][trial] = view
        return view

    def _check_open(self, trials: Ints) -> None:
        n = len(self._is_open)
        if len(trials) and not (trials.min() >= 0 and trials.max() < n):
            wrong = int(trials[(trials < 0) | (trials >= n)][0])
            raise IndexError(f"expected trial ids from 0 to {n - 1}, found {wrong}")
        if not self._is_open[trials].all():
            row = self._table.loc[trials[~self._is_open[trials]][0]]
            raise ClosedTrialError(
                f"trial {row.name} ({row['subject']}, {row['stimulus']}) is closed: this store was "
                f"restricted to {len(self)} other trials"
            )

    def _check_windows(self, modality: str, trials: Ints, starts: Ints, stops: Ints) -> None:
        self._check_open(trials)
        if modality not in self._has:
            held = ", ".join(self._modalities)
            raise ValueError(f"modality must be one of those opened ({held}), got {modality!r}")
        bad = (starts < 0) | (stops < starts) | (stops > self._n_times[trials])
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            raise IndexError(
                f"trial {trials[k]}: expected a window within its {self._n_times[trials[k]]} "
                f"samples, found {starts[k]} to {stops[k]}"
            )
        if not self._has[modality][trials].all():
            lacking = trials[~self._has[modality][trials]]
            raise ValueError(f"trial {lacking[0]} has no {modality}; see trials['has_{modality}']")


def _reopen(
    paths: Sequence[Path],
    modalities: Sequence[str],
    cache: Path | None,
    ids: Ints | None,
    identity: str,
) -> WindowStore:
    store = WindowStore.open(paths, modalities, cache)
    if store.identity != identity:
        raise ShardError(
            paths[0].parent, "", expected="the shards of the sender", found="others of that name"
        )
    return store if ids is None else store.restrict(ids)
