"""What the channels of a file are: their names and modalities, whatever the device wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mne

from physiosync.errors import RecordingError
from physiosync.recordings.base import MODALITIES
from physiosync.recordings.tables import read_table

#: MNE's cap of 10-05 electrodes, which 1.13 renamed.
MONTAGE = next(
    name
    for name in ("colin27_1005", "standard_1005")
    if name in mne.channels.get_builtin_montages()
)
#: Today's names of the electrodes that the old 10-20 system called otherwise.
_OLD = {"t3": "T7", "t4": "T8", "t5": "P7", "t6": "P8"}
_PREFIX = re.compile(r"(EEG|ECG|EKG|EOG|EMG|GSR|EDA|RESP|TEMP|PPG)[ _-]+(?=\S)", re.IGNORECASE)
_REFERENCE = re.compile(r"[ _-]+(REF|LE|AVG)$", re.IGNORECASE)
#: Names by which peripheral channels go where the file types everything EEG.
_BY_NAME = (
    ("ecg", re.compile(r"(ecg|ekg)\W*\w{0,3}", re.IGNORECASE)),
    ("eog", re.compile(r"([hv]?eog[hv]?|eog\W*\w{0,5})\W*[0-9]*", re.IGNORECASE)),
    ("emg", re.compile(r"[zt]?emg\W*\w{0,4}", re.IGNORECASE)),
    ("gsr", re.compile(r"(gsr|eda|scl|skin conductance)\W*[0-9]*", re.IGNORECASE)),
    ("resp", re.compile(r"resp(iration)?\W*[0-9]*", re.IGNORECASE)),
    ("ppg", re.compile(r"(ppg|bvp|plet\w*|pulse)\W*[0-9]*", re.IGNORECASE)),
    ("temp", re.compile(r"temp(erature)?\W*[0-9]*", re.IGNORECASE)),
)
_BY_PREFIX = {"ekg": "ecg", "eda": "gsr"}
#: MNE's type -> modality; "bio" and "misc" say too little, so the name decides.
_BY_TYPE = {m: m for m in MODALITIES} | {"temperature": "temp"}


@dataclass(frozen=True)
class Channel:
    """A channel that is used.

    Parameters
    ----------
    raw_name : in the file
    name : cleaned: "Fp1" for "EEG Fp1", "T7" for "T3"
    unit : in which its samples are given
    factor : from the numbers that MNE gives to that unit
    """

    raw_name: str
    name: str
    modality: str
    unit: str
    factor: float


@cache
def positions() -> dict[str, str]:
    """Lower-case name -> name, of every electrode with a place on MNE's standard 10-05 cap."""
    names = mne.channels.make_standard_montage(MONTAGE).ch_names
    return {name.lower(): name for name in names} | _OLD


def clean_name(raw_name: str) -> str:
    """A channel's name without prefix, reference and old spelling: "EEG FP1-REF" is Fp1."""
    name = _REFERENCE.sub("", _PREFIX.sub("", raw_name.strip()))
    return positions().get(name.lower(), name)


def modality_of(raw_name: str, mne_type: str) -> str | None:
    """The modality of a channel; None for triggers, MEG and whatever else is none.

    What the file says holds, unless it says EEG: many formats know no other type. Then a name that
    only a peripheral channel has, or such a prefix ("ECG ECG"), decides.
    """
    prefix = _PREFIX.match(raw_name.strip())
    if mne_type in _BY_TYPE and mne_type != "eeg":
        return _BY_TYPE[mne_type]
    if mne_type not in ("eeg", "misc", "bio"):
        return None
    if prefix:
        kind = prefix[1].lower()
        return _BY_PREFIX.get(kind, kind)
    for modality, pattern in _BY_NAME:
        if pattern.fullmatch(raw_name.strip()):
            return modality
    return "eeg" if mne_type == "eeg" else None


def named(names: Iterable[str], raw_name: str) -> str | None:
    """Which of these names means a channel: its own, or its cleaned one."""
    exact = [name for name in names if name == raw_name]
    return next(iter(exact or [n for n in names if n == clean_name(raw_name)]), None)


def pick(options: Mapping[str, Any], raw_name: str) -> Any:
    """What options that are keyed by channel say of one; None if nothing."""
    key = named(options, raw_name)
    return None if key is None else options[key]


def described(table: Path | None, pairs: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """What a user says of channels, as `types` and `units` of the reading options.

    Parameters
    ----------
    table : with columns name, and type or unit or both; empty cells say nothing
    pairs : "EDA=gsr", ...; they count more than the table

    Raises
    ------
    RecordingError
        If the table can't be used, or a type is none of ours.
    """
    types: dict[str, str] = {}
    units: dict[str, str] = {}
    if table is not None:
        header, rows = read_table(table)
        if "name" not in header or not {"type", "unit"} & set(header):
            raise RecordingError(
                table, "header", expected="name, and type or unit", found=", ".join(header)
            )
        for line, cells in rows:
            name = cells["name"]
            if not name or name in (*types, *units):
                found = repr(name)
                where = f"line {line}, column name"
                raise RecordingError(table, where, expected="a channel, once", found=found)
            if cells.get("type"):
                types[name] = _type(cells["type"], table, f"line {line}, column type")
            if cells.get("unit"):
                units[name] = cells["unit"]
    for pair in pairs:
        name, _, kind = pair.rpartition("=")
        types[name] = _type(kind if name else "", "--types", pair)
    return {"types": types, "units": units}


def _type(text: str, path: Path | str, field: str) -> str:
    kind = _BY_PREFIX.get(text.lower(), text.lower())
    if kind not in (*_BY_TYPE, "drop"):
        expected = f"a channel's type: {', '.join(_BY_TYPE)} or drop"
        raise RecordingError(path, field, expected=expected, found=repr(text))
    return _BY_TYPE.get(kind, kind)
