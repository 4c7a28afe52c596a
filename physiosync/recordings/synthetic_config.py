"""What is asked of a synthetic cohort: its size, its knobs, and the constants of its model."""

from __future__ import annotations

from pydantic import Field

from physiosync.config import Config

#: Sampling rate of every channel, Hz.
SFREQ = 128


class CohortConfig(Config):
    """A synthetic cohort in DEAP's form.

    The knobs `snr`, `synchrony` and `relevance` change signals, never ratings. The fields after
    `seed` are the model's constants; they are here so that they belong to a cohort's identity.
    """

    n_subjects: int = Field(8, ge=1, le=99)
    n_stimuli: int = Field(40, ge=2)
    seconds: float = Field(60.0, ge=5.0, le=600.0)
    """Length of the stimulus part of a trial."""
    baseline_seconds: float = Field(3.0, ge=0.0, le=60.0)
    """Rest before it, with no stimulus-locked activity."""
    sfreq: float = Field(128.0, ge=128.0, le=128.0)
    """Hz, as in DEAP's preprocessed files; no other value is possible."""
    snr: float = Field(1.0, ge=0.0, le=100.0)
    """Amplitude of everything the clips evoke, relative to the background."""
    synchrony: float = Field(1.0, ge=0.0, le=1.0)
    """1: all subjects, and EEG and periphery, follow the same latents. 0: each follows latents of
    its own, of the same statistics. What they say of the ratings is then what this subject rated
    differently from the others, so that nothing at all is common to two people's signals, and
    nothing in time to one person's EEG and periphery."""
    relevance: float = Field(1.0, ge=0.0, le=1.0)
    """Correlation between the affect that modulates the sources and the affect that is rated."""
    seed: int = Field(0, ge=0)

    clip_mean: float = 0.7
    """Clip means lie around +-this on both axes, as DEAP's clips came from four quadrants."""
    clip_sd: float = 0.35
    """Standard deviation of clip means around that."""
    course_seconds: float = 4.0
    """Correlation time of affect within a clip."""
    course_sd: float = 0.8
    """Standard deviation of affect within a clip."""
    rating_slope: float = 1.8
    """Rating = 5 + scale * (slope * clip affect + noise) + bias."""
    rater_bias_sd: float = 0.4
    """Standard deviation of the bias between subjects, in points of the rating scale."""
    rater_scale_sd: float = 0.15
    """Standard deviation between subjects of the scale's logarithm."""
    rating_noise_sd: float = 1.2
    """Standard deviation of what one subject feels about one clip unlike the others."""
    event_rate: float = 2.0
    """Events a second of each pair of relevant sources, whatever the affect."""
    event_slope: float = 2.0
    """Slope on momentary affect of the log odds that the pair's first source responds."""
    burst_seconds: float = 0.7
    """Correlation time of the bursts in which evoked sources respond."""
    burst_depth: float = 0.6
    """Standard deviation of the logarithm of those bursts."""
    envelope_slope: float = 0.5
    """How the logarithm of a relevant source's amplitude follows affect, in one direction for one
    source of a pair and in the other for the other."""
    relevant_uv: float = 2.0
    """Root mean square of a relevant source at the electrode nearest to it, in neutral affect and
    without bursts."""
    nuisance_uv: float = 1.5
    """The same of a nuisance source."""
    blink_uv: float = 25.0
    """Peak of a blink at the frontal pole, before the 4-45 Hz filter."""
    muscle_uv: float = 6.0
    """Root mean square of a muscle burst over the temples at its height."""
    background_uv: float = 1.2
    """Root mean square of the 1/f background."""
    rhythm_uv: float = 4.0
    """Root mean square of one rhythm at the electrode nearest to it."""
    rhythm_trial_sd: float = 0.8
    """Standard deviation of the logarithm of a rhythm's amplitude between trials, for reasons that
    neither clip nor ratings know."""
    induced: float = 0.1
    """Multiple of the effect of affect on the rhythms' log amplitude (about 0.1 each)."""
    personal: float = 0.1
    """Effect on the rhythms' log amplitude of what one subject feels unlike the others."""
    eeg_lag: float = 0.15
    """Mean delay of the EEG, in seconds."""
    eeg_lag_sd: float = 0.04
    """Standard deviation of that delay between subjects."""

    @property
    def n_baseline(self) -> int:
        """Samples of rest before a stimulus."""
        return round(self.baseline_seconds * SFREQ)

    @property
    def n_times(self) -> int:
        """Samples of a trial, rest included."""
        return self.n_baseline + round(self.seconds * SFREQ)
