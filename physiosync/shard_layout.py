"""What a shard holds: its metadata, and how the samples of a trial become rows and come back."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, JsonValue

from physiosync import __version__
from physiosync.config import Config
from physiosync.errors import RecordingError
from physiosync.recordings.base import MODALITIES, Channels, Recording, Trial

Floats = NDArray[np.float32]

#: Length of a row in seconds; every window length a study may search is a multiple.
BASE_SECONDS = 0.5
#: Version of this layout; a shard of another version is prepared again.
FORMAT = 1
#: Schema metadata: everything but the samples as JSON, and the SHA-256 of that JSON.
KEY, DIGEST_KEY = b"physiosync", b"physiosync_sha256"


class TrialInfo(Config):
    """One trial of a shard.

    Parameters
    ----------
    order : position in the session, from 1
    n_times : samples of each modality, a whole number of base windows
    ratings : those that the subject gave
    digests : modality -> SHA-256 of its samples, time-major little-endian float32; a modality that
        the trial lacks is absent
    """

    stimulus: str
    order: int
    n_times: int
    ratings: dict[str, float]
    digests: dict[str, str]


class ShardInfo(Config):
    """What a shard's footer says.

    Parameters
    ----------
    sfreq : in Hz, of every modality
    channels : modality -> its channels
    config_uid, config : the preprocessing that made it
    source, fingerprint : name of the recording's file, and the SHA-256 of its bytes
    version : of this package, when the shard was written
    left_out : one sentence for each thing that was skipped
    provenance : what else the recording was made of: options of its reader, codes of class labels
    """

    format: int
    dataset: str
    subject: str
    sfreq: float
    channels: dict[str, Channels]
    config_uid: str
    config: dict[str, JsonValue]
    source: str
    fingerprint: str
    version: str
    left_out: tuple[str, ...]
    trials: tuple[TrialInfo, ...]
    provenance: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def base_times(self) -> int:
        """Samples of a base window."""
        return round(BASE_SECONDS * self.sfreq)


def digest(x: Floats) -> str:
    """SHA-256 of samples; `x` is (n_times, n_chans) in C order."""
    return hashlib.sha256(x.data).hexdigest()


def describe(recording: Recording, config: Config) -> tuple[ShardInfo, list[dict[str, Floats]]]:
    """Metadata of the shard to be, and (n_times, n_chans) samples of each trial.

    Raises
    ------
    RecordingError
        If the recording can't be a shard.
    """
    if not re.fullmatch(r"\w[\w .+-]*", recording.subject):
        raise RecordingError(
            recording.source,
            "subject",
            expected="a name for a file: letters, digits and _ . + -",
            found=repr(recording.subject),
        )
    used = {m for trial in recording.trials for m in trial.signals}
    channels = {m: recording.modalities[m] for m in MODALITIES if m in recording.modalities}
    channels = {m: c for m, c in channels.items() if m in used}
    rates = {c.sfreq for c in channels.values()}
    sfreq = next(iter(rates), 0.0)
    base = round(BASE_SECONDS * sfreq)
    if len(rates) != 1 or base < 1 or abs(base - BASE_SECONDS * sfreq) > 1e-9:
        raise RecordingError(
            recording.source,
            "sampling rate",
            expected=f"one for all modalities, with whole samples in {BASE_SECONDS} s",
            found=", ".join(f"{m} {c.sfreq:g} Hz" for m, c in channels.items()) or "no modality",
        )
    if len({t.stimulus for t in recording.trials}) < len(recording.trials) or not recording.trials:
        raise RecordingError(
            recording.source,
            "trials",
            expected="at least one, and no stimulus twice",
            found=", ".join(t.stimulus for t in recording.trials) or "none",
        )
    signals = [_time_major(recording, trial, channels, base) for trial in recording.trials]
    info = ShardInfo(
        format=FORMAT,
        dataset=recording.dataset,
        subject=recording.subject,
        sfreq=sfreq,
        channels=channels,
        config_uid=config.uid(),
        config=config.identity(),
        source=recording.source.name,
        fingerprint=recording.fingerprint,
        version=__version__,
        left_out=recording.left_out,
        provenance=dict(recording.provenance),
        trials=tuple(
            TrialInfo(
                stimulus=trial.stimulus,
                order=trial.order,
                n_times=len(next(iter(arrays.values()))),
                ratings={k: float(v) for k, v in trial.ratings.items() if np.isfinite(v)},
                digests={modality: digest(x) for modality, x in arrays.items()},
            )
            for trial, arrays in zip(recording.trials, signals, strict=True)
        ),
    )
    return info, signals


def _time_major(
    recording: Recording, trial: Trial, channels: dict[str, Channels], base: int
) -> dict[str, Floats]:
    """Whole base windows of a trial, modality -> (n_times, n_chans)."""
    shortest = min((x.shape[1] for x in trial.signals.values()), default=0)
    n_times = shortest // base * base
    expected = {m: len(channels[m].ch_names) for m in trial.signals if m in channels}
    found = {m: len(x) for m, x in trial.signals.items()}
    if n_times == 0 or expected != found:
        raise RecordingError(
            recording.source,
            f"trial {trial.order} ({trial.stimulus})",
            expected=f"at least {base} samples of channels {expected}",
            found=f"{shortest} samples of channels {found}",
        )
    return {
        m: np.ascontiguousarray(trial.signals[m][:, :n_times].T, dtype="<f4")
        for m in channels
        if m in trial.signals
    }


def schema(info: ShardInfo) -> pa.Schema:
    """The columns of a shard; a modality is a tensor column (channel, time)."""
    ratings = sorted({name for trial in info.trials for name in trial.ratings})
    text = info.model_dump_json().encode()
    return pa.schema(
        [
            ("subject", pa.string()),
            ("stimulus", pa.string()),
            ("trial", pa.int32()),
            ("index", pa.int32()),
            *(
                (
                    m,
                    pa.fixed_shape_tensor(
                        pa.float32(),
                        [len(c.ch_names), info.base_times],
                        dim_names=["channel", "time"],
                    ),
                )
                for m, c in info.channels.items()
            ),
            *((f"rating_{name}", pa.float64()) for name in ratings),
        ],
        metadata={KEY: text, DIGEST_KEY: hashlib.sha256(text).hexdigest().encode()},
    )


def rows(
    info: ShardInfo, trial: TrialInfo, arrays: dict[str, Floats], columns: pa.Schema
) -> pa.Table:
    """One trial as rows, a base window each; `arrays`: modality -> (n_times, n_chans)."""
    n = trial.n_times // info.base_times
    same: dict[str, Any] = {
        "subject": info.subject,
        "stimulus": trial.stimulus,
        "trial": trial.order,
        **{f"rating_{name}": value for name, value in trial.ratings.items()},
    }
    filled = []
    for entry in columns:
        if entry.name == "index":
            filled.append(pa.array(np.arange(n, dtype=np.int32)))
        elif entry.name in arrays:
            x = arrays[entry.name].reshape(n, info.base_times, -1).transpose(0, 2, 1)
            flat = pa.array(np.ascontiguousarray(x).reshape(-1))
            storage = pa.FixedSizeListArray.from_arrays(flat, x.shape[1] * x.shape[2])
            filled.append(pa.ExtensionArray.from_storage(entry.type, storage))
        elif entry.name in info.channels:
            storage = pa.nulls(n, entry.type.storage_type)
            filled.append(pa.ExtensionArray.from_storage(entry.type, storage))
        else:
            filled.append(pa.array([same.get(entry.name)] * n, type=entry.type))
    return pa.Table.from_arrays(filled, schema=columns)


def decoded(column: Any, n_chans: int, base_times: int) -> Floats:
    """A tensor column as (n_times, n_chans) samples in time-major memory of their own."""
    storage = column.combine_chunks()
    storage = getattr(storage, "storage", storage)
    flat: Floats = np.asarray(storage.flatten(), dtype="<f4")
    x = flat.reshape(-1, n_chans, base_times).transpose(0, 2, 1)
    return x.copy().reshape(-1, n_chans)
