"""DREAMER: what is left out and said, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from physiosync.errors import RecordingError
from physiosync.preprocessing import PreprocessingConfig, preprocess
from physiosync.recordings.dreamer import (
    EEG_NAMES,
    find_dreamer,
    read_dreamer,
    write_dreamer,
)
from tests.recordings.dreamer_builder import (
    Array,
    Subject,
    assert_same_signals,
    cohort,
    made_up,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "DREAMER.mat"


# --- what is left out -----------------------------------------------------------------------------


def flat(subject: Subject, name: str, k: int, channels: slice) -> Subject:
    """Constant while the clip runs, although not before."""
    subject[name]["stimuli"][k][:, channels] = 3.25
    return subject


def without_samples(subject: Subject, name: str, k: int) -> Subject:
    subject[name]["stimuli"][k] = np.empty((0, 0))
    return subject


LEFT_OUT: dict[str, tuple[Callable[[Subject], object], dict[str, list[int]], list[str]]] = {
    "an EEG channel": (
        lambda s: [flat(s, "EEG", k, slice(4, 5)) for k in (0, 2)],
        {"eeg": [1, 2, 3], "ecg": [1, 2, 3]},
        ["channel T7 kept where it is constant: film-01, film-03"],
    ),
    "an ECG lead": (
        lambda s: flat(s, "ECG", 1, slice(1, 2)),
        {"eeg": [1, 2, 3], "ecg": [1, 2, 3]},
        ["channel ECG2 kept where it is constant: film-02"],
    ),
    "the ECG of a trial": (
        lambda s: flat(s, "ECG", 1, slice(None)),
        {"eeg": [1, 2, 3], "ecg": [1, 3]},
        ["ecg left out where every ecg channel is constant: film-02"],
    ),
    "the EEG of a trial": (
        lambda s: flat(s, "EEG", 0, slice(None)),
        {"eeg": [2, 3], "ecg": [2, 3]},
        ["whole trial left out where every eeg channel is constant: film-01"],
    ),
    "an empty cell of ECG": (
        lambda s: without_samples(s, "ECG", 2),
        {"eeg": [1, 2, 3], "ecg": [1, 2]},
        ["ecg left out where ecg has less than half of the part: film-03 (0 s)"],
    ),
    "an empty cell of EEG": (
        lambda s: without_samples(s, "EEG", 2),
        {"eeg": [1, 2], "ecg": [1, 2]},
        ["whole trial left out where eeg has less than half of the part: film-03 (0 s)"],
    ),
    "every ECG": (
        lambda s: [flat(s, "ECG", k, slice(None)) for k in range(3)],
        {"eeg": [1, 2, 3]},
        ["ecg left out where every ecg channel is constant: film-01, film-02, film-03"],
    ),
    "no ECG field": (
        lambda s: s.pop("ECG"),
        {"eeg": [1, 2, 3]},
        ["ecg left out, not in the file"],
    ),
    "an ECG that ends early": (
        lambda s: s["ECG"]["stimuli"].__setitem__(1, s["ECG"]["stimuli"][1][: 3 * 256]),
        {"eeg": [1, 2, 3], "ecg": [1, 2, 3]},
        ["part cut short where ecg ends early: film-02 (1 s)"],
    ),
    "an ECG that ends a little early": (
        lambda s: s["ECG"]["stimuli"].__setitem__(1, s["ECG"]["stimuli"][1][:-10]),
        {"eeg": [1, 2, 3], "ecg": [1, 2, 3]},
        [],
    ),
    "a longer ECG": (
        lambda s: s["ECG"]["stimuli"].__setitem__(1, np.tile(s["ECG"]["stimuli"][1], (2, 1))),
        {"eeg": [1, 2, 3], "ecg": [1, 2, 3]},
        [],
    ),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_left_out_is_told(path: Path, case: str) -> None:
    damage, kept, sentences = LEFT_OUT[case]
    subjects = cohort(3)
    write_dreamer(path, subjects)
    whole = read_dreamer(path, "s02", seconds=2)
    damage(subjects[1])
    write_dreamer(path, subjects)

    recording = read_dreamer(path, "s02", seconds=2)

    assert list(recording.left_out) == sentences
    assert list(recording.modalities) == list(kept)
    for modality, orders in kept.items():
        assert [t.order for t in recording.trials if modality in t.signals] == orders
    for trial in recording.trials:
        same = whole.trials[trial.order - 1]
        assert trial.ratings == same.ratings
        assert list(trial.baseline) == list(trial.signals)
        for modality, x in trial.baseline.items():
            np.testing.assert_array_equal(x, same.baseline[modality])
    for name in ("s01", "s03"):
        assert read_dreamer(path, name, seconds=2).left_out == ()
    preprocessed = preprocess(recording, PreprocessingConfig())
    assert all(len({x.shape[1] for x in t.signals.values()}) == 1 for t in preprocessed.trials)


def test_a_clip_that_nobody_has_is_left_out(path: Path) -> None:
    subjects = cohort(2)
    for subject in subjects:
        without_samples(subject, "EEG", 1)
    write_dreamer(path, subjects)
    recording = read_dreamer(path, "s01", seconds=2)
    assert [t.stimulus for t in recording.trials] == ["film-01", "film-03"]
    assert recording.left_out == (
        "whole trial left out where eeg has less than half of the part: film-02 (0 s)",
    )


def test_a_trial_without_a_baseline_has_none(path: Path) -> None:
    subject = made_up(1)
    subject["ECG"]["baseline"][1] = np.empty((0, 0))
    write_dreamer(path, [subject])
    trials = read_dreamer(path, "s01").trials
    assert [list(t.baseline) for t in trials] == [["eeg", "ecg"], ["eeg"], ["eeg", "ecg"]]


# --- what is refused ------------------------------------------------------------------------------


def changed(*keys: str | int, to: Any) -> Callable[[list[Subject]], dict[str, Any]]:
    """Put `to`, or what it makes of the old value, at these keys of the second subject."""

    def change(subjects: list[Subject]) -> dict[str, Any]:
        at: Any = subjects[1]
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = to(at[keys[-1]]) if callable(to) else to
        return {}

    return change


def gone(*keys: str) -> Callable[[list[Subject]], dict[str, Any]]:
    def change(subjects: list[Subject]) -> dict[str, Any]:
        at: Any = subjects[1]
        for key in keys[:-1]:
            at = at[key]
        del at[keys[-1]]
        return {}

    return change


def fields(**given: Any) -> Callable[[list[Subject]], dict[str, Any]]:
    return lambda subjects: given


def with_sample(row: int, column: int, value: float) -> Callable[[Array], Array]:
    def change(x: Array) -> Array:
        x[row, column] = value
        return x

    return change


#: Change, start of the field in the error, part of the message.
REFUSED: dict[str, tuple[Callable[[list[Subject]], dict[str, Any]], str, str]] = {
    "EEG rate": (fields(EEG_SamplingRate=256.0), "EEG_SamplingRate", "expected 128 Hz, found 256"),
    "ECG rate": (fields(ECG_SamplingRate=128.0), "ECG_SamplingRate", "expected 256 Hz, found 128"),
    "no rate": (fields(ECG_SamplingRate=None), "DREAMER", "expected a field ECG_SamplingRate"),
    "NaN rate": (fields(EEG_SamplingRate=np.nan), "EEG_SamplingRate", "128 Hz, found nan"),
    "rate as text": (fields(EEG_SamplingRate="128"), "EEG_Sampling", "real numbers, found text"),
    "rates": (fields(EEG_SamplingRate=np.full((1, 2), 128.0)), "EEG_SamplingRate", "one number"),
    "no Data": (fields(Data=None), "DREAMER", "expected a field Data, found EEG_SamplingRate"),
    "Data numbers": (fields(Data=np.ones((2, 3))), "Data", "cells, found numbers of shape (2, 3)"),
    "electrodes": (
        fields(EEG_Electrodes=np.array([EEG_NAMES[::-1]], dtype=object)),
        "EEG_Electrodes",
        "expected AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4, found AF4 F8",
    ),
    "no electrodes": (fields(EEG_Electrodes=None), "DREAMER", "expected a field EEG_Electrodes"),
    "subjects": (fields(noOfSubjects=23.0), "noOfSubjects", "expected 3 as in Data, found 23"),
    "clips": (fields(noOfVideoSequences=18.0), "s02, ScoreValence", "18 ratings in a column"),
    "half clips": (fields(noOfVideoSequences=2.5), "", "expected subjects and clips, found 3 and"),
    "transposed": (
        changed("EEG", "stimuli", 1, to=np.transpose),
        "s02, EEG.stimuli, film-02",
        "expected shape (samples, 14), found shape (14, 512), the axes in another order",
    ),
    "transposed baseline": (
        changed("ECG", "baseline", 0, to=np.transpose),
        "s02, ECG.baseline, film-01",
        "expected shape (samples, 2), found shape (2, 384), the axes in another order",
    ),
    "16 channels": (
        changed("EEG", "stimuli", 2, to=lambda x: np.hstack([x, x[:, :2]])),
        "s02, EEG.stimuli, film-03",
        "found shape (832, 16)",
    ),
    "one lead": (
        changed("ECG", "stimuli", 2, to=lambda x: x[:, :1]),
        "s02, ECG.stimuli, film-03",
        "expected shape (samples, 2), found shape (1664, 1)",
    ),
    "EEG for ECG": (
        changed("ECG", "stimuli", 0, to=np.ones((640, 14))),
        "s02, ECG.stimuli, film-01",
        "found shape (640, 14)",
    ),
    "two cells": (
        changed("ECG", "stimuli", to=lambda x: x[:2]),
        "s02, ECG.stimuli",
        "expected 3 cells, found 2",
    ),
    "not cells": (
        changed("EEG", "baseline", to=np.ones((3, 14))),
        "s02, EEG.baseline",
        "expected a row or column of cells, found numbers of shape (3, 14)",
    ),
    "text": (
        changed("EEG", "stimuli", 0, to=np.array("none")),
        "s02, EEG.stimuli, film-01",
        "expected real numbers, found text",
    ),
    "complex": (
        changed("ECG", "stimuli", 0, to=lambda x: x + 1j),
        "s02, ECG.stimuli, film-01",
        "found complex numbers of shape (1280, 2)",
    ),
    "no EEG": (gone("EEG"), "s02", "expected a field EEG, found Age, Gender, ECG"),
    "no stimuli": (gone("ECG", "stimuli"), "s02, ECG", "expected a field stimuli, found baseline"),
    "no baseline": (gone("EEG", "baseline"), "s02, EEG", "a field baseline, found stimuli"),
    "no ratings": (gone("ScoreArousal"), "s02", "expected a field ScoreArousal"),
    "EEG is no struct": (changed("EEG", to=np.ones((3, 1))), "s02, EEG", "expected a struct"),
    "NaN": (
        changed("ECG", "stimuli", 1, to=with_sample(700, 1, np.nan)),
        "s02, ECG.stimuli, film-02, channel 1 (ECG2), sample 700",
        "found nan",
    ),
    "Inf": (
        changed("EEG", "stimuli", 0, to=with_sample(639, 3, -np.inf)),
        "s02, EEG.stimuli, film-01, channel 3 (FC5), sample 639",
        "expected a number within 1e+09 uV, found -inf",
    ),
    "NaN before": (
        changed("EEG", "baseline", 2, to=with_sample(0, 13, np.nan)),
        "s02, EEG.baseline, film-03, channel 13 (AF4), sample 0",
        "found nan",
    ),
    "rating 0": (changed("ScoreValence", 1, to=0), "s02, ScoreValence, film-02", "found 0.0"),
    "rating 6": (
        changed("ScoreDominance", 2, to=6),
        "s02, ScoreDominance, film-03",
        "expected a rating from 1 to 5, found 6.0",
    ),
    "rating NaN": (changed("ScoreArousal", 0, to=np.nan), "s02, ScoreArousal, film-01", "nan"),
    "two ratings": (changed("ScoreArousal", to=[1, 2]), "s02, ScoreArousal", "3 ratings in a"),
    "constant": (
        changed("EEG", "stimuli", to=lambda x: [np.ones_like(one) for one in x]),
        "s02, EEG",
        "expected trials to use, found none: whole trial left out where every eeg channel is con",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_content_is_refused(path: Path, case: str) -> None:
    damage, field, message = REFUSED[case]
    subjects = cohort(3)
    write_dreamer(path, subjects, **damage(subjects))
    with pytest.raises(RecordingError) as caught:
        read_dreamer(path, "s02", seconds=2)
    assert caught.value.field.startswith(field)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    if field.startswith("s02") and case != "clips":
        assert len(read_dreamer(path, "s03", seconds=2).trials) == 3


def test_damage_outside_of_what_is_taken_does_no_harm(path: Path) -> None:
    subject = made_up(1)
    subject["EEG"]["stimuli"][0][0] = np.nan
    write_dreamer(path, [subject])
    assert len(read_dreamer(path, "s01", seconds=2).trials) == 3
    with pytest.raises(RecordingError, match=r"film-01, channel 0 \(AF3\), sample 0"):
        read_dreamer(path, "s01", seconds=2, part="first")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found 0 bytes that start with b'', perhaps a pointer"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 452000000\n",
            "found a git-lfs pointer to the data (`git lfs pull` fetches it)",
        ),
        (b"/annex/objects/MD5E" + b"-" * 100, "perhaps a pointer to the data"),
        (b"MATLAB 7.3 MAT-file, Platform" + bytes(2000), "found one of MATLAB 7.3 (HDF5)"),
        (b"<!DOCTYPE html>" * 200, "found 3,000 bytes that start with b'<!DOCTYPE html><'"),
        (b"MATLAB 5.0 MAT-file", "found 19 bytes that start with"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM", "a variable DREAMER, found none of"),
        (b"MATLAB 5.0 MAT-file".ljust(1000), "truncated or damaged"),
        (
            b"MATLAB 5.0 MAT-file".ljust(126) + b"IM" + b"\x0f\0\0\0\x09\0\0\0not zlib!",
            "damaged one",
        ),
    ],
)
def test_other_files_are_refused_by_both(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    for use in (find_dreamer, lambda p: read_dreamer(p, "s01")):
        with pytest.raises(RecordingError) as caught:
            use(path)
        assert str(caught.value).startswith(f"{path}: expected ")
        assert message in str(caught.value)


def test_other_variables_and_missing_files_are_refused(path: Path) -> None:
    savemat(path, {"other": 1.0}, do_compression=True)
    with pytest.raises(
        RecordingError, match="expected a variable DREAMER, found none of that name"
    ):
        find_dreamer(path)
    savemat(path, {"DREAMER": np.ones((2, 2))}, do_compression=True)
    with pytest.raises(RecordingError, match=r"DREAMER: expected a struct, found numbers of shape"):
        find_dreamer(path)
    write_dreamer(path, cohort(1))
    savemat(path, {"DREAMER": loadmat(path)["DREAMER"]}, do_compression=False)
    with pytest.raises(RecordingError, match="expected compressed variables, which have a check"):
        find_dreamer(path)
    path.unlink()
    with pytest.raises(RecordingError, match="expected a file, found nothing"):
        find_dreamer(path)
    with pytest.raises(RecordingError, match="expected a file, found nothing"):
        read_dreamer(path, "s01")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "DREAMER.mat"
    write_dreamer(path, [made_up(1, (1.0,))])
    return path


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_no_truncated_file_is_read(whole: Path, share: float) -> None:
    content = whole.read_bytes()
    path = whole.with_name("truncated.mat")
    path.write_bytes(content[: int(share * len(content))])
    for use in (find_dreamer, lambda p: read_dreamer(p, "s01")):
        # Nothing is behind the header in a file that ends with it.
        with pytest.raises(RecordingError, match=r"truncated|start with|none of"):
            use(path)


@settings(max_examples=100, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), early=st.booleans())
def test_a_flipped_bit_is_refused_or_changes_nothing(
    whole: Path, share: float, bit: int, early: bool
) -> None:
    content = bytearray(whole.read_bytes())
    at = int(share * (300 if early else len(content)))
    content[at] ^= 1 << bit
    path = whole.with_name(f"bit-{bit}-of-byte-{at}.mat")
    path.write_bytes(content)
    try:
        recording = read_dreamer(path, "s01")
    except RecordingError:
        return
    finally:
        path.unlink()
    assert_same_signals(recording, read_dreamer(whole, "s01"))
