"""DREAMER: what is read, which seconds of a clip, from a file like the original."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from physiosync.errors import RecordingError
from physiosync.preprocessing import PreprocessingConfig, preprocess
from physiosync.recordings.base import Channels
from physiosync.recordings.dreamer import (
    EEG_NAMES,
    find_dreamer,
    read_dreamer,
    write_dreamer,
)
from tests.recordings.dreamer_builder import (
    CLIPS,
    N_CHANS,
    RATES,
    SCORES,
    Array,
    assert_same_signals,
    cohort,
    made_up,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "DREAMER.mat"


# --- what is read ---------------------------------------------------------------------------------


def test_every_trial_is_its_own(path: Path) -> None:
    subjects = cohort()
    write_dreamer(path, subjects)
    for (file, name), subject in zip(find_dreamer(path), subjects, strict=True):
        recording = read_dreamer(file, name, seconds=2)

        assert (recording.dataset, recording.subject, recording.source) == ("dreamer", name, path)
        assert recording.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
        assert recording.left_out == ()
        assert recording.modalities == {
            "eeg": Channels(EEG_NAMES, "uV", 128.0),
            "ecg": Channels(("ECG1", "ECG2"), "a.u.", 256.0),
        }
        assert [t.stimulus for t in recording.trials] == ["film-01", "film-02", "film-03"]
        for k, trial in enumerate(recording.trials):
            assert trial.order == k + 1
            given_ratings = [subject[score][k] for score in SCORES]
            assert list(trial.ratings.items()) == list(
                zip(("valence", "arousal", "dominance"), given_ratings, strict=True)
            )
            for modality, rate in (("eeg", 128), ("ecg", 256)):
                arrays = subject[modality.upper()]
                for found, right in (
                    (trial.signals[modality], arrays["stimuli"][k][-2 * rate :]),
                    (trial.baseline[modality], arrays["baseline"][k]),
                ):
                    assert found.dtype == np.float32
                    assert found.flags.c_contiguous
                    np.testing.assert_array_equal(found, right.T.astype(np.float32))


def test_the_electrodes_are_those_of_the_headset() -> None:
    assert " ".join(EEG_NAMES) == "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4"


@pytest.mark.parametrize(
    ("part", "seconds", "begin", "n_times"),
    [
        ("last", 4, (1.0, 0.0, 2.5), (4.0, 4.0, 4.0)),
        ("first", 4, (0.0, 0.0, 0.0), (4.0, 4.0, 4.0)),
        ("last", 0.5, (4.5, 3.5, 6.0), (0.5, 0.5, 0.5)),
        ("last", 5, (0.0, 0.0, 1.5), (5.0, 4.0, 5.0)),
        ("first", 60, (0.0, 0.0, 0.0), CLIPS),
    ],
)
def test_the_part_is_the_same_seconds_of_the_clip_in_both_modalities(
    path: Path,
    part: Any,
    seconds: float,
    begin: tuple[float, ...],
    n_times: tuple[float, ...],
) -> None:
    subjects = cohort(2)
    for subject in subjects:  # Every sample is its own time.
        for name, rate in RATES.items():
            for x in subject[name]["stimuli"]:
                x[:] = np.arange(len(x))[:, None] / rate
    write_dreamer(path, subjects)

    recording = read_dreamer(path, "s02", seconds=seconds, part=part)

    for trial, first, lasting in zip(recording.trials, begin, n_times, strict=True):
        for modality, rate in (("eeg", 128), ("ecg", 256)):
            times = first + np.arange(round(lasting * rate)) / rate
            np.testing.assert_array_equal(trial.signals[modality][1], times.astype(np.float32))
    whole = [f"film-0{k + 1} ({s:g} s)" for k, s in enumerate(CLIPS) if s < seconds]
    sentence = f"clips shorter than {seconds:g} s, taken whole: {', '.join(whole)}"
    assert recording.left_out == ((sentence,) if whole else ())


def test_a_recording_that_ended_early_gives_the_same_seconds_as_the_others(path: Path) -> None:
    subjects = cohort(3)
    for subject in subjects:
        for name, rate in RATES.items():
            for x in subject[name]["stimuli"]:
                x[:] = np.arange(len(x))[:, None] / rate
    for name, rate in RATES.items():
        stimuli = subjects[1][name]["stimuli"]
        stimuli[0] = stimuli[0][: round(4.5 * rate)]  # of the last 4 s, which begin after 1
        stimuli[2] = stimuli[2][: 4 * rate]  # begin after 2.5
    write_dreamer(path, subjects)

    recording = read_dreamer(path, "s02", seconds=4)

    assert [t.stimulus for t in recording.trials] == ["film-01", "film-02"]
    assert recording.trials[0].signals["eeg"][0, [0, -1]] == pytest.approx([1, 4.5 - 1 / 128])
    assert recording.trials[0].signals["ecg"][0, [0, -1]] == pytest.approx([1, 4.5 - 1 / 256])
    assert recording.left_out == (
        "part cut short where eeg ends early: film-01 (3.5 s)",
        "part cut short where ecg ends early: film-01 (3.5 s)",
        "whole trial left out where eeg has less than half of the part: film-03 (1.5 s)",
    )
    assert read_dreamer(path, "s03", seconds=4).left_out == ()


def test_a_recording_that_went_on_does_not_move_the_end_of_the_clip(path: Path) -> None:
    subjects = cohort(3)
    stimuli = subjects[1]["EEG"]["stimuli"]
    right = stimuli[0][-256:].T.astype(np.float32)
    stimuli[0] = np.vstack([stimuli[0], stimuli[0]])
    write_dreamer(path, subjects)
    recording = read_dreamer(path, "s02", seconds=2)
    np.testing.assert_array_equal(recording.trials[0].signals["eeg"], right)
    assert read_dreamer(path, "s01", seconds=2).left_out == ()


def test_the_dtypes_that_matlab_shrinks_numbers_to_are_read(path: Path) -> None:
    subject = made_up(1)
    for part, dtype in (("stimuli", np.uint16), ("baseline", np.int16)):
        subject["ECG"][part] = [x.astype(dtype) for x in subject["ECG"][part]]
    write_dreamer(
        path,
        [subject | {"ScoreArousal": np.array([[1], [5], [3]], dtype=np.uint8)}],
        noOfSubjects=np.uint8(1),
    )
    assert loadmat(path)["DREAMER"][0, 0]["Data"][0, 0]["ECG"][0, 0]["stimuli"][0, 0][
        0, 0
    ].dtype == np.dtype("u2")
    recording = read_dreamer(path, "s01")
    assert [t.ratings["arousal"] for t in recording.trials] == [1, 5, 3]
    right = subject["ECG"]["stimuli"][1].T.astype(np.float32)
    np.testing.assert_array_equal(recording.trials[1].signals["ecg"], right)


def test_one_parsing_serves_all_subjects_and_no_longer_than_the_file_is_the_same(
    path: Path,
) -> None:
    write_dreamer(path, cohort(2))
    before = path.stat()
    first = read_dreamer(path, "s01")
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_dreamer(path, "s02").subject == "s02"  # from memory

    write_dreamer(path, cohort(2)[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    now_second = read_dreamer(path, "s02")
    again = read_dreamer(path, "s02")
    for recording in (now_second, again):
        assert_same_signals(recording, first)


def test_memory_is_given_back_with_every_subject(path: Path) -> None:
    write_dreamer(path, cohort(8))
    held = []
    tracemalloc.start()
    for source in find_dreamer(path):
        read_dreamer(*source)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held == sorted(held, reverse=True)
    assert held[-1] < held[0] / 5


# --- the ECG is the ECG ---------------------------------------------------------------------------


def sine(hertz: float, seconds: float, rate: int, n_chans: int) -> Array:
    times = np.arange(round(seconds * rate)) / rate
    return np.repeat(np.sin(2 * np.pi * hertz * times)[:, None], n_chans, axis=1)


def amplitude(x: NDArray[np.float32], hertz: float) -> float:
    """Of one frequency in (n_times,) at 128 Hz."""
    times = np.arange(len(x)) / 128
    return float(2 * np.abs(np.mean(x * np.exp(-2j * np.pi * hertz * times))))


def test_a_sine_in_the_ecg_keeps_its_frequency_and_what_128_hz_cannot_hold_goes(path: Path) -> None:
    subject = made_up(1, (20.0,))
    ecg = 300 * sine(17, 20, 256, 2) + 100 * sine(100, 20, 256, 2)  # 100 Hz would become 28 Hz
    subject["ECG"]["stimuli"] = [ecg + 2000]
    subject["EEG"]["stimuli"] = [sine(10, 20, 128, 14) * np.arange(1, 15)]
    write_dreamer(path, [subject])

    trial = preprocess(read_dreamer(path, "s01", seconds=10), PreprocessingConfig()).trials[0]

    assert trial.signals["ecg"].shape == (2, 1280)
    assert trial.signals["eeg"].shape == (14, 1280)
    for lead in trial.signals["ecg"]:
        # Ten seconds hold whole periods; the ends belong to the filter.
        assert amplitude(lead[128:-128], 17) == pytest.approx(300, rel=0.01)
        assert amplitude(lead[128:-128], 28) < 1
        assert amplitude(lead[128:-128], 10) < 1
        assert lead.mean() == pytest.approx(2000, abs=1)
    for weight, channel in enumerate(trial.signals["eeg"], 1):
        assert amplitude(channel, 10) == pytest.approx(weight, rel=1e-3)


def test_the_template_that_is_subtracted_is_that_of_the_trial(path: Path) -> None:
    subject = made_up(1)
    for name, rate in RATES.items():
        for k in range(len(CLIPS)):
            subject[name]["baseline"][k] = np.full((3 * rate, N_CHANS[name]), 100.0 * (k + 1))
            subject[name]["stimuli"][k] = sine(8, CLIPS[k], rate, N_CHANS[name]) + 100.0 * (k + 1)
    write_dreamer(path, [subject])
    config = PreprocessingConfig.paper()
    for trial in preprocess(read_dreamer(path, "s01", seconds=3), config).trials:
        for x in trial.signals.values():
            assert np.abs(x.mean()) < 0.05


# --- how it is written ----------------------------------------------------------------------------


def test_the_nesting_is_that_of_the_original(path: Path) -> None:
    """As programs for the original index it, with `squeeze_me` and without."""
    subjects = cohort(2)
    write_dreamer(path, subjects)

    root = loadmat(path)["DREAMER"]

    assert root.shape == (1, 1)
    assert root.dtype.names == (
        "Data", "EEG_SamplingRate", "ECG_SamplingRate", "EEG_Electrodes", "noOfSubjects",
        "noOfVideoSequences", "Disclaimer", "Provider", "Version", "Acknowledgement",
    )  # fmt: skip
    root = root[0, 0]
    assert (root["EEG_SamplingRate"], root["ECG_SamplingRate"]) == ([[128]], [[256]])
    assert [x[0] for x in root["EEG_Electrodes"][0]] == list(EEG_NAMES)
    assert root["Data"].shape == (1, 2)
    second = root["Data"][0, 1]
    assert second.shape == (1, 1)
    assert second.dtype.names == ("Age", "Gender", "EEG", "ECG", *SCORES)
    for name in RATES:
        for part in ("baseline", "stimuli"):
            x = second[name][0, 0][part][0, 0]
            assert x.shape == (3, 1)
            np.testing.assert_array_equal(x[2, 0], subjects[1][name][part][2])
    assert second["ScoreValence"][0, 0].shape == (3, 1)
    assert second["ScoreValence"][0, 0][:, 0].tolist() == subjects[1]["ScoreValence"]

    squeezed = loadmat(path, squeeze_me=True, struct_as_record=False)["DREAMER"]
    x = squeezed.Data[0].ECG.stimuli[1]
    np.testing.assert_array_equal(x, subjects[0]["ECG"]["stimuli"][1])


# --- which subjects there are ---------------------------------------------------------------------


def test_subjects_are_found_by_file_and_by_folder_without_reading_samples(path: Path) -> None:
    write_dreamer(path, [made_up(n, (1.0,)) for n in range(12)])
    found = [(path, f"s{number:02d}") for number in range(1, 13)]
    assert find_dreamer(path) == found
    (path.parent / "notes.txt").touch()
    assert find_dreamer(path.parent) == found
    content = path.read_bytes()
    path.write_bytes(content[:20_000] + bytes(len(content) - 20_000))
    assert find_dreamer(path) == found


@pytest.mark.parametrize("order", [1, -1])
def test_the_fields_may_come_in_another_order(path: Path, order: int) -> None:
    write_dreamer(path, cohort(3))
    right = read_dreamer(path, "s03")
    root = loadmat(path)["DREAMER"][0, 0]
    fields = {name: root[name] for name in root.dtype.names[::order]}
    savemat(path, {"DREAMER": fields}, do_compression=True)
    assert [name for _, name in find_dreamer(path)] == ["s01", "s02", "s03"]
    assert_same_signals(read_dreamer(path, "s03"), right)


@pytest.mark.parametrize(
    ("names", "found"),
    [([], "no files"), (["s01.dat", "a", "b", "c"], r"4 other files \(a, b, c\)")],
)
def test_a_folder_without_the_file_says_what_it_has(
    tmp_path: Path, names: list[str], found: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(RecordingError, match=f"expected DREAMER.mat in it, found {found}"):
        find_dreamer(tmp_path)


def test_another_subject_and_impossible_parts_are_refused(path: Path) -> None:
    write_dreamer(path, cohort(2))
    for name in ("s03", "S01", "s1", ""):
        with pytest.raises(RecordingError, match=f"subject: expected s01 to s02, found '{name}'"):
            read_dreamer(path, name)
    with pytest.raises(ValueError, match=r"but got 0\.4"):
        read_dreamer(path, "s01", seconds=0.4)
    with pytest.raises(ValueError, match="but got nan"):
        read_dreamer(path, "s01", seconds=float("nan"))
    with pytest.raises(ValueError, match="'middle'"):
        read_dreamer(path, "s01", part="middle")  # type: ignore[arg-type]
