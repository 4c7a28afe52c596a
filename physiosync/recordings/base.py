"""What every reader gives: one `Recording` per subject, whatever the vendor's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from physiosync.errors import RecordingError

#: Modalities a recording may hold, and the order in which they are listed.
MODALITIES = ("eeg", "gsr", "ecg", "eog", "emg", "resp", "ppg", "temp")


@dataclass(frozen=True)
class Channels:
    """The channels of one modality: names, unit ("uV", "Ohm", ...) and sampling rate in Hz."""

    ch_names: tuple[str, ...]
    unit: str
    sfreq: float


@dataclass(frozen=True, eq=False)
class Trial:
    """One presentation of one stimulus to one subject.

    Parameters
    ----------
    stimulus : what was shown; the same string for every subject who saw it
    order : position in the session, from 1 (the file's row where presentation order is unknown)
    signals : modality -> (n_chans, n_times) float32 during the stimulus; a missing modality is
        absent
    baseline : modality -> (n_chans, n_times) float32 of the rest before it; may be empty
    ratings : "valence", "arousal", ... -> the subject's rating on the dataset's scale
    """

    stimulus: str
    order: int
    signals: Mapping[str, NDArray[np.float32]]
    baseline: Mapping[str, NDArray[np.float32]]
    ratings: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Recording:
    """Everything one subject's session holds.

    Parameters
    ----------
    dataset : "deap", "dreamer", ...
    subject : the subject's name, e.g. "s01"
    modalities : modality -> its channels; a modality missing in every trial is absent
    trials : in the file's order, never two of one stimulus
    source, fingerprint : the file and the SHA-256 of its bytes
    left_out : one sentence for each thing that was skipped, with the reason
    provenance : what else it was made of, as plain JSON values: options, codes of class labels,
        the "site" where there are several
    """

    dataset: str
    subject: str
    modalities: Mapping[str, Channels]
    trials: tuple[Trial, ...]
    source: Path
    fingerprint: str
    left_out: tuple[str, ...] = field(default=())
    provenance: Mapping[str, JsonValue] = field(default_factory=dict)


class Session(Protocol):
    """A subject whose recording is made of more than one file's bytes.

    A reader of sessions is called as `read(session)`, in another process, so both are picklable.
    """

    @property
    def subject(self) -> str:
        """The subject's name, as its shard will have it."""

    @property
    def path(self) -> Path:
        """The file that errors name."""

    def fingerprint(self) -> str:
        """What the recording's `fingerprint` will be, without reading more than bytes."""


def require_file(path: Path, expected: str = "a file") -> None:
    """Raise RecordingError unless there is a file; says what is there instead."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise RecordingError(path, "", expected=expected, found=found)
