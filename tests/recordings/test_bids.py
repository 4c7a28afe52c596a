"""BIDS folders, made by mne-bids itself where that can be."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import mne
import mne_bids
import numpy as np
import pytest

from physiosync.cli import main
from physiosync.errors import RecordingError
from physiosync.recordings.bids import find_recordings
from physiosync.recordings.mne_raw import MneOptions, read_mne
from physiosync.shards import read_info
from tests.recordings.edf_builder import held, session, write_edf


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects of task film, the second with two runs, and a resting recording; EDF."""
    folder = tmp_path_factory.mktemp("bids")
    root = folder / "root"
    runs = [("01", "film", "1"), ("02", "film", "1"), ("02", "film", "2"), ("02", "rest", None)]
    for k, (subject, task, run) in enumerate(runs):
        raw = mne.io.read_raw(write_edf(folder / f"{k}.edf", session(seed=k)[:5]), verbose="ERROR")
        raw.set_channel_types({"ECG ECG": "ecg", "EEG A2-A1": "misc"}, verbose="ERROR")
        raw.info["line_freq"] = 50
        path = mne_bids.BIDSPath(subject=subject, task=task, run=run, datatype="eeg", root=root)
        mne_bids.write_raw_bids(raw, path, overwrite=True, verbose="ERROR")
        if task == "film":
            rows = [
                "onset\tduration\ttrial_type\tstim_file\tvalue\tvalence",
                f"4.0\t3.0\tcalm\tclip-{2 + 2 * k}.mp4\t2\tn/a",
                f"0.5\t2.0\tglad\tclip-{1 + 2 * k}.mp4\t1\t{k + 1.5}",
                "3.0\t0\tpress\tn/a\t7\tn/a",
            ]
            events = path.copy().update(suffix="events", extension=".tsv").fpath
            events.write_text("\n".join(rows) + "\n", encoding="utf-8")
    description = root / "dataset_description.json"
    named = json.loads(description.read_text()) | {"Name": "films"}
    description.write_text(json.dumps(named))
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "root"))


def test_subjects_trials_labels_channels_and_samples(root: Path) -> None:
    one, two = (read_mne(source) for source in find_recordings(root))

    assert (one.subject, two.subject, one.dataset) == ("sub-01", "sub-02", "films")
    assert one.modalities["eeg"].ch_names == ("Fp1", "Fp2", "T7")
    assert {m: (c.unit, c.sfreq) for m, c in one.modalities.items()} == {
        "eeg": ("uV", 128.0),
        "ecg": ("uV", 256.0),
    }
    assert one.provenance["codes"] == {"trial_type": {"calm": 0, "glad": 1}}
    assert [(t.stimulus, t.order, dict(t.ratings)) for t in one.trials] == [
        ("clip-1.mp4", 1, {"trial_type": 1.0, "valence": 1.5}),
        ("clip-2.mp4", 2, {"trial_type": 0.0}),
    ]
    assert [t.stimulus for t in two.trials] == [f"clip-{k}.mp4" for k in (3, 4, 5, 6)]
    for recording, trial, seed, span in (
        (one, 0, 0, (0.5, 2.5)),
        (two, 1, 1, (4, 7)),
        (two, 2, 2, (0.5, 2.5)),
    ):
        *eeg, _, ecg = session(seed=seed)[:5]
        signals = recording.trials[trial].signals
        for modality, group, factor in (("eeg", eeg, 1), ("ecg", [ecg], 1e3)):
            cut = slice(*(round(s * group[0].sfreq) for s in span))
            right = np.stack([held(signal)[cut] for signal in group]) * factor
            np.testing.assert_allclose(signals[modality], right, rtol=1e-5, atol=1e-4)


def test_what_is_skipped_is_told(root: Path) -> None:
    one, two = (read_mne(source).left_out for source in find_recordings(root))
    assert one == (
        "sub-01/eeg/sub-01_task-film_run-1_eeg.edf: 1 events without a duration; left out",
    )
    assert any("task-rest_eeg.edf: no events.tsv; left out" in said for said in two)
    (both,) = [s for s in find_recordings(root, task="film") if s.subject == "sub-02"]
    assert not any("rest" in said for said in read_mne(both).left_out)


def test_the_users_word_on_channels_and_stimuli_counts_most(root: Path) -> None:
    shutil.rmtree(root / "sub-02")
    options = MneOptions(types={"Fp1": "eog"}, ratings=("valence",))
    source = find_recordings(root, options=options, stimulus="value")[0]
    recording = read_mne(source)
    assert recording.modalities["eog"].ch_names == ("Fp1",)
    assert [(t.stimulus, dict(t.ratings)) for t in recording.trials] == [
        ("1", {"valence": 1.5}),
        ("2", {}),
    ]


def test_bad_folders_are_refused(root: Path) -> None:
    with pytest.raises(RecordingError, match=r"task nap: expected EEG with an events\.tsv"):
        find_recordings(root, task="nap")
    with pytest.raises(RecordingError, match=r"expected columns arousal, found"):
        find_recordings(root, options=MneOptions(ratings=("arousal",)))
    with pytest.raises(RecordingError, match=r"sub-02, stimulus 2: expected one trial of each"):
        find_recordings(root, stimulus="value")  # both runs of a subject have the same values
    (table,) = root.glob("sub-01/eeg/*_events.tsv")
    text = table.read_text()
    table.write_text(text.replace("0.5\t", "-0.5\t"))
    with pytest.raises(RecordingError, match=r"run-1_events\.tsv: line 3, column onset: .*'-0\.5'"):
        find_recordings(root)
    table.write_text(text.replace("stim_file", "what").replace("trial_type", "why"))
    with pytest.raises(RecordingError, match=r"header: expected onset, duration and a stimulus"):
        find_recordings(root)
    (root / "dataset_description.json").write_text("{")
    with pytest.raises(RecordingError, match=r"dataset_description\.json: expected JSON of BIDS"):
        find_recordings(root)
    (root / "dataset_description.json").unlink()
    with pytest.raises(RecordingError, match=r"expected --events TABLE, or a BIDS folder"):
        find_recordings(root)


def test_the_same_command_prepares_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = root.parent / "shards"
    argv = ["physiosync", "prepare", "mne", str(root), str(shards), "--task", "film"]
    for word in ("written", "is up to date"):
        monkeypatch.setattr(sys, "argv", [*argv, "--workers", "1"])
        main()
        said = capsys.readouterr().out.splitlines()
        assert said == [f"sub-01 {word}, 1/2", f"sub-02 {word}, 2/2"]
    info = read_info(shards / "sub-02.parquet")
    assert (info.dataset, len(info.trials), list(info.channels)) == ("films", 4, ["eeg", "ecg"])
    (table,) = root.glob("sub-01/eeg/*_events.tsv")
    table.write_text(table.read_text().replace("1.5", "2.5"))
    main()
    assert capsys.readouterr().out.splitlines()[-1] == "sub-01 written, 2/2"
