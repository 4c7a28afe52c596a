"""Who and what belongs to training, validation and test: from metadata alone, made once, saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from physiosync.config import Config
from physiosync.errors import SplitError
from physiosync.files import write_text

Ints = NDArray[np.int64]

PartName = Literal["train", "validation", "test"]
Protocol = Literal["stimulus", "subject", "both", "window"]

#: What a score under each protocol is about.
PROTOCOLS: dict[str, str] = {
    "stimulus": "known people, new clips",
    "subject": "new people, known clips",
    "both": "new people, new clips",
    "window": "LEAKY: stretches of one trial on both sides",
}


class Part(Config):
    """The trials of some subjects with some stimuli."""

    subjects: tuple[str, ...]
    stimuli: tuple[str, ...]


class Split(Config):
    """Three parts that share no stimulus, no subject, or neither, as the protocol says.

    Protocol "window" is the papers', and leaky: its stimuli are stretches of clips (see
    `WindowStore.in_stretches`), and stretches of one trial lie in all parts.
    """

    protocol: Protocol = "stimulus"
    seed: int
    train: Part
    validation: Part
    test: Part
    calibration: tuple[str, ...] = ()
    """Stimuli whose trials give each subject's scale, without labels, where people are held out.
    No validation or test trial is one of them."""
    stretch_seconds: int | None = None
    """Length of the stretches, where the stimuli are such."""
    sites: dict[str, str] = Field(default_factory=dict)
    """Subject -> where they were recorded, as far as it is known. Where people are held out, each
    part has its share of each site."""
    note: str = ""
    """What whoever reads the file has to know."""

    @property
    def knows_people(self) -> bool:
        """Whether the people who are tested are those who are trained on."""
        return self.protocol in ("stimulus", "window")

    def trials(self, table: pd.DataFrame, *parts: PartName) -> Ints:
        """Trial ids (the index of `table`) of the named parts, ascending.

        Parameters
        ----------
        table : has "subject" and "stimulus"; trials that were never recorded are simply absent
        """
        inside = np.zeros(len(table), dtype=bool)
        for name in parts:
            part: Part = getattr(self, name)
            inside |= _inside(table, part.subjects, part.stimuli)
        return _ids(table, inside)

    def known(self, table: pd.DataFrame) -> Ints:
        """Ids of all that may be learned from once nothing is chosen any more.

        Everything that people of training and validation did with stimuli of either.
        """
        subjects = (*self.train.subjects, *self.validation.subjects)
        stimuli = (*self.train.stimuli, *self.validation.stimuli)
        return _ids(table, _inside(table, subjects, stimuli))

    def scale_trials(self, table: pd.DataFrame, *, final: bool) -> Ints:
        """Ids of the trials that each subject's scale is fitted on; their labels are not used.

        Known people have training trials. Where people are held out, the scale of everybody,
        trained on or not, comes from their trials with calibration stimuli.

        Parameters
        ----------
        final : for the test part, once nothing is chosen any more; else for the validation part
        """
        if self.knows_people:
            return self.known(table) if final else self.trials(table, "train")
        subjects = (*self.train.subjects, *self.validation.subjects)
        if final:
            subjects += self.test.subjects
        return _ids(table, _inside(table, subjects, self.calibration))

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
    subjects, stimuli = _both(table)
    clips = _divided(stimuli, "stimuli", validation, test, np.random.default_rng(seed))
    return _split("stimulus", seed, (subjects, subjects, subjects), clips, ())


def subject_split(
    table: pd.DataFrame,
    *,
    validation: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    calibration: Sequence[str] | float = 0.2,
    sites: Mapping[str, str] | None = None,
) -> Split:
    """Hold whole subjects out.

    Parameters
    ----------
    table : one row a trial, with "subject" and "stimulus"
    validation, test : share of the subjects
    calibration : the calibration stimuli, or their share of all. Held-out people are not tested on
        them; people who are trained on are trained on them too
    sites : subject -> where they were recorded; each part gets its share of each

    Raises
    ------
    SplitError
        If a part would be empty, or a calibration stimulus does not exist.
    """
    rng = np.random.default_rng(seed)
    subjects, stimuli = _both(table)
    people = _divided(subjects, "subjects", validation, test, rng, sites)
    fixed = calibration_stimuli(table, calibration, rng)
    tested = [name for name in stimuli if name not in fixed]
    return _split("subject", seed, people, (stimuli, tested, tested), fixed, sites)


def both_split(
    table: pd.DataFrame,
    *,
    validation: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    sites: Mapping[str, str] | None = None,
) -> Split:
    """Hold whole stimuli and whole subjects out; test people are calibrated on training stimuli.

    Parameters
    ----------
    table : one row a trial, with "subject" and "stimulus"
    validation, test : share of the stimuli, and of the subjects
    sites : subject -> where they were recorded; each part gets its share of each

    Raises
    ------
    SplitError
        If a part would be empty.
    """
    rng = np.random.default_rng(seed)
    subjects, stimuli = _both(table)
    clips = _divided(stimuli, "stimuli", validation, test, rng)
    people = _divided(subjects, "subjects", validation, test, rng, sites)
    return _split("both", seed, people, clips, tuple(clips[0]), sites)


def folds(split: Split, *, seed: int = 0) -> tuple[Split, ...]:
    """Re-divide training and validation into folds; the test part is untouched.

    Fold 0 is the split itself. The others validate on training stimuli (subjects, or both) in turn,
    as many at a time as `split.validation` has, so they are fresh ground for configurations that
    were chosen on the validation part.
    """
    rng = np.random.default_rng(seed)
    train, validation = split.train, split.validation
    clips = _turns(train.stimuli, validation.stimuli, rng)
    if split.knows_people:
        return split, *(_fold(split, (train.subjects, train.subjects), what) for what in clips)
    people = _turns(train.subjects, validation.subjects, rng, split.sites)
    if split.protocol == "subject":
        known = train.stimuli, validation.stimuli
        return split, *(_fold(split, who, known) for who in people)
    return split, *(
        _fold(split, who, what).model_copy(update={"calibration": what[0]})
        # People and clips have turns of their own number; a fold takes one of each.
        for who, what in zip(people, clips, strict=False)
    )


def subject_folds(
    table: pd.DataFrame, n_folds: int, *, calibration: Sequence[str], seed: int = 0
) -> tuple[Split, ...]:
    """Test every subject once: for cohorts so small that one test part would say nothing.

    Each fold's test part are some subjects, all others are trained on, and the validation part is
    empty: whoever uses these folds may choose nothing.

    Parameters
    ----------
    table : one row a trial, with "subject" and "stimulus"
    n_folds : as many as there are subjects leaves one out at a time
    calibration : stimuli that give each subject's scale, without labels; not tested

    Raises
    ------
    SplitError
        If there are fewer subjects than folds, or a calibration stimulus does not exist.
    """
    subjects, stimuli = _both(table)
    if not 2 <= n_folds <= len(subjects):
        raise SplitError(f"expected 2 to {len(subjects)} subject folds, found {n_folds}")
    rng = np.random.default_rng(seed)
    fixed = calibration_stimuli(table, calibration, rng)
    tested = [name for name in stimuli if name not in fixed]
    return tuple(
        _split(
            "subject",
            seed,
            ([s for s in subjects if s not in held], [], held),
            (stimuli, [], tested),
            fixed,
        )
        for held in map(_names, np.array_split(rng.permutation(subjects), n_folds))
    )


#: Names of training, validation and test; of training and validation.
_Parts = tuple[list[str], list[str], list[str]]
_Turn = tuple[tuple[str, ...], tuple[str, ...]]


def _both(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """All subjects and all stimuli."""
    return _names(table["subject"].unique()), _names(table["stimulus"].unique())


def _split(
    protocol: Protocol,
    seed: int,
    people: _Parts,
    clips: _Parts,
    calibration: tuple[str, ...],
    sites: Mapping[str, str] | None = None,
) -> Split:
    parts = [
        Part(subjects=tuple(who), stimuli=tuple(what))
        for who, what in zip(people, clips, strict=True)
    ]
    return Split(
        protocol=protocol,
        seed=seed,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        calibration=calibration,
        sites=dict(sites or {}),
    )


def _divided(
    names: list[str],
    what: str,
    validation: float,
    test: float,
    rng: np.random.Generator,
    sites: Mapping[str, str] | None = None,
) -> _Parts:
    """Names of training, validation and test, each sorted."""
    n_validation, n_test = (max(1, round(share * len(names))) for share in (validation, test))
    if len(names) - n_validation - n_test < 2:
        raise SplitError(
            f"expected at least {n_validation + n_test + 2} {what} for a split into training, "
            f"{n_validation} validation and {n_test} test {what}, found {len(names)}"
        )
    shuffled = _mixed(rng.permutation(names), sites or {})
    held = n_test + n_validation
    train, validated, tested = shuffled[held:], shuffled[n_test:held], shuffled[:n_test]
    return _names(train), _names(validated), _names(tested)


def calibration_stimuli(
    table: pd.DataFrame, given: Sequence[str] | float, rng: np.random.Generator
) -> tuple[str, ...]:
    """Those that are named, or a share of all by chance, sorted.

    Raises
    ------
    SplitError
        If one does not exist, or none is left to test people on.
    """
    stimuli = _both(table)[1]
    if isinstance(given, float):
        given = _drawn_calibration(table, given, rng)
    if unknown := sorted(set(given) - set(stimuli)):
        raise SplitError(
            f"expected calibration stimuli among {', '.join(stimuli)}, found {', '.join(unknown)}"
        )
    if not given or len(set(given)) == len(stimuli):
        raise SplitError(
            "expected some stimuli to calibrate held-out people on and others to test them on, "
            f"found {len(set(given))} calibration stimuli of {len(stimuli)}"
        )
    return tuple(sorted(given))


def _drawn_calibration(table: pd.DataFrame, share: float, rng: np.random.Generator) -> list[str]:
    """A share of the stimuli at random, of which everybody who has two has some and lacks some.

    Where people share few stimuli, a plain draw would leave some without a scale, and others
    without a trial to be tested on.
    """
    stimuli = _both(table)[1]
    drawn = set(_names(rng.permutation(stimuli)[: max(1, round(share * len(stimuli)))]))
    own = {who: set(_names(mine.unique())) for who, mine in table.groupby("subject")["stimulus"]}
    for mine in own.values():
        if len(mine) > 1 and not mine & drawn:
            drawn.add(str(rng.choice(sorted(mine))))
    for mine in own.values():
        if len(mine) > 1 and mine <= drawn:
            spare = [x for x in sorted(mine) if all(o & drawn != {x} for o in own.values())]
            drawn -= set(spare[:1])
    return sorted(drawn)


def _turns(
    train: tuple[str, ...],
    validation: tuple[str, ...],
    rng: np.random.Generator,
    sites: Mapping[str, str] | None = None,
) -> list[_Turn]:
    """Training and validation names in which training names validate in turn."""
    size = len(validation)
    others = _mixed(rng.permutation(train), sites or {})
    turns = []
    for start in range(0, len(others) - size + 1, size):
        held = tuple(_names(others[start : start + size]))
        rest = (*validation, *(name for name in train if name not in held))
        turns.append((tuple(sorted(rest)), held))
    return turns


def _fold(split: Split, people: _Turn, clips: _Turn) -> Split:
    train, validation = (
        Part(subjects=who, stimuli=what) for who, what in zip(people, clips, strict=True)
    )
    return split.model_copy(update={"train": train, "validation": validation})


def _mixed(names: NDArray[np.str_], sites: Mapping[str, str]) -> list[str]:
    """The names in an order of which every run holds each site's share, as numbers allow.

    Names of one site keep their order among themselves.
    """
    each: dict[str, list[str]] = {}
    for name in names:
        each.setdefault(sites.get(str(name), ""), []).append(str(name))
    # The k-th of n at (k + 1/2) / n of the way.
    way = {name: (k + 0.5) / len(mine) for mine in each.values() for k, name in enumerate(mine)}
    return sorted(way, key=way.__getitem__)


def _names(names: Iterable[str] | NDArray[np.str_]) -> list[str]:
    """As plain strings, sorted."""
    return sorted(str(name) for name in names)


def _inside(
    table: pd.DataFrame, subjects: Sequence[str], stimuli: Sequence[str]
) -> NDArray[np.bool_]:
    inside = table["subject"].isin(subjects) & table["stimulus"].isin(stimuli)
    return np.asarray(inside, dtype=bool)


def _ids(table: pd.DataFrame, inside: NDArray[np.bool_]) -> Ints:
    return np.sort(table.index.to_numpy(dtype=np.int64)[inside])
