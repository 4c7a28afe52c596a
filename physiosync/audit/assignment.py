"""Who and what a split file puts where: read anew here, so that no mistake is made twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from physiosync.errors import SplitError
from physiosync.shard_layout import BASE_SECONDS

#: In this order: what is trained on, what chooses, what judges.
PARTS = ("train", "validation", "test")
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
    """

    protocol: str
    spans: pd.DataFrame


def read_assignment(path: Path, trials: pd.DataFrame, sfreq: float) -> Assignment:
    """Read a split file and lay it over the trials of a cohort.

    Three kinds are understood:

    * `split.json` of a study: {"protocol", "train": {"subjects", "stimuli"}, "validation", "test"};
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
            given, protocol = _named_windows(path, table, sfreq), "window"
        else:
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict) and "parts" in content:
                given, protocol = _listed_windows(path, content, sfreq)
            else:
                given, protocol = _products(path, content, trials)
    except (OSError, ValueError, TypeError) as error:
        raise SplitError(f"{path}: expected a split, found: {error}") from error
    return Assignment(protocol, _checked(path, given, trials, protocol))


class _Part(BaseModel):
    subjects: list[str] = Field(min_length=1)
    stimuli: list[str] = Field(min_length=1)


class _SplitFile(BaseModel):
    protocol: str
    train: _Part
    validation: _Part
    test: _Part


def _products(path: Path, content: Any, trials: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Whole trials, from the subjects and stimuli of each part."""
    try:
        split = _SplitFile.model_validate(content)
    except ValidationError as error:
        raise SplitError(f"{path}: expected a split.json, found: {error}") from error
    rows = []
    for name in PARTS:
        part: _Part = getattr(split, name)
        for column, names in (("subject", part.subjects), ("stimulus", part.stimuli)):
            if strangers := sorted(set(names) - set(trials[column])):
                raise SplitError(
                    f"{path}: {name}: expected {column} names of the shards, found "
                    f"{len(strangers)} others ({', '.join(strangers[:3])})"
                )
        inside = trials["subject"].isin(part.subjects) & trials["stimulus"].isin(part.stimuli)
        mine = trials.loc[inside, ["subject", "stimulus"]]
        rows.append(mine.assign(start=0, stop=trials.loc[inside, "n_times"], part=name))
    return pd.concat(rows), split.protocol


def _listed_windows(path: Path, content: Any, sfreq: float) -> tuple[pd.DataFrame, str]:
    rows = [
        [*window, part] for part, windows in dict(content["parts"]).items() for window in windows
    ]
    if any(len(row) != 5 for row in rows):
        raise SplitError(f"{path}: expected windows [subject, stimulus, start, stop], found others")
    table = pd.DataFrame(rows, columns=["subject", "stimulus", "start", "stop", "part"])
    return _named_windows(path, table, sfreq), str(content.get("protocol", "window"))


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


def _checked(path: Path, given: pd.DataFrame, trials: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Add trial ids; refuse what is not a division of these trials."""
    if protocol not in PROTOCOLS:
        raise SplitError(
            f"{path}: expected a protocol of {', '.join(PROTOCOLS)}, found {protocol!r}"
        )
    if strangers := sorted(set(given["part"]) - set(PARTS)):
        raise SplitError(f"{path}: expected parts {', '.join(PARTS)}, found {strangers[0]!r}")
    if missing := [name for name in ("train", "test") if name not in set(given["part"])]:
        raise SplitError(f"{path}: expected trials in {missing[0]}, found none")
    known = trials[["subject", "stimulus", "n_times"]].rename_axis("trial").reset_index()
    spans = given.merge(known, on=["subject", "stimulus"], how="left")
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
    _check_cover(path, spans, trials, protocol)
    return spans.drop(columns="n_times")


def _check_cover(path: Path, spans: pd.DataFrame, trials: pd.DataFrame, protocol: str) -> None:
    left_out = ~trials.index.isin(spans["trial"])
    if protocol in ("both", "subject"):
        # By design in no part: known people with held-out clips, and held-out people with the clips
        # that they are calibrated on.
        left_out &= ~(
            trials["subject"].isin(spans["subject"]) & trials["stimulus"].isin(spans["stimulus"])
        ).to_numpy()
    if left_out.any():
        row = trials[left_out].iloc[0]
        raise SplitError(
            f"{path}: expected every trial of the shards in a part, found {int(left_out.sum())} of "
            f"{len(trials)} in none (such as subject {row['subject']}, stimulus {row['stimulus']})"
        )
