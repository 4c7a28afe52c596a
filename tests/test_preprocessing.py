"""What preprocessing does to samples, against slow references and known signals."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physiosync.errors import RecordingError
from physiosync.filtering import resample
from physiosync.preprocessing import (
    PreprocessingConfig,
    preprocess,
    subtract_template,
)
from physiosync.recordings.base import Channels, Recording
from tests.recording_builder import CHANNELS, recording, trial

DEFAULT, PAPER = PreprocessingConfig(), PreprocessingConfig.paper()
NONE = PreprocessingConfig(baseline="none")


def randoms(n_chans: int, n_times: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_chans, n_times)).astype(np.float32)


def constant(value: float, n_times: int = 640) -> np.ndarray:
    return np.full((1, n_times), value, dtype=np.float32)


def gsr(*values: np.ndarray, unit: str = "Ohm", **options: object) -> Recording:
    """GSR trials; `baseline` is that of each."""
    baseline = options.get("baseline")
    channels = {"gsr": Channels(("GSR",), unit, 128.0)}
    before = {} if baseline is None else {"gsr": baseline}
    return recording(
        *(trial(k, {"gsr": x}, before) for k, x in enumerate(values, start=1)),  # type: ignore[arg-type]
        channels=channels,
    )


# ---- configuration


def test_paper_configuration() -> None:
    assert (PAPER.sfreq, PAPER.baseline, PAPER.skin_conductance) == (128.0, "template", "raw")
    assert PAPER.uid() != DEFAULT.uid()


@pytest.mark.parametrize("sfreq", [125.0, 0.0, -128.0, 128.5])
def test_rate_has_whole_base_windows(sfreq: float) -> None:
    with pytest.raises(ValueError, match="sfreq"):
        PreprocessingConfig(sfreq=sfreq)


# ---- what stays as it is


def test_eeg_is_left_alone_by_default_and_inputs_always() -> None:
    x, before = randoms(3, 640), randoms(3, 384, seed=1)
    given = recording(trial(1, {"eeg": x.copy()}, {"eeg": before.copy()}))
    np.testing.assert_array_equal(preprocess(given, DEFAULT).trials[0].signals["eeg"], x)
    preprocess(given, PAPER)
    np.testing.assert_array_equal(given.trials[0].signals["eeg"], x)
    np.testing.assert_array_equal(given.trials[0].baseline["eeg"], before)


def test_what_the_reader_said_is_kept() -> None:
    given = recording(trial(1, {"eeg": randoms(3, 640)}))
    done = preprocess(given, DEFAULT)
    assert done.left_out == given.left_out
    assert (done.subject, done.source, done.fingerprint) == ("s01", given.source, "f" * 64)
    assert done.modalities == {"eeg": CHANNELS["eeg"]}


# ---- resampling


@pytest.mark.parametrize("sfreq", [256.0, 512.0, 500.0, 128.0, 64.0])
@pytest.mark.parametrize("hertz", [1.0, 10.0, 25.0])
def test_a_sine_keeps_its_amplitude_and_phase(sfreq: float, hertz: float) -> None:
    channels = {"ecg": Channels(("I",), "uV", sfreq)}
    seconds = np.arange(round(10 * sfreq)) / sfreq
    x = (40 + np.sin(2 * np.pi * hertz * seconds))[None].astype(np.float32)
    done = preprocess(recording(trial(1, {"ecg": x}), channels=channels), DEFAULT)
    y = done.trials[0].signals["ecg"][0]
    assert done.modalities["ecg"].sfreq == 128.0
    assert y.shape == (1280,)
    expected = 40 + np.sin(2 * np.pi * hertz * np.arange(1280) / 128)
    np.testing.assert_allclose(y[128:-128], expected[128:-128], atol=0.01)
    # An offset does not ring at the ends.
    assert np.abs(y - expected).max() < 0.8


def test_what_the_new_rate_can_not_hold_is_filtered_out() -> None:
    seconds = np.arange(2560) / 256
    x = np.sin(2 * np.pi * 100 * seconds)[None].astype(np.float32)
    assert np.abs(resample(x, Fraction(1, 2))[:, 64:-64]).max() < 0.01


@pytest.mark.parametrize("sfreq", [256, 64])
def test_a_drift_makes_no_step_at_the_ends(sfreq: int) -> None:
    seconds = np.arange(10 * sfreq) / sfreq
    y = resample((30 + seconds)[None].astype(np.float32), Fraction(128, sfreq))
    np.testing.assert_allclose(y[0], 30 + np.arange(1280) / 128, atol=0.1)


def test_unequal_rates_end_equally_long() -> None:
    channels = CHANNELS | {"ecg": Channels(("I", "II"), "uV", 256.0)}
    given = recording(
        trial(1, {"eeg": randoms(3, 640), "ecg": randoms(2, 1291)}), channels=channels
    )
    done = preprocess(given, DEFAULT)
    assert {m: x.shape for m, x in done.trials[0].signals.items()} == {
        "eeg": (3, 640),
        "ecg": (2, 640),
    }
    assert done.left_out == given.left_out


# ---- baseline


@given(
    n_chans=st.integers(1, 3),
    n_times=st.integers(1, 700),
    n_baseline=st.integers(128, 500),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_template_against_a_slow_reference(
    n_chans: int, n_times: int, n_baseline: int, seed: int
) -> None:
    x, before = randoms(n_chans, n_times, seed), randoms(n_chans, n_baseline, seed + 1)
    got = subtract_template(x, before, 128)
    for c in range(n_chans):
        for t in range(n_times):
            moment = [
                float(before[c, k]) for k in range(n_baseline // 128 * 128) if k % 128 == t % 128
            ]
            assert got[c, t] == pytest.approx(x[c, t] - sum(moment) / len(moment), abs=1e-5)
    assert got.dtype == np.float32


def test_template_is_subtracted_from_every_modality_and_level_stays_raw() -> None:
    given = recording(
        trial(
            1,
            {"eeg": randoms(3, 640), "gsr": constant(5000.0)},
            {"eeg": randoms(3, 384, seed=1), "gsr": constant(4000.0, 384)},
        )
    )
    done = preprocess(given, PAPER)
    signals, before = given.trials[0].signals["eeg"], given.trials[0].baseline["eeg"]
    expected = subtract_template(signals, before, 128)
    np.testing.assert_array_equal(done.trials[0].signals["eeg"], expected)
    np.testing.assert_array_equal(done.trials[0].signals["gsr"], constant(1000.0))
    assert done.modalities["gsr"].unit == "Ohm"


@pytest.mark.parametrize("before", [{}, {"eeg": randoms(3, 127)}, {"gsr": constant(1.0)}])
def test_template_needs_a_second_of_baseline(before: dict[str, np.ndarray]) -> None:
    good = trial(1, {"eeg": randoms(3, 640)}, {"eeg": randoms(3, 128)})
    given = recording(good, trial(2, {"eeg": randoms(3, 640)}, before), channels=CHANNELS)
    given.modalities["gsr"] = CHANNELS["gsr"]  # type: ignore[index]
    with pytest.raises(RecordingError, match=r"s01.npy: trial 2 \(v2\), baseline of eeg.*at least"):
        preprocess(given, PAPER)


def test_baseline_mean_of_slow_modalities_is_subtracted() -> None:
    channels = CHANNELS | {"temp": Channels(("T",), "C", 128.0)}
    given = recording(
        trial(
            1,
            {"eeg": randoms(3, 640), "temp": constant(31.5), "gsr": constant(1e5)},
            {"eeg": randoms(3, 384), "temp": constant(31.0, 384), "gsr": constant(1e6, 384)},
        ),
        channels=channels,
    )
    done = preprocess(given, DEFAULT).trials[0].signals
    np.testing.assert_array_equal(done["temp"], constant(0.5))
    np.testing.assert_allclose(done["gsr"], constant(1.0), atol=1e-6)
    np.testing.assert_array_equal(done["eeg"], given.trials[0].signals["eeg"])
    kept = preprocess(given, NONE).trials[0].signals
    np.testing.assert_array_equal(kept["temp"], constant(31.5))
    np.testing.assert_allclose(kept["gsr"], constant(1.0), atol=1e-6)


def test_without_any_baseline_the_level_stays_and_is_told() -> None:
    done = preprocess(gsr(constant(1e6), constant(1e5)), DEFAULT)
    np.testing.assert_allclose(done.trials[1].signals["gsr"], constant(1.0), atol=1e-6)
    assert done.left_out[-1] == "baseline of gsr: none recorded, so none subtracted"


def test_a_trial_that_alone_lacks_its_baseline_loses_the_modality() -> None:
    before = {"gsr": constant(1e6)}
    given = recording(
        trial(1, {"eeg": randoms(3, 640), "gsr": constant(1e5)}, before),
        trial(2, {"eeg": randoms(3, 640), "gsr": constant(1e5)}),
    )
    done = preprocess(given, DEFAULT)
    assert [sorted(t.signals) for t in done.trials] == [["eeg", "gsr"], ["eeg"]]
    assert done.left_out[-1].startswith("gsr of trial 2 (v2): no baseline")


# ---- skin conductance


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [("Ohm", 1e6, 0.0), ("Ohm", 2e5, np.log10(5)), ("nS", 1e3, 0.0), ("uS", 5.0, np.log10(5))],
)
def test_log_microsiemens(unit: str, value: float, expected: float) -> None:
    done = preprocess(gsr(constant(value), unit=unit), NONE)
    np.testing.assert_allclose(done.trials[0].signals["gsr"], constant(expected), atol=1e-6)
    assert done.modalities["gsr"].unit == "log10 uS"


def test_raw_keeps_samples_and_unit() -> None:
    done = preprocess(gsr(constant(-3.0), unit="V"), PreprocessingConfig(skin_conductance="raw"))
    np.testing.assert_array_equal(done.trials[0].signals["gsr"], constant(-3.0))
    assert done.modalities["gsr"].unit == "V"


def test_an_unknown_unit_is_an_error() -> None:
    with pytest.raises(RecordingError, match="unit of gsr: expected Ohm, nS, uS, found V"):
        preprocess(gsr(constant(1.0), unit="V"), DEFAULT)


def test_few_missing_samples_are_interpolated() -> None:
    x = np.linspace(1e5, 2e5, 640, dtype=np.float32)[None]
    broken = x.copy()
    broken[0, :2] = -5
    broken[0, 100:130] = 0  # 5 % of 640 is 32.
    done = preprocess(gsr(broken), NONE)
    got = done.trials[0].signals["gsr"]
    expected = np.log10(1e6 / x)
    np.testing.assert_allclose(got[:, 2:], expected[:, 2:], atol=1e-5)
    np.testing.assert_allclose(got[:, :2], expected[0, 2], atol=1e-5)
    assert done.left_out == gsr(broken).left_out


def test_a_trial_with_more_missing_loses_its_gsr() -> None:
    broken = constant(1e5)
    broken[0, :33] = 0
    given = recording(
        trial(1, {"eeg": randoms(3, 640), "gsr": broken}),
        trial(2, {"eeg": randoms(3, 640), "gsr": constant(1e5)}),
    )
    done = preprocess(given, NONE)
    assert [sorted(t.signals) for t in done.trials] == [["eeg"], ["eeg", "gsr"]]
    assert done.left_out[-1] == (
        "gsr of trial 1 (v1): 5.2% of the samples are not positive, more than 5%; left out"
    )


def test_a_broken_baseline_is_left_out_and_told() -> None:
    broken = constant(-1.0, 384)
    trials = [
        trial(k, {"gsr": constant(1e5)}, {"gsr": broken if k == 1 else constant(1e6, 384)})
        for k in (1, 2, 3)
    ]
    done = preprocess(recording(*trials), DEFAULT)
    assert [t.stimulus for t in done.trials] == ["v2", "v3"]
    assert any("baseline of gsr of trial 1 (v1): 100.0%" in s for s in done.left_out)


@pytest.mark.parametrize(
    ("unit", "sign", "told"),
    [("Ohm", -1, "Ohm (relative, inverted)"), ("nS", 1, "nS (relative)")],
)
def test_changes_instead_of_a_level_stay_linear(unit: str, sign: int, told: str) -> None:
    x = np.linspace(-600, 290, 640, dtype=np.float32)[None]
    done = preprocess(gsr(x, -x, constant(5.0, 64), unit=unit), NONE)
    np.testing.assert_array_equal(done.trials[0].signals["gsr"], sign * x)
    np.testing.assert_array_equal(done.trials[2].signals["gsr"], constant(sign * 5.0, 64))
    assert done.modalities["gsr"].unit == told
    if unit == "Ohm":
        assert "not an absolute value" in done.left_out[-1]


def test_a_detrended_channel_is_kept_whichever_side_of_zero_it_spends_more_time_on() -> None:
    rng = np.random.default_rng(0)
    trials = [rng.standard_normal((1, 640)).astype(np.float32) + shift for shift in (0.1, 0.3, 0.5)]
    done = preprocess(gsr(*trials), NONE)
    assert [set(t.signals) for t in done.trials] == [set(done.modalities)] * 3
    assert done.modalities["gsr"].unit == "Ohm (relative, inverted)"


# ---- what can't be used


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["signals", "baseline"])
def test_nan_and_infinity_name_trial_and_channel(value: float, part: str) -> None:
    bad = randoms(3, 640)
    bad[1, [5, 6]] = value
    good = randoms(3, 640)
    signals, before = ({"eeg": bad}, {"eeg": good}) if part == "signals" else (
        {"eeg": good}, {"eeg": bad})  # fmt: skip
    given = recording(trial(1, {"eeg": good}), trial(2, signals, before))
    with pytest.raises(RecordingError, match=r"trial 2 \(v2\), channel Fp2: .* 2 of 640 NaN"):
        preprocess(given, DEFAULT)


def test_wrong_number_of_channels_is_an_error() -> None:
    with pytest.raises(RecordingError, match=r"trial 1 \(v1\), eeg: expected \(3 channels"):
        preprocess(recording(trial(1, {"eeg": randoms(2, 640)})), DEFAULT)


def test_short_trials_are_left_out() -> None:
    given = recording(
        trial(1, {"eeg": randoms(3, 63)}),
        trial(2, {"eeg": randoms(3, 64)}),
        trial(3, {"eeg": randoms(3, 0)}),
    )
    done = preprocess(given, DEFAULT)
    assert [t.order for t in done.trials] == [2]
    assert done.left_out[-2] == "trial 1 (v1): 0.492188 s, shorter than 0.5 s; left out"
    assert done.left_out[-1] == "trial 3 (v3): 0 s, shorter than 0.5 s; left out"


def test_a_modality_that_stopped_early_is_left_out_of_its_trial() -> None:
    given = recording(
        trial(1, {"eeg": randoms(3, 640), "ecg": randoms(2, 300)}),
        trial(2, {"eeg": randoms(3, 640), "ecg": randoms(2, 500)}),
    )
    done = preprocess(given, DEFAULT)
    assert [{m: x.shape[1] for m, x in t.signals.items()} for t in done.trials] == [
        {"eeg": 640},
        {"eeg": 500, "ecg": 500},
    ]
    assert done.left_out[-2].startswith("ecg of trial 1 (v1): 2.34375 s of the trial's 5 s")
    assert done.left_out[-1] == "last 1.09375 s of trial 2 (v2): not in ecg; left out"


def test_a_modality_left_out_of_every_trial_is_absent() -> None:
    given = recording(trial(1, {"eeg": randoms(3, 640), "ecg": randoms(2, 10)}))
    assert list(preprocess(given, DEFAULT).modalities) == ["eeg"]


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(RecordingError, match=r"at least one usable, found none: .*shorter than"):
        preprocess(recording(trial(1, {"eeg": randoms(3, 10)})), DEFAULT)
