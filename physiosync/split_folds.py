"""The outer folds of a study: as many splits, whose test parts take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from physiosync.errors import SplitError
from physiosync.splits import PROTOCOLS, Part, Protocol, Split, calibration_stimuli

#: Names of training, validation and test, each sorted.
_Parts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def outer_folds(
    table: pd.DataFrame,
    n_folds: int,
    *,
    protocol: Protocol = "stimulus",
    validation: float = 0.2,
    seed: int = 0,
    calibration: Sequence[str] | float = 0.2,
    sites: Mapping[str, str] | None = None,
    stretch_seconds: int | None = None,
) -> tuple[Split, ...]:
    """Test every stimulus (subject; both) once; each fold draws its validation part from the rest.

    The first test part is never smaller than another, so what fits the first fold's training part
    fits all.

    Under "both", fold k tests the k-th part of the people with the k-th part of the stimuli: each
    person and each stimulus is tested once, and of all pairs of them one in `n_folds`. All pairs
    would take `n_folds` squared studies.

    Parameters
    ----------
    table : one row a trial, with "subject" and "stimulus"
    validation : share of all stimuli, and of all subjects
    calibration : protocol "subject": see `subject_split`; the same in all folds, and tested in none
    sites : subject -> where they were recorded; each fold tests and validates on as equal a share
        of every site as numbers allow
    stretch_seconds : protocol "window", LEAKY: length of the stretches that are the stimuli

    Raises
    ------
    SplitError
        If there are more folds than stimuli (subjects), or a training part would be too small.
    """
    rng = np.random.default_rng(seed)
    subjects, stimuli = (sorted(map(str, table[c].unique())) for c in ("subject", "stimulus"))

    def turns(what: str, names: list[str]) -> list[_Parts]:
        return _turns(what, names, n_folds, validation, rng, sites or {})

    if protocol in ("stimulus", "window"):
        everybody = tuple(subjects)
        people = [(everybody, everybody, everybody)] * n_folds
        what = "stimuli" if protocol == "stimulus" else "stretches"
        found = _splits(protocol, seed, people, turns(what, stimuli))
        if protocol == "stimulus":
            return found
        leaky = {"stretch_seconds": stretch_seconds, "note": PROTOCOLS["window"]}
        return tuple(split.model_copy(update=leaky) for split in found)
    if protocol == "subject":
        fixed = calibration_stimuli(table, calibration, rng)
        asked = tuple(name for name in stimuli if name not in fixed)
        clips = [(tuple(stimuli), asked, asked)] * n_folds
        about = {"calibration": fixed, "sites": dict(sites or {})}
        return tuple(
            split.model_copy(update=about)
            for split in _splits(protocol, seed, turns("subjects", subjects), clips)
        )
    pairs = _splits(protocol, seed, turns("subjects", subjects), turns("stimuli", stimuli))
    about = {"sites": dict(sites or {})}
    return tuple(
        split.model_copy(update=about | {"calibration": split.train.stimuli}) for split in pairs
    )


def _splits(
    protocol: Protocol, seed: int, people: Sequence[_Parts], clips: Sequence[_Parts]
) -> tuple[Split, ...]:
    found = []
    for who, what in zip(people, clips, strict=True):
        train, validation, test = (
            Part(subjects=s, stimuli=k) for s, k in zip(who, what, strict=True)
        )
        found.append(
            Split(protocol=protocol, seed=seed, train=train, validation=validation, test=test)
        )
    return tuple(found)


def _turns(
    what: str,
    names: list[str],
    n_folds: int,
    validation: float,
    rng: np.random.Generator,
    sites: Mapping[str, str],
) -> list[_Parts]:
    if not 2 <= n_folds <= len(names):
        raise SplitError(f"--folds: expected 2 to {len(names)} folds of {what}, found {n_folds}")
    n_validation = max(1, round(validation * len(names)))

    def by_site(names: list[str]) -> list[str]:
        """By chance within a site, one site after the other."""
        return sorted(map(str, rng.permutation(names)), key=lambda name: sites.get(name, ""))

    order, turns = by_site(names), []
    for first in range(n_folds):
        held = order[first::n_folds]
        others = by_site([name for name in names if name not in held])
        if len(others) - n_validation < 2:
            raise SplitError(
                f"--folds {n_folds}: expected at least {len(held) + n_validation + 2} {what} for "
                f"{n_validation} validation and {len(held)} test {what} in a fold, found "
                f"{len(names)}"
            )
        # At equal distances, so from each site its share.
        picked = {others[int((i + 0.5) * len(others) / n_validation)] for i in range(n_validation)}
        train = tuple(sorted(name for name in others if name not in picked))
        turns.append((train, tuple(sorted(picked)), tuple(sorted(held))))
    return turns
