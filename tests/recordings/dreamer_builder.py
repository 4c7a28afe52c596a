"""Small DREAMER cohorts, sound at first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from physiosync.recordings.base import Recording

Array = NDArray[np.float64]
Subject = dict[str, Any]

#: Seconds of the clips.
CLIPS = (5.0, 4.0, 6.5)
RATES = {"EEG": 128, "ECG": 256}
N_CHANS = {"EEG": 14, "ECG": 2}
SCORES = ("ScoreValence", "ScoreArousal", "ScoreDominance")


def made_up(number: int, clips: tuple[float, ...] = CLIPS) -> Subject:
    """Noise with another offset in every array, and ratings."""
    rng = np.random.default_rng(number)

    def noise(name: str, seconds: float) -> Array:
        shape = (round(seconds * RATES[name]), N_CHANS[name])
        return rng.normal(rng.uniform(4000, 5000), 20, shape)

    return {
        name: {
            "baseline": [noise(name, 1.5) for _ in clips],
            "stimuli": [noise(name, seconds) for seconds in clips],
        }
        for name in RATES
    } | {score: rng.integers(1, 6, len(clips)).tolist() for score in SCORES}


def cohort(n_subjects: int = 3) -> list[Subject]:
    return [made_up(number) for number in range(1, n_subjects + 1)]


def assert_same_signals(one: Recording, other: Recording) -> None:
    assert [t.stimulus for t in one.trials] == [t.stimulus for t in other.trials]
    for mine, theirs in zip(one.trials, other.trials, strict=True):
        assert mine.ratings == theirs.ratings
        for modality, x in mine.signals.items():
            np.testing.assert_array_equal(x, theirs.signals[modality])
            np.testing.assert_array_equal(mine.baseline[modality], theirs.baseline[modality])
