"""Batches for people who share no stimulus: pairs within one recording of one person.

Another method than pairing by stimulus, and named so wherever it is used (`pairing="recording"`):
nothing is compared between people but by being told apart.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from physiosync.errors import SamplingError
from physiosync.sampling import Batch, capacity, checked_pairs, fill, spaced

Ints = NDArray[np.int64]


class RecordingSampler:
    """Draws moments of single trials: a window, and the neighbour that begins where it ends.

    Both groups of a moment are one person: group 1 is seen in one of the two windows, group 2 in
    the other, in random order. The neighbours are the positives of the temporal task; EEG and PPS
    of one window are those of the cross-modal task. Windows of two moments of one trial start at
    least `gap` samples apart and never overlap; all other moments are from other trials. Where a
    session is cut into trials, it is up to the cut to leave as much between them.

    Parameters
    ----------
    table : trials to draw from (index: trial id) with "n_times"
    n_times : samples of the long window
    reach : samples that must follow a window's start: `n_times` plus the longest lag
    gap : least distance in samples between the starts of windows of two moments of one trial
    moments : moments a batch
    n_pieces : short windows in a long one
    pairs : "matched", or "shuffled" as a negative control: the PPS of a moment, neighbours as
        before, is from another time of the same trial, at least `gap` from its EEG. What EEG and
        PPS have in common all along (the person, the state) stays; what they share from second to
        second is gone. "self" is another: both groups are seen in one and the same window

    Raises
    ------
    SamplingError
        If no trial is long enough, or a batch needs more moments than there are.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        n_times: int,
        reach: int,
        gap: int,
        moments: int,
        n_pieces: int = 1,
        pairs: str = "matched",
    ) -> None:
        self.moments, self.n_pieces = moments, n_pieces
        self._n_times, self._pairs = n_times, checked_pairs(pairs)
        # From the first window of one moment to the first of the next, its own neighbour between.
        self._distance = n_times + max(gap, n_times)
        longest = int(table["n_times"].max()) if len(table) else 0
        # A start that is moved round the trial by the distance needs as much on either side.
        needed = n_times + reach + (2 * self._distance if self._pairs == "shuffled" else 0)
        table = table[table["n_times"] >= needed]
        if not len(table):
            raise SamplingError(
                f"expected trials of at least {needed} samples (two neighbouring windows and the "
                f"longest lag), found at most {longest}"
            )
        self._trials = table.index.to_numpy(dtype=np.int64)
        self._room = table["n_times"].to_numpy(dtype=np.int64) - n_times - reach
        self._capacity = capacity(self._room, self._distance, moments, "trials")

    def draw(self, rng: np.random.Generator) -> Batch:
        """One batch; the same generator state gives the same batch."""
        counts = fill(self._capacity, self.moments, rng)
        starts = spaced(self._room, counts, self._distance, rng)
        order = rng.permutation(self.moments)
        which, starts = np.repeat(np.arange(len(counts)), counts)[order], starts[order]
        pps_starts = starts
        if self._pairs == "shuffled":
            pps_starts = self._elsewhere(starts, self._room[which], rng)
        # Else the order of time would tell the groups apart.
        later = rng.permuted(np.tile([0, self._n_times], (self.moments, 1)), axis=1)
        if self._pairs == "self":
            later[:, 1] = later[:, 0]
        return Batch(
            trials=np.repeat(self._trials[which], 2).reshape(self.moments, 2, 1),
            starts=(starts[:, None] + later)[..., None],
            pps_starts=(pps_starts[:, None] + later)[..., None],
            pieces=rng.integers(self.n_pieces, size=self.moments),
        )

    def _elsewhere(self, starts: Ints, room: Ints, rng: np.random.Generator) -> Ints:
        """Starts in the same trials, each at least the distance from its own."""
        n_starts = room + 1
        moved = rng.integers(self._distance, n_starts - self._distance + 1)
        return (starts + moved) % n_starts
