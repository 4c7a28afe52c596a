"""The units of recordings, as files write them, as MNE gives them and as they are kept.

MNE turns volts into volts and leaves most other numbers as they are, each format in its own way. So
what it gives is first taken back to what the file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mne.io.constants import FIFF

#: Modalities that are voltages at the skin; all others keep their unit.
VOLTAGES = ("eeg", "ecg", "eog", "emg")
#: How files write a unit -> (unit that is kept, factor). Voltages at the skin become uV.
_UNITS = {
    "uV": ("uV", 1.0),
    "mV": ("uV", 1e3),
    "V": ("uV", 1e6),
    "nV": ("uV", 1e-3),
    "uS": ("uS", 1.0),
    "nS": ("nS", 1.0),
    "mS": ("uS", 1e3),
    "S": ("uS", 1e6),
    "Ohm": ("Ohm", 1.0),
    "kOhm": ("Ohm", 1e3),
    "MOhm": ("Ohm", 1e6),
    "degC": ("degC", 1.0),
}
_SPELLINGS = {
    "microv": "uV",
    "microvolt": "uV",
    "microsiemens": "uS",
    "usiemens": "uS",
    "siemens": "S",
    "ohms": "Ohm",
    "ohm": "Ohm",
    "kohm": "kOhm",
    "mohm": "MOhm",
    "c": "degC",
    "\u00b0c": "degC",
    "oc": "degC",
    "deg c": "degC",
    "degreec": "degC",
    "celsius": "degC",
}


#: What MNE multiplies by, format by format; all other units by 1.
_EDF_GAINS = {"\u03bcV": 1e-6, "\u00b5V": 1e-6, "\x83\xcaV": 1e-6, "uV": 1e-6, "mV": 1e-3}
_BRAINVISION_GAINS = {"uV": 1e-6, "mV": 1e-3, "nV": 1e-9, "uS": 1e-6}
_FIFF_UNITS = {
    int(FIFF.FIFF_UNIT_V): "V",
    int(FIFF.FIFF_UNIT_S): "S",
    int(FIFF.FIFF_UNIT_CEL): "degC",
}


@dataclass(frozen=True)
class Written:
    """The unit of a channel's numbers in the file, and what MNE multiplies them by."""

    unit: str
    gain: float


def edf_unit(text: str) -> Written:
    """The unit of an EDF signal, from the text in its header."""
    return Written(unit_of(text), _EDF_GAINS.get(text, 1.0))


def written_unit(suffix: str, entry: Mapping[str, Any], written: Mapping[str, str]) -> Written:
    """The unit of a channel in any other file.

    Parameters
    ----------
    suffix : of the file, such as ".vhdr"
    entry : MNE's `info["chs"]` of the channel
    written : channel -> unit, as MNE's reader found it
    """
    given = _FIFF_UNITS.get(int(entry["unit"]), "a.u.")
    if suffix.lower() == ".set":
        # EEGLAB knows no units; MNE takes every number for microvolts, also of skin conductance.
        return Written("uV" if given == "V" else "a.u.", 1e-6)
    if suffix.lower() in (".vhdr", ".ahdr") and entry["ch_name"] in written:
        unit = unit_of(written[entry["ch_name"]])
        return Written(unit, _BRAINVISION_GAINS.get(unit, 1.0))
    return Written(given, 1.0)


def unit_of(text: str) -> str:
    """A unit as this package writes it: "uV" for "\u00b5V"; "a.u." for none."""
    text = text.strip().replace("\u00b5", "u").replace("\u03bc", "u").replace("\x83\xca", "u")
    text = text.replace("\u03a9", "Ohm").replace("\u2126", "Ohm")
    if text.lower() in ("", "n/a", "na", "none", "a.u.", "au"):
        return "a.u."
    return text if text in _UNITS else _SPELLINGS.get(text.lower(), text)


def scale(modality: str, unit: str) -> tuple[str, float] | None:
    """The unit that a modality is kept in and the factor to it; None if it can't be in `unit`.

    Voltages at the skin become uV. Others stay as they are, but for multiples of siemens and ohm.
    """
    kept = _UNITS.get(unit)
    if modality in VOLTAGES:
        return kept if kept is not None and kept[0] == "uV" else None
    if kept is None or kept[0] == "uV":
        return unit, 1.0
    return kept
