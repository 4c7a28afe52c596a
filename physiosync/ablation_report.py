"""An ablation's table and figure: each variant's score, and its difference to the default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from physiosync.ablation import DEFAULT, VARIANTS
from physiosync.figures import BLUE, GREY, ORANGE
from physiosync.files import atomic_path
from physiosync.predictions import trial_predictions
from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.comparison import holm
from physiosync.statistics.crossed import crossed_test
from physiosync.statistics.scores import correctness, difference, weighted
from physiosync.wording import counted


def summary(predictions: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Each variant's score, and its difference to the default on the same trials.

    Scores are balanced accuracies of whole held-out trials, averaged over targets, subjects, folds
    and repeats. Where a subject shows both classes of each target this is the mean of the targets'
    balanced accuracies.

    Parameters
    ----------
    predictions : of all tasks: "method" (the variant), "seed" (the repeat), "fold", and the columns
        of `predictions.prediction_rows`
    seed : of the bootstrap

    Returns
    -------
    A row a variant: "variant", "group", "words", "score", "difference" with "low" and "high" (95 %
    bootstrap interval over subjects and clips), "p" of the primary test, "p_holm" (corrected over
    the variants), "runs" (the difference of each fold and repeat alone) and "diverged" (runs).
    """
    methods = {variant.name: variant for variant in VARIANTS}
    present = [name for name in methods if name in set(predictions["method"])]
    rows: list[dict[str, Any]] = []
    reference = _scores(predictions[predictions["method"] == DEFAULT])
    for name in present:
        mine = predictions[predictions["method"] == name]
        scores, gap = _scores(mine), None
        row = {
            "variant": name,
            "group": methods[name].group,
            "words": methods[name].words,
            "score": weighted(_joined(scores)).estimate,
            "diverged": mine.loc[mine["diverged"], ["fold", "seed"]].drop_duplicates().shape[0],
        }
        if name != DEFAULT:
            gap = _joined(_differences(scores, reference))
            test = crossed_test(gap)
            low, high = two_way_interval(gap, seed=seed)
            row |= {"difference": test.difference, "low": low, "high": high, "p": test.p}
            row["runs"] = _each_run(mine, predictions[predictions["method"] == DEFAULT])
        rows.append(row)
    table = pd.DataFrame(rows)
    if "p" in table:
        table["p_holm"] = holm(table["p"].to_numpy(dtype=np.float64))
    return table


def _scores(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Target -> how often each trial was answered rightly, over repeats."""
    return {
        str(target): correctness([trial_predictions(run) for _, run in rows.groupby("seed")])
        for target, rows in predictions.groupby("target")
    }


def _differences(
    scores: Mapping[str, pd.DataFrame], reference: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    return {target: difference(table, reference[target]) for target, table in scores.items()}


def _joined(scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One table whose mean recall over classes is the mean of the targets' balanced accuracies."""
    parts, offset = [], 0
    for table in scores.values():
        parts.append(table.assign(truth=table["truth"] + offset))
        offset += int(table["truth"].max()) + 1
    return pd.concat(parts, ignore_index=True)


def _each_run(mine: pd.DataFrame, reference: pd.DataFrame) -> tuple[float, ...]:
    keys = ["fold", "seed"]
    others = dict(iter(reference.groupby(keys)))
    return tuple(
        weighted(_joined(_differences(_scores(rows), _scores(others[key])))).estimate
        for key, rows in mine.groupby(keys)
    )


def markdown(table: pd.DataFrame, heading: str) -> str:
    """The table as Markdown.

    Parameters
    ----------
    table : of `summary`
    heading : what was measured on what, before the table
    """
    lines = [
        heading,
        "",
        "| variant | balanced accuracy | less the default [95 % interval] | p (Holm) |",
        "|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        words = row["words"] + (
            f" ({counted(row['diverged'], 'run')} diverged)" if row["diverged"] else ""
        )
        cells = [words, f"{row['score']:.3f}", "", ""]
        if row["variant"] != DEFAULT:
            cells[2] = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            cells[3] = f"{row['p_holm']:.3f}"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, path: Path, title: str) -> None:
    """Write a PNG: an interval a variant, a dot a run, a line at the default.

    Parameters
    ----------
    table : of `summary`
    title : says what the data are; one or two lines
    """
    rows = table[table["variant"] != DEFAULT].to_dict("records")
    figure = Figure(figsize=(9, 1.6 + 0.3 * len(rows)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="black", linewidth=1)
    group, ticks, place = "", [], 0.0
    for row in rows:
        place += 1.0 if row["group"] == group else 1.6
        group = row["group"]
        ticks.append(place)
        clear = row["low"] > 0 or row["high"] < 0
        colour = ORANGE if clear else BLUE
        axis.plot([row["low"], row["high"]], [place] * 2, color=colour, linewidth=2)
        axis.plot(row["difference"], place, "s", color=colour, markersize=7)
        axis.plot(row["runs"], [place + 0.28] * len(row["runs"]), "o", color=GREY, markersize=4)
    axis.set_yticks(ticks, [str(row["words"]) for row in rows])
    axis.set_ylim(place + 1, 0.6)
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel(
        "balanced accuracy less the default's\n"
        "squares: all runs, with 95 % intervals (orange: without 0); dots: single runs"
    )
    figure.suptitle(title, fontsize=10)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=130)
