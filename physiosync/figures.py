"""The report's pictures, each a function from a table to SVG text."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette: told apart with any colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#8a8a8a"
_STATES = {"COMPLETE": (BLUE, "o"), "PRUNED": (ORANGE, "v"), "FAIL": (GREY, "x")}


def subjects(scores: pd.DataFrame, methods: Mapping[str, str]) -> str:
    """A dot for each subject, a bar for the mean, a panel for each target.

    Parameters
    ----------
    scores : "target", "method", "subject", "score", "chance" (no line where it is NaN)
    methods : method -> its name in words, in the order from top to bottom
    """
    targets = list(scores["target"].unique())
    known = [m for m in methods if m in set(scores["method"])]
    order = known + sorted(set(scores["method"]) - set(known))
    figure = Figure(figsize=(10, 1.2 + 0.42 * len(order)), layout="constrained")
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    rng = np.random.default_rng(0)
    for axis, target in zip(axes, targets, strict=True):
        for row, method in enumerate(order):
            x = scores.query("target == @target and method == @method")["score"].dropna()
            colour = BLUE if method.startswith("pretrained") else GREY
            y = row + rng.uniform(-0.18, 0.18, size=len(x))
            axis.plot(x, y, "o", color=colour, alpha=0.55, markersize=5, markeredgewidth=0)
            if len(x):
                axis.plot([x.mean()] * 2, [row - 0.34, row + 0.34], color=colour, linewidth=3)
        chance = scores.loc[scores["target"] == target, "chance"].iloc[0]
        if not np.isnan(chance):
            axis.axvline(chance, color="black", linestyle="--", linewidth=1)
        axis.set(title=target, xlim=(-0.03, 1.03), xlabel="balanced accuracy")
        axis.set_yticks(range(len(order)), [methods.get(m, m) for m in order])
        axis.set_ylim(len(order) - 0.5, -0.5)
    return _svg(figure)


def kshot(table: pd.DataFrame, methods: Mapping[str, str]) -> str:
    """Scores by the number of calibration trials: a line a method, a dot a subject.

    Parameters
    ----------
    table : see `kshot_curve.kshot_table`
    methods : method -> its name in words
    """
    targets = list(table["target"].unique())
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    ks = sorted(table["shots"].unique())
    colours = (BLUE, ORANGE, GREEN, GREY)
    for axis, target in zip(axes, targets, strict=True):
        of_target = table[table["target"] == target]
        for n, (method, rows) in enumerate(of_target.groupby("method", sort=False)):
            colour = colours[n % len(colours)]
            mine = rows.sort_values("shots")
            place = np.array([ks.index(k) for k in mine["shots"]])
            for x, scores in zip(place, mine["subjects"], strict=True):
                shifted = np.full(len(scores), x - 0.12 + 0.08 * n)
                axis.plot(shifted, scores, "o", color=colour, alpha=0.35, markersize=4, mew=0)
            axis.plot(
                place,
                mine["balanced_accuracy"],
                "-o",
                color=colour,
                label=methods.get(str(method), str(method)),
            )
            axis.axhline(mine["balanced_accuracy"].iloc[0], color=colour, lw=1, ls=":")
        axis.set_xticks(range(len(ks)), [str(k) for k in ks])
        axis.set(title=target, xlabel="labelled calibration trials")
    axes[0].set_ylabel("balanced accuracy")
    axes[0].legend(frameon=False, fontsize="small")
    return _svg(figure)


def rejects(table: pd.DataFrame, methods: Mapping[str, str]) -> str:
    """Accuracy by the share of trials that are answered, a line a method, a panel a target.

    Parameters
    ----------
    table : see `scrutiny.reject_table`
    methods : method -> its name in words
    """
    targets = list(table["target"].unique())
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    colours = {"pretrained": BLUE, "pretrained_probe": GREEN, "scratch": ORANGE}
    for axis, target in zip(axes, targets, strict=True):
        for method, curve in table[table["target"] == target].groupby("method", sort=False):
            name, colour = methods.get(str(method), str(method)), colours.get(str(method), GREY)
            axis.plot(curve["coverage"], curve["accuracy"], color=colour, label=name)
        axis.set(title=target, xlabel="share of trials answered", xlim=(0, 1.02), ylim=(0, 1.03))
    axes[0].set_ylabel("accuracy")
    axes[0].legend(frameon=False, fontsize="small", loc="lower left")
    return _svg(figure)


def history(search: pd.DataFrame) -> str:
    """Each trial's objective, and the best so far."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axis = figure.subplots()
    for state, (colour, marker) in _STATES.items():
        rows = search[search["state"] == state]
        if rows["value"].notna().any():
            words = {"COMPLETE": "ran to the end", "PRUNED": "stopped early"}
            axis.plot(
                rows["number"],
                rows["value"],
                marker,
                color=colour,
                label=words.get(state, "failed"),
            )
    valued = search.dropna(subset=["value"]).sort_values("number")
    axis.step(
        valued["number"], valued["value"].cummax(), where="post", color=GREEN, label="best so far"
    )
    axis.axhline(0, color="black", linestyle="--", linewidth=1)
    axis.set(xlabel="trial", ylabel="objective")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(valued):
        axis.legend(frameon=False)
    return _svg(figure)


def curves(table: pd.DataFrame) -> str:
    """Objective by epoch, a line a trial."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axis = figure.subplots()
    for _, rows in table.groupby("number"):
        colour, marker = _STATES.get(str(rows["state"].iloc[0]), (GREY, "."))
        axis.plot(
            rows["epoch"], rows["objective"], color=colour, marker=marker, markersize=4, alpha=0.7
        )
    axis.axhline(0, color="black", linestyle="--", linewidth=1)
    axis.set(xlabel="epoch", ylabel="objective (best so far)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    # A fixed salt and no date: the same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "physiosync", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
