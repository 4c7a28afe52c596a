"""`physiosync inspect`: what it says of recordings and shards, and what it draws."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from physiosync.cli import main
from physiosync.errors import RecordingError
from physiosync.inspection import in_words, look_at, read_shard, subjects_in, trial_of
from physiosync.inspection_figures import electrodes, signals, spectra
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Recording
from physiosync.recordings.dreamer import write_dreamer
from physiosync.recordings.mne_raw import find_mne, read_mne
from physiosync.recordings.quality import clipped, constant, swing
from tests.recording_builder import noise
from tests.recordings.dreamer_builder import cohort
from tests.recordings.edf_builder import session, write_edf, write_events


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Subjects a and b; b has no GSR, and its third trial no rating."""
    write_edf(tmp_path / "a.edf", session(seed=0))
    write_edf(tmp_path / "b.edf", session(seed=1)[:5])
    rows = [f"{s}.edf,{s},{2 * k},2,clip-{k},{3 + 2 * k},low" for s in "ab" for k in range(3)]
    rows[-1] = "b.edf,b,4,2,clip-2,,"
    write_events(tmp_path / "events.csv", rows, "file,subject,onset,duration,stimulus,valence,mood")
    return tmp_path


def said(
    *argv: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["physiosync", "inspect", *map(str, argv)])
    main()
    return capsys.readouterr().out.splitlines()


def test_recordings_and_their_shards_are_described(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = find_mne(folder, events=folder / "events.csv")
    prepare(sources, read_mne, folder / "shards", PreprocessingConfig(), workers=1)
    raw = said(folder, "--events", folder / "events.csv", monkeypatch=monkeypatch, capsys=capsys)
    made = said(folder / "shards", "--threshold", 4, monkeypatch=monkeypatch, capsys=capsys)

    assert raw[0] == made[0] == "mne: 2 subjects, 6 trials, 12 s"
    assert raw[3].endswith("2  eeg 4 x 128 Hz uV, gsr 1 x 16 Hz uS, ecg 1 x 256 Hz uV")
    assert made[4].endswith("2  eeg 4 x 128 Hz uV, ecg 1 x 128 Hz uV")
    for lines, threshold in ((raw, 5), (made, 4)):
        assert "no gsr: b (1 subject)" in lines
        high = f"3 of 5 trials (60%) at {threshold} or above"
        assert f"valence: 3 to 7, {high}; 1 unrated" in lines
        assert "mood: classes low 5; 1 unrated" in lines
    assert "b: note: gsr of trial 1 (clip-0): no gsr in b.edf; left out" in made
    shard = folder / "shards" / "a.parquet"
    one = said(shard, "--threshold", 8, monkeypatch=monkeypatch, capsys=capsys)
    assert one[0] == "mne: 1 subject, 3 trials, 6 s"
    assert "valence: 3 to 7, 0 of 3 trials (0%) at 8 or above; 1 subject with one class only" in one


def test_a_page_shows_the_trial_that_was_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / "report.html"
    argv = [folder, "--events", folder / "events.csv", "--subject", "b", "--out", page]
    lines = said(*argv, "--trial", "clip-1", monkeypatch=monkeypatch, capsys=capsys)
    assert lines[0] == "mne: 1 subject, 3 trials, 6 s"
    text = page.read_text(encoding="utf-8")
    for words in ("Signals of b, trial 2 (clip-1)", "Spectra of b", "Without a position: A2-A1"):
        assert words in text
    assert text.count("data:image/png;base64") >= 3
    assert not list(folder.glob(".report*"))
    for more, message in ((("--trial", "clip-9"), "trial"), (("--subject", "c"), "subject")):
        with pytest.raises(SystemExit):
            said(*argv, *more, monkeypatch=monkeypatch, capsys=capsys)
        assert f"{message}: expected " in capsys.readouterr().err


def test_every_known_recording_is_found(folder: Path) -> None:
    write_dreamer(folder / "DREAMER.mat", cohort(2))
    for path, subjects in (
        (folder / "a.edf", ["a"]),
        (folder / "DREAMER.mat", ["s01", "s02"]),
        (folder, ["s01", "s02"]),
    ):
        assert list(subjects_in(path)) == subjects
    whole = subjects_in(folder / "a.edf")["a"]()
    (trial,) = whole.trials
    assert (trial.stimulus, trial.signals["eeg"].shape) == ("recording", (4, 1024))
    (folder / "s07.dat").write_bytes(b"")
    assert list(subjects_in(folder / "s07.dat")) == ["s07"]
    for path in (folder / "nothing", folder.parent / "empty"):
        with pytest.raises(RecordingError, match=r"expected shards, DEAP's \.dat, DREAMER\.mat"):
            subjects_in(path)


def test_a_subject_that_can_not_be_read_does_not_hide_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.edf").write_bytes((folder / "a.edf").read_bytes()[:-5])
    monkeypatch.setattr(
        sys, "argv", ["physiosync", "inspect", str(folder), "--events", str(folder / "events.csv")]
    )
    main()
    captured = capsys.readouterr()
    assert captured.out.startswith("mne: 1 subject, 3 trials")
    assert "a can't be used: " in captured.err
    assert "truncated" in captured.err


def test_odd_channels_are_named_with_their_trials() -> None:
    recording = noise()
    recording = replace(
        recording, modalities={m: replace(c, unit="uV") for m, c in recording.modalities.items()}
    )
    x = [dict(trial.signals) for trial in recording.trials]
    x[0]["eeg"] = 5 * x[0]["eeg"]
    x[0]["eeg"][0] = 3
    x[0]["eeg"][2, 100:120] = 1e4
    x[1]["eeg"] = 0.01 * x[1]["eeg"]
    for k in range(3):
        x[k]["ecg"] = 300 * x[k]["ecg"]
    trials = [replace(t, signals=s) for t, s in zip(recording.trials, x, strict=True)]
    subject = look_at(replace(recording, trials=tuple(trials), left_out=()))
    assert set(subject.remarks) == {
        "eeg channel Fp1 constant in 1 of 3 trials (v1)",
        "eeg channel Cz clipped in 1 of 3 trials (v1)",
        *(
            f"eeg channel {name} nearly flat (less than 1 uV in 2 s) in 1 of 3 trials (v2)"
            for name in ("Fp1", "Fp2", "Cz")
        ),
    }
    assert subject.missing == {"eeg": 0, "gsr": 1, "ecg": 0}
    assert "gsr 1 x 128 Hz uV (not in 1 trial)" in in_words([subject], threshold=5)


def test_measures_of_quality() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (3, 1000)).astype(np.float32)
    x[1] = 2
    x[2] = np.clip(x[2], -1, 1.5)
    x[2, 500:600] = 1.5
    assert constant(x).tolist() == [False, True, False]
    assert constant(np.empty((2, 0), np.float32)).all()
    shares = clipped(x)
    assert shares[:2].tolist() == [0, 0]
    assert 0.1 <= shares[2] < 0.2
    wave = np.sin(2 * np.pi * np.arange(1000) / 100)[None].astype(np.float32)
    wave[0, :100] *= 50
    np.testing.assert_allclose(swing(wave, 100.0), [2.0], atol=1e-3)


def test_pictures_hold_what_the_trial_holds() -> None:
    recording: Recording = noise(lengths=(640,))
    trial = trial_of(recording, "1")
    axes = signals(recording, trial, seconds=2.0).axes
    assert len(axes) == 3
    eeg = axes[0].lines
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["Fp1", "Fp2", "Cz"]
    step = eeg[0].get_ydata().mean() - eeg[1].get_ydata().mean()
    assert step > 0
    x = np.asarray(eeg[1].get_ydata())
    right = trial.signals["eeg"][1, :256]
    np.testing.assert_allclose(x - x.mean(), right - right.mean(), atol=1e-5)
    np.testing.assert_array_equal(axes[1].lines[0].get_ydata(), trial.signals["gsr"][0, :256])
    panels = [axis.get_title() for axis in spectra(recording, trial).axes if axis.get_visible()]
    assert panels == ["eeg", "ecg"]
    _, lost = electrodes(("Fp1", "A2-A1", "cz"))
    assert lost == ["A2-A1"]
    assert electrodes(("E1",))[1] == ["E1"]


def test_a_shard_comes_back_as_a_recording(folder: Path) -> None:
    sources = find_mne(folder, events=folder / "events.csv")
    shards = prepare(sources, read_mne, folder / "shards", PreprocessingConfig(), workers=1)
    recording = read_shard(shards[0])
    assert (recording.subject, len(recording.trials)) == ("a", 3)
    right = read_mne(sources[0])
    for mine, theirs in zip(recording.trials, right.trials, strict=True):
        np.testing.assert_array_equal(mine.signals["eeg"], theirs.signals["eeg"])
        assert dict(mine.ratings) == dict(theirs.ratings)
