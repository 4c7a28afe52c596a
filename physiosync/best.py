"""best/: the encoders that were promoted, one folder a rank; and what is known of any encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from physiosync import evidence
from physiosync.errors import StudyError
from physiosync.model import PhysioSync
from physiosync.tasks import FinalistTask


def write_best(
    folder: Path,
    tasks: Sequence[FinalistTask],
    scores: pd.DataFrame,
    winners: pd.DataFrame,
    *,
    synthetic: bool,
) -> None:
    """Fill best/rank-k with the winners' encoders, each of its first fold and seed.

    The first, not the best of its runs: that would choose luck.
    """
    for rank, (uid, row) in enumerate(winners.iterrows(), 1):
        first = next(task for task in tasks if task.config.uid() == uid)
        metrics = metrics_of(first.output) | {
            "data": "SYNTHETIC" if synthetic else "recordings",
            "protocol": evidence.protocol_in_words(first.split.protocol),
            "rank": rank,
            "mean_validation_score": float(row["mean"]),
            "standard_error": float(row["standard_error"]),
            "runs": int(row["runs"]),
            "is_default": bool(scores.set_index("configuration").loc[[uid], "is_default"].iloc[0]),
        }
        target = folder / "best" / f"rank-{rank}"
        if not _holds(target, str(uid)):
            PhysioSync.from_pretrained(first.output).save_pretrained(target, metrics=metrics)
    for stale in sorted((folder / "best").glob("rank-*")):
        if int(stale.name.removeprefix("rank-")) > len(winners):
            shutil.rmtree(stale)


def _holds(folder: Path, uid: str) -> bool:
    """Whether a best/ folder already holds this configuration."""
    try:
        return bool(metrics_of(folder).get("configuration") == uid)
    except StudyError:
        return False


def promoted(folder: Path) -> list[Path]:
    """The encoders of a study, the best first.

    Raises
    ------
    StudyError
        If nothing was promoted yet.
    """
    best = sorted((folder / "best").glob("rank-*"), key=lambda path: int(path.name[5:]))
    if not best:
        raise StudyError(
            f"{folder / 'best'}: expected promoted encoders, found none; run 'promote' first"
        )
    return best


def metrics_of(encoder: Path) -> dict[str, Any]:
    """What is known of an encoder's run, from the metrics.json beside its weights.

    Raises
    ------
    StudyError
        If the file is missing or damaged.
    """
    path = encoder / "metrics.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: expected the metrics of a run, found {error}") from error
    return found


def unfinished(encoder: Path) -> bool:
    """Whether its training is over, but ended before its budget, as its loss was not finite.

    It saw less than what it is to be compared with, so it may stand beside nothing.
    """
    if not encoder.is_dir():
        return False
    metrics = metrics_of(encoder)
    return bool(metrics["diverged"] or not metrics["best_epoch"])
