"""What a network is built from, and what it has to be fed."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from physiosync.config import Config
from physiosync.encoders import EncoderConfig
from physiosync.sampling import Pairing
from physiosync.scaling import ScalingKind

Role = Literal["eeg", "pps"]
Length = Literal["long", "short"]

#: In the order of every joined vector.
ROLES: tuple[Role, ...] = ("eeg", "pps")


class ModelConfig(Config):
    """Everything needed to build the network again and to feed it rightly."""

    encoder: EncoderConfig
    sfreq: float
    """Sampling rate in Hz of everything fed in."""
    eeg_channels: tuple[str, ...]
    pps_channels: dict[str, tuple[str, ...]]
    """PPS modality -> its channels; the PPS tensor holds them in this order."""
    pps_lag_seconds: dict[str, float]
    """PPS modality -> how much later than the EEG its window starts."""
    short_seconds: float
    long_pieces: int
    """A long window is this many short ones."""
    scaling: ScalingKind
    """How the inputs were standardised; see `physiosync.scaling`."""
    pairing: Pairing = "stimulus"
    """What pretraining pairs; see `physiosync.pretraining`."""

    @model_validator(mode="after")
    def _same_modalities(self) -> ModelConfig:
        if list(self.pps_lag_seconds) != list(self.pps_channels):
            raise ValueError(
                f"pps_lag_seconds must name {list(self.pps_channels)} in this order, "
                f"but got {list(self.pps_lag_seconds)}"
            )
        return self

    @property
    def short_times(self) -> int:
        """Samples of a short window."""
        return round(self.short_seconds * self.sfreq)

    @property
    def long_times(self) -> int:
        """Samples of a long window."""
        return self.short_times * self.long_pieces

    @property
    def lags(self) -> dict[str, int]:
        """PPS modality -> lag in samples."""
        return {name: round(s * self.sfreq) for name, s in self.pps_lag_seconds.items()}

    def n_chans(self, role: Role) -> int:
        """Channels of the EEG, or of all PPS modalities together."""
        if role == "eeg":
            return len(self.eeg_channels)
        return sum(len(names) for names in self.pps_channels.values())
