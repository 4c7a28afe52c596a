"""Filters: what passes, what does not, nothing late, and what the ends of a piece cost."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from physiosync.filtering import (
    Band,
    average_reference,
    band_pass,
    eye_weights,
    resample,
    settling,
    without_eyes,
)

EEG = Band(low=4, high=45)


def sine(
    hertz: float, sfreq: float, seconds: float = 20, phase: float = 0.3
) -> NDArray[np.float32]:
    t = np.arange(round(seconds * sfreq)) / sfreq
    return np.sin(2 * np.pi * hertz * t + phase)[None].astype(np.float32)


def amplitude_and_delay(x: NDArray[np.float32], hertz: float, sfreq: float) -> tuple[float, float]:
    """Of a sine with phase 0.3; the delay in samples."""
    t = np.arange(x.shape[1]) / sfreq
    inner = (t > 2) & (t < t[-1] - 2)
    both = np.stack([np.sin(2 * np.pi * hertz * t), np.cos(2 * np.pi * hertz * t)], axis=1)
    a, b = np.linalg.lstsq(both[inner], x[0, inner].astype(np.float64), rcond=None)[0]
    turn = (0.3 - np.arctan2(b, a) + np.pi) % (2 * np.pi) - np.pi
    return float(np.hypot(a, b)), float(turn / (2 * np.pi * hertz) * sfreq)


def decibels(x: NDArray[np.float32], sfreq: float) -> float:
    """Of the root mean square beside that of a sine of amplitude 1, without 2 s at each end."""
    cut = round(2 * sfreq)
    return float(20 * np.log10(np.sqrt(2) * x[0, cut:-cut].astype(np.float64).std() + 1e-12))


@pytest.mark.parametrize("sfreq", [512, 256])
@pytest.mark.parametrize("hertz", [1, 10, 45, 51])
def test_resampling_keeps_a_sine(sfreq: int, hertz: float) -> None:
    y = resample(sine(hertz, sfreq), Fraction(128, sfreq))
    amplitude, delay = amplitude_and_delay(y, hertz, 128)
    assert y.shape == (1, 20 * 128)
    assert amplitude == pytest.approx(1, abs=0.001)
    assert abs(delay) < 0.01


@pytest.mark.parametrize(
    ("hertz", "sfreq"), [(70, 512), (65, 512), (100, 512), (250, 512), (70, 256)]
)
def test_what_the_new_rate_can_not_hold_does_not_fold_back(hertz: float, sfreq: int) -> None:
    assert decibels(resample(sine(hertz, sfreq), Fraction(128, sfreq)), 128) < -60


@pytest.mark.parametrize(
    ("hertz", "least", "most"),
    [
        (0.5, -200, -60),
        (2, -200, -59),
        (4, -0.2, 0.2),
        (10, -0.1, 0.1),
        (45, -0.2, 0.2),
        (57, -200, -60),
    ],
)
def test_a_band_passes_and_nothing_else(hertz: float, least: float, most: float) -> None:
    y = band_pass(sine(hertz, 128), 128, EEG)
    assert least < decibels(y, 128) < most
    if most > -1:
        assert abs(amplitude_and_delay(y, hertz, 128)[1]) < 0.01


def test_sides_can_be_left_open() -> None:
    x = sine(1, 128) + sine(60, 128) + 7
    low = band_pass(x, 128, Band(high=45))
    assert amplitude_and_delay(low - 7, 1, 128)[0] == pytest.approx(1, abs=0.01)
    assert low.mean() == pytest.approx(7, abs=0.01)
    high = band_pass(x, 128, Band(low=4))
    np.testing.assert_allclose(high[0, 256:-256], sine(60, 128)[0, 256:-256], atol=0.01)
    np.testing.assert_array_equal(band_pass(x, 128, Band()), x)


def test_edges_that_no_filter_has_are_refused() -> None:
    for low, high in ((4, 64), (70, None), (45, 4), (4, 4)):
        with pytest.raises(ValueError, match="but got"):
            band_pass(sine(10, 128), 128, Band(low=low, high=high))


def test_an_offset_and_a_slope_make_no_step_at_the_ends() -> None:
    """4200 uV, as in DREAMER, under a rhythm of 1 uV."""
    rhythm = sine(10, 128)
    drift = 4200 + 50 * np.linspace(0, 1, rhythm.shape[1], dtype=np.float32)
    y = band_pass(rhythm + drift, 128, EEG)
    edge = settling(128, EEG)
    assert edge == 160
    np.testing.assert_allclose(y[0, edge:-edge], rhythm[0, edge:-edge], atol=0.01)
    assert np.abs(y).max() < 3


def test_a_piece_filtered_with_what_is_around_it_is_as_in_the_whole() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 4000)).astype(np.float32)
    edge = settling(128, EEG)
    inner = band_pass(x[:, 1000 - edge : 2000 + edge], 128, EEG)[:, edge:-edge]
    np.testing.assert_allclose(inner, band_pass(x, 128, EEG)[:, 1000:2000], atol=1e-5)


@pytest.mark.parametrize("n_times", [0, 1, 2, 50])
def test_pieces_shorter_than_the_filter_stay_finite(n_times: int) -> None:
    y = band_pass(np.full((2, n_times), 4200, dtype=np.float32), 128, EEG)
    assert y.shape == (2, n_times)
    np.testing.assert_allclose(y, 0, atol=1e-3)


def test_the_reference_is_the_mean_of_the_electrodes_that_record() -> None:
    x = np.random.default_rng(0).normal(0, 1, (4, 100)).astype(np.float32)
    x[2] = 5
    used = np.array([True, True, False, True])
    y = average_reference(x, used)
    np.testing.assert_allclose(y[used].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_array_equal(y[2], x[2])
    np.testing.assert_allclose(y[0] - y[1], x[0] - x[1], atol=1e-6)
    np.testing.assert_array_equal(average_reference(x, np.zeros(4, dtype=bool)), x)


def test_eye_movements_go_and_the_rest_stays() -> None:
    rng = np.random.default_rng(0)
    brain = rng.normal(0, 5, (3, 6400)).astype(np.float32)
    blinks = 100 * np.exp(-(((np.arange(6400) % 400) - 200) ** 2) / 300)
    eog = np.stack([rng.normal(0, 1, 6400) + 300, blinks - 40]).astype(np.float32)
    share = np.array([[0.3, 0.4], [0.0, 0.2], [-0.2, 0.0]], dtype=np.float32)
    mixed = brain + share @ eog
    junk = mixed.copy()
    junk[:, 3000:3400] = 1e4 * rng.standard_normal((3, 400))  # Between trials.
    weights = eye_weights(junk, eog, 128, [slice(0, 2000), slice(4400, 6400)])
    np.testing.assert_allclose(weights[:, 1], share[:, 1], atol=0.02)
    clean = without_eyes(mixed, eog, weights)
    for row, right in zip(clean, brain, strict=True):
        assert np.corrcoef(row, right)[0, 1] > 0.99
