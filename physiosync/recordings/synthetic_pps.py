"""What peripheral sensors record of a synthetic cohort's latents."""

from __future__ import annotations

import numpy as np
from scipy import fft

from physiosync.recordings.synthetic_config import SFREQ, CohortConfig
from physiosync.recordings.synthetic_kernels import (
    PAD_SECONDS,
    burst,
    convolve,
    log_normal,
    padded_size,
)
from physiosync.recordings.synthetic_truth import (
    Array,
    Float,
    Latents,
    coloured,
    subject_stream,
)

#: DEAP's channels 32..39.
PPS_NAMES = ("hEOG", "vEOG", "zEMG", "tEMG", "GSR", "resp", "ppg", "temp")


def record_pps(config: CohortConfig, index: int, latents: Latents, blinks: Array) -> Float:
    """(n_stimuli, 8, n_times): hEOG, vEOG, zEMG, tEMG, GSR, resp, ppg, temp."""
    rng = subject_stream(config, index, 4)
    pleasant, unpleasant, arousing, _ = latents.events.transpose(1, 0, 2)
    signals: list[Array | Float] = [
        *_eog(config, latents, blinks, rng),
        *_emg(config, latents, pleasant, rng),
        1e6 / _conductance(config, arousing, rng),
        _respiration(config, arousing, latents.drive[:, 1], rng),
        _pulse(config, unpleasant, arousing, rng),
        _temperature(config, latents.drive[:, 1], rng),
    ]
    return np.stack(signals, axis=1).astype(np.float64)


def _noise(config: CohortConfig, rng: np.random.Generator, slope: float, low: float) -> Array:
    """1/f^slope noise (n_stimuli, n_times) of unit variance, flat below `low` Hz."""
    size = padded_size(config)
    f = np.maximum(fft.rfftfreq(size, 1 / SFREQ), low)
    return coloured(rng, (config.n_stimuli, config.n_times), f ** (-slope / 2), size)


def _eog(
    config: CohortConfig, latents: Latents, blinks: Array, rng: np.random.Generator
) -> list[Array]:
    t = np.arange(0, 0.6, 1 / SFREQ)
    # Gaze jumps where the clip leads it: a step that the recorder's high-pass lets decay.
    jumps = latents.nuisance[:, 0] * (np.abs(latents.nuisance[:, 0]) > 2.8)
    gaze = convolve(config, jumps, np.exp(-t / 0.2), 0.2 + 0.03 * rng.standard_normal())
    hori = 8 * config.snr * gaze + 8 * _noise(config, rng, 1.5, 0.5)
    vert = 4 * config.blink_uv * config.snr * blinks + 8 * _noise(config, rng, 1.5, 0.5)
    return [hori.astype(np.float32), vert.astype(np.float32)]


def _emg(
    config: CohortConfig, latents: Latents, pleasant: Array, rng: np.random.Generator
) -> list[Array]:
    """Zygomaticus (smiling: pleasant events) and trapezius (startle: arousal-free bursts)."""
    traces = []
    for impulses, size in ((pleasant, 0.5), (latents.muscle, 1.5)):
        tension = convolve(config, impulses, burst(), 0.4 + 0.1 * rng.random())
        level = 3 * np.exp(0.3 * _noise(config, rng, 2.0, 0.1))
        traces.append(level * (1 + size * config.snr * tension) * _noise(config, rng, 0.0, 1.0))
    return traces


def _conductance(config: CohortConfig, arousing: Array, rng: np.random.Generator) -> Float:
    """Skin conductance in uS, 1-20: level, drift, and responses 1-5 s after arousing events."""
    t = np.arange(0, 15, 1 / SFREQ)
    kernel = np.exp(-t / 2.0) - np.exp(-t / 0.75)
    kernel /= kernel.max()
    onset = 0.8 + 1.4 * rng.random()  # the kernel peaks 1.2 s after its onset
    level = np.exp(np.log(5.0) + 0.35 * rng.standard_normal())
    spontaneous = rng.random(arousing.shape, dtype=np.float32) < 0.15 / SFREQ
    strong = np.maximum(arousing - 0.8, 0)  # the skin answers to the stronger events only
    phasic = convolve(config, config.snr * strong + 0.5 * spontaneous, kernel, onset)
    order = rng.permutation(config.n_stimuli)[:, None] / config.n_stimuli
    log_level = 0.15 * rng.standard_normal() * order
    log_level = log_level + 0.08 * _noise(config, rng, 2.0, 0.01)
    conductance = level * (np.exp(log_level) + 0.02 * log_normal(rng, 0.3, 1) * phasic)
    conductance += 0.002 * level * _noise(config, rng, 0.0, 1.0)
    return np.clip(conductance.astype(np.float64), 1.0, 20.0)


def _low_pass(seconds: float) -> Float:
    t = np.arange(0, min(5 * seconds, PAD_SECONDS), 1 / SFREQ)
    kernel = np.exp(-t / seconds)
    return np.asarray(kernel / kernel.sum())


def _respiration(
    config: CohortConfig, arousing: Array, arousal: Array, rng: np.random.Generator
) -> Array:
    """A belt's reading: faster with arousal, and a deeper breath after arousing events."""
    delay = 1.0 + 2.0 * rng.random()
    rate = 0.25 * np.exp(0.12 * rng.standard_normal() + 0.12 * _noise(config, rng, 2.0, 0.05))
    rate = rate * np.exp(0.02 * config.snr * convolve(config, arousal, _low_pass(2.0), delay))
    phase = 2 * np.pi * (np.cumsum(rate, axis=1) / SFREQ + rng.random((config.n_stimuli, 1)))
    deeper = convolve(config, config.snr * arousing, _low_pass(2.0) * 60, delay)
    depth = 100 * (1 + 0.12 * deeper) * np.exp(0.2 * _noise(config, rng, 2.0, 0.05))
    return np.asarray(depth * np.sin(phase) + 10 * _noise(config, rng, 1.5, 0.1), np.float32)


def _pulse(
    config: CohortConfig, unpleasant: Array, arousing: Array, rng: np.random.Generator
) -> Array:
    """Pulse wave: unpleasant events slow the heart, arousing ones narrow the finger's vessels."""
    t = np.arange(0, 6, 1 / SFREQ)
    dip = (t / 1.2) * np.exp(1 - t / 1.2)
    delay = 0.3 + 1.2 * rng.random()
    slower = convolve(config, config.snr * unpleasant, dip, delay)
    narrower = convolve(config, config.snr * arousing, dip, delay + 0.5)
    beat = (1.15 * np.exp(0.1 * rng.standard_normal())) * np.exp(
        0.04 * _noise(config, rng, 1.0, 0.05) - 0.02 * slower
    )
    phase = 2 * np.pi * (np.cumsum(beat, axis=1) / SFREQ + rng.random((config.n_stimuli, 1)))
    wave = np.cos(phase) + 0.4 * np.cos(2 * phase - 0.8) + 0.1 * np.cos(3 * phase - 1.6)
    # Vessels are wider or narrower in one trial than in another for reasons of their own.
    tone = 0.2 * rng.standard_normal((config.n_stimuli, 1))
    width = np.exp(tone - 0.03 * narrower + 0.15 * _noise(config, rng, 1.5, 0.05))
    drift = 0.3 * _noise(config, rng, 2.0, 0.1)
    return np.asarray(100 * (width * wave + drift), dtype=np.float32)


def _temperature(config: CohortConfig, arousal: Array, rng: np.random.Generator) -> Float:
    """Finger temperature in degrees Celsius: arousal cools it slowly."""
    cooling = convolve(config, config.snr * arousal, _low_pass(6.0), 3.0)
    order = rng.permutation(config.n_stimuli)[:, None] / config.n_stimuli
    drift = rng.standard_normal() * order + 0.1 * _noise(config, rng, 2.0, 0.01)
    noise = 0.005 * _noise(config, rng, 0.0, 1.0)
    return np.asarray(33 + rng.standard_normal() - 0.1 * cooling + drift + noise)
