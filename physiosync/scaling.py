"""The scale of each subject and channel: fitted on unlabelled training data, applied at load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from physiosync.windows import WindowStore

ScalingKind = Literal["robust", "paper"]
Floats = NDArray[np.float32]

#: Standardised values beyond this are cut: an electrode that came off must not rule a batch.
CLIP = 8.0
#: Inter-quartile range of a standard normal distribution.
_NORMAL_IQR = 1.349
_SAMPLES_PER_TRIAL = 512


@dataclass(frozen=True, eq=False)
class Scaling:
    """Standardises windows.

    "robust": (x - median) / (IQR / 1.349) of that subject and channel, cut at +-8, so that levels
    and amplitudes within a subject survive. "paper": EEG z-scored across channels at each sample,
    everything else within each window (PhysioSync, section IV; it destroys level and amplitude).

    Parameters
    ----------
    centre, spread : modality -> (n_trials, n_chans), one row a trial id; empty for "paper"
    """

    kind: ScalingKind
    centre: Mapping[str, Floats]
    spread: Mapping[str, Floats]

    def apply(self, x: Floats, modality: str, trials: NDArray[np.int64]) -> Floats:
        """Standardise in place and return `x`.

        Parameters
        ----------
        x : (B, n_times, n_chans) in the shards' physical units; must be the caller's own copy
        trials : (B,) trial id of each window
        """
        if self.kind == "paper":
            axis = 2 if modality == "eeg" else 1
            x -= x.mean(axis=axis, keepdims=True)
            x /= x.std(axis=axis, keepdims=True) + 1e-6
            return x
        x -= self.centre[modality][trials][:, None]
        x /= self.spread[modality][trials][:, None]
        return np.clip(x, -CLIP, CLIP, out=x)


def fit_scaling(
    store: WindowStore, trials: Iterable[int], modalities: Iterable[str], kind: ScalingKind
) -> Scaling:
    """Fit the scale of every subject and channel.

    Parameters
    ----------
    store : only `trials` are read
    trials : ids of training trials; no label is used. A subject without any keeps NaN scales, so
        using it unfitted shows at once
    """
    if kind == "paper":
        return Scaling("paper", {}, {})
    table = store.trials
    n_rows = int(table.index.max()) + 1
    fitted = list(trials)
    centre: dict[str, Floats] = {}
    spread: dict[str, Floats] = {}
    for modality in modalities:
        n_chans = len(store.channels[modality].ch_names)
        centre[modality] = np.full((n_rows, n_chans), np.nan, dtype=np.float32)
        spread[modality] = np.full((n_rows, n_chans), np.nan, dtype=np.float32)
        usable = table.loc[fitted]
        usable = usable[usable[f"has_{modality}"]]
        for subject, rows in usable.groupby("subject"):
            sample = np.concatenate([_thinned(store, modality, int(t)) for t in rows.index])
            mine = table.index[table["subject"] == subject].to_numpy(dtype=np.int64)
            centre[modality][mine], spread[modality][mine] = robust_scale(sample)
    return Scaling("robust", centre, spread)


def robust_scale(x: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Median and normalised inter-quartile range of each channel.

    Parameters
    ----------
    x : (n_samples, n_chans)

    Returns
    -------
    centre, spread : (n_chans,); a constant channel gets a spread of 1, so it becomes 0
    """
    low, middle, high = np.percentile(x, [25, 50, 75], axis=0)
    spread = (high - low) / _NORMAL_IQR
    return middle.astype(np.float32), np.where(spread > 0, spread, 1.0).astype(np.float32)


def _thinned(store: WindowStore, modality: str, trial: int) -> Floats:
    """Evenly spaced samples of one trial: quartiles need no more, and a cohort may be large."""
    x = store.read(modality, trial)
    # An odd step, so that it can't fall in with a rhythm of the signal's sampling.
    step = max(1, len(x) // _SAMPLES_PER_TRIAL) | 1
    return x[::step]
