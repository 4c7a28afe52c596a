"""Riemannian geometry: the EEG's covariance between channels, in the tangent space."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import detrend

from physiosync.baselines.features import Trials
from physiosync.windows import WindowStore

Floats = NDArray[np.float64]

#: Hz; without drifts and line noise, whatever filter the recordings had.
BAND = (4.0, 45.0)
#: uV^2 on the diagonal: a trial without any signal still has a logarithm.
_FLOOR = 1e-6


def tangent_features(store: WindowStore, trials: Trials) -> pd.DataFrame:
    """Covariances of whole trials as vectors: a row a trial (index: its id).

    Shrunk covariances (OAS: an average reference makes plain ones singular), re-centred per
    subject, that is whitened by the Riemannian mean of the subject's scale trials (Zanini et al.
    2018), then projected to the tangent space at the mean of the training trials (Barachant et al.
    2012). Subjects without a scale trial are whitened by everyone's training trials.
    """
    # Slow to import, and one job in a study needs it.
    from pyriemann.estimation import Covariances
    from pyriemann.preprocessing import Whitening
    from pyriemann.tangentspace import TangentSpace

    every = trials.every
    estimate = Covariances(estimator="oas")
    covariances = np.concatenate(
        [
            estimate.transform(band_limited(store.read("eeg", trial), store.sfreq).T[None])
            for trial in every.tolist()
        ]
    )
    covariances += _FLOOR * np.eye(covariances.shape[1])
    subject = store.trials["subject"].loc[every].to_numpy()
    in_scale, in_train = np.isin(every, trials.scale), np.isin(every, trials.train)
    centred = np.empty_like(covariances)
    for name in np.unique(subject):
        mine = subject == name
        reference = mine & in_scale if (mine & in_scale).any() else in_train
        whitening = Whitening(metric="riemann").fit(covariances[reference])
        centred[mine] = whitening.transform(covariances[mine])
    space = TangentSpace(metric="riemann").fit(centred[in_train])
    return pd.DataFrame(space.transform(centred), index=every)


def band_limited(x: NDArray[np.floating], sfreq: float) -> Floats:
    """What lies in `BAND` of (n_times, n_chans) signals."""
    spectrum = fft.rfft(detrend(x.astype(np.float64), axis=0), axis=0)
    frequencies = fft.rfftfreq(len(x), 1 / sfreq)
    spectrum[(frequencies < BAND[0]) | (frequencies >= BAND[1])] = 0
    return np.asarray(fft.irfft(spectrum, n=len(x), axis=0))
