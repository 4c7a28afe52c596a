"""Batches of stimulus moments with explicit (subject, stimulus, time) pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from physiosync.errors import SamplingError
from physiosync.wording import counted

Ints = NDArray[np.int64]

#: What makes two windows a positive pair: one stimulus moment seen by two groups of people, or one
#: recording of one person (`recording_sampling.py`).
Pairing = Literal["stimulus", "recording"]
#: Whether the pairs are what they should be ("matched"), or those of a control: "shuffled", which
#: have nothing in common; "self", one window of one person twice, as SimCLR has it.
Pairs = Literal["matched", "shuffled", "self"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Moments, and who is seen at each.

    Parameters
    ----------
    trials : (moments, 2, group_size) trial ids. Paired by stimulus, all of a row are one stimulus
        and never one subject twice; paired by recording, all are one trial. Of the control "self",
        the second group is the first once more
    starts : (moments, 2, group_size) first sample of each long EEG window. Paired by stimulus,
        those of a row are equal; paired by recording, its two windows are neighbours
    pps_starts : (moments, 2, group_size) the same for the PPS, before its lag; other than `starts`
        only where a control breaks the pairs of one recording
    pieces : (moments,) which piece of the long window is its short window, from 0
    """

    trials: Ints
    starts: Ints
    pps_starts: Ints
    pieces: Ints


class Sampler(Protocol):
    """Draws batches."""

    def draw(self, rng: np.random.Generator) -> Batch:
        """One batch; the same generator state gives the same batch."""
        ...


class MomentSampler:
    """Draws moments at which two disjoint groups of subjects met the same stimulus.

    Two moments of one stimulus start at least `gap` samples apart and never overlap, so no negative
    is a near copy of its anchor; no moment comes twice in a batch.

    Parameters
    ----------
    table : trials to draw from (index: trial id) with "subject", "stimulus" and "n_times"
    n_times : samples of the long window
    reach : samples that must follow the window's start: `n_times` plus the longest lag
    gap : least distance in samples between the starts of two moments of one stimulus
    moments, group_size : moments a batch; subjects in each of a moment's two groups
    n_pieces : short windows in a long one
    pairs : "matched", or "shuffled" as a negative control: every person of a row is seen in a
        random trial at a random time, so not even the members of one group, who are pooled, share
        stimulus and time but by chance. "self" is another: the second group is the first, seen in
        the same windows

    Raises
    ------
    SamplingError
        If no stimulus was seen by two groups, or a batch needs more moments than there are.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        n_times: int,
        reach: int,
        gap: int,
        moments: int,
        group_size: int,
        n_pieces: int = 1,
        pairs: str = "matched",
    ) -> None:
        self.moments, self.group_size, self.n_pieces = moments, group_size, n_pieces
        self._pairs = checked_pairs(pairs)
        self._distance = max(gap, n_times)
        long_enough = table[table["n_times"] >= reach]
        self._rows: list[Ints] = []
        room: list[int] = []
        most_subjects = 0
        for _, rows in long_enough.groupby("stimulus", sort=True):
            one_each = rows.drop_duplicates("subject")
            most_subjects = max(most_subjects, len(one_each))
            if len(one_each) >= 2 * group_size:
                self._rows.append(one_each.index.to_numpy(dtype=np.int64))
                room.append(int(one_each["n_times"].min()) - reach)
        if not self._rows:
            raise SamplingError(
                f"expected at least {2 * group_size} subjects with one stimulus (two groups of "
                f"{group_size}) and trials of at least {reach} samples, found at most "
                f"{counted(most_subjects, 'subject')}"
            )
        self._subject_of = long_enough["subject"]
        self._last_start = long_enough["n_times"] - reach
        self._room = np.asarray(room)
        self._capacity = capacity(self._room, self._distance, moments, "stimuli")

    def draw(self, rng: np.random.Generator) -> Batch:
        """One batch; the same generator state gives the same batch."""
        trials, starts = self._groups(rng)
        starts = np.broadcast_to(starts[:, None, None], trials.shape).copy()
        if self._pairs == "shuffled":
            trials, starts = self._scattered(trials, rng)
        if self._pairs == "self":
            trials[:, 1] = trials[:, 0]
        return Batch(trials, starts, starts, rng.integers(self.n_pieces, size=self.moments))

    def _scattered(self, trials: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """The same people, each in a trial and at a start of their own."""
        scattered = np.empty_like(trials)
        subjects = self._subject_of.loc[trials.ravel()].to_numpy().reshape(trials.shape)
        for subject in np.unique(subjects):
            mine = self._subject_of.index[self._subject_of == subject].to_numpy()
            here = subjects == subject
            scattered[here] = rng.choice(mine, size=int(here.sum()))
        last = self._last_start.loc[scattered.ravel()].to_numpy().reshape(trials.shape)
        return scattered, rng.integers(last + 1)

    def _groups(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Trials (moments, 2, group_size) and starts (moments,) in random order."""
        counts = fill(self._capacity, self.moments, rng)
        which = np.repeat(np.arange(len(self._rows)), counts)
        starts = spaced(self._room, counts, self._distance, rng)
        trials = np.stack([rng.permutation(self._rows[k])[: 2 * self.group_size] for k in which])
        trials = trials.reshape(self.moments, 2, self.group_size)
        order = rng.permutation(self.moments)
        return trials[order], starts[order]


def checked_pairs(pairs: str) -> Pairs:
    """`pairs`, if it is a kind of `Pairs`; else ValueError."""
    for kind in get_args(Pairs):
        if pairs == kind:
            return cast(Pairs, kind)
    raise ValueError(f"pairs must be one of {get_args(Pairs)}, but got {pairs!r}")


def capacity(room: Ints, distance: int, moments: int, places: str) -> Ints:
    """How many starts that keep `distance` samples each place has, (n_places,).

    Parameters
    ----------
    room : (n_places,) last start of each
    moments : that a batch needs of all
    places : what they are, for the error

    Raises
    ------
    SamplingError
        If they have fewer.
    """
    each = 1 + room // distance
    if each.sum() < moments:
        raise SamplingError(
            f"expected room for {moments} moments a batch, at least {distance} samples apart, "
            f"found {int(each.sum())} in {len(room)} {places}"
        )
    return each


def fill(capacity: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Deal `n` moments to places, uniformly but never more to one than its capacity.

    Parameters
    ----------
    capacity : (n_places,), at least `n` in all

    Returns
    -------
    (n_places,) how many each gets.
    """
    counts = np.zeros(len(capacity), dtype=np.int64)
    while (missing := n - int(counts.sum())) > 0:
        free = np.flatnonzero(counts < capacity)
        counts += np.bincount(rng.choice(free, size=missing), minlength=len(counts))
        counts = np.minimum(counts, capacity)
    return counts


def spaced(room: Ints, counts: Ints, distance: int, rng: np.random.Generator) -> Ints:
    """`counts` starts of each place, uniform over all choices that keep `distance` samples.

    Parameters
    ----------
    room : (n_places,) last start of each

    Returns
    -------
    (counts.sum(),) starts, place after place, ascending in each.
    """
    starts = []
    for last, n in zip(room.tolist(), counts.tolist(), strict=True):
        if n:
            slack = last - (n - 1) * distance
            free = np.sort(rng.integers(slack + 1, size=n))
            starts.append(free + distance * np.arange(n))
    return np.concatenate(starts)
