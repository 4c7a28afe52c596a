"""PhysioNet's mental arithmetic: which files, which trials, and that no other file is taken."""

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest

from physiosync.errors import RecordingError
from physiosync.recordings import eegmat
from physiosync.recordings.mne_raw import find_mne, read_mne
from tests.recordings.edf_builder import Signal, noise, write_edf


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that serves it."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _publish(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).write_bytes(b"bytes of " + name.encode())
    sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()} {n}" for n in names]
    (folder / "SHA256SUMS.txt").write_text("\n".join(sums) + "\n")


@pytest.fixture
def without_our_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the people whose checksums are PhysioNet's to tell."""
    monkeypatch.setattr(eegmat, "SHA256", {})


@pytest.mark.usefixtures("without_our_checksums")
def test_what_is_missing_is_fetched_and_checked(
    tmp_path: Path, published: tuple[Path, str]
) -> None:
    folder, url = published
    names = ["Subject00_1.edf", "Subject00_2.edf"]
    _publish(folder, names)
    eegmat.fetch(tmp_path / "mine", 1, url=url)
    for name in names:
        assert (tmp_path / "mine" / name).read_bytes() == (folder / name).read_bytes()
    (folder / names[1]).write_bytes(b"others")
    (tmp_path / "mine" / names[1]).unlink()
    with pytest.raises(RecordingError, match=r"Subject00_2\.edf.*hash"):
        eegmat.fetch(tmp_path / "mine", 1, url=url)
    _publish(folder, names)
    with pytest.raises(RecordingError, match=r"Subject01_1\.edf.*checksum"):
        eegmat.fetch(tmp_path / "mine", 2, url=url)


@pytest.mark.usefixtures("without_our_checksums")
def test_without_a_network_the_file_and_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"SHA256SUMS\.txt.*http://127\.0\.0\.1:9/"):
        eegmat.fetch(tmp_path, 1, url="http://127.0.0.1:9/")


def test_a_file_that_is_there_is_checked_too(tmp_path: Path) -> None:
    for name in eegmat.files_of(0):
        (tmp_path / name).write_bytes(b"pointer")
    with pytest.raises(RecordingError, match=r"Subject00_1\.edf.*SHA-256"):
        eegmat.fetch(tmp_path, 1)


def _recorded(folder: Path, rest_seconds: float) -> None:
    for name, seconds in zip(eegmat.files_of(0), (rest_seconds, 62.0), strict=True):
        signals: list[Signal] = [
            noise(label, seconds) for label in ("EEG Fp1", "EEG T3", "EEG A2-A1", "ECG ECG")
        ]
        write_edf(folder / name, signals)


def test_stretches_and_pieces(tmp_path: Path) -> None:
    _recorded(tmp_path, 170.0)
    eegmat.write_events(tmp_path, 1, tmp_path / "events.csv")
    (source,) = find_mne(tmp_path, events=tmp_path / "events.csv", options=eegmat.READING)
    recording = read_mne(source)
    assert recording.modalities["eeg"].ch_names == ("Fp1", "T7")
    assert recording.modalities["ecg"].ch_names == ("ECG",)
    seconds = {t.stimulus: t.signals["eeg"].shape[1] / 128 for t in recording.trials}
    whole = {"early": 60.0, "middle": 30.0, "late": 60.0, "task": 60.0}
    assert {name: seconds[name] for name in whole} == whole
    pieces = {t.stimulus: t.ratings for t in recording.trials if t.stimulus not in whole}
    assert len(pieces) == 18
    assert pieces["early-0"] == {"placebo": 0.0}
    assert pieces["late-5"] == {"task": 0.0, "placebo": 1.0}
    assert pieces["task-3"] == {"task": 1.0}
    assert all(not t.ratings for t in recording.trials if t.stimulus in whole)
    table = pd.read_csv(tmp_path / "events.csv").set_index("stimulus")
    assert table.loc["late-0", "onset"] == 110.0
    assert table.loc["task-0", "file"] == "Subject00_2.edf"


def test_a_rest_too_short_is_named(tmp_path: Path) -> None:
    _recorded(tmp_path, 140.0)
    with pytest.raises(RecordingError, match=r"(?s)Subject00_1\.edf.*150 s.*140 s"):
        eegmat.write_events(tmp_path, 1, tmp_path / "events.csv")
