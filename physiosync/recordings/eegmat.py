"""PhysioNet's "EEG During Mental Arithmetic Tasks": the files, and what is which in them.

SubjectNN_1.edf is 3 minutes of rest, SubjectNN_2.edf 1 minute of mental arithmetic, for 36 people
from Subject00 on; 19 EEG channels and ECG at 500 Hz. `mne_raw` reads them, with the table that
`write_events` writes.
"""

from __future__ import annotations

from pathlib import Path

import mne
import pandas as pd
import pooch

from physiosync.errors import RecordingError
from physiosync.files import write_text
from physiosync.filtering import Band
from physiosync.recordings.mne_sources import MneOptions

LICENCE = """\
EEG During Mental Arithmetic Tasks 1.0.0, PhysioNet, doi 10.13026/C2JQ1P. I. Zyma, S. Tukaev,
I. Seleznov, K. Kiyono, A. Popov, M. Chernykh, O. Shpenkov: Electroencephalograms during Mental
Arithmetic Task Performance. Data 2019, 4(1), 14. Open Data Commons Attribution License 1.0:
https://opendatacommons.org/licenses/by/1-0/"""
URL = "https://physionet.org/files/eegmat/1.0.0/"
#: Of the first ten people's files. PhysioNet's own list is fetched for the others.
SHA256 = {
    "Subject00_1.edf": "8b23c443f2f5f733f8ccc31a54377898009c28c7563d1107692a8735212d2f15",
    "Subject00_2.edf": "635bbf035777008ff6c23d9c7bfc497d584fc71c56217022946d1fd056527e43",
    "Subject01_1.edf": "9ece09029ed7d6911d96a776eb86905dd00a53c065c8eb9e0fd3c7aefd0f7ac4",
    "Subject01_2.edf": "cbc4a053c2c8ce0e77ff62b4608a2cc2fe584886a6cd2fa0b343cfce3212376f",
    "Subject02_1.edf": "02da547be13c67b310a020d48be83be6a1faad72b26519e8084038aea1aa30f8",
    "Subject02_2.edf": "2ff3c97cbc6be7c4b3e43df85f42621d2837bd860463747557a6c3a558d802ee",
    "Subject03_1.edf": "8f22c7eb40e2d2b2f61dadd874172f395fed9ca83c843e9d92b492ec2b3d4f41",
    "Subject03_2.edf": "d4792fe50ad51d7ad607caeaf3c24f2d19087cb96311c4c2cbdfdd6418f56cf0",
    "Subject04_1.edf": "0c96ec8a36767673772d35c1c8e8328c6a51f18e83b806f5776d02f388c65a73",
    "Subject04_2.edf": "4455d8e910ac8f5a18a5c050e2b544d147b092458cd135c04e3030f2ee63f90f",
    "Subject05_1.edf": "844f7c4c0868f64003f50d02ecd9db3a7e60cd51df66f9ad2a460e279001eaf8",
    "Subject05_2.edf": "651a9f1cbe3e85605ef6a8e3c13c8d8d130e1c41bb8ac23ac3c2fa9ab63665f7",
    "Subject06_1.edf": "cd5697ace53d4a824b7a89846a0a2e2ca40ec7ee661488551d44d6f2a301b5c1",
    "Subject06_2.edf": "206452b3d030ba9f04b43f2747bcd24ecd0466e7abe27676ad054428286cf24d",
    "Subject07_1.edf": "3991d7b4667065de53f80e5b40b69cee5c819f62c7352dca3b06ca5333fd1308",
    "Subject07_2.edf": "f8381e8f22a118f772e316bfb4c87f2a41581d9590a7c58f3b8c95c62a1789f1",
    "Subject08_1.edf": "02acf02d25d333fd9bc38b9b513b9f72072d5bd36b6ffa5a9a5be6f54fd9b853",
    "Subject08_2.edf": "461c2f9c95b5d1128e32bd1272e44b3d5366493f57d88092278b440a7b30d0df",
    "Subject09_1.edf": "68f2c002f30831ead8fc9418a24fe044419f430686beec62ddb46ab2c731036a",
    "Subject09_2.edf": "05d4449075a6e62d61737a939cf142b27f84b60a9bdad788fd87a9fc9737b3b9",
}
#: "A2-A1" lies between the ears; the authors' own high-pass leaves drifts below 1 Hz.
READING = MneOptions(drop=("A2-A1",), band=Band(low=1.0, high=45.0), dataset="eegmat")
#: Of the pieces that are told apart.
PIECE_SECONDS = 10
#: Target -> the stretches whose pieces are its classes 0 and 1.
TARGETS = {"task": ("late", "task"), "placebo": ("early", "late")}
_SUMS = "SHA256SUMS.txt"


def files_of(person: int) -> tuple[str, str]:
    """Names of a person's files: rest, arithmetic."""
    return f"Subject{person:02d}_1.edf", f"Subject{person:02d}_2.edf"


def fetch(folder: Path, people: int, *, url: str = URL) -> None:
    """Have the files of the first people in `folder`: what is missing is fetched and checked.

    The first ten people's files are checked whether they were fetched or not. The others' are
    checked as they are fetched, against the list of checksums that lies beside them at `url`.

    Raises
    ------
    RecordingError
        If a file can't be fetched, or is not the one that was published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for person in range(people) for name in files_of(person)]
    missing = [name for name in names if not (folder / name).exists()]
    known = dict(SHA256)
    if not known.keys() >= set(missing):
        listed = _retrieve(url, _SUMS, None, folder).read_text(encoding="utf-8")
        pairs = (line.split(maxsplit=1) for line in listed.splitlines() if line.strip())
        known = {name.strip(): digest for digest, name in pairs} | known
    for name in missing:
        if name not in known:
            raise RecordingError(folder / _SUMS, name, expected="its checksum", found="none")
        _retrieve(url, name, known[name], folder)
    for name in names:
        if name in SHA256 and (found := pooch.file_hash(str(folder / name))) != SHA256[name]:
            raise RecordingError(folder / name, "SHA-256", expected=SHA256[name], found=found)


def _retrieve(url: str, name: str, digest: str | None, folder: Path) -> Path:
    try:
        return Path(pooch.retrieve(url + name, known_hash=digest, fname=name, path=folder))
    except (OSError, ValueError) as error:
        # No network, no such file; another checksum.
        raise RecordingError(
            folder / name, "", expected=f"the file from {url}", found=str(error)
        ) from error


def write_events(folder: Path, people: int, path: Path) -> None:
    """Write the table of trials: long stretches to pretrain and scale on, and pieces of 10 s.

    Stretches: "early" and "late", the first and the last minute of rest; "middle", what lies
    between, 10 s from either; "task", the first minute of arithmetic. They have no class. Pieces
    ("late-0" ... "task-5") have one of each of `TARGETS` that asks about their stretch.

    Raises
    ------
    RecordingError
        If a rest is too short for two minutes and something between.
    """
    rows: list[dict[str, object]] = []
    for person in range(people):
        rest, task = files_of(person)
        header = mne.io.read_raw_edf(folder / rest, verbose="error")
        seconds = header.n_times / header.info["sfreq"]
        if seconds < 150:
            raise RecordingError(
                folder / rest, "duration", expected="150 s of rest", found=f"{seconds:g} s"
            )
        for name, file, onset, duration in (
            ("early", rest, 0.0, 60.0),
            ("middle", rest, 70.0, seconds - 140),
            ("late", rest, seconds - 60, 60.0),
            ("task", task, 0.0, 60.0),
        ):
            common = {"file": file, "subject": f"p{person:02d}"}
            rows.append(common | {"onset": onset, "duration": duration, "stimulus": name})
            classes = {t: pair.index(name) for t, pair in TARGETS.items() if name in pair}
            rows.extend(
                common
                | {"onset": onset + piece * PIECE_SECONDS, "duration": PIECE_SECONDS}
                | {"stimulus": f"{name}-{piece}"}
                | classes
                for piece in range(60 // PIECE_SECONDS if classes else 0)
            )
    write_text(path, pd.DataFrame(rows).to_csv(index=False))
