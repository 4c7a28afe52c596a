"""The same SYNTHETIC cohort as preprocessed and as original files gives the same shards.

The preprocessed files hold EEG as DEAP's authors left it: 4-45 Hz, the average reference, no eye
movements. So the original files get back what the authors took out: each electrode an offset and a
drift of its own, a signal that all share, and a share of both eye channels. The cohort's own blinks
are switched off, as they are in its EEG already, within 4-45 Hz; what comes from the eyes is then
only what this test adds, and has to be taken out again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import resample as by_spectrum

from physiosync.cli import main
from physiosync.filtering import Band, band_pass
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.deap import read_deap
from physiosync.recordings.deap_bdf import DeapBdfPreprocessing, find_deap_bdf, read_deap_bdf
from physiosync.recordings.synthetic import CohortConfig, synthesize_subject, write_cohort
from physiosync.shards import read_info, read_trials
from tests.recordings.bdf_writer import (
    GENEVA,
    RATE,
    Session,
    made_up,
    rows_of,
    write_ratings,
)

Array = NDArray[np.float64]

N_TRIALS, SECONDS = 4, 6
COHORT = CohortConfig(
    n_subjects=2, n_stimuli=N_TRIALS, seconds=SECONDS, baseline_seconds=3, blink_uv=0
)
#: Participants of either site.
NUMBERS = (1, 24)
#: Seconds between trials, and of mirrored signal at their ends.
GAP = 4


def session_of(number: int, data: Array, videos: list[int]) -> Session:
    """A session that shows `videos`; data: (n_stimuli, 40, n_times) at 128 Hz."""
    rng = np.random.default_rng(number)
    pad = GAP * 128 // 2
    pieces, onsets, at = [], [], 0
    for video in videos:
        # Mirrored at both ends: a session has no steps between trials.
        piece = np.pad(data[video - 1], ((0, 0), (pad, pad)), mode="symmetric")
        onsets.append((at + pad + 3 * 128) * RATE // 128)
        pieces.append(piece)
        at += piece.shape[1]
    whole = np.concatenate(pieces, axis=1)
    whole = np.pad(whole, ((0, 0), (0, -whole.shape[1] % 128)), mode="edge")
    fast = by_spectrum(whole, whole.shape[1] * RATE // 128, axis=1)
    n_times = fast.shape[1]
    t = np.arange(n_times) / RATE
    # Eyes: slow looks to the side, and blinks.
    looks = 60 * np.sin(2 * np.pi * 0.3 * t) + 20 * np.sign(np.sin(2 * np.pi * 0.7 * t))
    blinks = 200 * np.exp(-(((t % 3.3) - 1.5) ** 2) / 0.01)
    eog = np.stack([fast[32] + looks, fast[33] + blinks])
    common = 300 * np.sin(2 * np.pi * 50 * t) + np.cumsum(rng.normal(0, 0.5, n_times))
    values = {}
    for row, name in enumerate(GENEVA):
        drift = rng.uniform(-1e4, 1e4) + rng.uniform(-300, 300) * np.sin(t / 20)
        values[name] = fast[row] + common + drift + rng.uniform(-0.3, 0.5, 2) @ eog
    for k, bipolar in enumerate([*eog, fast[34], fast[35]]):
        beside = rng.normal(500, 5, n_times)
        values[f"EXG{2 * k + 1}"], values[f"EXG{2 * k + 2}"] = bipolar + beside, beside
    values["GSR1"] = fast[36] if number > 22 else 1e9 / fast[36]
    values |= {"Resp": fast[37], "Plet": fast[38], "Temp": fast[39]}
    values |= dict.fromkeys(("GSR2", "Erg1", "Erg2"), np.zeros(n_times))
    scales = {"Resp": ("uV", -8192, 8191), "Plet": ("uV", -8192, 8191)}
    return Session(values, onsets, number, scales=scales)


def test_both_kinds_of_files_give_the_same_shards(tmp_path: Path) -> None:
    as_dat, as_bdf = tmp_path / "dat", tmp_path / "bdf"
    as_bdf.mkdir()
    rows = []
    names = {}
    for index, path in enumerate(write_cohort(COHORT, as_dat)):
        number = NUMBERS[index]
        data, labels = synthesize_subject(COHORT, index)
        mine = rows_of(number, N_TRIALS)
        for row in mine:
            ratings = labels[int(str(row["Experiment_id"])) - 1]
            row |= dict(zip(("Valence", "Arousal", "Dominance", "Liking"), ratings, strict=True))
        rows += mine
        videos = [int(str(row["Experiment_id"])) for row in mine]
        names[path.stem] = session_of(number, data, videos).write(as_bdf).stem
    csv = write_ratings(as_bdf, rows)
    config = DeapBdfPreprocessing(seconds=SECONDS).rated_by(csv)
    shape = (N_TRIALS, 40, COHORT.n_times)
    slow = prepare(
        [as_dat / f"{stem}.dat" for stem in names],
        lambda path: read_deap(path, shape=shape),
        tmp_path / "of-dat",
        PreprocessingConfig(),
        workers=1,
    )
    fast = prepare(
        find_deap_bdf(as_bdf),
        lambda path: read_deap_bdf(path, ratings=csv, config=config, n_trials=N_TRIALS),
        tmp_path / "of-bdf",
        config,
        workers=1,
    )
    for one, other in zip(slow, fast, strict=True):
        of_dat, of_bdf = read_info(one), read_info(other)
        assert names[of_dat.subject] == of_bdf.subject
        assert of_dat.channels == of_bdf.channels
        assert of_bdf.left_out == ()
        assert of_bdf.config["ratings_sha256"] == config.ratings_sha256
        pairs = zip(
            read_trials(one, list(of_dat.channels)),
            read_trials(other, list(of_bdf.channels)),
            strict=True,
        )
        for (trial, right), (its, found) in pairs:
            assert (trial.stimulus, trial.n_times) == (its.stimulus, its.n_times)
            assert its.ratings.pop("familiarity") >= 1
            assert its.ratings == pytest.approx(trial.ratings)
            for modality, x in right.items():
                y = found[modality]
                if modality == "eog":
                    continue  # The session's eyes move more.
                if modality != "eeg":
                    # The cohort's EMG reaches up to 64 Hz, which nothing brings to 128 Hz.
                    x, y = (band_pass(z, 128, Band(high=45)) for z in (x, y))
                for row, name in enumerate(of_dat.channels[modality].ch_names):
                    r = np.corrcoef(x[row], y[row])[0, 1]
                    assert r > 0.99, f"{of_dat.subject} {trial.stimulus} {modality} {name}: {r}"
                assert y.std() == pytest.approx(x.std(), rel=0.05)


def said(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["physiosync", "prepare", "deap-bdf", *argv])
    main()
    return capsys.readouterr().out.splitlines()


def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, shards = tmp_path / "data_original", tmp_path / "shards"
    folder.mkdir()
    for number, n_trials in ((1, 40), (28, 37)):
        made_up(number, n_trials=n_trials, seconds=0.5, gap=0.0).write(folder)
    write_ratings(folder, [*rows_of(1, 40), *rows_of(28, 40)])
    argv = [str(folder), str(shards), "--seconds", "0.5", "--workers", "1"]
    written = ["s01 written, 1/2", "s28 written, 2/2"]
    kept = ["s01 is up to date, 1/2", "s28 is up to date, 2/2"]
    assert said(argv, monkeypatch, capsys) == written
    assert said(argv, monkeypatch, capsys) == kept
    info = read_info(shards / "s28.parquet")
    assert info.left_out == ("trials 23, 24, 25 are not in the recording",)
    assert info.config["band"] == {"low": 4.0, "high": 45.0}
    assert (info.config["reference"], info.config["eyes"]) == ("average", "regress")
    assert info.sfreq == 128
    other = ["--low", "1", "--high", "None", "--reference", "recorded", "--eyes", "keep"]
    assert said([*argv, *other, "--sfreq", "64"], monkeypatch, capsys) == written
    info = read_info(shards / "s28.parquet")
    assert info.config["band"] == {"low": 1.0, "high": None}
    assert (info.config["reference"], info.config["eyes"]) == ("recorded", "keep")
    assert info.sfreq == 64
    # Another table of ratings makes the shards again; found also where --ratings says.
    table = folder / "participant_ratings.csv"
    moved = tmp_path / "other.csv"
    moved.write_text(table.read_text() + "\r\n")
    table.unlink()
    assert said([*argv, "--ratings", str(moved)], monkeypatch, capsys) == written
    for more, code, message in (
        ([], 1, "expected participant_ratings.csv in it"),
        (
            ["--ratings", str(moved), "--strict"],
            1,
            "s28.bdf: left out: expected nothing (--strict)",
        ),
        (["--ratings", str(table)], 1, "expected a table of ratings, found nothing"),
        (["--low", "50"], 2, "low must be below high"),
        (["--high", "64"], 2, "band edges must lie below 64 Hz"),
        (["--sfreq", "100.5"], 2, "sfreq must hold whole samples"),
    ):
        with pytest.raises(SystemExit) as stop:
            said([*argv, *more], monkeypatch, capsys)
        assert stop.value.code == code
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("command", ["deap", "deap-bdf", "dreamer"])
def test_help_names_its_arguments(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["physiosync", "prepare", command, "--help"])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert "RECORDINGS SHARDS" in shown.splitlines()[0]
    assert "--strict" in shown
