"""Splits of stretches instead of trials: the papers' shuffle, and its clean counterpart."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from physiosync.splits import PROTOCOLS, Split, stimulus_split
from physiosync.stretches import clip_of


def window_split(
    table: pd.DataFrame,
    *,
    stretch_seconds: int,
    validation: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
) -> Split:
    """Shuffle stretches of trials, as the papers do: LEAKY, for comparison with them alone.

    A stretch of a clip is in one part for everybody, as the released scripts deal out moments; its
    neighbours in the same trial mostly are in another.

    Parameters
    ----------
    table : one row a stretch, with "subject" and "stimulus" as `WindowStore.in_stretches` names it
    stretch_seconds : length of the stretches
    validation, test : share of the stretches

    Raises
    ------
    SplitError
        If a part would be empty.
    """
    split = stimulus_split(table, validation=validation, test=test, seed=seed)
    return split.model_copy(
        update={
            "protocol": "window",
            "stretch_seconds": stretch_seconds,
            "note": PROTOCOLS["window"],
        }
    )


def by_stretch(split: Split, table: pd.DataFrame, stretch_seconds: int) -> Split:
    """A split of whole clips, told in stretches: each goes where its clip is.

    Parameters
    ----------
    table : one row a stretch, as `window_split` takes it
    """
    stretches = sorted(map(str, table["stimulus"].unique()))

    def named(clips: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in stretches if clip_of(name) in set(clips))

    parts = {
        name: part.model_copy(update={"stimuli": named(part.stimuli)})
        for name, part in (
            ("train", split.train),
            ("validation", split.validation),
            ("test", split.test),
        )
    }
    return split.model_copy(
        update=parts | {"calibration": named(split.calibration), "stretch_seconds": stretch_seconds}
    )
