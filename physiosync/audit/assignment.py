"""Who and what a split file puts where: read anew here, so that no mistake is made twice."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, ValidationError, model_validator

from physiosync.errors import SplitError
from physiosync.shard_layout import BASE_SECONDS

#: In this order: what is trained on, what chooses, what judges.
PARTS = ("train", "validation", "test")
#: No part: what the scale of held-out people comes from, without labels.
CALIBRATION = "calibration"
PROTOCOLS = ("stimulus", "subject", "both", "window")

_WINDOWS = (
    'a table with the columns "subject", "stimulus", "part" and either "index" (number of the '
    f'{BASE_SECONDS:g} s window in its trial, from 0) or "start" and "stop" (seconds)'
)


@dataclass(frozen=True, eq=False)
class Assignment:
    """A split, as stretches of trials.

    Parameters
    ----------
    protocol : one of `PROTOCOLS`
    spans : a row a stretch: "trial" (id in the store), "subject", "stimulus", "start" and "stop"
        (samples), "part"; parts may overlap, which is for the checks to find
    calibration : stimuli that give the scale of people who are held out
    beside : in rows as those of `spans`, what is in no part and still used: trials of people
        outside training with calibration stimuli ("part" is `CALIBRATION`); and under "both" the
        trials of training people with validation stimuli, which are trained on once nothing is
        chosen any more ("train")
    """

    protocol: str
    spans: pd.DataFrame
    calibration: tuple[str, ...]
    beside: pd.DataFrame

    @property
    def all_spans(self) -> pd.DataFrame:
        """Of the three parts and what is used beside them."""
        return pd.concat([self.spans, self.beside]) if len(self.beside) else self.spans


@dataclass(frozen=True, eq=False)
class _Given:
    """What a file says, before it is compared with the trials.

    Parameters
    ----------
    table : "subject", "stimulus", "start", "stop" (samples), "part"
    subjects, stimuli : all that it names, whether or not somebody met both
    """

    table: pd.DataFrame
    protocol: str
    subjects: frozenset[str]
    stimuli: frozenset[str]
    calibration: tuple[str, ...] = ()


def read_assignment(path: Path, trials: pd.DataFrame, sfreq: float) -> Assignment:
    """Read a split file and lay it over the trials of a cohort.

    Three kinds are understood:

    * `split.json` of a study: {"protocol", "train": {"subjects", "stimuli"}, "validation", "test"}
      and, where people are held out, "calibration": [stimulus, ...]; validation may be empty. With
      "stretch_seconds" stimuli are stretches of trials, "v07@005" from its second 5 on;
    * JSON of windows: {"protocol": "window", "parts": {"train": [[subject, stimulus, start, stop],
      ...], "test": ...}}, in seconds from the beginning of the trial;
    * CSV or Parquet of windows: "subject", "stimulus", "part", and "index" (of 0.5 s windows) or
      "start" and "stop" (seconds).

    Parameters
    ----------
    trials : a row a trial (index: its id) with "subject", "stimulus" and "n_times"
    sfreq : in Hz

    Raises
    ------
    SplitError
        If the file can't be read, names subjects, stimuli or trials that aren't there, leaves a
        trial out that its protocol gives a part, names a window beyond its trial, or one twice in
        one part.
    """
    try:
        if path.suffix.lower() in (".csv", ".parquet"):
            read = pd.read_csv if path.suffix.lower() == ".csv" else pd.read_parquet
            table = read(path)
            given = _windows(_named_windows(path, table, sfreq), "window")
        else:
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict) and "parts" in content:
                given = _listed_windows(path, content, sfreq)
            else:
                given = _products(path, content, trials, sfreq)
    except (OSError, ValueError, TypeError) as error:
        raise SplitError(f"{path}: expected a split, found: {error}") from error
    spans = _checked(path, given, trials)
    beside = pd.concat([_scaled(given, spans, trials), _known_later(given, spans, trials)])
    return Assignment(given.protocol, spans, given.calibration, beside)


class _Part(BaseModel):
    subjects: list[str]
    stimuli: list[str]

    @model_validator(mode="after")
    def _no_half(self) -> Self:
        if bool(self.subjects) != bool(self.stimuli):
            raise ValueError("expected both subjects and stimuli, or neither; found one alone")
        return self


class _SplitFile(BaseModel):
    protocol: str
    train: _Part
    validation: _Part
    test: _Part
    calibration: tuple[str, ...] = ()
    stretch_seconds: int | None = Field(default=None, ge=1)


def _products(path: Path, content: Any, trials: pd.DataFrame, sfreq: float) -> _Given:
    """Whole trials, from the subjects and stimuli of each part."""
    try:
        split = _SplitFile.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SplitError(f"{path}: expected a split.json, found: {wrong}") from error
    parts: dict[str, _Part] = {name: getattr(split, name) for name in PARTS}
    if split.stretch_seconds is not None:
        length = round(split.stretch_seconds * sfreq)
        return _stretches(path, split.protocol, parts, trials, length, sfreq)
    _check_known(path, CALIBRATION, "stimulus", split.calibration, trials)
    rows = []
    for name, part in parts.items():
        _check_known(path, name, "subject", part.subjects, trials)
        _check_known(path, name, "stimulus", part.stimuli, trials)
        inside = trials["subject"].isin(part.subjects) & trials["stimulus"].isin(part.stimuli)
        mine = trials.loc[inside, ["subject", "stimulus"]]
        rows.append(mine.assign(start=0, stop=trials.loc[inside, "n_times"], part=name))
    return _Given(
        pd.concat([table for table in rows if len(table)] or rows),
        split.protocol,
        frozenset(name for part in parts.values() for name in part.subjects),
        frozenset(name for part in parts.values() for name in part.stimuli)
        | frozenset(split.calibration),
        split.calibration,
    )


def _stretches(
    path: Path,
    protocol: str,
    parts: Mapping[str, _Part],
    trials: pd.DataFrame,
    length: int,
    sfreq: float,
) -> _Given:
    """Stretches of trials; whoever's trial ends before one has none of it."""
    rows = []
    for name, part in parts.items():
        _check_known(path, name, "subject", part.subjects, trials)
        cut = [_parsed(path, stretch) for stretch in part.stimuli]
        _check_known(path, name, "stimulus", [clip for clip, _ in cut], trials)
        wanted = pd.DataFrame(cut, columns=["stimulus", "second"])
        mine = trials.loc[trials["subject"].isin(part.subjects), ["subject", "stimulus", "n_times"]]
        found = mine.merge(wanted, on="stimulus")
        start = (found["second"].astype(float) * sfreq).round().astype(np.int64)
        found = found.assign(start=start, stop=start + length, part=name)
        rows.append(found[found["stop"] <= found["n_times"]].drop(columns=["second", "n_times"]))
    return _windows(pd.concat(rows, ignore_index=True), protocol)


def _parsed(path: Path, stretch: str) -> tuple[str, int]:
    clip, _, second = stretch.rpartition("@")
    if not clip or not second.isdecimal():
        raise SplitError(
            f'{path}: expected stretches such as "v07@005" (stimulus and second), found {stretch!r}'
        )
    return clip, int(second)


def _check_known(
    path: Path, where: str, column: str, names: Sequence[str], trials: pd.DataFrame
) -> None:
    if strangers := sorted(set(names) - set(trials[column])):
        raise SplitError(
            f"{path}: {where}: expected {column} names of the shards, found "
            f"{len(strangers)} others ({', '.join(strangers[:3])}{', ...' * (len(strangers) > 3)})"
        )


def _windows(table: pd.DataFrame, protocol: str) -> _Given:
    return _Given(table, protocol, frozenset(table["subject"]), frozenset(table["stimulus"]))


def _listed_windows(path: Path, content: Any, sfreq: float) -> _Given:
    rows = [
        [*window, part] for part, windows in dict(content["parts"]).items() for window in windows
    ]
    if any(len(row) != 5 for row in rows):
        raise SplitError(f"{path}: expected windows [subject, stimulus, start, stop], found others")
    table = pd.DataFrame(rows, columns=["subject", "stimulus", "start", "stop", "part"])
    return _windows(_named_windows(path, table, sfreq), str(content.get("protocol", "window")))


def _named_windows(path: Path, table: pd.DataFrame, sfreq: float) -> pd.DataFrame:
    columns = set(table.columns)
    if not {"subject", "stimulus", "part"} <= columns or not (
        "index" in columns or {"start", "stop"} <= columns
    ):
        raise SplitError(f"{path}: expected {_WINDOWS}; found {', '.join(map(str, table.columns))}")
    if "start" in columns:
        start, stop = (table[name].astype(float) for name in ("start", "stop"))
    else:
        start = table["index"].astype(float) * BASE_SECONDS
        stop = start + BASE_SECONDS
    out = table[["subject", "stimulus", "part"]].astype(str)
    return out.assign(
        start=(start * sfreq).round().astype(np.int64), stop=(stop * sfreq).round().astype(np.int64)
    )


def _checked(path: Path, given: _Given, trials: pd.DataFrame) -> pd.DataFrame:
    """Add trial ids; refuse what is not a division of these trials."""
    table = given.table
    if given.protocol not in PROTOCOLS:
        raise SplitError(
            f"{path}: expected a protocol of {', '.join(PROTOCOLS)}, found {given.protocol!r}"
        )
    if strangers := sorted(set(table["part"]) - set(PARTS)):
        raise SplitError(f"{path}: expected parts {', '.join(PARTS)}, found {strangers[0]!r}")
    if missing := [name for name in ("train", "test") if name not in set(table["part"])]:
        raise SplitError(f"{path}: expected trials in {missing[0]}, found none")
    known = trials[["subject", "stimulus", "n_times"]].rename_axis("trial").reset_index()
    spans = table.merge(known, on=["subject", "stimulus"], how="left")
    if spans["trial"].isna().any():
        row = spans[spans["trial"].isna()].iloc[0]
        raise SplitError(
            f"{path}: expected trials of the shards, found subject {row['subject']}, stimulus "
            f"{row['stimulus']}, which they do not hold"
        )
    spans = spans.astype({"trial": np.int64})
    beyond = (spans["start"] < 0) | (spans["stop"] <= spans["start"])
    beyond |= spans["stop"] > spans["n_times"]
    if beyond.any():
        row = spans[beyond].iloc[0]
        raise SplitError(
            f"{path}: subject {row['subject']}, stimulus {row['stimulus']}: expected windows "
            f"within {row['n_times']} samples, found {row['start']} to {row['stop']}"
        )
    keys = ["trial", "start", "stop", "part"]
    if spans.duplicated(keys).any():
        row = spans[spans.duplicated(keys)].iloc[0]
        raise SplitError(
            f"{path}: expected each window once in its part, found one of subject "
            f"{row['subject']}, stimulus {row['stimulus']} twice in {row['part']}"
        )
    _check_cover(path, given, spans, trials)
    return spans.drop(columns="n_times")


def _scaled(given: _Given, spans: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Calibration trials of all who are not trained on."""
    known = set(spans.loc[spans["part"] == "train", "subject"])
    held = (given.subjects if given.protocol in ("both", "subject") else frozenset()) - known
    return _whole(trials, held, given.calibration, CALIBRATION)


def _known_later(given: _Given, spans: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Trials of training people with validation stimuli, where these are in no part."""
    parts = {part: spans[spans["part"] == part] for part in ("train", "validation")}
    stimuli = parts["validation"]["stimulus"] if given.protocol == "both" else ()
    return _whole(trials, parts["train"]["subject"], stimuli, "train")


def _whole(
    trials: pd.DataFrame, subjects: Collection[str], stimuli: Collection[str], part: str
) -> pd.DataFrame:
    """The trials of these people with these stimuli, from beginning to end."""
    inside = trials["subject"].isin(subjects) & trials["stimulus"].isin(stimuli)
    rows = trials.loc[inside, ["subject", "stimulus", "n_times"]].rename_axis("trial").reset_index()
    return rows.assign(start=0, part=part).rename(columns={"n_times": "stop"})


def _check_cover(path: Path, given: _Given, spans: pd.DataFrame, trials: pd.DataFrame) -> None:
    left_out = ~trials.index.isin(spans["trial"])
    if given.protocol in ("both", "subject"):
        # By design in no part: known people with held-out clips, and held-out people with the clips
        # that they are calibrated on. The file names them all; where nobody shares a clip, most of
        # what it names together nobody met.
        left_out &= ~(
            trials["subject"].isin(given.subjects) & trials["stimulus"].isin(given.stimuli)
        ).to_numpy()
    if left_out.any():
        row = trials[left_out].iloc[0]
        raise SplitError(
            f"{path}: expected every trial of the shards in a part, found {int(left_out.sum())} of "
            f"{len(trials)} in none (such as subject {row['subject']}, stimulus {row['stimulus']})"
        )
