"""What an EEG cap records of a synthetic cohort's latents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from mne.channels import make_standard_montage
from scipy import fft

from physiosync.recordings.synthetic_config import SFREQ, CohortConfig
from physiosync.recordings.synthetic_kernels import burst, convolve, log_normal, padded_size
from physiosync.recordings.synthetic_truth import (
    N_NUISANCE,
    N_RELEVANT,
    Array,
    Float,
    Latents,
    coloured,
    slow,
    subject_stream,
)

#: DEAP's channels 0..31, Geneva order.
# fmt: off
EEG_NAMES = (
    "Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7",
    "CP5", "CP1", "P3", "P7", "PO3", "O1", "Oz", "Pz",
    "Fp2", "AF4", "Fz", "F4", "F8", "FC6", "FC2", "Cz",
    "C4", "T8", "CP6", "CP2", "P4", "P8", "PO4", "O2",
)
# fmt: on

#: Where each source lies, and where the other end of its field does. Relevant: left frontal
#: (approach), right frontal (withdrawal), parietal (late positivity, arousing), frontal midline
#: (calm); nuisance: visual, auditory; then eyes and muscle.
_RELEVANT_AT = (("F3", "P4"), ("F4", "P3"), ("Pz", "Fp1"), ("Fz", "Oz"))
_NUISANCE_AT = (("Oz", "Fz"), ("PO4", "F7"), ("T7", "Cz"), ("T8", "Cz"))
_ARTEFACT_AT = (("Fp1", "Cz"), ("Fp2", "Cz"), ("T7", "Pz"), ("T8", "Pz"))
_RHYTHM_AT = (("Oz", "Cz"), ("P4", "Fz"), ("P3", "Fz"), ("Fz", "Pz"), ("C3", "Pz"), ("C4", "Pz"))
#: Frequency in Hz of each rhythm, and how the log of its amplitude follows valence and arousal.
#: They share the band of the relevant sources: only where a source lies tells it from a rhythm, so
#: the power at an electrode, or behind a filter that nobody trained, says little.
_RHYTHM_HZ = (7.0, 6.0, 5.0, 6.0, 7.0, 6.0)
_INDUCED = ((0.0, -0.10), (0.08, 0.0), (-0.08, 0.0), (0.06, 0.06), (0.0, 0.08), (0.0, 0.08))

#: Frequency in Hz of the peak of each relevant source's response.
_RESPONSE_HZ = (6.0, 6.0, 6.0, 6.0)
_NUISANCE_HZ = (6.0, 9.0, 12.0, 8.0)


def record_eeg(
    config: CohortConfig, index: int, latents: Latents, personal: Float, blinks: Array
) -> Array:
    """(n_stimuli, 32, n_times) in uV, 4-45 Hz, average reference."""
    rng = subject_stream(config, index, 1)
    lag = config.eeg_lag + config.eeg_lag_sd * rng.standard_normal()
    gain = log_normal(rng, 0.2, N_RELEVANT + N_NUISANCE + len(_ARTEFACT_AT))
    places = _RELEVANT_AT + _NUISANCE_AT + _ARTEFACT_AT
    evoked = np.concatenate(
        [
            config.relevant_uv * _ringing(config, latents.carriers, _RESPONSE_HZ, lag),
            config.nuisance_uv * _ringing(config, latents.nuisance, _NUISANCE_HZ, lag),
            _artefacts(config, latents, blinks, subject_stream(config, index, 5)),
        ],
        axis=1,
    )
    eeg = (_topographies(places, rng) * gain) @ _in_band(evoked)
    eeg *= np.float32(config.snr)
    rest = subject_stream(config, index, 3)
    eeg += _topographies(_RHYTHM_AT, rng) @ _rhythms(config, latents, personal, rest)
    eeg += _background(config, rest)
    # Impedances change: each channel's gain drifts over the session, in presentation order.
    order = rng.permutation(config.n_stimuli) / config.n_stimuli
    eeg *= np.exp(np.outer(order, 0.08 * rng.standard_normal(32))).astype(np.float32)[..., None]
    eeg *= log_normal(rng, 0.2, 1)
    return np.asarray(eeg - eeg.mean(axis=1, keepdims=True), dtype=np.float32)


def _ringing(config: CohortConfig, drives: Array, hertz: Sequence[float], lag: float) -> Array:
    """Waveforms (n_stimuli, n, n_times) that drives (n_stimuli, n, n_samples) evoke.

    A drive of unit variance gives unit variance: a damped oscillation answers each impulse.
    """
    waves = [convolve(config, drives[:, k], _response(hz), lag) for k, hz in enumerate(hertz)]
    return np.stack(waves, axis=1)


def _response(hz: float) -> Float:
    """What one impulse evokes; of unit energy."""
    t = np.arange(0, 1, 1 / SFREQ)
    kernel = np.sin(2 * np.pi * hz * t) * np.exp(-t / 0.15)
    return np.asarray(kernel / np.sqrt((kernel**2).sum()))


def _artefacts(
    config: CohortConfig, latents: Latents, blinks: Array, rng: np.random.Generator
) -> Array:
    """Blinks (twice, for both eyes) and muscle (left, right), partly locked to the stimulus."""
    tension = convolve(config, latents.muscle, burst(), 0.2)
    size = padded_size(config)
    f = fft.rfftfreq(size, 1 / SFREQ)
    spectrum = (f > 20).astype(np.float64)
    shape = (config.n_stimuli, 2, config.n_times)
    muscle = config.muscle_uv * coloured(rng, shape, spectrum, size) * tension[:, None]
    return np.concatenate([np.repeat(config.blink_uv * blinks[:, None], 2, axis=1), muscle], axis=1)


def _rhythms(
    config: CohortConfig, latents: Latents, personal: Float, rng: np.random.Generator
) -> Array:
    """(n_stimuli, n, n_times) of random phase; only their power carries anything."""
    size, n = padded_size(config), len(_RHYTHM_HZ)
    shape = (config.n_stimuli, config.n_times)
    f = fft.rfftfreq(size, 1 / SFREQ)
    log_power = 0.3 * slow(rng, (config.n_stimuli, n, config.n_times), 10.0)
    log_power += (config.rhythm_trial_sd * rng.standard_normal((config.n_stimuli, n, 1))).astype(
        np.float32
    )
    # The clip's own effect (brightness, loudness), affect's, and what is one subject's own.
    on = slice(config.n_baseline, None)
    clip = 0.2 * np.stack([latents.power[:, k % 2] for k in range(n)], axis=1)
    affect = np.einsum(
        "kd,sdt->skt", config.induced * np.array(_INDUCED, dtype=np.float32), latents.drive
    )
    own = personal @ (config.personal * rng.standard_normal((2, n)))
    log_power[..., on] += np.float32(config.snr) * (clip + affect + own[..., None])
    waves = []
    for hz in _RHYTHM_HZ:
        peak = hz * np.exp(0.06 * rng.standard_normal())
        waves.append(coloured(rng, shape, np.exp(-(((f - peak) / 1.5) ** 2)), size))
    return np.asarray(
        config.rhythm_uv * np.stack(waves, axis=1) * np.exp(log_power), dtype=np.float32
    )


def _background(config: CohortConfig, rng: np.random.Generator) -> Array:
    """1/f noise (n_stimuli, 32, n_times), a little alike in neighbouring electrodes."""
    size = padded_size(config)
    f = np.maximum(fft.rfftfreq(size, 1 / SFREQ), 0.5)
    shape = (config.n_stimuli, 32, config.n_times)
    noise = coloured(rng, shape, _band(size) * f**-0.6, size)
    xyz = _positions()
    covariance = np.exp((xyz @ xyz.T - 1) / 0.12) + 0.3 * np.eye(32)
    mixing = config.background_uv * np.linalg.cholesky(covariance) / np.sqrt(1.3)
    return np.asarray(mixing.astype(np.float32) @ noise)


# ------------------------------------------------------------------------------------ the head


def _band(size: int) -> Float:
    """Amplitude response of the 4-45 Hz filter that DEAP's authors applied."""
    f = fft.rfftfreq(size, 1 / SFREQ)
    return np.asarray(1 / np.sqrt((1 + (4 / np.maximum(f, 1e-3)) ** 12) * (1 + (f / 45) ** 24)))


def _in_band(x: Array) -> Array:
    size = fft.next_fast_len(x.shape[-1] + 2 * SFREQ, real=True)
    out = fft.irfft(fft.rfft(x, size) * _band(size).astype(np.float32), size)
    return np.asarray(out[..., : x.shape[-1]], dtype=np.float32)


@lru_cache(maxsize=1)
def _positions() -> Float:
    """Electrodes (32, 3) on the unit sphere."""
    at = make_standard_montage("biosemi32").get_positions()["ch_pos"]  # DEAP's cap
    xyz = np.stack([at[name] for name in EEG_NAMES])
    return np.asarray(xyz / np.linalg.norm(xyz, axis=1, keepdims=True))


def _topographies(pairs: tuple[tuple[str, str], ...], rng: np.random.Generator) -> Array:
    """Fields (32, n) of dipoles between two places, smooth, of one subject, average reference.

    A subject's head turns and bends the shared field: both ends move by about 8 degrees.
    """
    xyz = _positions()

    def bump(name: str, width: float) -> Float:
        centre = xyz[EEG_NAMES.index(name)] + 0.14 * rng.standard_normal(3) / np.sqrt(2)
        centre /= np.linalg.norm(centre)
        return np.asarray(np.exp((xyz @ centre - 1) / width**2))

    fields = np.stack([bump(a, 0.5) - 0.5 * bump(b, 0.67) for a, b in pairs], axis=1)
    return np.asarray(fields - fields.mean(axis=0), dtype=np.float32)
