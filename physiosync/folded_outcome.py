"""The whole of a folded study: the folds' predictions pooled, one table and one page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from physiosync import evidence, headline, scrutiny, scrutiny_page
from physiosync import report as reporting
from physiosync.audit.run import kept_audit
from physiosync.best import metrics_of, promoted
from physiosync.files import atomic_path
from physiosync.labels import Labels
from physiosync.ledger import Ledger
from physiosync.outcome import tables_of
from physiosync.predictions import trial_predictions
from physiosync.scoring import score_by_subject
from physiosync.splits import Split
from physiosync.storage import dashboard_argument

SHARED_TRAINING = (
    "No trial is tested twice, and none by encoders or classifiers that met it. But the folds "
    "share training data, so they are no independent repetitions: intervals and p are over "
    "subjects and clips, and take the trained networks as given."
)
BELOW_CHANCE = (
    "Whatever is frequent in a training part is rarer in the test part beside it, so whoever only "
    "answers what is frequent falls below chance over all folds together. Hold methods against "
    "chance: to be ahead of the majority here means less than in a study of one test part."
)
REUSED_SEARCH = (
    "--reuse-search: the configurations of all folds were chosen by the search of fold 1, whose "
    "training and validation parts hold the other folds' test parts. Every fold trained the "
    "finalists again on its own training part, and chose among them there, but the scores of all "
    "folds but the first may be too high."
)
DIAGONAL = (
    "Each fold tests its part of the people with its part of the clips: each person and each clip "
    "once, and of all pairs of them one in {n}."
)


def of_all(folds: Sequence[Path]) -> pd.DataFrame:
    """The folds' predictions, with the column "fold" from 1 on."""
    each = [
        pd.read_parquet(folder / "predictions.parquet").assign(fold=number)
        for number, folder in enumerate(folds, 1)
    ]
    return pd.concat(each, ignore_index=True)


def report(
    folder: Path,
    folds: Sequence[Path],
    *,
    trials: Sequence[int],
    labels: Labels,
    shots: Sequence[int],
    left_out: Sequence[str],
    synthetic: bool,
    storage: str,
    where: str,
) -> str:
    """Write predictions.parquet and report.html; returns the table and where everything lies.

    Parameters
    ----------
    folds : their folders, in order, each with all that a study without folds has
    trials : of each fold's search, that have ended
    shots : every k of the k-shot curves
    where : the study's folder as its user knows it, which may be a URL
    """
    predictions = of_all(folds)
    with atomic_path(folder / "predictions.parquet") as part:
        predictions.to_parquet(part, index=False)
    content: Mapping[str, Any] = Ledger(folder).read()
    identity = content["identity"]
    in_folds = predictions.groupby("method")["fold"].nunique()
    partial = in_folds[in_folds < len(folds)]
    notes = [
        *left_out,
        *(f"{m}: in {n} of {len(folds)} folds, so in no table here" for m, n in partial.items()),
        *scrutiny.missing(folds),
    ]
    everywhere = predictions[predictions["method"].map(in_folds) == len(folds)]
    split = Split.load(folds[0] / "split.json")
    unit, table, compared = tables_of(everywhere, split)
    best = [metrics_of(promoted(path)[0]) for path in folds]
    validation = evidence.validation_beside_test(
        table,
        sum(m["mean_validation_score"] for m in best) / len(best),
        labels.objective,
        unit=unit,
    )
    openings = [
        evidence.openings_in_words(Ledger(path).read()["test_openings"], n)
        for path, n in zip(folds, trials, strict=True)
    ]
    sentences = [SHARED_TRAINING, BELOW_CHANCE] if unit == reporting.TRIALS else []
    if identity["protocol"] == "both":
        sentences.append(DIAGONAL.format(n=len(folds)))
    if identity["reuse_search"]:
        sentences.append(REUSED_SEARCH)
    header = headline.header(
        content,
        split,
        {
            "search": "in fold 1 alone, re-used" if identity["reuse_search"] else "one a fold",
            "openings of the test parts": "; ".join(
                f"fold {n}: {said}" for n, said in enumerate(openings, 1)
            ),
            "validation beside test": validation,
        },
        name=f"{content['options']['name']}, {len(folds)} folds",
        synthetic=synthetic,
    )
    warnings, beside = [], None
    if split.stretch_seconds is None:
        warnings = scrutiny.too_few(everywhere)
        beside = scrutiny.read(folds, everywhere, labels, shots, held_out=not split.knows_people)
    path = reporting.save(
        folder,
        header,
        [
            *reporting.of_test_trials(
                header, everywhere, table, compared, unit=unit, warnings=warnings
            ),
            *(scrutiny_page.sections(beside, header["data"]) if beside else ()),
            *reporting.section(
                "Folds", header, _fold_table(folds, everywhere, best, openings), sentences
            ),
            *reporting.left_out(notes),
        ],
    )
    title = headline.title(content, split, unit=unit, synthetic=synthetic, folds=len(folds))
    return "\n".join(
        [
            reporting.render_text(
                table,
                compared,
                title=title,
                unit=unit,
                shots=beside.kshot if beside else None,
                warnings=warnings,
            ),
            "",
            *(line for sentence in sentences for line in headline.named("note", sentence)),
            *headline.named("validation", validation),
            *headline.named(
                "openings", f"of the test parts: {header['openings of the test parts']}"
            ),
            f"audit       {_audits(folds)}",
            f"folds       {where}/fold-1 to fold-{len(folds)}: encoders, scores, reports",
            f"scores      {where}/predictions.parquet",
            f"report      {where}/{path.name}",
            f"dashboard   optuna-dashboard {dashboard_argument(storage)}",
        ]
    )


def _fold_table(
    folds: Sequence[Path],
    predictions: pd.DataFrame,
    best: Sequence[Mapping[str, Any]],
    openings: Sequence[str],
) -> pd.DataFrame:
    rows = []
    for number, (folder, metrics, opened) in enumerate(zip(folds, best, openings, strict=True), 1):
        test = Split.load(folder / "split.json").test
        audited = kept_audit(folder / "audit.json")
        mine = predictions[
            (predictions["fold"] == number) & (predictions["method"] == "pretrained")
        ]
        default = " (the default)" if metrics["is_default"] else ""
        rows.append(
            {
                "fold": f"{number} of {len(folds)}",
                "tested subjects, stimuli": f"{len(test.subjects)}, {len(test.stimuli)}",
                "rank-1": f"{metrics['configuration']}{default}",
                "validation": f"{metrics['mean_validation_score']:.3f}",
                **{
                    f"{target}, pretrained": f"{_score(rows_of):.3f}"
                    for target, rows_of in mine.groupby("target", sort=False)
                },
                "openings": opened,
                "audit": "none" if audited is None else audited.lines()[0].split(": ")[-1],
                "report": f"{folder.name}/report.html",
            }
        )
    return pd.DataFrame(rows)


def _audits(folds: Sequence[Path]) -> str:
    """What the folds' audits say, once if all say the same."""
    kept = [kept_audit(folder / "audit.json") for folder in folds]
    said = dict.fromkeys("none" if audited is None else audited.lines()[0] for audited in kept)
    return f"{'; '.join(said)} ({len(folds)} folds)"


def _score(predictions: pd.DataFrame) -> float:
    """Balanced accuracy of whole trials, the mean over subjects with both classes."""
    each = [score_by_subject(trial_predictions(run)) for _, run in predictions.groupby("seed")]
    return float(pd.concat(each, axis=1).mean(axis=1).mean())
