"""Synthetic cohorts: the same for a config, in DEAP's form and units, true to their knobs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from physiosync.errors import RecordingError
from physiosync.recordings import synthetic
from physiosync.recordings.deap import write_deap
from physiosync.recordings.synthetic import (
    EEG_NAMES,
    PPS_NAMES,
    CohortConfig,
    inter_subject_correlation,
    oracle_ceiling,
    synthesize,
    synthesize_subject,
    truth,
    write_cohort,
)

SMALL = CohortConfig(n_subjects=4, n_stimuli=10, seconds=30.0)
TINY = CohortConfig(n_subjects=3, n_stimuli=3, seconds=6.0, baseline_seconds=1.0)
GSR = 32 + PPS_NAMES.index("GSR")


@pytest.fixture(scope="module")
def cohort() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Data (subject, stimulus, channel, time) and labels (subject, stimulus, rating)."""
    _, data, labels = zip(*synthesize(SMALL), strict=True)
    return np.stack(data), np.stack(labels)


def stimulus_eeg(config: CohortConfig) -> NDArray[np.float64]:
    eeg = [data[:, :32, config.n_baseline :] for _, data, _ in synthesize(config)]
    return np.stack(eeg)


# ------------------------------------------------------------------------------- determinism


def test_a_subject_is_the_same_whatever_was_made_before() -> None:
    data, labels = synthesize_subject(TINY, 2)
    truth.cache_clear()
    for name, other_data, other_labels in synthesize(TINY):
        if name == "s03":
            np.testing.assert_array_equal(other_data, data)
            np.testing.assert_array_equal(other_labels, labels)


@pytest.mark.parametrize("synchrony", [1.0, 0.5, 0.0])
def test_a_larger_cohort_holds_the_same_subjects(synchrony: float) -> None:
    few = TINY.model_copy(update={"synchrony": synchrony})
    many = few.model_copy(update={"n_subjects": 9})
    np.testing.assert_array_equal(synthesize_subject(few, 1)[0], synthesize_subject(many, 1)[0])


def test_subjects_and_seeds_differ() -> None:
    first = synthesize_subject(TINY, 0)[0]
    assert not np.allclose(first, synthesize_subject(TINY, 1)[0])
    assert not np.allclose(first, synthesize_subject(TINY.model_copy(update={"seed": 1}), 0)[0])


@pytest.mark.parametrize("knob", ["snr", "synchrony", "relevance"])
def test_knobs_change_signals_and_never_ratings(knob: str) -> None:
    data, labels = synthesize_subject(TINY, 0)
    other_data, other_labels = synthesize_subject(TINY.model_copy(update={knob: 0.3}), 0)
    np.testing.assert_array_equal(other_labels, labels)
    assert not np.allclose(other_data[:, :32], data[:, :32])
    assert not np.allclose(other_data[:, 32:], data[:, 32:])


@pytest.mark.parametrize("index", [-1, 3])
def test_a_subject_outside_the_cohort_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=rf"0\.\.2, but got {index}"):
        synthesize_subject(TINY, index)


def test_another_sampling_rate_is_refused() -> None:
    with pytest.raises(ValidationError):
        CohortConfig(sfreq=256.0)


# ---------------------------------------------------------------------------- form and units


def test_form_is_deaps(cohort: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    data, labels = cohort
    assert data.shape == (4, 10, 40, 33 * 128)
    assert data.dtype == labels.dtype == np.float64
    assert labels.shape == (4, 10, 4)
    assert np.isfinite(data).all()
    assert (CohortConfig().n_times, len(EEG_NAMES), len(PPS_NAMES)) == (8064, 32, 8)
    assert [name for name, _, _ in synthesize(TINY)] == ["s01", "s02", "s03"]


def test_eeg_is_average_referenced_and_band_passed(
    cohort: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    eeg = cohort[0][:, :, :32]
    # float32 inside: microvolts to about six digits.
    assert np.abs(eeg.mean(axis=2)).max() < 1e-3
    rms = eeg.std(axis=-1).mean(axis=(1, 2))
    assert ((rms > 4) & (rms < 20)).all(), rms
    power = (np.abs(np.fft.rfft(eeg)) ** 2).mean(axis=(0, 1, 2))
    hertz = np.fft.rfftfreq(eeg.shape[-1], 1 / 128)
    inside = power[(hertz > 5) & (hertz < 40)].mean()
    assert power[hertz < 2].mean() < 0.05 * inside
    assert power[hertz > 55].mean() < 0.05 * inside


def test_periphery_is_in_physical_units(
    cohort: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    periphery = dict(zip(PPS_NAMES, cohort[0][:, :, 32:].transpose(2, 0, 1, 3), strict=True))
    conductance = 1e6 / periphery["GSR"]
    assert conductance.min() >= 0.999
    assert conductance.max() <= 20.001
    assert 25 < periphery["temp"].min() < periphery["temp"].max() < 40
    for name, trace in periphery.items():
        assert trace.std(axis=-1).min() > 0, name


def test_ratings_keep_to_the_scale_and_show_both_classes() -> None:
    config = CohortConfig(seconds=5.0)
    labels = np.stack([synthetic.ratings(config, i)[0] for i in range(8)])
    assert labels.min() >= 1
    assert labels.max() <= 9
    high = (labels[..., :2] >= 5).mean(axis=1)
    assert ((high > 0.15) & (high < 0.85)).all(), high
    assert ((high.mean(axis=0) > 0.4) & (high.mean(axis=0) < 0.6)).all(), high.mean(axis=0)
    # People agree about clips, and only partly.
    agreement = np.corrcoef(labels[:, :, 0])[~np.eye(8, dtype=bool)].mean()
    assert 0.3 < agreement < 0.85


# ------------------------------------------------------------------------------ ground truth


def test_people_synchronise_in_the_range_of_real_recordings() -> None:
    # Single cohorts vary, as differences of phase between few subjects can cancel what they share;
    # the aim is one for their average.
    cohorts = [CohortConfig(n_stimuli=8, seconds=30.0, seed=seed) for seed in range(6)]
    found = [inter_subject_correlation(stimulus_eeg(cohort)) for cohort in cohorts]
    assert 0.01 < np.mean(found) < 0.05, found


def test_nothing_is_shared_without_synchrony() -> None:
    alone = SMALL.model_copy(update={"synchrony": 0.0})
    assert abs(inter_subject_correlation(stimulus_eeg(alone))) < 0.003


def test_correlation_between_subjects_is_that_of_numpy() -> None:
    eeg = np.random.default_rng(0).standard_normal((3, 2, 4, 50))
    eeg += eeg[:1]
    pairs = [
        np.corrcoef(eeg[a, s, c], eeg[b, s, c])[0, 1]
        for a, b in ((0, 1), (0, 2), (1, 2))
        for s in range(2)
        for c in range(4)
    ]
    assert inter_subject_correlation(eeg) == pytest.approx(np.mean(pairs))
    with pytest.raises(ValueError, match="but got 1"):
        inter_subject_correlation(eeg[:1])


def test_the_oracle_reads_ratings_if_and_only_if_the_sources_are_relevant() -> None:
    def mean_oracle(relevance: float) -> float:
        configs = [CohortConfig(seconds=5.0, relevance=relevance, seed=s) for s in range(8)]
        return float(np.mean([list(oracle_ceiling(config).values()) for config in configs]))

    assert mean_oracle(1.0) > 0.75
    # Clips, not trials, are independent: 8 cohorts of 40 leave a standard error of about 0.03.
    assert abs(mean_oracle(0.0) - 0.5) < 0.08


def test_skin_conductance_follows_arousing_events_by_1_to_5_seconds() -> None:
    config = CohortConfig(n_subjects=3, n_stimuli=24)
    arousing = np.maximum(truth(config).latents.events[:, 2] - 0.8, 0)
    for index in range(config.n_subjects):
        data, _ = synthesize_subject(config, index)
        level = np.log(1e6 / data[:, GSR, config.n_baseline :])
        assert 1 <= lag_of_response(arousing, level) <= 5


def test_skin_conductance_follows_no_shared_event_without_synchrony() -> None:
    shared = truth(SMALL).latents.events
    own = synthetic.felt_latents(SMALL.model_copy(update={"synchrony": 0.0}), 0, 1).events
    both = ((shared > 0) & (own > 0)).sum() / (shared > 0).sum()
    assert both < 0.05


def lag_of_response(events: NDArray[np.float32], level: NDArray[np.float64]) -> float:
    """Seconds at which the average response to `events` is steepest above its surroundings."""
    rise = np.diff(level, axis=-1, prepend=level[:, :1])
    spectrum = np.fft.rfft(rise, 2 * level.shape[-1])
    drive = np.fft.rfft(events - events.mean(axis=-1, keepdims=True), 2 * level.shape[-1])
    average = np.fft.irfft((spectrum * drive.conj()).sum(axis=0))[: 12 * 128]
    smooth = np.convolve(average, np.hanning(96), mode="same")
    # The response itself is what its rise adds up to; its peak is what a reader would call its lag.
    return float(np.cumsum(smooth - smooth.mean()).argmax() / 128)


# ----------------------------------------------------------------------------------- writing


def test_write_cohort_is_what_synthesize_gives(tmp_path: Path) -> None:
    seen: list[Path] = []
    paths = write_cohort(TINY, tmp_path / "cohort", on_subject=seen.append)
    assert seen == paths
    assert [path.name for path in paths] == ["s01.dat", "s02.dat", "s03.dat"]
    for path, (_, data, labels) in zip(paths, synthesize(TINY), strict=True):
        write_deap(tmp_path / "expected.dat", data, labels)
        assert path.read_bytes() == (tmp_path / "expected.dat").read_bytes()


def test_write_cohort_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_cohort(TINY, tmp_path)
    whole = paths[1].read_bytes()
    paths[1].unlink()
    made: list[int] = []
    original = synthetic.synthesize_subject

    def recorded(
        config: CohortConfig, index: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        made.append(index)
        return original(config, index)

    monkeypatch.setattr(synthetic, "synthesize_subject", recorded)
    assert write_cohort(TINY, tmp_path) == paths
    assert made == [1]
    assert paths[1].read_bytes() == whole


def test_write_cohort_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: CohortConfig, index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "synthesize_subject", fail)
    with pytest.raises(KeyboardInterrupt):
        write_cohort(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort.json"]


@pytest.mark.parametrize("change", [{"seed": 7}, {"snr": 0.5}, {"n_subjects": 4}])
def test_write_cohort_refuses_another_configs_folder(
    tmp_path: Path, change: dict[str, float]
) -> None:
    write_cohort(TINY, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(RecordingError, match=r"cohort\.json"):
        write_cohort(TINY.model_copy(update=change), tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_write_cohort_refuses_a_folder_of_other_recordings(tmp_path: Path) -> None:
    (tmp_path / "s01.dat").write_bytes(b"real")
    with pytest.raises(RecordingError, match=r"s01\.dat"):
        write_cohort(TINY, tmp_path)
    assert (tmp_path / "s01.dat").read_bytes() == b"real"


def test_the_note_says_that_the_cohort_is_synthetic(tmp_path: Path) -> None:
    write_cohort(TINY, tmp_path)
    note = json.loads((tmp_path / "cohort.json").read_text(encoding="utf-8"))
    assert note["synthetic"] is True
    assert note["seed"] == TINY.seed
