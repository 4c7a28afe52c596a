"""What is true of a synthetic cohort: its clips, what they evoke, and how people rate them.

Nothing here is recorded. `synthetic_eeg.py` and `synthetic_pps.py` turn these latents into signals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from physiosync.recordings.synthetic_config import SFREQ, CohortConfig

Array = NDArray[np.float32]
Float = NDArray[np.float64]

#: Label-relevant evoked sources: pleasant, unpleasant, arousing, calming.
N_RELEVANT = 4
#: Synchronised sources that say nothing about the ratings.
N_NUISANCE = 4

# Random streams. Each has its own seed, so that a knob never shifts another stream's draws.
_SHARED, _SUBJECT = 0, 1


def stream(config: CohortConfig, *key: int) -> np.random.Generator:
    """Random numbers of one purpose: the same for a key in whatever order they are asked for."""
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=key))


@dataclass(frozen=True, eq=False)
class Latents:
    """What drives the signals during the stimuli. The rest before a stimulus is left out.

    Parameters
    ----------
    drive : (n_stimuli, 2, n_samples) momentary valence and arousal as the sources feel them
    events : (n_stimuli, N_RELEVANT, n_samples) mostly zero; the size of an event that the body
        answers where there is one: 0 and 1 what is pleasant and unpleasant, 2 and 3 what arouses
        and calms
    carriers : (n_stimuli, N_RELEVANT, n_samples) white, in bursts whose size follows affect;
        becomes the waveforms of the relevant sources, in the same order
    nuisance : (n_stimuli, N_NUISANCE, n_samples) white, in bursts that say nothing; becomes the
        waveforms of the others
    power : (n_stimuli, 2, n_samples) slow courses of induced power that say nothing of affect
    blinks, muscle : (n_stimuli, n_samples) impulses, mostly zero
    """

    drive: Array
    events: Array
    carriers: Array
    nuisance: Array
    power: Array
    blinks: Array
    muscle: Array


@dataclass(frozen=True, eq=False)
class Truth:
    """The clips of a cohort.

    Parameters
    ----------
    affect : (n_stimuli, 2, n_samples) valence and arousal courses that people's ratings follow
    latents : what all subjects' signals share
    clip_affect, clip_drive : (n_stimuli, 2) the means of `affect` and of `latents.drive`
    """

    affect: Array
    latents: Latents

    @property
    def clip_affect(self) -> Float:
        return self.affect.mean(axis=-1, dtype=np.float64)

    @property
    def clip_drive(self) -> Float:
        return self.latents.drive.mean(axis=-1, dtype=np.float64)


def slow(rng: np.random.Generator, shape: tuple[int, ...], seconds: float) -> Array:
    """Noise of unit variance along the last axis, with a correlation time of about `seconds`."""
    size = fft.next_fast_len(shape[-1] + round(4 * seconds * SFREQ), real=True)
    frequencies = fft.rfftfreq(size, 1 / SFREQ)
    spectrum = 1 / (1 + (2 * np.pi * frequencies * seconds / 2) ** 2)
    return coloured(rng, shape, spectrum, size)


def coloured(rng: np.random.Generator, shape: tuple[int, ...], spectrum: Float, size: int) -> Array:
    """Gaussian noise of unit variance with an amplitude `spectrum` over rfftfreq(size)."""
    gain = spectrum / np.sqrt((spectrum**2).sum()) * size / 2
    parts = rng.standard_normal((*shape[:-1], 2 * len(gain)), dtype=np.float32)
    noise = parts.view(np.complex64) * gain.astype(np.float32)
    return np.asarray(fft.irfft(noise, size)[..., : shape[-1]], dtype=np.float32)


def _affect(config: CohortConfig, rng: np.random.Generator, mean: Float | None = None) -> Array:
    """Courses (n_stimuli, 2, n_samples): a mean for each clip, and a slow fluctuation around it.

    Unless `mean` (n_stimuli, 2) is given, clips come in equal numbers from the four quadrants, as
    those of DEAP were picked to.
    """
    n, n_samples = config.n_stimuli, config.n_times - config.n_baseline
    if mean is None:
        quadrant = rng.permutation(n) % 4
        signs = np.stack([2 * (quadrant % 2) - 1, 2 * (quadrant // 2) - 1], axis=1)
        mean = config.clip_mean * signs + config.clip_sd * rng.standard_normal((n, 2))
    fluctuation = slow(rng, (n, 2, n_samples), config.course_seconds)
    return (mean[..., None] + config.course_sd * fluctuation).astype(np.float32)


def _latents(config: CohortConfig, affect: Array, *key: int) -> Latents:
    """Draw latents whose drive has the correlation `config.relevance` with `affect`."""
    n, _, n_samples = affect.shape
    other = _affect(config, stream(config, *key, 0))
    r = config.relevance
    drive = (r * affect + np.sqrt(1 - r**2) * other).astype(np.float32)
    rng = stream(config, *key, 1)
    # How much happens does not follow affect: total power would show that. Which source does.
    occurs = rng.random(drive.shape, dtype=np.float32) < config.event_rate / SFREQ
    chance = 1 / (1 + np.exp(-config.event_slope * drive))
    high = rng.random(drive.shape, dtype=np.float32) < chance
    size = occurs * np.exp(0.3 * rng.standard_normal(drive.shape, dtype=np.float32))
    pairs = np.stack([size * high, size * ~high], axis=2)
    rng = stream(config, *key, 2)
    nuisance = rng.standard_normal((n, N_NUISANCE, n_samples), dtype=np.float32)
    nuisance *= np.exp(config.burst_depth * slow(rng, nuisance.shape, config.burst_seconds))
    carriers = rng.standard_normal((n, N_RELEVANT, n_samples), dtype=np.float32)
    towards = np.stack([drive[:, 0], -drive[:, 0], drive[:, 1], -drive[:, 1]], axis=1)
    bursts = config.burst_depth * slow(rng, towards.shape, config.burst_seconds)
    carriers *= np.exp(config.envelope_slope * towards + bursts)
    power = slow(rng, (n, 2, n_samples), 10.0)
    rare = rng.random((2, n, n_samples), dtype=np.float32)
    return Latents(
        drive=drive,
        events=pairs.reshape(n, N_RELEVANT, n_samples),
        carriers=carriers,
        nuisance=nuisance,
        power=power,
        blinks=(rare[0] < 0.12 / SFREQ).astype(np.float32),
        muscle=(rare[1] < 0.08 / SFREQ).astype(np.float32),
    )


@lru_cache(maxsize=2)
def truth(config: CohortConfig) -> Truth:
    """The cohort's clips and the latents its subjects share; depends on no subject."""
    affect = _affect(config, stream(config, _SHARED, 0))
    return Truth(affect, _latents(config, affect, _SHARED, 1))


def felt_latents(config: CohortConfig, index: int, modality: int) -> Latents:
    """What subject `index` follows in the EEG (`modality` 0) or the periphery (1).

    The subject's own latents have the affect that is this subject's alone in place of the clip's.
    With synchrony s, an event is the shared one with probability s and the subject's own
    otherwise; a course is their mixture, with the correlation s to the shared one.
    """
    shared, s = truth(config).latents, config.synchrony
    if s == 1:
        return shared
    key = (_SUBJECT, index, 10 + modality)
    spread = np.hypot(config.clip_mean, config.clip_sd)
    felt = _affect(config, stream(config, *key, 0), spread * ratings(config, index)[1])
    own = _latents(config, felt, *key, 1)
    rng = stream(config, *key, 2)

    def pick(a: Array, b: Array) -> Array:
        return np.where(rng.random(a.shape, dtype=np.float32) < s, a, b)

    def mix(a: Array, b: Array) -> Array:
        return (s * a + np.sqrt(1 - s**2) * b).astype(np.float32)

    return Latents(
        drive=mix(shared.drive, own.drive),
        events=pick(shared.events, own.events),
        carriers=mix(shared.carriers, own.carriers),
        nuisance=mix(shared.nuisance, own.nuisance),
        power=mix(shared.power, own.power),
        blinks=pick(shared.blinks, own.blinks),
        muscle=pick(shared.muscle, own.muscle),
    )


def subject_stream(config: CohortConfig, index: int, purpose: int) -> np.random.Generator:
    """Random numbers of one subject for one purpose (0 to 9)."""
    return stream(config, _SUBJECT, index, purpose)


def ratings(config: CohortConfig, index: int) -> tuple[Float, Float]:
    """How one subject rates the clips.

    Returns
    -------
    labels : (n_stimuli, 4) valence, arousal, dominance and liking, 1 to 9
    personal : (n_stimuli, 2) the part of valence and arousal that is this subject's alone, in
        standard deviations
    """
    rng = subject_stream(config, index, 0)
    clip = truth(config).clip_affect
    personal = rng.standard_normal((config.n_stimuli, 4))
    scale = np.exp(config.rater_scale_sd * rng.standard_normal(4))
    bias = config.rater_bias_sd * rng.standard_normal(4)
    # People feel in control of, and like, what is pleasant.
    core = np.column_stack([clip, 0.5 * clip[:, 0], 0.7 * clip[:, 0]])
    labels = 5 + scale * (config.rating_slope * core + config.rating_noise_sd * personal) + bias
    return np.round(np.clip(labels, 1, 9), 2).astype(np.float64), personal[:, :2]


def oracle_ceiling(config: CohortConfig, folds: int = 4) -> dict[str, float]:
    """Balanced accuracy when each clip's mean drive is known without error.

    One logistic regression for all subjects, as a probe would be fitted, on (clip drive) alone;
    each fold holds out every `folds`-th stimulus. What is missing to 1 is that people disagree.

    Returns
    -------
    "valence" and "arousal" -> balanced accuracy over all held-out trials
    """
    drive = truth(config).clip_drive
    rated = np.stack([ratings(config, i)[0] for i in range(config.n_subjects)])
    high = rated[..., :2] >= 5
    fold = np.arange(config.n_stimuli) % folds
    scores = {}
    for column, target in enumerate(("valence", "arousal")):
        guess = np.zeros(high.shape[:2], dtype=bool)
        for k in range(folds):
            fit = np.tile(drive[fold != k], (config.n_subjects, 1))
            model = LogisticRegression().fit(fit, high[:, fold != k, column].ravel())
            guess[:, fold == k] = model.predict(drive[fold == k])
        scores[target] = float(balanced_accuracy_score(high[..., column].ravel(), guess.ravel()))
    return scores
