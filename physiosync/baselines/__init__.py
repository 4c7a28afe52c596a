"""What any method has to beat, on the very same split and trials."""

from physiosync.baselines.names import majority
from physiosync.baselines.probe import frozen_probe
from physiosync.baselines.spectral import band_power

__all__ = ["band_power", "frozen_probe", "majority"]
