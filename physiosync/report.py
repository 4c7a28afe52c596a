"""Text and report.html from what lies in a results folder; trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from textwrap import wrap

import numpy as np
import pandas as pd

from physiosync import evidence, figures, kshot_curve
from physiosync.audit.verdict import AuditReport
from physiosync.files import write_text
from physiosync.page import bullets, facts, figure, html_table, page
from physiosync.tables import METHODS, label, subject_table
from physiosync.wording import counted

#: What is scored, but under protocol "window".
TRIALS = "trials"


def render_text(
    table: pd.DataFrame,
    compared: pd.DataFrame,
    *,
    title: str,
    unit: str = TRIALS,
    shots: pd.DataFrame | None = None,
    warnings: Sequence[str] = (),
) -> str:
    """The main table for a terminal of 100 columns.

    Parameters
    ----------
    table : see `tables.main_table`
    compared : see `evidence.comparisons`
    unit : what is scored; if other than whole trials, accuracy and F1 are printed too, and no p
    shots : see `kshot_curve.kshot_table`
    warnings : sentences for the top
    """
    knows_chance = bool(table["chance"].notna().any())
    heading = f"  {'':<38} {'balanced accuracy':<21}  accuracy (majority)"
    lines = [title, *warnings, heading + "  <= chance" * (knows_chance and unit == TRIALS)]
    majority = _majority_accuracy(table)
    for target in table["target"].unique():
        rows = table[table["target"] == target]
        first = rows.iloc[0]
        subjects = counted(first["n_subjects"], "subject")
        if first["n_undefined"]:
            subjects += f", {first['n_undefined']:.0f} more with one class only"
        known = not np.isnan(first["chance"])
        what = f"chance {first['chance']:.2f}" if known else f"{first['n_classes']} classes"
        lines.append(f"{target} ({what}; {subjects})")
        for _, row in rows.iterrows():
            accuracy = f"{row['accuracy']:.3f} ({majority.get(target, '-')})"
            line = (
                f"  {label(str(row['method'])):<38} {row['balanced_accuracy']:.3f}  "
                f"[{row['low']:.3f}, {row['high']:.3f}]  {accuracy}"
            )
            if unit != TRIALS:
                line += f"  F1 {_known(row['f1'])}"
            elif known:
                line += f"{'':8}{row['at_or_below_chance']:.0f} of {row['n_subjects']:.0f}"
            lines.append(line)
        lines.extend(evidence.comparison_lines(compared, str(target)))
        if shots is not None:
            lines.extend(kshot_curve.kshot_lines(shots, str(target)))
    if unit != TRIALS:
        lines += ["", *wrap(_no_p(unit), width=100)]
    elif len(compared):
        lines += ["", evidence.WHAT_P_IS]
    return "\n".join(lines)


def write_report(
    folder: Path,
    *,
    header: Mapping[str, str],
    predictions: pd.DataFrame,
    table: pd.DataFrame,
    compared: pd.DataFrame,
    search: pd.DataFrame,
    curves: pd.DataFrame,
    finalists: pd.DataFrame,
    notes: Sequence[str],
    audit: AuditReport | None = None,
    unit: str = TRIALS,
    warnings: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> Path:
    """Write report.html: one file, no scripts, nothing fetched.

    Parameters
    ----------
    header : facts for the top; "study", "data" and "protocol" are named in every caption
    predictions : see `tables.main_table`
    table : `tables.main_table` of them
    compared : `evidence.comparisons` of them
    search : trials with "number", "state", "value"
    curves : "number", "epoch", "objective", "state"
    finalists : runs with "configuration", "settings", "is_default", "fold", "seed", "score"
    notes : what was left out, and why
    audit : of the split
    unit : what is scored; if other than whole trials, the page says that no p can be given
    warnings : sentences for the top
    beside : sections of `scrutiny_page.sections`, as HTML
    """
    about = _about(header)
    sections = [
        *of_test_trials(header, predictions, table, compared, unit=unit, warnings=warnings),
        *beside,
        "<h2>Search</h2>",
        figure(
            figures.history(search),
            f"Objective of each trial (validation stimuli, 0 is chance, 1 perfect). {about}.",
        )
        if len(search)
        else "<p>No search trials.</p>",
        figure(figures.curves(curves), f"Objective by epoch, best so far. {about}.")
        if len(curves)
        else "<p>No learning curves.</p>",
        "<h2>Finalists</h2>",
        html_table(_finalist_table(finalists), caption=f"Validation, fresh folds. {about}.")
        if len(finalists)
        else "<p>No finalists.</p>",
        f"<p>{_ONE_SE}</p>",
        *_audit(audit, about),
        *left_out(notes),
    ]
    return save(folder, header, sections)


def of_test_trials(
    header: Mapping[str, str],
    predictions: pd.DataFrame,
    table: pd.DataFrame,
    compared: pd.DataFrame,
    *,
    unit: str = TRIALS,
    warnings: Sequence[str] = (),
) -> list[str]:
    """The page's top, down to the scores of test trials; parameters as of `write_report`."""
    about = _about(header)
    loud = "synthetic" in header["data"].lower()
    leaky = "LEAKY" in header["protocol"]
    return [
        f"<h1>PhysioSync study “{escape(header['study'])}”</h1>",
        '<p class="loud">The data of this study are synthetic.</p>' if loud else "",
        f'<p class="loud">{_LEAKY}</p>' if leaky else "",
        *(f'<p class="loud">{escape(sentence)}</p>' for sentence in warnings),
        facts(header),
        f"<h2>Test {unit}</h2>",
        html_table(_readable(table), caption=f"Test {unit}. {about}."),
        f"<p>{_HOW_TO_READ}</p>" if unit == TRIALS else f"<p>{_no_p(unit)}</p>",
        *_evidence(predictions, table, compared, about),
        figure(
            figures.subjects(subject_table(predictions), METHODS),
            f"Balanced accuracy of each subject's test {unit}; a dot a subject, a bar the mean, "
            f"dashed: chance, where there are two classes. {about}.",
        ),
    ]


def section(
    title: str, header: Mapping[str, str], table: pd.DataFrame, sentences: Sequence[str]
) -> list[str]:
    """A heading, plain sentences and a table, with the data and the protocol in its caption."""
    return [
        f"<h2>{escape(title)}</h2>",
        *(f"<p>{escape(sentence)}</p>" for sentence in sentences),
        html_table(table, caption=f"{title}. {_about(header)}."),
    ]


def left_out(notes: Sequence[str]) -> list[str]:
    """What was left out, and why."""
    return [
        "<h2>Left out</h2>",
        bullets(notes) if notes else "<p>Nothing was left out.</p>",
    ]


def save(folder: Path, header: Mapping[str, str], sections: Sequence[str]) -> Path:
    """Write the page as report.html; returns its path."""
    path = folder / "report.html"
    write_text(path, page(header["study"], sections))
    return path


def _about(header: Mapping[str, str]) -> str:
    return f"{header['data']}; protocol {header['protocol']}"


def _evidence(
    predictions: pd.DataFrame, table: pd.DataFrame, compared: pd.DataFrame, about: str
) -> list[str]:
    """Comparisons, and what the probabilities are worth."""
    shown = evidence.readable_probabilities(predictions, table)
    shown["method"] = shown["method"].map(label)
    parts = [
        html_table(shown, caption=f"Beside the scores. {about}."),
        f"<p>{evidence.WHAT_PROBABILITIES_ARE_WORTH}</p>",
    ]
    if len(compared):
        readable = evidence.readable_comparisons(compared)
        parts.insert(0, html_table(readable, caption=f"Comparisons. {about}."))
        parts.insert(1, f"<p>{evidence.HOW_TO_READ_P}</p>")
    return parts


def _audit(audit: AuditReport | None, about: str) -> list[str]:
    if audit is None:
        return []
    table = pd.DataFrame([(v.check, v.status, v.said) for v in audit.verdicts],
                         columns=["check", "verdict", "found"])  # fmt: skip
    verdict = "passed" if audit.passed else "failed"
    leaky = " Scores of this protocol are leaky." if audit.leaky else ""
    return [
        "<h2>Audit of the split</h2>",
        f"<p>The split {verdict}.{leaky}</p>",
        html_table(table, caption=f"Audit. {about}."),
    ]


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "target": table["target"],
            "method": [label(str(m)) for m in table["method"]],
            "balanced accuracy": table["balanced_accuracy"].map(_known),
            "95 % interval": [
                "-" if np.isnan(a) else f"{a:.3f} to {b:.3f}"
                for a, b in zip(table["low"], table["high"], strict=True)
            ],
            "chance": ["-" if np.isnan(c) else f"{c:.2f}" for c in table["chance"]],
            "accuracy": table["accuracy"].map("{:.3f}".format),
            "majority accuracy": [_majority_accuracy(table).get(t, "-") for t in table["target"]],
            "F1": table["f1"].map(_known),
            "subjects (undefined)": [
                f"{n:.0f} ({u:.0f})"
                for n, u in zip(table["n_subjects"], table["n_undefined"], strict=True)
            ],
        }
    )


def _known(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _majority_accuracy(table: pd.DataFrame) -> dict[str, str]:
    rows = table[table["method"] == "majority"]
    return dict(zip(rows["target"], rows["accuracy"].map("{:.3f}".format), strict=True))


def _finalist_table(finalists: pd.DataFrame) -> pd.DataFrame:
    groups = finalists.groupby("configuration", sort=False)
    out = pd.DataFrame(
        {
            "settings": groups["settings"].first(),
            "mean": groups["score"].mean(),
            "standard error": groups["score"].std(ddof=1) / np.sqrt(groups.size()),
            "runs": groups.size(),
        }
    ).sort_values("mean", ascending=False)
    control = groups["is_default"].first().reindex(out.index)
    out.loc[control, "settings"] = "the default (control)"
    for column in ("mean", "standard error"):
        out[column] = ["-" if np.isnan(x) else f"{x:.3f}" for x in out[column]]
    return out.reset_index(drop=True).rename(columns={"settings": "what differs from the default"})


def _no_p(unit: str) -> str:
    return (
        f"What is scored are {unit}, each on its own. Those of one trial are not independent, so "
        "no p is given. Intervals resample people and whole clips."
    )


_LEAKY = (
    "LEAKY: stretches of one trial lie on both sides of this split. Scores say how well a trial is "
    "recognised that was trained on, and nothing of new clips or new people."
)
_HOW_TO_READ = (
    "Balanced accuracy is the mean of the recalls of the classes, taken for each subject's whole "
    "test trials (mean probability over their windows) and averaged over subjects. With two "
    "classes, knowing how often a person says “high” does not raise it, and chance is 0.5. With "
    "more, a person may not show all of them, and whoever knows which are common gains: no chance "
    "is given, the majority is what to compare with. The interval is a bootstrap over subjects "
    "<em>and</em> clips, because subjects who share clips are not independent. Subjects whose test "
    "trials show one class only have no balanced accuracy and no F1; they are counted as "
    "undefined, and of all means stand in that of accuracy alone."
)
_ONE_SE = (
    "Finalists are pretrained again on folds that did not choose them. The winner is the "
    "cheapest configuration within one standard error of the best mean; the default configuration "
    "counts as the cheapest, so it wins unless another is better."
)
