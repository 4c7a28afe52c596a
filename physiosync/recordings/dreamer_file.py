"""What lies where in `DREAMER.mat`: parsing it once a process, checking its arrays, writing one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from physiosync.errors import RecordingError
from physiosync.files import atomic_path, sha256
from physiosync.recordings.base import Channels
from physiosync.recordings.mat5 import cells, is_line, load_struct, member, n_cells, numbers, what

Floats: TypeAlias = NDArray[np.float32]

# fmt: off
EEG_NAMES: tuple[str, ...] = (
    "AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4",
)
# fmt: on
CHANNELS: Mapping[str, Channels] = {
    "eeg": Channels(EEG_NAMES, "uV", 128.0),
    "ecg": Channels(("ECG1", "ECG2"), "a.u.", 256.0),
}
#: Rating -> field of a subject.
RATINGS = {"valence": "ScoreValence", "arousal": "ScoreArousal", "dominance": "ScoreDominance"}
#: Neither device gives more, in any unit.
_MAX_MAGNITUDE = 1e9


@dataclass(frozen=True, eq=False)
class Dataset:
    """A parsed file.

    Parameters
    ----------
    fingerprint : SHA-256 of the file's bytes
    subjects : "s01", "s02", ..., by the cells of `Data`
    n_times : samples of EEG in each clip, for most subjects
    left : subject -> its struct; those that were taken are gone
    """

    fingerprint: str
    subjects: tuple[str, ...]
    n_times: tuple[int, ...]
    left: dict[str, Any]


def subjects_of(path: Path) -> tuple[str, ...]:
    """Names of the subjects, without parsing a whole file."""
    n_subjects = n_cells(path, "DREAMER", "Data")
    return _names(n_subjects) if n_subjects else _parsed(path).subjects


def take(path: Path, subject: str) -> tuple[Dataset, Any]:
    """The parsed file, and the struct of a subject, which is no longer in it afterwards.

    450 MB of file are one compressed struct of 2 GB that can't be read in parts. So it is parsed
    once a process and its subjects are taken out one by one: what is left in memory shrinks, and
    nothing is held after the last. Taking a subject again parses again.
    """
    dataset = _parsed(path)
    if subject not in dataset.subjects:
        expected = f"{dataset.subjects[0]} to {dataset.subjects[-1]}"
        raise RecordingError(path, "subject", expected=expected, found=ascii(subject))
    if subject not in dataset.left:
        del dataset  # Two of them need not fit into memory.
        _parse.cache_clear()
        dataset = _parsed(path)
    return dataset, dataset.left.pop(subject)


def ratings_of(fields: Any, path: Path, subject: str, n_clips: int) -> dict[str, list[float]]:
    """Rating -> its value for each clip; 1..5."""
    ratings = {}
    for name, field in RATINGS.items():
        where = f"{subject}, {field}"
        values = numbers(member(fields, field, path, subject), path, where)
        if values.size != n_clips or not is_line(values):
            expected = f"{n_clips} ratings in a column"
            raise RecordingError(path, where, expected=expected, found=what(values))
        ratings[name] = [float(value) for value in values.flat]
        for k, value in enumerate(ratings[name]):
            if not 1 <= value <= 5:
                at, found = f"{where}, {film(k)}", f"{value}"
                raise RecordingError(path, at, expected="a rating from 1 to 5", found=found)
    return ratings


def matrices(fields: Any, modality: str, path: Path, subject: str, n_clips: int) -> list[list[Any]]:
    """Stimuli and baselines of a modality, each (samples, channels), one of each for every clip.

    A cell without samples stays, as an array without samples.
    """
    name = modality.upper()
    n_chans = len(CHANNELS[modality].ch_names)
    struct = member(fields, name, path, subject)
    both = []
    for field in ("stimuli", "baseline"):
        where = f"{subject}, {name}.{field}"
        found = cells(member(struct, field, path, f"{subject}, {name}"), path, where)
        if len(found) != n_clips:
            expected = f"{n_clips} cells"
            raise RecordingError(path, where, expected=expected, found=f"{len(found)}")
        arrays = [numbers(x, path, f"{where}, {film(k)}") for k, x in enumerate(found)]
        for k, x in enumerate(arrays):
            if not x.size:
                arrays[k] = np.empty((0, n_chans))
            elif x.ndim != 2 or x.shape[1] != n_chans:
                hint = ", the axes in another order" if x.shape[:1] == (n_chans,) else ""
                raise RecordingError(
                    path,
                    f"{where}, {film(k)}",
                    expected=f"shape (samples, {n_chans})",
                    found=f"shape {x.shape}{hint}",
                )
        both.append(arrays)
    return both


def checked(x: NDArray[Any], modality: str, path: Path, where: str, first: int = 0) -> Floats:
    """(samples, channels) as (n_chans, n_times) float32, without NaN, Inf and impossible numbers.

    `first` is the position of the first sample in the file, for the error.
    """
    fine = np.abs(x) <= _MAX_MAGNITUDE
    if not fine.all():
        row, column = np.argwhere(~fine)[0]
        channels = CHANNELS[modality]
        raise RecordingError(
            path,
            f"{where}, channel {column} ({channels.ch_names[column]}), sample {first + row}",
            expected=f"a number within {_MAX_MAGNITUDE:g} {channels.unit}",
            found=f"{x[row, column]}",
        )
    return np.array(x.T, dtype=np.float32, order="C")


def film(k: int) -> str:
    """The stimulus of cell `k`."""
    return f"film-{k + 1:02d}"


def write_dreamer(path: Path, subjects: Sequence[Mapping[str, Any]], **fields: Any) -> None:
    """Write a file with the nesting and the fields of the authors' own.

    Nothing is checked: tests need damaged recordings too.

    Parameters
    ----------
    path : written in one step; a reader never sees half of it
    subjects : fields of each, such as {"EEG": {"baseline": [x, ...], "stimuli": [x, ...]}, "ECG":
        the same, "ScoreValence": [...], "ScoreArousal": [...], "ScoreDominance": [...]}; x is
        (samples, channels). A list becomes a column, of cells where it holds arrays
    fields : of `DREAMER`, instead of those that follow from the subjects; None leaves one out
    """
    n_clips = max((len(s["ScoreValence"]) for s in subjects if "ScoreValence" in s), default=0)
    whole = {
        "Data": _column([_plain({"Age": "30", "Gender": "female"} | dict(s)) for s in subjects]).T,
        **{f"{m.upper()}_SamplingRate": c.sfreq for m, c in CHANNELS.items()},
        "EEG_Electrodes": _column(list(EEG_NAMES)).T,
        "noOfSubjects": float(len(subjects)),
        "noOfVideoSequences": float(n_clips),
        **dict.fromkeys(("Disclaimer", "Provider", "Version", "Acknowledgement"), "made up"),
    }
    kept = {name: value for name, value in (whole | fields).items() if value is not None}
    with atomic_path(path) as unfinished:
        savemat(unfinished, {"DREAMER": kept}, appendmat=False, do_compression=True)


def _column(values: list[Any]) -> NDArray[Any]:
    """(n, 1) cells."""
    column = np.empty((len(values), 1), dtype=object)
    for row, value in enumerate(values):
        column[row, 0] = value
    return column


def _plain(value: Any) -> Any:
    """What `savemat` writes as structs, cells and columns of numbers."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        as_cells = any(isinstance(one, np.ndarray) for one in value)
        return _column(value) if as_cells else np.array(value, dtype=np.float64)[:, None]
    return value


def _names(n_subjects: int) -> tuple[str, ...]:
    return tuple(f"s{number:02d}" for number in range(1, n_subjects + 1))


def _parsed(path: Path) -> Dataset:
    stat = path.stat() if path.is_file() else None
    dataset = _parse(path, *((stat.st_mtime_ns, stat.st_size) if stat else (0, 0)))
    if isinstance(dataset, RecordingError):
        raise dataset
    return dataset


@lru_cache(maxsize=1)
def _parse(path: Path, modified: int, size: int) -> Dataset | RecordingError:
    """Parse a file as of a time. An error is returned, so that it is remembered as well."""
    try:
        root = load_struct(path, "DREAMER")
        for modality, its in CHANNELS.items():
            _expect(root, f"{modality.upper()}_SamplingRate", its.sfreq, "Hz", path)
        named = cells(member(root, "EEG_Electrodes", path, "DREAMER"), path, "EEG_Electrodes")
        found = [str(x.item()) if np.size(x) == 1 else what(x) for x in named]
        if [name.upper() for name in found] != [name.upper() for name in EEG_NAMES]:
            expected = " ".join(EEG_NAMES)
            raise RecordingError(path, "EEG_Electrodes", expected=expected, found=" ".join(found))
        data = cells(member(root, "Data", path, "DREAMER"), path, "Data")
        _expect(root, "noOfSubjects", len(data), "as in Data", path)
        n_clips = _number(root, "noOfVideoSequences", path)
        if not data or not n_clips >= 1 or n_clips % 1:
            expected, counts = "subjects and clips", f"{len(data)} and {n_clips:g}"
            raise RecordingError(path, "", expected=expected, found=counts)
    except RecordingError as error:
        return error
    lengths = [_eeg_lengths(fields, path, int(n_clips)) for fields in data]
    return Dataset(
        fingerprint=sha256(path),
        subjects=_names(len(data)),
        # Of several recordings that differ a little, the median is not led astray by one that ended
        # early; it is one of them.
        n_times=tuple(
            statistics.median_low([n for n in of_clip if n] or [0])
            for of_clip in zip(*lengths, strict=True)
        ),
        left=dict(zip(_names(len(data)), data, strict=True)),
    )


def _number(root: Any, name: str, path: Path) -> float:
    value = numbers(member(root, name, path, "DREAMER"), path, name)
    if value.size != 1:
        raise RecordingError(path, name, expected="one number", found=what(value))
    return float(value.item())


def _expect(root: Any, name: str, right: float, unit: str, path: Path) -> None:
    found = _number(root, name, path)
    if found != right:
        raise RecordingError(path, name, expected=f"{right:g} {unit}", found=f"{found:g}")


def _eeg_lengths(fields: Any, path: Path, n_clips: int) -> list[int]:
    """Samples of EEG in each clip of a subject, 0 for those that are missing."""
    try:
        stimuli, _ = matrices(fields, "eeg", path, "", n_clips)
    except RecordingError:  # Told when that subject is read.
        return [0] * n_clips
    return [len(x) for x in stimuli]
