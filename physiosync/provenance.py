"""What an encoder's pretraining saw, kept beside its weights so that an audit can ask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from physiosync.config import Config
from physiosync.errors import CheckpointError
from physiosync.shards import read_info
from physiosync.stretches import clip_of
from physiosync.windows import WindowStore

#: Beside config.json and model.safetensors.
FILE = "seen.json"


class Seen(Config):
    """Digests of all trials that trained an encoder or chose among its epochs.

    Hashed for short and equal lengths, not for secrecy: whoever guesses a name can confirm it.
    """

    names: tuple[str, ...]
    """Of (subject, stimulus)."""
    subjects: tuple[str, ...]
    stimuli: tuple[str, ...]
    contents: tuple[str, ...]
    """Of the trials' EEG samples, whatever their names."""

    @classmethod
    def of(cls, store: WindowStore, trials: Iterable[int] | NDArray[np.int64]) -> Seen:
        """The record of `trials` (ids in `store`); of a stretch, that of its whole trial."""
        rows = store.trials.loc[np.unique(np.asarray(list(trials), dtype=np.int64))]
        held = contents(store)
        stimuli = rows["stimulus"]
        if store.stretch_seconds is not None:
            stimuli = stimuli.map(clip_of)
        keys = sorted(set(zip(rows["subject"], stimuli, strict=True)))
        return cls(
            names=tuple(sorted(_digest(*key) for key in keys)),
            subjects=tuple(sorted({_digest(subject) for subject, _ in keys})),
            stimuli=tuple(sorted({_digest(stimulus) for _, stimulus in keys})),
            contents=tuple(sorted({held[key] for key in keys if key in held})),
        )

    @classmethod
    def load(cls, folder: Path) -> Seen | None:
        """The record of a model folder; None if it has none.

        Raises
        ------
        CheckpointError
            If it is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(
                path, "", expected="a record of trials", found=str(error)
            ) from error


def contents(store: WindowStore) -> dict[tuple[str, str], str]:
    """(subject, stimulus) -> digest of the trial's EEG samples, from the shards' footers."""
    infos = [read_info(path) for path in store.paths]
    return {
        (info.subject, trial.stimulus): trial.digests["eeg"][:16]
        for info in infos
        for trial in info.trials
        if "eeg" in trial.digests
    }


def _digest(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
