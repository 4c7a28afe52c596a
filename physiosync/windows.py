"""`WindowStore`: windows of any length out of shards, fast, shared by all processes of a node.

Each modality of each shard is decoded once per node into an Arrow file (`cache.py`), time-major and
contiguous per trial, so a window is one contiguous slice of mapped memory. Only copies leave the
store: writing to mapped memory would end the process.
"""

from __future__ import annotations

import hashlib
import json
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
from physiosync.stretches import stretch_table

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
        self._ratings: pd.DataFrame | None = None
        #: Seconds of a stretch, if the trials are seen in stretches; see `in_stretches`.
        self.stretch_seconds: int | None = None
        # Of each trial: which recorded one it is a stretch of, and from which sample on.
        self._recorded = np.arange(n_trials)
        self._offset = np.zeros(n_trials, dtype=np.int64)

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

    def in_stretches(self, seconds: int) -> WindowStore:
        """The same samples, with every trial cut into stretches that follow each other.

        Each stretch is a trial of its own, of the same subject and with the same ratings; its
        stimulus tells where it begins, as "v07@005" does in seconds. What is left at the end of a
        trial, shorter than a stretch, is closed, and so is what follows a stretch: a lag of the PPS
        shrinks to what the stretch still holds (`Loader.pps`), to none where it is one long window.
        Nothing is copied. For protocol "window", which deals stretches of one trial to both sides.

        Parameters
        ----------
        seconds : of a stretch

        Raises
        ------
        ClosedTrialError
            If the store was restricted: stretches have other ids.
        ValueError
            If it is in stretches already, or no trial is as long as one.
        """
        if not self._is_open.all():
            raise ClosedTrialError("expected a store of all its trials, found a restricted one")
        if self.stretch_seconds is not None or seconds < 1:
            raise ValueError(
                f"expected whole trials to cut into stretches of 1 s or more, but got {seconds} s "
                f"of trials of {self.stretch_seconds or 'any'} s"
            )
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.stretch_seconds = seconds
        view._table, view._recorded, view._offset = stretch_table(self._table, seconds, self.sfreq)
        view._n_times = view._table["n_times"].to_numpy(dtype=np.int64)
        view._has = {m: has[view._recorded] for m, has in self._has.items()}
        view._is_open = np.ones(len(view._table), dtype=bool)
        return view

    def with_ratings(self, ratings: pd.DataFrame) -> WindowStore:
        """The same samples with other ratings, such as permuted ones.

        Parameters
        ----------
        ratings : a row a trial (index: id), a column for each rating that is another

        Raises
        ------
        ValueError
            If a trial has no row, a column is no rating of the store, or it is in stretches.
        """
        if self.stretch_seconds is not None:
            raise ValueError("ratings must be given before trials are cut into stretches")
        if strangers := [name for name in ratings if name not in self._table]:
            raise ValueError(f"ratings must be of {list(self._table)}, but got {strangers}")
        if not self._table.index.isin(ratings.index).all():
            raise ValueError(f"ratings must have a row for each of {len(self._table)} trials")
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._ratings = ratings.loc[self._table.index]
        view._table = self._table.assign(**view._ratings)
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
        recorded, first = self._recorded[trials].tolist(), (self._offset[trials] + starts).tolist()
        for k, (trial, start) in enumerate(zip(recorded, first, strict=True)):
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
        seen_as = self._ratings, self.stretch_seconds, ids
        return _reopen, (self.paths, self._modalities, self._cache, *seen_as, whole)

    def _hash(self, which: NDArray[np.bool_]) -> str:
        recorded = self._recorded[which]
        rows = zip(self._shard[recorded].tolist(), self._row[recorded].tolist(), strict=True)
        held = content_hash([info for _, info in self._shards], self._modalities, rows)
        if self.stretch_seconds is None and self._ratings is None:
            return held
        ratings = None if self._ratings is None else self._ratings.iloc[recorded].to_csv()
        seen_as = [held, self.stretch_seconds, self._offset[which].tolist(), ratings]
        return hashlib.sha256(json.dumps(seen_as).encode()).hexdigest()

    def _view(self, modality: str, trial: int) -> Floats:
        """Mapped samples of a recorded trial; verified at first, and decoded again if damaged."""
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
    ratings: pd.DataFrame | None,
    stretches: int | None,
    ids: Ints | None,
    identity: str,
) -> WindowStore:
    store = WindowStore.open(paths, modalities, cache)
    if ratings is not None:
        store = store.with_ratings(ratings)
    if stretches is not None:
        store = store.in_stretches(stretches)
    if store.identity != identity:
        raise ShardError(
            paths[0].parent, "", expected="the shards of the sender", found="others of that name"
        )
    return store if ids is None else store.restrict(ids)
