"""What the shards of a cohort say together, from their footers alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from physiosync.errors import ShardError
from physiosync.recordings.base import Channels
from physiosync.shards import ShardInfo


def check(shards: Sequence[tuple[Path, ShardInfo]], modalities: Sequence[str]) -> None:
    """Refuse shards that don't belong together.

    Raises
    ------
    ShardError
        If a modality is in none of them, two differ in rate, channel names or preprocessing, or two
        hold one subject.
    """
    present = list(dict.fromkeys(m for _, info in shards for m in info.channels))
    for modality in modalities:
        if modality not in present:
            where = shards[0][0].parent if shards else "shards"
            raise ShardError(
                where, "modalities", expected=modality, found=", ".join(present) or "no shards"
            )
    if not modalities or not shards:
        raise ValueError("a store needs at least one shard and one modality")
    first: dict[str, tuple[Path, object]] = {}
    for path, info in shards:
        facts: dict[str, object] = {"sampling rate": info.sfreq, "preprocessing": info.config_uid}
        facts |= {f"channels of {m}": c.ch_names for m, c in info.channels.items()}
        for name, value in facts.items():
            other, expected = first.setdefault(name, (path, value))
            if expected != value:
                raise ShardError(path, name, expected=f"{expected} as in {other}", found=str(value))
        twin, _ = first.setdefault(f"subject {info.subject}", (path, None))
        if twin is not path:
            raise ShardError(
                path, "subject", expected=f"another than in {twin}", found=info.subject
            )


def joint_channels(infos: Sequence[ShardInfo], modality: str) -> Channels:
    """The channels of a modality; `unit` names all units where subjects differ."""
    each = [info.channels[modality] for info in infos if modality in info.channels]
    unit = " or ".join(dict.fromkeys(c.unit for c in each))
    return Channels(each[0].ch_names, unit, each[0].sfreq)


def trial_table(infos: Sequence[ShardInfo], modalities: Sequence[str]) -> pd.DataFrame:
    """A row a trial, as `WindowStore.trials` describes it."""
    rows = [
        {
            "subject": info.subject,
            "stimulus": trial.stimulus,
            "order": trial.order,
            "n_times": trial.n_times,
            **{f"has_{m}": m in trial.digests for m in modalities},
            **trial.ratings,
        }
        for info in infos
        for trial in info.trials
    ]
    return pd.DataFrame(rows).rename_axis("trial")


def rating_names(table: pd.DataFrame) -> list[str]:
    """The columns of `trial_table` that hold ratings."""
    others = ("subject", "stimulus", "order", "n_times")
    return [name for name in table if name not in others and not name.startswith("has_")]


def content_hash(
    infos: Sequence[ShardInfo], modalities: Sequence[str], rows: Iterable[tuple[int, int]]
) -> str:
    """SHA-256 of what trials hold: samples, channels, rate, names and ratings.

    Parameters
    ----------
    rows : (position in `infos`, position in its trials) of each trial
    """
    held: list[object] = [infos[0].sfreq, modalities]
    for k, row in rows:
        info, trial = infos[k], infos[k].trials[row]
        held += [info.subject, trial.stimulus, trial.order, trial.n_times, trial.ratings]
        for modality in modalities:
            channels = info.channels.get(modality)
            held.append(None if channels is None else (channels.ch_names, channels.unit))
            held.append(trial.digests.get(modality))
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
