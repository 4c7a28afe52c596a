"""From trial ids and start samples to standardised tensors: slice, shift by lag, standardise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from physiosync.scaling import Scaling, ScalingKind, fit_scaling
from physiosync.splits import Split
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Loader:
    """Reads pairs of EEG and PPS windows.

    Parameters
    ----------
    store : only trials that it leaves open can be read
    scaling : fitted on training data
    lags : PPS modality -> samples by which it follows the EEG; also says which modalities make up
        the PPS, in this order
    """

    store: WindowStore
    scaling: Scaling
    lags: Mapping[str, int]

    def eeg(self, trials: Ints, starts: Ints, n_times: int) -> Tensor:
        """EEG windows, (B, n_chans, n_times) float32: a view of time-major memory."""
        return _channels_first(self._standardised("eeg", trials, starts, n_times))

    def pps(self, trials: Ints, starts: Ints, n_times: int) -> Tensor:
        """PPS windows that follow the EEG's by each modality's lag, (B, n_chans, n_times).

        Near the end of a trial the lag shrinks to what the trial still holds.
        """
        last = self._n_times.loc[trials].to_numpy(dtype=np.int64) - n_times
        parts = [
            self._standardised(modality, trials, np.minimum(starts + lag, last), n_times)
            for modality, lag in self.lags.items()
        ]
        return _channels_first(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2))

    @cached_property
    def _n_times(self) -> pd.Series[int]:
        # Looked up for every batch, and the store's table is a fresh copy each time.
        return self.store.trials["n_times"]

    def _standardised(
        self, modality: str, trials: Ints, starts: Ints, n_times: int
    ) -> NDArray[np.float32]:
        x = self.store.gather(modality, trials, starts, n_times)
        return self.scaling.apply(x, modality, trials)


def scaled_loader(
    store: WindowStore, scale: Ints, lags: Mapping[str, int], kind: ScalingKind
) -> Loader:
    """A loader whose scales are fitted on those of the trials `scale` that lack no modality."""
    modalities = ("eeg", *lags)
    scale = complete_trials(store.trials, scale, modalities, n_times=1)
    return Loader(store, fit_scaling(store, scale, modalities, kind), lags)


def complete_trials(
    table: pd.DataFrame, trials: Ints, modalities: Sequence[str], n_times: int
) -> Ints:
    """Those of `trials` (ids, the index of `table`) that give a window of `n_times` samples.

    None of their modalities is missing, and they are long enough.
    """
    rows = table.loc[trials]
    has = rows[[f"has_{name}" for name in modalities]].all(axis=1)
    return trials[(has & (rows["n_times"] >= n_times)).to_numpy()]


def usable_trials(
    table: pd.DataFrame, split: Split, modalities: Sequence[str], n_times: int
) -> tuple[Ints, Ints, Ints]:
    """Ids of the trials that a search may train on, validate on, and fit each scale on.

    Only complete ones (see `complete_trials`), of people who can be scaled.
    """
    train, validation, scale = (
        complete_trials(table, trials, modalities, n_times)
        for trials in (
            split.trials(table, "train"),
            split.trials(table, "validation"),
            split.scale_trials(table, final=False),
        )
    )
    train, validation = (of_same_people(table, trials, scale) for trials in (train, validation))
    return train, validation, scale


def of_same_people(table: pd.DataFrame, trials: Ints, scale: Ints) -> Ints:
    """Those of `trials` whose subject has one in `scale`; others' signals could not be scaled."""
    known = table["subject"].loc[trials].isin(table["subject"].loc[scale].unique())
    return trials[known.to_numpy()]


def _channels_first(x: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(x).transpose(1, 2)
