"""DEAP's original files: what is read, filtered, left out and refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from physiosync.errors import RecordingError
from physiosync.filtering import Band
from physiosync.recordings.base import Channels, Recording
from physiosync.recordings.deap import EEG_NAMES
from physiosync.recordings.deap_bdf import DeapBdfPreprocessing, find_deap_bdf, read_deap_bdf
from tests.recordings.bdf_writer import (
    EXG,
    GENEVA,
    OTHERS,
    RATE,
    Session,
    bdf,
    made_up,
    rows_of,
    write_ratings,
)

#: Nothing but cutting, so that every sample can be compared.
AS_IT_IS = DeapBdfPreprocessing(
    band=Band(), reference="recorded", eyes="keep", sfreq=RATE, seconds=2
)
FILTERED = DeapBdfPreprocessing(seconds=2)
STEP = 2 * 2**-5  # Of two electrodes, in uV.
N = 2 * RATE


def read(folder: Path, session: Session, config: DeapBdfPreprocessing = AS_IT_IS) -> Recording:
    """Write a session with a table of ratings, and read it."""
    n_trials = len(session.onsets)
    ratings = write_ratings(folder, rows_of(session.number, n_trials))
    return read_deap_bdf(session.write(folder), ratings=ratings, config=config, n_trials=n_trials)


def by_order(recording: Recording) -> list[Any]:
    return sorted(recording.trials, key=lambda trial: trial.order)


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [7, 23, 25])
def test_signals_come_back_within_a_step(tmp_path: Path, number: int) -> None:
    """Of both sites, and with the constant that s24 to s32 have in Status."""
    session = made_up(number)
    recording = read(tmp_path, session)

    values = session.values
    skin = 1e9 / values["GSR1"] if number == 7 else values["GSR1"]
    right = {
        "eeg": np.stack([values[name] for name in EEG_NAMES]),
        "gsr": skin[None],
        "eog": np.stack([values["EXG1"] - values["EXG2"], values["EXG3"] - values["EXG4"]]),
        "emg": np.stack([values["EXG5"] - values["EXG6"], values["EXG7"] - values["EXG8"]]),
        "resp": values["Resp"][None],
        "ppg": values["Plet"][None],
        "temp": values["Temp"][None],
    }
    assert list(recording.modalities) == list(right)
    assert recording.left_out == ()
    for trial, onset in zip(by_order(recording), session.onsets, strict=True):
        assert list(trial.signals) == list(trial.baseline) == list(right)
        for modality, x in right.items():
            tolerance = 2e-4 * skin.max() if modality == "gsr" else STEP
            for found, at in (
                (trial.signals[modality], slice(onset, onset + N)),
                (trial.baseline[modality], slice(onset - 3 * RATE, onset)),
            ):
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, x[:, at], rtol=0, atol=tolerance)


def test_what_is_not_samples_is_as_the_preprocessed_files_have_it(tmp_path: Path) -> None:
    session = made_up(4)
    recording = read(tmp_path, session, FILTERED)
    rows = rows_of(4, 3)
    assert (recording.dataset, recording.subject) == ("deap", "s04")
    assert recording.source == tmp_path / "s04.bdf"
    assert recording.fingerprint == hashlib.sha256(recording.source.read_bytes()).hexdigest()
    assert [t.stimulus for t in recording.trials] == ["video-01", "video-02", "video-03"]
    for trial in recording.trials:
        row = rows[trial.order - 1]
        assert trial.stimulus == f"video-{row['Experiment_id']:02d}"
        assert trial.ratings == {
            name.lower(): float(str(row[name]))
            for name in ("Valence", "Arousal", "Dominance", "Liking", "Familiarity")
        }
        assert {m: x.shape[1] for m, x in trial.signals.items()} == dict.fromkeys(
            recording.modalities, 256
        )
    assert recording.modalities == {
        "eeg": Channels(EEG_NAMES, "uV", 128.0),
        "gsr": Channels(("GSR",), "Ohm", 128.0),
        "eog": Channels(("hEOG", "vEOG"), "uV", 128.0),
        "emg": Channels(("zEMG", "tEMG"), "uV", 128.0),
        "resp": Channels(("Resp",), "a.u.", 128.0),
        "ppg": Channels(("Plet",), "a.u.", 128.0),
        "temp": Channels(("Temp",), "degC", 128.0),
    }


def test_channels_go_by_name(tmp_path: Path) -> None:
    """In any order and case, under older names, and with channels that nobody knows."""
    first = read(tmp_path, made_up(3))
    session = made_up(3)
    names = ["Status", *OTHERS, *EXG[::-1], *GENEVA[::-1]]
    session.values["A1"] = session.values["Cz"]
    session.order = (*names, "A1")
    session.labels = {"Fp1": "FP1", "T7": "T3", "P8": "T6", "Cz": "cZ", "Status": "STATUS"}
    again = read(tmp_path, session)
    for one, other in zip(first.trials, again.trials, strict=True):
        for modality in first.modalities:
            np.testing.assert_array_equal(one.signals[modality], other.signals[modality])


@pytest.mark.parametrize("offset", [0, 0x18FF00, 0xA8FF00, 0x7FFF00])
def test_status_without_a_name_is_the_last_channel(tmp_path: Path, offset: int) -> None:
    """Whatever its upper bits hold, and also where others have no name either."""
    session = made_up(30)
    session.offset = offset
    session.labels = {"Status": "", "Erg1": "", "Erg2": ""}
    recording = read(tmp_path, session)
    assert len(recording.trials) == 3
    x = session.values["F3"][session.onsets[0] : session.onsets[0] + N]
    np.testing.assert_allclose(by_order(recording)[0].signals["eeg"][2], x, atol=STEP)


def test_s28_lacks_three_trials(tmp_path: Path) -> None:
    session = made_up(28, n_trials=37, seconds=0.5, gap=0.0)
    ratings = write_ratings(tmp_path, rows_of(28, 40))
    config = AS_IT_IS.model_copy(update={"seconds": 0.5})
    path = session.write(tmp_path)
    recording = read_deap_bdf(path, ratings=ratings, config=config)
    orders = [trial.order for trial in by_order(recording)]
    assert orders == [k for k in range(1, 41) if k not in (23, 24, 25)]
    assert recording.left_out == ("trials 23, 24, 25 are not in the recording",)
    onset = session.onsets[22]  # The 23rd that is there is trial 26.
    x = session.values["F3"][onset : onset + RATE // 2]
    np.testing.assert_allclose(by_order(recording)[22].signals["eeg"][2], x, atol=STEP)
    # Another subject with 37 onsets could lack any trial.
    (tmp_path / "s27.bdf").write_bytes(path.read_bytes())
    ratings = write_ratings(tmp_path, rows_of(27, 40))
    with pytest.raises(RecordingError, match=r"Status: expected 40 onsets .* found 37"):
        read_deap_bdf(tmp_path / "s27.bdf", ratings=ratings, config=config)


def test_only_numbered_bdf_files_are_found(tmp_path: Path) -> None:
    for name in ("s10.bdf", "S2.BDF", "s1.dat", "notes.bdf", "participant_ratings.csv"):
        (tmp_path / name).touch()
    assert [path.name for path in find_deap_bdf(tmp_path)] == ["S2.BDF", "s10.bdf"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"expected files s01\.bdf, s02\.bdf, \.\.\."):
        find_deap_bdf(tmp_path / "empty")


# --- what is done ---------------------------------------------------------------------------------


def test_the_chain_takes_out_what_is_not_brain(tmp_path: Path) -> None:
    """Offsets, drifts, mains hum that all electrodes share, and blinks; a 10 Hz rhythm stays."""
    session = made_up(3, n_trials=3, seconds=4)
    n_times = len(session.values["Fp1"])
    t = np.arange(n_times) / RATE
    rng = np.random.default_rng(0)
    blinks = 150 * np.exp(-(((t % 2.1) - 1) ** 2) / 0.01)
    brain = {}
    for k, name in enumerate(GENEVA):
        size = np.cos(2 * np.pi * k / 32)  # The average reference of this is zero.
        brain[name] = 10 * size * np.sin(2 * np.pi * 10 * t)
        session.values[name] = (
            brain[name]
            + rng.uniform(-2e4, 2e4)
            + 3000 * t / t[-1]
            + 400 * np.sin(2 * np.pi * 50 * t)
            + size * blinks
        )
    session.values["EXG1"] = rng.normal(0, 1, n_times)
    session.values["EXG2"] = rng.normal(0, 1, n_times)
    session.values["EXG3"] = blinks + 900 + rng.normal(0, 0.2, n_times)
    session.values["EXG4"] = np.full(n_times, 100.0)

    def error(config: DeapBdfPreprocessing) -> float:
        worst = 0.0
        for trial in by_order(read(tmp_path, session, config)):
            begin = round(session.onsets[trial.order - 1] / 4) * 4
            right = np.stack([brain[n][begin : begin + 4 * RATE : 4] for n in GENEVA])
            worst = max(worst, float(np.abs(trial.signals["eeg"] - right).max()))
        return worst

    config = DeapBdfPreprocessing(seconds=4)
    assert error(config) < 1
    assert error(config.model_copy(update={"eyes": "keep"})) > 10
    assert error(config.model_copy(update={"reference": "recorded"})) > 3
    assert error(config.model_copy(update={"band": Band()})) > 1000


@pytest.mark.parametrize("hertz", [1, 70])
def test_resampling_of_a_session(tmp_path: Path, hertz: float) -> None:
    session = made_up(3, n_trials=1, seconds=6)
    session.onsets = [4 * RATE + 2]  # Between two samples of the new rate.
    t = np.arange(len(session.values["Fp1"])) / RATE
    session.values["Resp"] = 1000 * np.sin(2 * np.pi * hertz * t)
    config = AS_IT_IS.model_copy(update={"sfreq": 128.0, "seconds": 6.0})
    x = read(tmp_path, session, config).trials[0].signals["resp"][0].astype(float)
    if hertz == 70:
        assert np.abs(x[64:-64]).max() < 1  # -60 dB
        return
    since_onset = session.onsets[0] / RATE + np.arange(len(x)) / 128
    right, late = (1000 * np.sin(2 * np.pi * (since_onset + d)) for d in (0, 0.5 / 128))
    assert np.abs(x - right).max() <= np.abs(late - right).max() + 1  # Half a sample.
    assert np.ptp(x) == pytest.approx(2000, rel=0.01)


def test_options_are_in_the_identity() -> None:
    base = DeapBdfPreprocessing()
    others: list[dict[str, Any]] = [
        {"band": Band(low=1, high=45)},
        {"band": Band(low=4)},
        {"reference": "recorded"},
        {"eyes": "keep"},
        {"sfreq": 256.0},
        {"seconds": 30.0},
        {"ratings_sha256": "0"},
        {"skin_conductance": "raw"},
    ]
    uids = {DeapBdfPreprocessing(**changed).uid() for changed in others}
    assert len(uids | {base.uid()}) == len(others) + 1
    assert base.identity()["band"] == {"low": 4.0, "high": 45.0}
    for wrong in ({"band": Band(high=64)}, {"sfreq": 1024.0}, {"seconds": 0.1}):
        with pytest.raises(ValueError, match=r"64|512|0\.5"):
            DeapBdfPreprocessing(**wrong)


# --- what is left out -----------------------------------------------------------------------------


def test_gaps_in_skin_conductance(tmp_path: Path) -> None:
    session = made_up(2)
    first, second, third = session.onsets
    conductance = session.values["GSR1"]
    conductance[first + 100 : first + 130] = -5  # 3 % of the trial
    conductance[second : second + 60] = 0  # 6 %
    conductance[third - 200 : third] = 0.4  # 13 % of the baseline, beyond 1e9 Ohm
    recording = read(tmp_path, session)
    one, two, three = by_order(recording)
    right = np.interp([115], [99, 130], conductance[[first + 99, first + 130]])
    np.testing.assert_allclose(one.signals["gsr"][0, 115], 1e9 / right, rtol=1e-3)
    assert one.signals["gsr"].max() < 1e6
    assert "gsr" not in two.signals
    assert "gsr" not in two.baseline
    assert "gsr" in three.signals
    assert "gsr" not in three.baseline
    assert recording.left_out == (
        f"gsr of trial 2 ({two.stimulus}) left out: 5.9% of it are not positive or beyond 1e+09 "
        "Ohm, more than 5%",
    )


@pytest.mark.parametrize(
    ("number", "unit", "said"),
    [
        (2, "nS", ""),
        (2, "uV", ""),
        (23, "Ohm", ""),
        (23, "", ""),
        (2, "Ohm", "GSR1 is in Ohm by the header, and in nS by DEAP's documentation"),
        (23, "nS", "GSR1 is in nS by the header, and in Ohm by DEAP's documentation"),
        (40, "uV", "GSR1 is in 'uV', no unit of skin conductance"),
        (40, "nS", ""),
    ],
)
def test_the_unit_of_skin_conductance(tmp_path: Path, number: int, unit: str, said: str) -> None:
    session = made_up(number)
    session.scales["GSR1"] = (unit, -8388608, 8388607)
    session.values["GSR1"] = np.full(len(session.values["Fp1"]), 5000.0)
    session.values["GSR1"][::2] += 10
    recording = read(tmp_path, session)
    if said:
        assert recording.left_out == (f"gsr left out: {said}",)
        assert "gsr" not in recording.modalities
        return
    right = 2e5 if number == 2 or unit == "nS" else 5000
    assert recording.trials[0].signals["gsr"].mean() == pytest.approx(right, rel=0.01)
    assert recording.modalities["gsr"].unit == "Ohm"


def test_a_temperature_in_an_unknown_unit_is_called_so(tmp_path: Path) -> None:
    for unit, right in (("C", "degC"), ("Deg C", "degC"), ("\xb0C", "degC"), ("uV", "a.u.")):
        session = made_up(2)
        session.scales["Temp"] = (unit, -262.144, 262.143)
        recording = read(tmp_path, session)
        assert recording.modalities["temp"].unit == right
        assert recording.trials[0].signals["temp"].mean() == pytest.approx(30, rel=0.01)


def test_peripherals_without_a_channel_are_left_out(tmp_path: Path) -> None:
    session = made_up(5)
    names = [*GENEVA, *EXG, *OTHERS, "Status"]
    session.order = tuple(n for n in names if n not in ("EXG6", "Plet"))
    session.scales["Temp"] = ("C", 0, 50)
    recording = read(tmp_path, session)
    assert list(recording.modalities) == ["eeg", "gsr", "eog", "resp"]
    assert recording.left_out == (
        "emg left out: no channel EXG6",
        "ppg left out: no channel Plet",
        "temp left out: channel Temp is scaled as 0 to 50 C for -8388608 to 8388607",
    )
    session.order = tuple(n for n in names if n != "EXG2")
    read(tmp_path, session)
    with pytest.raises(RecordingError, match=r"EOG: .*--eyes keep.*found no channel EXG2"):
        read(tmp_path, session, FILTERED)


def test_what_is_constant_is_told_and_does_not_spoil_the_reference(tmp_path: Path) -> None:
    session = made_up(5)
    session.values["O1"][:] = 4000
    session.values["T8"][session.onsets[1] : session.onsets[1] + N] = 77
    for name in ("EXG1", "EXG2", "EXG3", "EXG4"):
        session.values[name][:] = 3
    session.values["Plet"][:] = 1
    recording = read(tmp_path, session, FILTERED)
    videos = ", ".join(trial.stimulus for trial in recording.trials)
    assert sorted(recording.left_out) == [
        "channel O1 kept, constant in 3 of 3 trials",
        "channel T8 kept, constant in 1 of 3 trials",
        f"eog left out where every eog channel is constant, 3 of 3 trials: {videos}",
        "eye movements are left in the EEG: the EOG is constant",
        f"ppg left out where every ppg channel is constant, 3 of 3 trials: {videos}",
    ]
    for trial in recording.trials:
        assert not trial.signals["eeg"][EEG_NAMES.index("O1")].any()
        assert trial.signals["eeg"][EEG_NAMES.index("T8")].any() == (trial.order != 2)


def test_a_trial_without_eeg_is_left_out(tmp_path: Path) -> None:
    session = made_up(5)
    for name in GENEVA:
        session.values[name][session.onsets[1] : session.onsets[1] + N] = 0
    recording = read(tmp_path, session, FILTERED)
    assert sorted(trial.order for trial in recording.trials) == [1, 3]
    assert len(recording.left_out) == 1
    assert "whole trial left out" in recording.left_out[0]
    for name in GENEVA:
        session.values[name][:] = 0
    with pytest.raises(RecordingError, match="expected EEG that varies"):
        read(tmp_path, session, FILTERED)


@pytest.mark.parametrize("factor", [1.0, -1.0, 1e-3])
def test_one_eye_channel_twice_is_one(tmp_path: Path, factor: float) -> None:
    session = made_up(5)
    session.values["EXG3"], session.values["EXG4"] = (
        factor * session.values[name] for name in ("EXG1", "EXG2")
    )
    recording = read(tmp_path, session, FILTERED)
    assert np.abs(recording.trials[0].signals["eeg"]).max() < 1e4


@pytest.mark.parametrize(
    ("seconds_left", "said"),
    [
        (1.5, "trial 3 cut short: the recording ends after 1.5 s"),
        (0.9, "trial 3 left out: the recording ends 0.9"),
        (0.25, "trial 3 left out: the recording ends 0.25 s after its onset"),
    ],
)
def test_an_onset_near_the_end_of_the_file(tmp_path: Path, seconds_left: float, said: str) -> None:
    session = made_up(5)
    end = len(session.values["Fp1"])
    session.onsets[2] = end - round(seconds_left * RATE)
    recording = read(tmp_path, session)
    assert len(recording.left_out) == 1
    assert recording.left_out[0].startswith(said)
    there = [t for t in recording.trials if t.order == 3]
    assert len(there) == ("cut" in said)
    for trial in there:
        x = session.values["F3"][session.onsets[2] :]
        np.testing.assert_allclose(trial.signals["eeg"][2], x, atol=STEP)


def test_an_onset_near_the_begin_of_the_file_has_less_rest(tmp_path: Path) -> None:
    session = made_up(5)
    session.onsets[0] = RATE
    trial = by_order(read(tmp_path, session))[0]
    assert trial.baseline["eeg"].shape == (32, RATE)
    np.testing.assert_allclose(trial.baseline["eeg"][2], session.values["F3"][:RATE], atol=STEP)


def test_trials_without_a_row_or_a_rating(tmp_path: Path) -> None:
    session = made_up(2)
    rows = rows_of(2, 3, familiarity=False)
    rows[2]["Arousal"] = "NaN"
    ratings = write_ratings(tmp_path, [rows[0], rows[2]])
    recording = read_deap_bdf(session.write(tmp_path), ratings=ratings, config=AS_IT_IS, n_trials=3)
    assert [t.order for t in by_order(recording)] == [1, 3]
    assert set(by_order(recording)[0].ratings) == {"valence", "arousal", "dominance", "liking"}
    assert set(by_order(recording)[1].ratings) == {"valence", "dominance", "liking"}
    assert recording.left_out == (
        "trial 2 left out: no row in the table of ratings",
        "arousal not given in trials 3",
    )


# --- what is refused ------------------------------------------------------------------------------


def without(*names: str) -> Callable[[Session], None]:
    def change(session: Session) -> None:
        session.order = tuple(n for n in (*GENEVA, *EXG, *OTHERS, "Status") if n not in names)

    return change


def labelled(**labels: str) -> Callable[[Session], None]:
    return lambda session: session.labels.update(labels)


def scaled(name: str, unit: str, low: float, high: float) -> Callable[[Session], None]:
    return lambda session: session.scales.update({name: (unit, low, high)})


def onsets(*at: int) -> Callable[[Session], None]:
    def change(session: Session) -> None:
        session.onsets = [round(seconds * RATE) for seconds in at]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("Cz", "O2"), r"channels: expected the 32 electrodes of DEAP, found no Cz, O2"),
        (without("Status"), r"channel Status: expected Status, or .*, found Temp last"),
        (labelled(F4="F3"), r"channel F3: expected one, found channels \d+ and \d+"),
        (labelled(F4="T3"), r"channel T7: expected one, found channels \d+ and \d+"),
        (labelled(A1="x", Erg1="BDF Annotations"), r"channel 43: expected a signal's name"),
        (scaled("Cz", "mV", -262144, 262143), r"channel Cz: expected .* uV .*, found .* mV"),
        (scaled("Cz", "uV", -262144, 162143), r"channel Cz: .*found -262144 to 162143 uV"),
        (scaled("Cz", "uV", -26214.4, 26214.3), r"channel Cz: .*found -26214\.4 to 26214\.3 uV"),
        (scaled("Cz", "uV", 262143, -262144), r"channel \d+ \(Cz\), scale: expected rising"),
        (onsets(), r"Status: expected 3 onsets of a video \(code 4\), found 0"),
        (onsets(4, 9), r"Status: expected 3 onsets .*, found 2"),
        (onsets(4, 5, 10), r"Status: expected onsets at least 2 s apart, found 1 s"),
    ],
)  # fmt: skip
def test_other_sessions_are_refused(
    tmp_path: Path, change: Callable[[Session], None], message: str
) -> None:
    session = made_up(5)
    change(session)
    ratings = write_ratings(tmp_path, rows_of(5, 3))
    path = session.write(tmp_path)
    with pytest.raises(RecordingError, match=message) as raised:
        read_deap_bdf(path, ratings=ratings, config=AS_IT_IS, n_trials=3)
    assert str(raised.value).startswith(str(path))


def cut(n: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:n]


def put(at: int, text: bytes) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:at] + text + raw[at + len(text) :]


#: Where fields of the first channel begin, of 48.
LABEL, UNIT, PMIN, PMAX, DMIN, DMAX, N_SAMPLES = (
    256 + 48 * width for width in (0, 96, 104, 112, 120, 128, 216)
)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut(-1), r"data: expected 20 records of 73,728 bytes, found 19 and 73,727 .* truncated"),
        (cut(-73728 * 5), r"data: expected 20 records .*, found 15 and 0 bytes, a truncated file"),
        (cut(256 * 49), r"data: expected 20 records of .*, found 0 and 0 bytes, a truncated file"),
        (cut(5000), r"header: expected 12,544 bytes, found 5,000 bytes, a truncated file"),
        (cut(100), r"header: expected a BioSemi BDF file, .*, found 100 bytes that begin with"),
        (cut(0), r"header: expected a BioSemi BDF file"),
        (lambda _: POINTER, r"found 127 bytes that begin with .*git-lfs pointer to the data"),
        (lambda _: b"\0" * 132, r"found 132 bytes .*, perhaps a pointer to the data"),
        (lambda _: b"<html>" + b"x" * 9000, r"expected a BioSemi BDF file, .*<html>"),
        (lambda raw: raw + b"\0" * 5, r"data: expected 20 records .*, found 20 and 5 bytes"),
        (lambda raw: put(236, b"-1 ")(raw)[:-5], r"data: expected a whole number of records of"),
        (put(0, b"0       "), r"expected a BioSemi BDF file"),
        (put(184, b"12288   "), r"header: expected 256 bytes for the file .* for 48 channels"),
        (put(252, b"47  "), r"header: expected .*, found 12544 bytes for 47 channels"),
        (put(252, b"4x  "), r"number of channels: expected a number, found '4x'"),
        (put(192, b"BDF+C"), r"data format: expected 24BIT, found 'BDF\+C'"),
        (put(236, b"21      "), r"data: expected 21 records .* found 20 and 0 bytes, a truncated"),
        (put(236, b"0       "), r"number of records: expected 1 or more, or -1, found 0"),
        (put(236, b"1_7     "), r"number of records: expected a number, found '1_7'"),
        (put(236, b"1e1     "), r"number of records: expected a number"),
        (put(244, b"2       "), r"sampling rate: expected 512 Hz, found 256 Hz"),
        (put(244, b"0       "), r"record: expected samples in a time above 0 s"),
        (put(244, b"nan     "), r"seconds of a record: expected a number, found 'nan'"),
        (put(PMIN, b"nan     "), r"channel 1 \(Fp1\), physical minimum: expected a number"),
        (put(PMAX, b"inf     "), r"channel 1 \(Fp1\), physical maximum: expected a number"),
        (put(PMAX, b"-262144 "), r"channel 1 \(Fp1\), scale: expected rising"),
        (put(PMAX, b"262,143 "), r"channel 1 \(Fp1\), physical maximum: expected a number"),
        (put(DMIN, b"8388607 "), r"channel 1 \(Fp1\), scale: expected rising"),
        (put(DMAX, b"8388608 "), r"channel 1 \(Fp1\), scale: .*24 bits"),
        (put(DMAX, b"4194303 "), r"channel Fp1: expected -262144 to 262143 uV in 24 bits"),
        (put(UNIT, b"V       "), r"channel Fp1: expected .* uV"),
        (put(LABEL, b"A1  "), r"found no Fp1 among A1 AF3"),
        (put(LABEL, b"A\0"), r"channel 1: expected a signal's name, found 'A\\x001'"),
        (put(N_SAMPLES, b"256     "), r"channel 2 .*, samples in a record: expected 256"),
        (put(N_SAMPLES + 8, b"-512    "), r"channel 2 .*: expected 512, .*, found -512"),
        (put(256 * 49 - 5, b"\xff\xfe\xfd"), r"header: expected one that MNE reads"),
    ],
)  # fmt: skip
def test_other_bytes_are_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    session = made_up(25)
    path = session.write(tmp_path)
    raw = path.read_bytes()
    assert len(raw) == 256 * 49 + 20 * 48 * 3 * RATE
    path.write_bytes(damage(raw))
    ratings = write_ratings(tmp_path, rows_of(25, 3))
    with pytest.raises(RecordingError, match=message) as raised:
        read_deap_bdf(path, ratings=ratings, config=AS_IT_IS, n_trials=3)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize(("records", "told"), [(-1, 0), (3, 1)])
def test_a_header_that_counts_fewer_records_does_not_matter(
    tmp_path: Path, records: int, told: int
) -> None:
    session = made_up(5)
    ratings = write_ratings(tmp_path, rows_of(5, 3))
    path = tmp_path / "s05.bdf"
    path.write_bytes(bdf(session.channels(), records=records))
    recording = read_deap_bdf(path, ratings=ratings, config=AS_IT_IS, n_trials=3)
    assert len(recording.left_out) == told
    assert [t.signals["eeg"].shape for t in recording.trials] == [(32, N)] * 3


def test_another_rate_is_refused(tmp_path: Path) -> None:
    session = made_up(5)
    path = tmp_path / "s05.bdf"
    path.write_bytes(bdf(session.channels(), rate=256))
    ratings = write_ratings(tmp_path, rows_of(5, 3))
    with pytest.raises(RecordingError, match="sampling rate: expected 512 Hz, found 256 Hz"):
        read_deap_bdf(path, ratings=ratings, config=AS_IT_IS, n_trials=3)


def test_a_subject_or_trial_that_does_not_fit_the_table(tmp_path: Path) -> None:
    path = made_up(5).write(tmp_path)
    ratings = write_ratings(tmp_path, rows_of(6, 3))
    with pytest.raises(RecordingError, match=r"ratings\.csv: .*expected rows of participant 5"):
        read_deap_bdf(path, ratings=ratings, config=AS_IT_IS, n_trials=3)
    for column in ("Trial", "Experiment_id"):
        rows = rows_of(5, 3)
        rows[0][column] = 4
        ratings = write_ratings(tmp_path, rows)
        with pytest.raises(RecordingError, match=f"line 2, {column}: expected .* 1 to 3, found"):
            read_deap_bdf(path, ratings=ratings, config=AS_IT_IS, n_trials=3)
    other = path.rename(tmp_path / "person.bdf")
    with pytest.raises(RecordingError, match=r"name: expected s01, s02, \.\.\., found person"):
        read_deap_bdf(other, ratings=ratings, config=AS_IT_IS, n_trials=3)
