"""Seeded, vectorised views of standardised windows, made where the tensor lies."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from physiosync.config import Config


class AugmentationConfig(Config):
    """How a window is disturbed in training; drawn anew for each subject and modality."""

    scale_half_width: float = Field(default=0.1, ge=0, lt=1)
    """Amplitudes are multiplied by U(1 - h, 1 + h), one factor a window."""
    noise_snr_db: float | None = None
    """Gaussian noise at this ratio to each channel's own variance; None for none."""
    channel_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of channels set to zero, drawn a window."""
    recipe: Literal["independent", "paper"] = "independent"
    """"paper": each window is one of six views at random: itself, scaled by U(0.7, 0.8) or
    U(1.2, 1.3), noisy at 5 dB, or scaled and noisy. (The paper puts all six into one batch, where
    views of one moment would be each other's negatives.)"""


def augment(x: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Disturbed copies of windows.

    Parameters
    ----------
    x : (B, n_chans, n_times) standardised windows; left as they are
    generator : on the device of `x`

    Returns
    -------
    A new tensor of the same shape.
    """
    if config.recipe == "paper":
        return _paper_view(x, generator)
    out = x
    if config.scale_half_width:
        spread = config.scale_half_width
        out = out * (1 + spread * (2 * _uniform(x, 1, generator) - 1))
    if config.noise_snr_db is not None:
        out = out + _noise(x, config.noise_snr_db, generator)
    if config.channel_dropout and x.shape[1] > 1:
        out = out * (_uniform(x, x.shape[1], generator) >= config.channel_dropout)
    return out.clone() if out is x else out


def _uniform(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return torch.rand((x.shape[0], n, 1), generator=generator, device=x.device, dtype=x.dtype)


def _noise(x: Tensor, snr_db: float, generator: torch.Generator) -> Tensor:
    spread = x.std(dim=2, keepdim=True, correction=0) * 10 ** (-snr_db / 20)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return noise * spread


def _paper_view(x: Tensor, generator: torch.Generator) -> Tensor:
    kind = torch.randint(6, (x.shape[0], 1, 1), generator=generator, device=x.device)
    small, large = (low + 0.1 * _uniform(x, 1, generator) for low in (0.7, 1.2))
    factor = torch.where((kind == 1) | (kind == 4), small, torch.ones_like(small))
    factor = torch.where((kind == 2) | (kind == 5), large, factor)
    noisy = (kind >= 3).to(x.dtype)
    scaled = x * factor
    return scaled + noisy * _noise(scaled, 5.0, generator)
