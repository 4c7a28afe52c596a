"""DEAP as its authors preprocessed it: `data_preprocessed_python/s01.dat` to `s32.dat`.

Thirty-two people watched forty music videos of one minute each and rated every one of them [1]_.
A file holds one person: `data`, 40 videos x 40 channels x 8064 samples at 128 Hz, and `labels`, 40
videos x 4 ratings, both float64, in a dictionary that Python 2 pickled. The authors took out eye
movements, kept 4-45 Hz, referenced to the average and sorted the trials by video; so row k is the
same video for everybody, and the order in which a person saw them is not in the file.

.. [1] Koelstra et al. (2012). DEAP: A Database for Emotion Analysis Using Physiological Signals.
   IEEE Transactions on Affective Computing 3(1), 18-31. https://doi.org/10.1109/T-AFFC.2011.15
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from physiosync.errors import RecordingError
from physiosync.files import atomic_path
from physiosync.recordings.base import MODALITIES, Channels, Recording, Trial, require_file
from physiosync.recordings.numbered import find_numbered, instead_of_data
from physiosync.recordings.pickled_arrays import FloatArray
from physiosync.recordings.py2pickle import read_arrays, write_arrays

SFREQ = 128.0
#: Samples of rest (3 s) at the start of each trial; the video fills what follows.
N_BASELINE = 384
RATINGS = ("valence", "arousal", "dominance", "liking")
#: Rows 0..31 of each trial, in the order of the Geneva recordings.
# fmt: off
EEG_NAMES: tuple[str, ...] = (
    "Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7", "CP5", "CP1", "P3", "P7", "PO3", "O1",
    "Oz", "Pz", "Fp2", "AF4", "Fz", "F4", "F8", "FC6", "FC2", "Cz", "C4", "T8", "CP6", "CP2",
    "P4", "P8", "PO4", "O2",
)
# fmt: on
#: Rows 32..39: name, modality, unit.
PERIPHERALS: tuple[tuple[str, str, str], ...] = (
    ("hEOG", "eog", "uV"),
    ("vEOG", "eog", "uV"),
    ("zEMG", "emg", "uV"),
    ("tEMG", "emg", "uV"),
    ("GSR", "gsr", "Ohm"),
    ("Resp", "resp", "a.u."),
    ("Plet", "ppg", "a.u."),
    ("Temp", "temp", "degC"),
)

ROWS = tuple((name, "eeg", "uV") for name in EEG_NAMES) + PERIPHERALS


def _rows_of(modality: str) -> slice:
    rows = [row for row, (_, its_modality, _) in enumerate(ROWS) if its_modality == modality]
    return slice(rows[0], rows[-1] + 1)


ROWS_OF = {m: _rows_of(m) for m in MODALITIES if any(m == row[1] for row in ROWS)}
#: No sensor gives more, in any of the units above; GSR reaches some 1e7 Ohm.
MAX_MAGNITUDE = 1e9
#: Site -> the last of the participants that were recorded there.
SITES = {"Twente": 22, "Geneva": 32}


def site_of(subject: str) -> dict[str, JsonValue]:
    """What a recording's provenance says of "s01" to "s32"; empty for other names."""
    known = re.fullmatch(r"s(\d+)", subject)
    if known is None:
        return {}
    return next(({"site": name} for name, last in SITES.items() if int(known[1]) <= last), {})


def find_deap(folder: Path) -> list[Path]:
    """The files of a DEAP folder, in the order of the subjects' numbers.

    Parameters
    ----------
    folder : the folder that holds `s01.dat`, `s02.dat`, ...; other files in it are ignored

    Raises
    ------
    RecordingError
        if there is no such folder, no such file in it, or two files of one subject
    """
    return find_numbered(folder, ".dat")


def read_deap(path: Path, *, shape: tuple[int, int, int] = (40, 40, 8064)) -> Recording:
    """Read one subject, without running anything in the file.

    The file is checked in full before a recording is made of it. Signals that carry nothing do not
    make it unreadable, but are told in `left_out`: a modality is left out of the trials in which
    all of its channels are constant while the video runs, and a trial in which that is the EEG is
    left out whole. A single constant channel among others is kept.

    Parameters
    ----------
    path : `s01.dat`, ...; its name without the ending, in lower case, is the subject
    shape : (trials, channels, samples) the file must have; only tests need another one

    Returns
    -------
    Recording
        one trial per row of the file, "video-01" in row 0; `order` is the row, from 1. Signals are
        (n_chans, n_times) float32, in the units of `PERIPHERALS` and uV for the EEG.

    Raises
    ------
    RecordingError
        for a missing, truncated or foreign file, a pickle that holds anything but the two arrays,
        another shape or dtype, NaN or Inf, a sample beyond 1e9, a rating outside 1..9, and a file
        whose EEG is constant in every trial
    """
    n_trials, n_chans, n_times = shape
    if n_trials < 1 or n_chans != len(ROWS) or n_times <= N_BASELINE:
        raise ValueError(f"shape must be (>= 1, {len(ROWS)}, > {N_BASELINE}), but got {shape}")
    raw = _read_bytes(path, shape)
    labels, data = _unpack(read_arrays(raw, path), path, shape)
    _check_ratings(path, labels)
    names = [f"video-{row:02d}" for row in range(1, n_trials + 1)]
    signals, baselines = [], []
    flat = np.zeros((n_trials, n_chans), dtype=bool)
    for row, name in enumerate(names):
        _check_samples(path, name, data[row])
        signals.append(_split(data[row, :, N_BASELINE:]))
        baselines.append(_split(data[row, :, :N_BASELINE]))
        for modality, rows in ROWS_OF.items():
            flat[row, rows] = np.ptp(signals[row][modality], axis=1) == 0
    missing = {m: np.asarray(flat[:, rows].all(axis=1)) for m, rows in ROWS_OF.items()}
    if missing["eeg"].all():
        expected, found = "EEG that varies", "constant channels only, in every trial"
        raise RecordingError(path, "data", expected=expected, found=found)
    trials = tuple(
        Trial(
            stimulus=names[row],
            order=row + 1,
            signals={m: x for m, x in signals[row].items() if not missing[m][row]},
            baseline={m: x for m, x in baselines[row].items() if not missing[m][row]},
            ratings=dict(zip(RATINGS, labels[row].tolist(), strict=True)),
        )
        for row in range(n_trials)
        if not missing["eeg"][row]
    )
    return Recording(
        dataset="deap",
        subject=path.stem.lower(),
        modalities={
            modality: _channels(rows)
            for modality, rows in ROWS_OF.items()
            if any(modality in trial.signals for trial in trials)
        },
        trials=trials,
        source=path,
        fingerprint=hashlib.sha256(raw).hexdigest(),
        left_out=where_constant(names, flat, missing),
        provenance=site_of(path.stem.lower()),
    )


def write_deap(path: Path, data: NDArray[Any], labels: NDArray[Any]) -> None:
    """Write a file as DEAP's authors did, byte for byte what Python 2's cPickle makes of it.

    The arrays are written as little-endian float64 in C order, and nothing is checked but their
    form: tests need damaged recordings too.

    Parameters
    ----------
    path : written in one step; a reader never sees half of it
    data : (trials, channels, samples)
    labels : (trials, ratings)

    Raises
    ------
    ValueError
        for another number of dimensions, and from 2 GiB on, which the format cannot hold
    """
    if data.ndim != 3 or labels.ndim != 2 or data.size * 8 >= 2**31 or labels.size * 8 >= 2**31:
        raise ValueError(
            "data must have 3 dimensions, labels 2, and both less than 2 GiB, "
            f"but got shapes {data.shape} and {labels.shape}"
        )
    with atomic_path(path) as part, part.open("wb") as stream:
        write_arrays(stream, {"labels": labels, "data": data})


def _read_bytes(path: Path, shape: tuple[int, int, int]) -> bytes:
    """The whole file, if its size is plausible.

    float32 takes half of what float64 does, and protocol 2 of Python 3, which writes bytes as text,
    up to twice as much. The bounds are wider below: where a file that is not much too short ends,
    the reader of the pickle can tell.
    """
    require_file(path)
    size, needed = path.stat().st_size, math.prod(shape) * 8
    if not needed // 4 <= size <= 2 * needed + 2**16:
        found = f"{size:,} bytes" + (instead_of_data(path) if size < needed else "")
        raise RecordingError(path, "", expected=f"about {needed:,} bytes", found=found)
    return path.read_bytes()


def _unpack(
    arrays: dict[str, FloatArray], path: Path, shape: tuple[int, int, int]
) -> tuple[FloatArray, FloatArray]:
    """Labels and data, in the shapes they must have."""
    if set(arrays) != {"labels", "data"}:
        found = ", ".join(map(ascii, sorted(arrays))) or "nothing"
        raise RecordingError(path, "keys", expected="'data', 'labels'", found=found)
    for name, right in (("labels", (shape[0], len(RATINGS))), ("data", shape)):
        given = arrays[name].shape
        if given != right:
            hint = ", the axes in another order" if sorted(given) == sorted(right) else ""
            expected, found = f"shape {right}", f"shape {given}{hint}"
            raise RecordingError(path, name, expected=expected, found=found)
    return arrays["labels"], arrays["data"]


def _check_ratings(path: Path, labels: FloatArray) -> None:
    for row, column in np.argwhere(~((labels >= 1) & (labels <= 9))):
        where = f"labels, video-{row + 1:02d}, {RATINGS[column]}"
        found = f"{labels[row, column]}"
        raise RecordingError(path, where, expected="a rating from 1 to 9", found=found)


def _check_samples(path: Path, trial: str, values: FloatArray) -> None:
    """Refuse NaN, Inf and numbers off any scale in (channels, samples) of one trial."""
    with np.errstate(invalid="ignore"):
        extremes = np.maximum(-values.min(axis=1), values.max(axis=1))  # NaN stays NaN
        if (extremes <= MAX_MAGNITUDE).all():
            return
        row, sample = np.argwhere(~(np.abs(values) <= MAX_MAGNITUDE))[0]
    name, _, unit = ROWS[row]
    where = f"data, {trial}, channel {row} ({name}), sample {sample}"
    expected = f"a number within {MAX_MAGNITUDE:g} {unit}"
    raise RecordingError(path, where, expected=expected, found=f"{values[row, sample]}")


def _split(values: FloatArray) -> dict[str, NDArray[np.float32]]:
    """Modality -> its rows of (channels, samples) as float32; the only copy that is made."""
    return {m: np.array(values[rows], dtype=np.float32, order="C") for m, rows in ROWS_OF.items()}


def _channels(rows: slice) -> Channels:
    return Channels(tuple(name for name, _, _ in ROWS[rows]), ROWS[rows][0][2], SFREQ)


def where_constant(
    names: Sequence[str], flat: NDArray[np.bool_], missing: Mapping[str, NDArray[np.bool_]]
) -> tuple[str, ...]:
    """Sentences on what is constant while the video runs: trials, modalities, single channels.

    `flat` is (trials, channels); `missing` says the same of modalities as a whole, (trials,).
    """
    sentences = []
    kept, n_trials = ~missing["eeg"], len(names)
    for modality, rows in ROWS_OF.items():
        gone = missing[modality] if modality == "eeg" else kept & missing[modality]
        if gone.any():
            what = "whole trial" if modality == "eeg" else modality
            where = ", ".join(name for name, is_gone in zip(names, gone, strict=True) if is_gone)
            sentences.append(
                f"{what} left out where every {modality} channel is constant, "
                f"{gone.sum()} of {n_trials} trials: {where}"
            )
        for row in range(rows.start, rows.stop):
            n_flat = np.count_nonzero(kept & flat[:, row] & ~missing[modality])
            if n_flat:
                name = ROWS[row][0]
                sentences.append(f"channel {name} kept, constant in {n_flat} of {n_trials} trials")
    return tuple(sentences)
