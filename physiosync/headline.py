"""What a report says of its study before the scores: the same on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill, wrap
from typing import Any

from physiosync import evidence
from physiosync.splits import Split


def _one_for_all(content: Mapping[str, Any], split: Split) -> bool:
    return bool(content["identity"]["pooled"]) or not split.knows_people


def header(
    content: Mapping[str, Any],
    split: Split,
    facts: Mapping[str, str],
    *,
    name: str,
    synthetic: bool,
) -> dict[str, str]:
    """What stands at the head of report.html.

    Parameters
    ----------
    content : of study.json
    split : the study's, or that of one of its folds
    facts : in the middle, what this kind of study adds
    """
    identity = content["identity"]
    one, options = _one_for_all(content, split), content["options"]
    recorded = str(options["recordings"] or options["shards"] or "shards")
    return {
        "study": name,
        "data": "synthetic cohort" if synthetic else recorded,
        "protocol": evidence.protocol_in_words(split.protocol),
        "pairing": identity["pairing"],
        "fine-tuning": "one classifier for all people" if one else "one for each person",
        "seed": str(identity["seed"]),
        **facts,
        "versions": ", ".join(f"{k} {v}" for k, v in content["versions"].items()),
        "code": str(content["git_revision"]),
    }


def title(
    content: Mapping[str, Any],
    split: Split,
    *,
    unit: str,
    synthetic: bool,
    folds: int | None = None,
) -> str:
    """What stands above the printed table; a few lines.

    Parameters
    ----------
    unit : what is scored
    folds : how many are in it, of a study in folds
    """
    kind = "SYNTHETIC data, " if synthetic else ""
    of_folds = f"{folds} folds; " if folds else ""
    protocol = evidence.protocol_in_words(split.protocol)
    lines = [
        fill(f"{kind}protocol {protocol}; {of_folds}balanced accuracy of test {unit}", width=100)
    ]
    if content["identity"]["pairing"] == "recording":
        lines.append('encoders paired by recording (pairing="recording"), not by stimulus')
    if _one_for_all(content, split) and split.knows_people:
        lines.append("one classifier fine-tuned on all people (pooled)")
    return "\n".join(lines)


def named(word: str, sentence: str) -> list[str]:
    """A sentence with its name before it, as lines for a terminal of 100 columns."""
    return wrap(sentence, width=100, initial_indent=f"{word:<12}", subsequent_indent=" " * 12)
