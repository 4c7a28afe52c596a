"""Any recording that MNE opens, with a table of events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np
import pytest

from physiosync.cli import main
from physiosync.errors import RecordingError
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig, preprocess
from physiosync.recordings.channels import clean_name, described, modality_of
from physiosync.recordings.mne_raw import MneOptions, find_mne, read_mne
from physiosync.shards import read_info
from tests.recordings.edf_builder import Signal, held, session, write_edf, write_events

DROPPED = MneOptions(drop=("A2-A1",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subjects, the second with two files."""
    for k, name in enumerate(("a_1.edf", "b_1.edf", "b_2.edf")):
        write_edf(tmp_path / name, session(seed=k))
    write_events(
        tmp_path / "events.csv",
        [
            "b_2.edf,b,1,2,film-1,3,",
            "a_1.edf,a,4.5,3,film-2,9,1",
            "a_1.edf,a,1,2,film-1,2.5,8",
            "b_1.edf,b,0.5,2,film-3,1,2",
        ],
    )
    return tmp_path


def find(folder: Path, options: MneOptions = DROPPED):  # type: ignore[no-untyped-def]
    return find_mne(folder, events=folder / "events.csv", options=options)


def test_samples_units_names_order_and_ratings_come_back(folder: Path) -> None:
    a, b = (read_mne(source) for source in find(folder))

    assert (a.subject, b.subject, a.left_out, b.left_out) == ("a", "b", (), ())
    assert a.modalities["eeg"].ch_names == ("Fp1", "Fp2", "T7")
    assert {m: (c.unit, c.sfreq) for m, c in a.modalities.items()} == {
        "eeg": ("uV", 128.0),
        "gsr": ("uS", 16.0),
        "ecg": ("uV", 256.0),
    }
    assert [(t.stimulus, t.order, dict(t.ratings)) for t in a.trials] == [
        ("film-1", 1, {"valence": 2.5, "arousal": 8.0}),
        ("film-2", 2, {"valence": 9.0, "arousal": 1.0}),
    ]
    assert [(t.stimulus, dict(t.ratings)) for t in b.trials] == [
        ("film-3", {"valence": 1.0, "arousal": 2.0}),
        ("film-1", {"valence": 3.0}),
    ]
    for trial, seed, onset, duration in (
        (a.trials[0], 0, 1, 2),
        (a.trials[1], 0, 4.5, 3),
        (b.trials[0], 1, 0.5, 2),
        (b.trials[1], 2, 1, 2),
    ):
        *eeg, _, ecg, gsr = session(seed=seed)
        for modality, signals, factor in (("eeg", eeg, 1), ("ecg", [ecg], 1e3), ("gsr", [gsr], 1)):
            rate = signals[0].sfreq
            span = slice(round(onset * rate), round((onset + duration) * rate))
            right = np.stack([held(signal)[span] for signal in signals]) * factor
            np.testing.assert_allclose(trial.signals[modality], right, rtol=1e-5, atol=1e-4)


def test_bdf_and_annotations_and_fif_give_the_same(folder: Path) -> None:
    signals = session(seed=0)[:3]
    write_edf(folder / "a.bdf", signals)
    write_edf(folder / "a_c.edf", signals, plus="EDF+C", annotations=True)
    raw = mne.io.read_raw(write_edf(folder / "a_b.edf", signals), verbose="ERROR")
    raw.save(folder / "a_raw.fif", fmt="double", verbose="ERROR")
    for name in ("a.bdf", "a_c.edf", "a_raw.fif"):
        write_events(folder / "events.csv", [f"{name},a,1,2,film-1,1,1"])
        (source,) = find(folder, MneOptions())
        recording = read_mne(source)
        right = np.stack([held(s, 24 if "bdf" in name else 16)[128:384] for s in signals])
        assert recording.modalities["eeg"].ch_names == ("Fp1", "Fp2", "T7")
        np.testing.assert_allclose(
            recording.trials[0].signals["eeg"], right, rtol=1e-5, atol=1e-4, err_msg=name
        )


def test_the_baseline_is_a_span_of_the_table_or_before_the_onset(folder: Path) -> None:
    eeg = held(session(seed=0)[0])
    for options, header, cells, span in (
        (replaced(baseline_seconds=0.5), "", "", slice(64, 128)),
        (replaced(baseline_seconds=1.5), "", "", None),
        (DROPPED, ",baseline_onset,baseline_duration", ",5,2", slice(640, 896)),
        (replaced(baseline_seconds=1), ",baseline_onset,baseline_duration", ",,", slice(128)),
    ):
        header = "file,subject,onset,duration,stimulus,valence" + header
        write_events(folder / "events.csv", ["a_1.edf,a,1,2,film-1,5" + cells], header)
        baseline = read_mne(find(folder, options)[0]).trials[0].baseline
        if span is None:
            assert baseline == {}
        else:
            np.testing.assert_allclose(baseline["eeg"][0], eeg[span], rtol=1e-5, atol=1e-4)


def replaced(**options: object) -> MneOptions:
    return DROPPED.model_copy(update=options)


def test_names_of_classes_become_codes_in_sorted_order(folder: Path) -> None:
    header = "file;subject;onset;duration;stimulus;class;valence;order"
    rows = ["a_1.edf;a;0;2;x;rest;2,5;2", "a_1.edf;a;2;2;y;calm;;1", "b_1.edf;b;0;;x;;1;7"]
    write_events(folder / "events.csv", rows, header)
    sources = find(folder)
    a, b = (read_mne(source) for source in sources)
    assert sources[0].codes == {"class": {"calm": 0, "rest": 1}}
    assert a.provenance["codes"] == {"class": {"calm": 0, "rest": 1}}
    assert [(t.stimulus, t.order, dict(t.ratings)) for t in a.trials] == [
        ("y", 1, {"class": 0.0}),
        ("x", 2, {"class": 1.0, "valence": 2.5}),
    ]
    assert [(t.order, dict(t.ratings)) for t in b.trials] == [(7, {"valence": 1.0})]
    assert b.trials[0].signals["eeg"].shape == (3, 8 * 128)  # no duration: until the file ends
    only = find(folder, replaced(ratings=("valence",)))
    assert [dict(t.ratings) for t in read_mne(only[0]).trials] == [{}, {"valence": 2.5}]


def test_from_500_hz_nothing_is_folded_back(tmp_path: Path) -> None:
    t = np.arange(30 * 500) / 500
    x = 40 * np.sin(2 * np.pi * 10 * t), 40 * np.sin(2 * np.pi * 110 * t)
    signals = [Signal(name, v, sfreq=500) for name, v in zip(("Cz", "Pz"), x, strict=True)]
    write_edf(tmp_path / "a.edf", signals)
    write_events(tmp_path / "events.csv", ["a.edf,a,0,30,film,1,1"])
    recording = preprocess(read_mne(find(tmp_path, MneOptions())[0]), PreprocessingConfig())
    low, high = recording.trials[0].signals["eeg"][:, 128:-128]
    right = 40 * np.sin(2 * np.pi * 10 * np.arange(30 * 128) / 128)[128:-128]
    np.testing.assert_allclose(low, right, atol=0.5)
    assert np.abs(high).max() < 0.5  # 110 Hz would come back as 18 Hz


def test_a_filter_sees_the_whole_file(tmp_path: Path) -> None:
    t = np.arange(60 * 128) / 128
    drift, wave = 100 + 20 * np.sin(2 * np.pi * 0.05 * t), 10 * np.sin(2 * np.pi * 10 * t)
    write_edf(tmp_path / "a.edf", [Signal("Cz", drift + wave)])
    write_events(tmp_path / "events.csv", ["a.edf,a,20,10,film,1,1"])
    (source,) = find(tmp_path, MneOptions(highpass=1.0, lowpass=40.0))
    x = read_mne(source).trials[0].signals["eeg"][0]
    np.testing.assert_allclose(x, wave[20 * 128 : 30 * 128], atol=0.3)
    (other,) = find(tmp_path, MneOptions())
    assert source.fingerprint() != other.fingerprint()


# --- what is missing is told ----------------------------------------------------------------------


def without(label: str) -> Callable[[list[Signal]], list[Signal]]:
    return lambda signals: [signal for signal in signals if signal.label != label]


def flat(label: str, value: float = 0.0) -> Callable[[list[Signal]], list[Signal]]:
    def make(signals: list[Signal]) -> list[Signal]:
        return [replace(s, values=s.values * 0 + value) if s.label == label else s for s in signals]

    return make


def weak(label: str, factor: float) -> Callable[[list[Signal]], list[Signal]]:
    return lambda signals: [
        replace(s, values=s.values * factor) if s.label == label else s for s in signals
    ]


@pytest.mark.parametrize(
    ("damage", "modalities", "sentence"),
    [
        (without("GSR"), ["eeg", "ecg"], "gsr of trial 1 (film): no gsr in a.edf; left out"),
        (
            flat("ECG ECG"),
            ["eeg", "gsr"],
            "ecg of trial 1 (film): every ecg channel is constant; left out",
        ),
        (flat("EEG T3"), ["eeg", "gsr", "ecg"], "channel T7 of trial 1 (film): constant; kept"),
        (
            weak("ECG ECG", 0.02),
            ["eeg", "gsr", "ecg"],
            "channel ECG of trial 1 (film): nearly flat, .* uV in 2 s where 100 are expected; kept",
        ),
        (
            weak("EEG Fp1", 0.002),
            ["eeg", "gsr", "ecg"],
            "channel Fp1 of trial 1 (film): nearly flat, .* uV in 2 s where 1 are expected; kept",
        ),
    ],
)
def test_a_missing_modality_is_absent_and_told(
    tmp_path: Path,
    damage: Callable[[list[Signal]], list[Signal]],
    modalities: list[str],
    sentence: str,
) -> None:
    write_edf(tmp_path / "a.edf", damage(session(seed=0)))
    write_edf(tmp_path / "b.edf", session(seed=1))
    write_events(tmp_path / "events.csv", ["a.edf,a,1,6,film,1,1", "b.edf,b,1,6,film,1,1"])
    a, b = (read_mne(source) for source in find(tmp_path))
    assert list(a.trials[0].signals) == list(a.modalities)
    assert set(a.modalities) == set(modalities)
    assert b.left_out == ()
    (said,) = a.left_out
    start, _, end = sentence.partition(" .* ")
    assert said.startswith(start)
    assert said.endswith(end)


def test_a_trial_without_eeg_is_left_out_and_told(tmp_path: Path) -> None:
    signals = session(4, eeg=("Cz", "Pz"))
    for signal in signals[:2]:
        signal.values[: 2 * 128] = 0
    write_edf(tmp_path / "a.edf", signals)
    write_events(tmp_path / "events.csv", ["a.edf,a,0,2,x,1,1", "a.edf,a,2,2,y,1,1"])
    recording = read_mne(find(tmp_path, MneOptions())[0])
    assert [t.stimulus for t in recording.trials] == ["y"]
    assert recording.left_out == ("trial 1 (x): every eeg channel is constant; left out",)
    write_events(tmp_path / "events.csv", ["a.edf,a,0,2,x,1,1"])
    with pytest.raises(RecordingError, match=r"subject a: expected trials to use, found none"):
        read_mne(find(tmp_path, MneOptions())[0])


def test_a_trial_that_outlasts_its_file_is_cut_or_refused(folder: Path) -> None:
    write_events(folder / "events.csv", ["a_1.edf,a,5,4,film,1,1"])
    recording = read_mne(find(folder)[0])
    assert recording.trials[0].signals["eeg"].shape == (3, 3 * 128)
    assert recording.left_out == ("last 1 s of trial 1 (film): after the end of the recording",)
    for cells in ("5,7", "8,1", "5000,"):
        write_events(folder / "events.csv", [f"a_1.edf,a,{cells},film,1,1"])
        with pytest.raises(RecordingError, match=r"a_1\.edf: trial 1 .*found a recording of 8 s"):
            read_mne(find(folder)[0])


def test_a_recording_shorter_than_a_window_is_said_by_preprocessing(folder: Path) -> None:
    write_events(folder / "events.csv", ["a_1.edf,a,1,0.3,x,1,1", "a_1.edf,a,3,2,y,1,1"])
    recording = preprocess(read_mne(find(folder)[0]), PreprocessingConfig())
    assert [t.stimulus for t in recording.trials] == ["y"]
    assert any("0.3" in said and "shorter than 0.5 s" in said for said in recording.left_out)


# --- channels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw_name", "mne_type", "name", "modality"),
    [
        ("EEG Fp1", "eeg", "Fp1", "eeg"),
        ("EEG FP2-REF", "eeg", "Fp2", "eeg"),
        ("t5", "eeg", "P7", "eeg"),
        ("CZ", "eeg", "Cz", "eeg"),
        ("E17", "eeg", "E17", "eeg"),
        ("EEG A2-A1", "eeg", "A2-A1", "eeg"),
        ("ECG ECG", "eeg", "ECG", "ecg"),
        ("EKG1", "eeg", "EKG1", "ecg"),
        ("EDA", "eeg", "EDA", "gsr"),
        ("GSR1", "misc", "GSR1", "gsr"),
        ("Plet", "eeg", "Plet", "ppg"),
        ("hEOG", "eeg", "hEOG", "eog"),
        ("Temp", "bio", "Temp", "temp"),
        ("X1", "gsr", "X1", "gsr"),
        ("Skin", "temperature", "Skin", "temp"),
        ("X1", "misc", "X1", None),
        ("Status", "stim", "Status", None),
        ("MEG 0111", "grad", "MEG 0111", None),
    ],
)
def test_names_and_types(raw_name: str, mne_type: str, name: str, modality: str | None) -> None:
    assert clean_name(raw_name) == name
    assert modality_of(raw_name, mne_type) == modality


def test_what_the_user_says_of_channels_counts_most(tmp_path: Path) -> None:
    signals = [
        Signal("Cz", np.linspace(-1, 1, 1024), "", -5, 5),
        Signal("X1", np.linspace(10, 20, 1024), "kohm", 0, 100),
        Signal("GSR", np.linspace(-3, 3, 1024), "weird", -5, 5),
        Signal("junk", np.linspace(-3, 3, 1024), "uV", -5, 5),
    ]
    write_edf(tmp_path / "a.edf", signals)
    write_events(tmp_path / "events.csv", ["a.edf,a,0,8,film,1,1"])
    with pytest.raises(RecordingError, match=r"a\.edf: channel Cz: expected eeg in uV, mV or V"):
        read_mne(find(tmp_path, MneOptions())[0])
    table = tmp_path / "channels.tsv"
    table.write_text("Name\tType\tUnit\nCz\t\tmV\nX1\teda\t\nGSR\tresp\t\n", encoding="utf-8")
    options = MneOptions(**described(table, ["X1=gsr", "junk=drop"]))
    recording = read_mne(find(tmp_path, options)[0])
    assert {m: (c.ch_names, c.unit) for m, c in recording.modalities.items()} == {
        "eeg": (("Cz",), "uV"),
        "gsr": (("X1",), "Ohm"),
        "resp": (("GSR",), "weird"),
    }
    signals_read = recording.trials[0].signals
    np.testing.assert_allclose(signals_read["eeg"][0], held(signals[0]) * 1e3, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(signals_read["gsr"][0], held(signals[1]) * 1e3, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(signals_read["resp"][0], held(signals[2]), rtol=1e-5, atol=1e-4)


def test_subjects_with_other_channels_are_refused_or_brought_together(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", session(eeg=("Fz", "Cz", "Pz")))
    write_edf(tmp_path / "b.edf", session(eeg=("Pz", "Oz", "Fz")))
    write_events(tmp_path / "events.csv", ["a.edf,a,0,8,film,1,1", "b.edf,b,0,8,film,1,1"])
    with pytest.raises(
        RecordingError,
        match=r"b\.edf: eeg channels: expected those of a\.edf .*found Cz lacking and Oz more",
    ):
        find(tmp_path, MneOptions())
    a, b = (read_mne(s) for s in find(tmp_path, MneOptions(common_channels=True)))
    assert a.modalities == b.modalities
    assert b.modalities["eeg"].ch_names == ("Fz", "Pz")
    right = np.stack([held(s) for s in (session(eeg=("Pz", "Oz", "Fz"))[k] for k in (2, 0))])
    np.testing.assert_allclose(b.trials[0].signals["eeg"], right, rtol=1e-5, atol=1e-4)
    again = find(tmp_path, MneOptions(drop=("Cz", "Oz")))
    assert read_mne(again[1]).modalities["eeg"].ch_names == ("Fz", "Pz")


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (session(eeg=("T3", "EEG T7")), "channels: expected one of each name .*T3 and EEG T7"),
        (
            [*session(), Signal("GSR2", np.ones(8 * 32), "uS", 0, 2, 32)],
            "gsr: expected one unit and one rate .* GSR2 in uS at 32 Hz",
        ),
        (
            [*session(), Signal("GSR2", np.ones(8 * 16), "Ohm", 0, 2, 16)],
            "gsr: expected one unit and one rate .* GSR2 in Ohm at 16 Hz",
        ),
        ([Signal("Cz", np.ones(1024), "degC", 0, 2)], "channel Cz: expected eeg in uV, mV or V"),
    ],
)
def test_channels_that_can_not_be_told_apart_are_refused(
    tmp_path: Path, signals: list[Signal], message: str
) -> None:
    write_edf(tmp_path / "a.edf", signals)
    write_events(tmp_path / "events.csv", ["a.edf,a,0,8,film,1,1"])
    with pytest.raises(RecordingError, match=rf"a\.edf: {message}"):
        read_mne(find(tmp_path, MneOptions())[0])


def test_a_subjects_files_of_two_rates_are_refused(tmp_path: Path) -> None:
    write_edf(tmp_path / "a.edf", session())
    fast = [replace(s, sfreq=s.sfreq * 2) for s in session()]
    write_edf(tmp_path / "b.edf", fast)
    write_events(tmp_path / "events.csv", ["a.edf,a,0,4,x,1,1", "b.edf,a,0,4,y,1,1"])
    with pytest.raises(RecordingError, match=r"b\.edf: eeg: expected 128 Hz and uV, as in the"):
        read_mne(find(tmp_path)[0])


def test_an_option_that_means_no_channel_is_refused(folder: Path) -> None:
    for options in (MneOptions(drop=("A1",)), replaced(types={"EDA": "gsr"})):
        with pytest.raises(RecordingError, match=r"channel (A1|EDA): expected one of EEG Fp1, EEG"):
            find(folder, options)


# --- files that are none --------------------------------------------------------------------------


def test_not_a_number_is_refused_with_file_and_channel(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(0, 1e-5, (2, 1024))
    x[1, 700] = np.nan
    info = mne.create_info(["Cz", "Pz"], 128.0, "eeg")
    raw = mne.io.RawArray(x, info, verbose="ERROR")
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    write_events(tmp_path / "events.csv", ["a_raw.fif,a,4,4,film,1,1"])
    with pytest.raises(RecordingError, match=r"a_raw\.fif: channel Pz, 5\.46875 s: .*found nan"):
        read_mne(find(tmp_path, MneOptions())[0])


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3848636\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], "bytes by its header, found .*truncated"),
        (lambda raw: raw + b"\0", "bytes by its header, found .*longer"),
        (lambda raw: raw[:700], "expected a header of"),
        (lambda raw: b"", "expected a EDF header, found 0 bytes"),
        (lambda raw: POINTER, "found a git-lfs pointer"),
        (lambda raw: b"/annex/objects/MD5E" + b"-" * 100, "perhaps a pointer to the data"),
        (lambda raw: raw[:236] + b"-1      " + raw[244:], "expected a closed recording"),
        (lambda raw: raw[:244] + b"0       " + raw[252:], "expected a closed recording"),
        (lambda raw: raw[:244] + b"        " + raw[252:], "seconds of a record: .* a number"),
        (lambda raw: raw[:192] + b"EDF+D" + raw[197:], "expected a recording without gaps"),
        (lambda raw: raw.replace(b"-3276.8", b"3276.7 ", 1), "physical range of signal 1"),
        (lambda raw: raw.replace(b"-32768", b"32767 ", 1), "digital range of signal 1"),
        (lambda raw: raw.replace(b"EEG T3 ", b"EEG Fp1", 1), "several of 'EEG Fp1'"),
    ],
)
def test_damaged_files_are_refused_and_the_others_read(
    folder: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = folder / "a_1.edf"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordingError, match=rf"a_1\.edf: .*{message}"):
        prepare(find(folder), read_mne, folder / "shards", PreprocessingConfig(), workers=1)
    assert [p.name for p in (folder / "shards").iterdir()] == ["b.parquet"]


def test_missing_and_foreign_files_are_named(folder: Path) -> None:
    (folder / "b_2.edf").unlink()
    with pytest.raises(RecordingError, match=r"b_2\.edf: expected a recording, found nothing"):
        read_mne(find(folder)[1])
    (folder / "a_1.edf").rename(folder / "a_1.xyz")
    write_events(folder / "events.csv", ["a_1.xyz,a,0,4,x,1,1"])
    with pytest.raises(RecordingError, match=r"a_1\.xyz: expected a recording that MNE reads"):
        read_mne(find(folder, MneOptions())[0])


# --- preparation ----------------------------------------------------------------------------------


def test_rows_options_and_bytes_make_a_shard_anew_and_nothing_else_does(folder: Path) -> None:
    shards = folder / "shards"

    def made(options: MneOptions = DROPPED, workers: int = 1) -> list[str]:
        said: list[str] = []
        prepare(
            find(folder, options),
            read_mne,
            shards,
            PreprocessingConfig(),
            workers=workers,
            on_subject=lambda path, done, total, kept: said.append("" if kept else path.stem),
        )
        return sorted(filter(None, said))

    table = folder / "events.csv"
    assert made(workers=2) == ["a", "b"]
    assert made() == []
    table.write_text(table.read_text().replace("2.5,8", "2.5,7"))
    assert made() == ["a"]
    assert read_info(shards / "a.parquet").trials[0].ratings["arousal"] == 7
    write_edf(folder / "b_2.edf", session(seed=9))
    assert made() == ["b"]
    assert made(replaced(baseline_seconds=0.25)) == ["a", "b"]
    assert made(replaced(baseline_seconds=0.25)) == []
    assert read_info(shards / "a.parquet").provenance["options"]["baseline_seconds"] == 0.25


def test_the_command_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["physiosync", "prepare", "mne", str(folder), str(folder / "shards")]
    argv += ["--events", str(folder / "events.csv"), "--drop", "A2-A1", "--types", "GSR=gsr"]
    monkeypatch.setattr(sys, "argv", [*argv, "--workers", "1", "--dataset", "mine"])
    main()
    assert capsys.readouterr().out.splitlines() == ["a written, 1/2", "b written, 2/2"]
    info = read_info(folder / "shards" / "b.parquet")
    assert (info.dataset, list(info.channels), len(info.trials)) == (
        "mine",
        ["eeg", "gsr", "ecg"],
        2,
    )
    assert info.channels["gsr"].unit == "log10 uS"
    monkeypatch.setattr(sys, "argv", [*argv, "--types", "GSR=sweat"])
    with pytest.raises(SystemExit):
        main()
    assert "expected a channel's type" in capsys.readouterr().err
