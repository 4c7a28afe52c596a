"""A user's studies beside the published numbers, protocol by protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from physiosync.errors import StudyError
from physiosync.evidence import protocol_in_words
from physiosync.ledger import Ledger
from physiosync.predictions import scores_of
from physiosync.published import CONTEXT, COUNTERPARTS, NOTES, RESULTS, Published

#: What is shown of a study: its headline, the encoder that validation ranked first, fine-tuned.
_METHOD = "pretrained"
_NAMES = {"deap": "DEAP", "dreamer": "DREAMER"}
#: From which the paper counts a rating as high.
_THRESHOLDS = {"deap": 5.0, "dreamer": 3.0}
_COLUMNS = ["target", "what", "protocol", "accuracy", "F1", "balanced", "majority"]
_HOW_TO_READ = (
    "All in %. Published: mean +- standard deviation as printed (rerun: of others' methods, by the "
    "same paper); the released scripts average accuracy and F1 over batches. Yours: the encoder "
    "that validation ranked first, fine-tuned; accuracy of all test windows or whole trials; F1 "
    "(macro) and balanced accuracy are means over subjects; majority: the accuracy of always "
    "answering the class that is more frequent in training, of each person where people are known."
)


@dataclass(frozen=True)
class Ran:
    """A study that was run, as its folder tells it.

    Parameters
    ----------
    name : as it stands in the rows
    """

    name: str
    folder: Path
    content: dict[str, Any]

    @property
    def protocol(self) -> str:
        return str(self.content["identity"]["protocol"])

    @property
    def dataset(self) -> str:
        return str(self.content["identity"]["dataset"])

    @property
    def is_synthetic(self) -> bool:
        return bool(self.content["identity"]["synthetic"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a target and level: "target", "level", "accuracy", "f1", "balanced_accuracy" and
        "majority", in %, means over seeds."""
        predictions = pd.read_parquet(self.folder / "predictions.parquet")
        found = _scores(predictions[predictions["method"] == _METHOD])
        found["majority"] = _scores(predictions[predictions["method"] == "majority"])["accuracy"]
        return found.reset_index()


def read_study(folder: Path, name: str = "") -> Ran:
    """The study in a folder of results.

    Raises
    ------
    StudyError
        If there is none, or its test part was not opened yet.
    """
    content = Ledger(folder).read()
    if not content:
        below = sorted(path.parent.name for path in folder.glob("*/study.json"))
        raise StudyError(
            f"{folder}: expected the folder of a study, with study.json, found "
            + (f"studies in it: {', '.join(below)}" if below else "none")
        )
    if not (folder / "predictions.parquet").exists():
        raise StudyError(f"{folder}: expected predictions.parquet, found a study not yet finished")
    if missing := {"protocol", "dataset", "synthetic"} - content["identity"].keys():
        raise StudyError(f"{folder}/study.json: expected {', '.join(sorted(missing))}, found none")
    return Ran(name or folder.resolve().name, folder, content)


def read_studies(folders: Sequence[Path]) -> list[Ran]:
    """Those in some folders, called as their folders are, or by the whole path if two share that.

    Raises
    ------
    StudyError
        If a folder has none, or no folder is named.
    """
    if not folders:
        raise StudyError("expected folders of studies, such as results/deap, found none")
    names = [folder.resolve().name for folder in folders]
    return [
        read_study(folder, str(folder) if names.count(name) > 1 else name)
        for folder, name in zip(folders, names, strict=True)
    ]


def counterpart(study: Ran) -> tuple[str | None, list[str]]:
    """The published protocol that asks what a study asks, or None; and sentences on it.

    Without a counterpart they say why there is none, else how the study differs.
    """
    identity = study.content["identity"]
    if study.is_synthetic:
        return None, ["its data are SYNTHETIC"]
    if study.dataset not in _NAMES:
        return None, [f"nothing is published for its data ({study.dataset})"]
    if study.protocol not in COUNTERPARTS:
        said = protocol_in_words(study.protocol)
        return None, [f"nothing is published for protocol {said}"]
    differs = []
    if (mine := identity.get("threshold")) != (theirs := _THRESHOLDS[study.dataset]):
        differs.append(f"ratings from {mine} on are high, the paper's from {theirs:g} on")
    if identity.get("preset") != "paper":
        differs.append(f"its network is preset {identity.get('preset')!r}, not the published one")
    if identity.get("pairing") == "recording":
        differs.append("it is paired by recording, which is another method")
    if study.protocol == "window" and not identity.get("pooled"):
        differs.append("a classifier a person, the paper's is one for all")
    if (n := identity.get("folds", 1)) > 1:
        differs.append(
            f"{n} folds: the majority is of each fold's training part, and rarer in its test part"
        )
    if study.protocol == "subject" and not identity.get("reuse_search"):
        differs.append("nothing of it was chosen on test people")
    return COUNTERPARTS[study.protocol], differs


def beside_paper(studies: Sequence[Ran]) -> list[tuple[str, pd.DataFrame, list[str]]]:
    """Heading, rows and notes of each published protocol, then of studies with no counterpart."""
    found = {study.name: counterpart(study) for study in studies}
    sections = []
    for dataset, protocol in dict.fromkeys((p.dataset, p.protocol) for p in RESULTS):
        mine = [s for s in studies if s.dataset == dataset and found[s.name][0] == protocol]
        published = [p for p in RESULTS if (p.dataset, p.protocol) == (dataset, protocol)]
        rows = []
        targets = [p.target for p in published] + [t for s in mine for t in s.scores["target"]]
        for target in dict.fromkeys(targets):
            rows += [_published_row(p) for p in published if p.target == target]
            rows += [row for study in mine for row in _study_rows(study, target)]
        notes = [*NOTES.get(("", protocol), ()), *NOTES.get((dataset, protocol), ())]
        notes += [f"{s.name}: {note}." for s in mine for note in found[s.name][1]]
        if not mine:
            ours = next(name for name, theirs in COUNTERPARTS.items() if theirs == protocol)
            notes.append(f"None of your studies is its counterpart (--protocol {ours}).")
        heading = f"{_NAMES[dataset]}, published {protocol!r}"
        sections.append((heading, pd.DataFrame(rows, columns=_COLUMNS), notes))
    if alone := [study for study in studies if found[study.name][0] is None]:
        notes = [f"{s.name}: no counterpart, {'; '.join(found[s.name][1])}." for s in alone]
        sections.append(("Yours, without a published counterpart", _own_rows(alone), notes))
    return sections


def as_text(studies: Sequence[Ran], *, paper: bool) -> str:
    """For a terminal of 100 columns.

    Parameters
    ----------
    paper : whether the published numbers stand beside
    """
    parts = []
    for heading, rows, notes in _sections(studies, paper):
        parts.append(heading)
        widths = [max(len(str(v)) for v in (c, *rows[c])) for c in rows]
        for row in ([*rows.columns], *rows.to_numpy().tolist()):
            cells = (f"{v:<{w}}" for v, w in zip(row, widths, strict=True))
            parts.append(("  " + "  ".join(cells)).rstrip())
        for note in notes:
            parts += wrap(note, width=100, initial_indent="  - ", subsequent_indent="    ")
        parts.append("")
    for sentence in _below(paper):
        parts += wrap(sentence, width=100)
    return "\n".join(parts)


def as_markdown(studies: Sequence[Ran], *, paper: bool) -> str:
    """The same as a page."""
    parts = []
    for heading, rows, notes in _sections(studies, paper):
        parts += [f"## {heading}", ""]
        for row in ([*rows.columns], ["---"] * len(rows.columns), *rows.to_numpy().tolist()):
            parts.append("| " + " | ".join(map(str, row)) + " |")
        parts += ["", *(f"- {note}" for note in notes), ""]
    return "\n".join([*parts, "\n\n".join(_below(paper)), ""])


def _sections(studies: Sequence[Ran], paper: bool) -> list[tuple[str, pd.DataFrame, list[str]]]:
    return beside_paper(studies) if paper else [("Studies", _own_rows(studies), [])]


def _below(paper: bool) -> tuple[str, ...]:
    return (_HOW_TO_READ, *(CONTEXT if paper else ()))


def _own_rows(studies: Sequence[Ran]) -> pd.DataFrame:
    rows = [
        row
        for study in studies
        for target in study.scores["target"].unique()
        for row in _study_rows(study, target)
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _published_row(score: Published) -> list[str]:
    spread = "" if score.sd is None else f" +- {score.sd:.2f}"
    again = " (rerun)" if score.method != "PhysioSync" else ""
    return [
        score.target,
        f"published: {score.method}{again}",
        score.protocol + (" (leaky)" if score.protocol == "within" else ""),
        f"{score.accuracy:.2f}{spread}",
        "-" if score.f1 is None else f"{score.f1:.2f}",
        "-",
        "-",
    ]


def _study_rows(study: Ran, target: str) -> Iterator[list[str]]:
    data = "SYNTHETIC " if study.is_synthetic else ""
    leaky = " (leaky)" if study.protocol == "window" else ""
    mine = study.scores[study.scores["target"] == target]
    if study.protocol == "window":  # Its stretches are windows, not trials.
        mine = mine[mine["level"] == "window"]
    for _, row in mine.sort_values("level", ascending=False).iterrows():  # The paper's are windows.
        numbers = (row[c] for c in ("accuracy", "f1", "balanced_accuracy", "majority"))
        yield [
            target,
            f"{data}{study.name}, {row['level']}s",
            study.protocol + leaky,
            *("-" if np.isnan(number) else f"{number:.2f}" for number in numbers),
        ]


def _scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Of one method, in %, by target and level; means over seeds."""
    each = []
    for _, run in predictions.groupby("seed"):
        scores = scores_of(run)
        scores["right"] = scores["n"] * scores["accuracy"]
        groups = scores.groupby(["target", "level"])
        means = groups[["f1", "balanced_accuracy"]].mean()  # of subjects; undefined ones in none
        means["accuracy"] = groups["right"].sum() / groups["n"].sum()
        each.append(100 * means)
    return sum(each[1:], each[0]) / len(each)
