"""Who and what belongs to training, validation and test: from metadata alone, made once, saved."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from physiosync.config import Config
from physiosync.errors import SplitError
from physiosync.files import write_text

PartName = Literal["train", "validation", "test"]


class Part(Config):
    """The trials of some subjects with some stimuli."""

    subjects: tuple[str, ...]
    stimuli: tuple[str, ...]


class Split(Config):
    """Three parts that share no stimulus (protocol "stimulus": known people, new clips)."""

    protocol: Literal["stimulus"] = "stimulus"
    seed: int
    train: Part
    validation: Part
    test: Part

    def trials(self, table: pd.DataFrame, *parts: PartName) -> NDArray[np.int64]:
        """Trial ids (the index of `table`) of the named parts, ascending.

        Parameters
        ----------
        table : has "subject" and "stimulus"; trials that were never recorded are simply absent
        """
        inside = np.zeros(len(table), dtype=bool)
        for name in parts:
            part: Part = getattr(self, name)
            inside |= (
                table["subject"].isin(part.subjects) & table["stimulus"].isin(part.stimuli)
            ).to_numpy()
        return np.sort(table.index.to_numpy(dtype=np.int64)[inside])

    def save(self, path: Path) -> None:
        """Write the split as JSON, in one step."""
        write_text(path, self.model_dump_json(indent=1))

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read a split that `save` wrote.

        Raises
        ------
        SplitError
            If the file is missing or is not a split.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SplitError(f"{path}: expected a split.json, found: {error}") from error


def stimulus_split(
    table: pd.DataFrame, *, validation: float = 0.2, test: float = 0.2, seed: int = 0
) -> Split:
    """Hold whole stimuli out, for every subject alike.

    Parameters
    ----------
    table : one row a trial, with "subject" and "stimulus"
    validation, test : share of the stimuli

    Raises
    ------
    SplitError
        If a part would be empty.
    """
    stimuli = sorted(table["stimulus"].unique())
    n_validation, n_test = (max(1, round(share * len(stimuli))) for share in (validation, test))
    if len(stimuli) - n_validation - n_test < 2:
        raise SplitError(
            f"expected at least {n_validation + n_test + 2} stimuli for a split into training, "
            f"{n_validation} validation and {n_test} test stimuli, found {len(stimuli)}"
        )
    shuffled = list(np.random.default_rng(seed).permutation(stimuli))
    held = shuffled[:n_test], shuffled[n_test : n_test + n_validation]
    subjects = tuple(sorted(table["subject"].unique()))

    def part(names: list[str]) -> Part:
        return Part(subjects=subjects, stimuli=tuple(sorted(str(name) for name in names)))

    return Split(
        seed=seed,
        train=part(shuffled[n_test + n_validation :]),
        validation=part(held[1]),
        test=part(held[0]),
    )


def stimulus_folds(split: Split, *, seed: int = 0) -> tuple[Split, ...]:
    """Re-divide training and validation into folds; the test part is untouched.

    Fold 0 is the split itself. The others validate on training stimuli in turn, as many at a time
    as `split.validation` has, so they are fresh ground for configurations that were chosen on the
    validation part.
    """
    size = len(split.validation.stimuli)
    others = list(np.random.default_rng(seed).permutation(split.train.stimuli))
    folds = [split]
    for start in range(0, len(others) - size + 1, size):
        held = {str(name) for name in others[start : start + size]}
        rest = [*split.validation.stimuli, *(s for s in split.train.stimuli if s not in held)]
        update = {
            "train": Part(subjects=split.train.subjects, stimuli=tuple(sorted(rest))),
            "validation": Part(subjects=split.train.subjects, stimuli=tuple(sorted(held))),
        }
        folds.append(split.model_copy(update=update))
    return tuple(folds)
