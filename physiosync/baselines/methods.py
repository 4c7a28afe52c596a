"""Which baselines there are, by the names that they have in every table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from physiosync.baselines.classifiers import linear, svm
from physiosync.baselines.covariance import tangent_features
from physiosync.baselines.features import Trials, classified, described
from physiosync.baselines.peripheral import artefacts_of, statistics_of
from physiosync.baselines.signal_free import majority
from physiosync.baselines.spectral import (
    BAND_POWER_PENALTY,
    differential_entropy,
    log_band_power,
)
from physiosync.labels import Labels
from physiosync.model_config import Role
from physiosync.windows import WindowStore

#: What needs no encoder, in the order of a table. "clip_consensus" only where others saw the clip,
#: "artefacts" only where eyes or muscles were recorded.
CLASSICAL = (
    "majority",
    "clip_consensus",
    "peripheral",
    "artefacts",
    "band_power",
    "entropy",
    "entropy_svm",
    "entropy_peripheral",
    "riemann",
)
#: Frozen encoders, and whose features their probes are given.
PROBES: dict[str, tuple[Role, ...]] = {
    "untrained_probe": ("eeg", "pps"),
    "shuffled_probe": ("eeg", "pps"),
    "simclr_probe": ("eeg", "pps"),
    "pretrained_probe_eeg": ("eeg",),
    "pretrained_probe_pps": ("pps",),
    "pretrained_probe": ("eeg", "pps"),
}


def answer(
    method: str,
    store: WindowStore,
    trials: Trials,
    labels: Labels,
    *,
    modalities: Sequence[str],
    grouped_by: str,
) -> pd.DataFrame:
    """Predictions of one of `CLASSICAL` for the test trials.

    Parameters
    ----------
    store : has EEG and the PPS open; for "artefacts", its `modalities`
    modalities : the PPS; for "artefacts", of the control
    grouped_by : see `classified`

    Raises
    ------
    ValueError
        If there is no such method.
    """
    table = store.trials
    if method in ("majority", "clip_consensus"):
        of = "subject" if method == "majority" else "stimulus"
        return majority(table, train=trials.train, test=trials.test, labels=labels, of=of)
    features = _features(method, store, trials, modalities)
    # As few features as the skin's must not be held down like hundreds, and nothing is to be tuned:
    # whatever their number, log odds have a standard deviation of 1 before any trial is seen.
    penalty = BAND_POWER_PENALTY if method == "band_power" else 1 / features.shape[1]
    classify = svm(penalty) if method == "entropy_svm" else linear(penalty)
    return classified(features, table, trials, labels, classify, grouped_by=grouped_by)


def _features(
    method: str, store: WindowStore, trials: Trials, modalities: Sequence[str]
) -> pd.DataFrame:
    if method == "riemann":
        return tangent_features(store, trials)
    if method == "entropy_peripheral":
        each = (_features(name, store, trials, modalities) for name in ("entropy", "peripheral"))
        return pd.concat(each, axis=1, ignore_index=True)
    describe = {
        "peripheral": statistics_of(modalities),
        "artefacts": artefacts_of(modalities),
        "band_power": log_band_power,
        "entropy": differential_entropy,
        "entropy_svm": differential_entropy,
    }
    if method not in describe:
        raise ValueError(f"method must be one of {', '.join(CLASSICAL)}, but got {method!r}")
    return described(store, trials, describe[method])
