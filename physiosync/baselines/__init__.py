"""What any method has to beat, on the very same split and trials."""

from physiosync.baselines.probe import frozen_probe, trial_features
from physiosync.baselines.signal_free import majority
from physiosync.baselines.spectral import BAND_POWER_PENALTY, band_power, band_power_features

__all__ = [
    "BAND_POWER_PENALTY",
    "band_power",
    "band_power_features",
    "frozen_probe",
    "majority",
    "trial_features",
]
