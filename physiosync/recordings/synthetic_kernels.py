"""Filters and impulse responses that the EEG and the periphery of a synthetic cohort share."""

from __future__ import annotations

import numpy as np
from scipy import fft

from physiosync.recordings.synthetic_config import SFREQ, CohortConfig
from physiosync.recordings.synthetic_truth import (
    Array,
    Float,
    Latents,
)

PAD_SECONDS = 20.0


def padded_size(config: CohortConfig) -> int:
    # Long enough that no response wraps around into the rest before the stimulus.
    return fft.next_fast_len(config.n_times + round(PAD_SECONDS * SFREQ), real=True)


def convolve(config: CohortConfig, drive: Array, kernel: Float, delay: float = 0.0) -> Array:
    """Filter drives (..., n_samples) of the stimulus part by `kernel`, `delay` seconds later.

    The result (..., n_times) begins with the rest, where nothing happens. The delay need not be a
    whole number of samples.
    """
    size = padded_size(config)
    shift = np.exp(-2j * np.pi * fft.rfftfreq(size, 1 / SFREQ) * (delay + config.baseline_seconds))
    response = (fft.rfft(kernel, size) * shift).astype(np.complex64)
    out = fft.irfft(fft.rfft(drive, size) * response, size)
    return np.asarray(out[..., : config.n_times], dtype=np.float32)


def blink_course(config: CohortConfig, latents: Latents, rng: np.random.Generator) -> Array:
    own = rng.random(latents.blinks.shape, dtype=np.float32) < 0.12 / SFREQ
    t = np.arange(-0.3, 0.3, 1 / SFREQ)
    delay = 0.3 + 0.05 * rng.standard_normal()
    return convolve(config, latents.blinks + own, np.exp(-((t / 0.07) ** 2)), delay - 0.3)


def burst() -> Float:
    t = np.arange(0, 3, 1 / SFREQ)
    return np.asarray((t / 0.3) * np.exp(1 - t / 0.3))


def log_normal(rng: np.random.Generator, sd: float, *shape: int) -> Array:
    """Factors around 1, for what differs between subjects."""
    return np.exp(sd * rng.standard_normal(shape)).astype(np.float32)
