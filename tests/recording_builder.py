"""Small recordings for tests of preparation, and files that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.files import sha256
from physiosync.recordings.base import Channels, Recording, Trial

CHANNELS = {
    "eeg": Channels(("Fp1", "Fp2", "Cz"), "uV", 128.0),
    "gsr": Channels(("GSR",), "Ohm", 128.0),
    "ecg": Channels(("I", "II"), "uV", 128.0),
}


def trial(
    k: int,
    signals: Mapping[str, NDArray[np.float32]],
    baseline: Mapping[str, NDArray[np.float32]] | None = None,
    ratings: Mapping[str, float] | None = None,
) -> Trial:
    """Trial `k` of stimulus "v<k>"."""
    return Trial(f"v{k}", k, signals, baseline or {}, ratings or {"valence": float(k)})


def recording(
    *trials: Trial,
    subject: str = "s01",
    channels: Mapping[str, Channels] = CHANNELS,
    fingerprint: str = "f" * 64,
) -> Recording:
    """A recording of these trials, with the channels that they use."""
    used = {modality for t in trials for modality in t.signals}
    return Recording(
        "made-up",
        subject,
        {m: c for m, c in channels.items() if m in used},
        trials,
        Path(f"{subject}.npy"),
        fingerprint,
        ("trial 9 (v9): not in the file",),
    )


def noise(
    subject: str = "s01", *, lengths: tuple[int, ...] = (640, 320, 400), seed: int = 0
) -> Recording:
    """Random EEG, GSR above zero and ECG; the second trial lacks GSR, the third a rating."""
    rng = np.random.default_rng([seed, *subject.encode()])
    trials = []
    for k, n_times in enumerate(lengths, start=1):
        signals = {
            m: rng.standard_normal((len(c.ch_names), n_times)).astype(np.float32)
            for m, c in CHANNELS.items()
        }
        signals["gsr"] = np.exp(signals["gsr"])
        if k == 2:
            del signals["gsr"]
        ratings = {"valence": rng.uniform(1, 9), "arousal": rng.uniform(1, 9)}
        if k == 3:
            del ratings["arousal"]
        trials.append(trial(k, signals, ratings=ratings))
    return recording(*trials, subject=subject)


def write_source(path: Path, x: NDArray[np.float32]) -> Path:
    """A file for `read_source`; `x`: EEG of a subject's trials, (n_trials, 3, n_times)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        np.save(stream, x)
    return path


def read_source(path: Path, subject: str | None = None) -> Recording:
    """Read a file of `write_source`, and leave a line in reads.txt beside it."""
    with (path.parent / "reads.txt").open("a") as stream:
        stream.write(f"{subject or path.stem}\n")
    try:
        x = np.load(path)
    except ValueError as error:
        raise RecordingError(path, "eeg", expected="an array", found=str(error)) from error
    trials = [trial(k + 1, {"eeg": one}) for k, one in enumerate(x)]
    made = recording(*trials, subject=subject or path.stem, fingerprint=sha256(path))
    return replace(made, source=path)
