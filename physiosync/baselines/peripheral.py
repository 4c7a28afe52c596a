"""Baselines without EEG: what skin, heart and breath do in a trial; what eyes and muscles do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from physiosync.baselines.features import Describe
from physiosync.baselines.spectral import BANDS, log_band_power
from physiosync.windows import WindowStore

#: What eyes and muscles leave in the EEG; the control for artefacts reads nothing else.
ARTEFACTS = ("eog", "emg")
#: Eyes move slower than the EEG's first band.
_ARTEFACT_BANDS = {"slow": (0.5, 4.0), **BANDS}


def statistics_of(modalities: Sequence[str]) -> Describe:
    """Mean, slope (a second) and log spread of each channel of these modalities."""

    def describe(store: WindowStore, trial: int) -> NDArray[np.float64]:
        x = np.concatenate([store.read(name, trial) for name in modalities], axis=1)
        x = x.astype(np.float64)
        mean = x.mean(axis=0)
        seconds = np.arange(len(x)) / store.sfreq
        seconds -= seconds.mean()
        slope = seconds @ (x - mean) / max(float(seconds @ seconds), 1e-12)
        return np.concatenate([mean, slope, np.log(np.maximum(x.std(axis=0), 1e-12))])

    return describe


def artefacts_of(modalities: Sequence[str]) -> Describe:
    """Log band power of each channel of these modalities."""
    each = [partial(log_band_power, modality=m, bands=_ARTEFACT_BANDS) for m in modalities]
    return lambda store, trial: np.concatenate([describe(store, trial) for describe in each])
