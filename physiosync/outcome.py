"""The results folder: the compacted tables, and what the report is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from physiosync import evidence, headline, scrutiny, scrutiny_page
from physiosync import report as reporting
from physiosync.audit.run import kept_audit
from physiosync.baselines.methods import PROBES
from physiosync.best import metrics_of, promoted
from physiosync.evaluation import TestTask
from physiosync.files import atomic_path
from physiosync.finetuning import FinetuningConfig
from physiosync.further_tasks import KSHOT, AnalysisTask
from physiosync.labels import Labels
from physiosync.ledger import Ledger
from physiosync.predictions import scores_of
from physiosync.pretraining import PretrainingConfig
from physiosync.search import finished
from physiosync.space import in_words
from physiosync.splits import Split
from physiosync.storage import dashboard_argument
from physiosync.tables import main_table
from physiosync.tasks import FinalistTask


def finalist_scores(tasks: Sequence[FinalistTask], *, default: PretrainingConfig) -> pd.DataFrame:
    """A row a finalist run: "configuration", "settings", "is_default", "fold", "seed", "score",
    "path"."""
    rows = []
    for task in tasks:
        metrics = metrics_of(task.output)
        rows.append(
            {
                "configuration": task.config.uid(),
                "settings": in_words(task.config, default),
                "is_default": task.config.uid() == default.uid(),
                "fold": task.fold,
                "seed": task.seed,
                "score": metrics["validation_score"],
                "path": task.output,
            }
        )
    return pd.DataFrame(rows)


def compact(folder: Path, tasks: Sequence[TestTask]) -> None:
    """Gather the jobs' files: {predictions, finetune, baselines, kshot, analyses}.parquet."""

    def gathered(kinds: Sequence[TestTask]) -> pd.DataFrame:
        parts = [
            pd.read_parquet(task.output).assign(encoder=task.output.parent.name, method=task.method)
            for task in kinds
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    analyses = gathered([task for task in tasks if isinstance(task, AnalysisTask)])
    predictions = gathered([task for task in tasks if not isinstance(task, AnalysisTask)])
    adapted = predictions.get("shots", pd.Series(0, predictions.index)).fillna(0) > 0
    kshot, extra = predictions[adapted], ["shots", "draw", "available"]
    predictions = predictions[~adapted].drop(columns=extra, errors="ignore")
    if "shots" in analyses:
        mine = analyses["analysis"] == KSHOT
        kshot = pd.concat([kshot, analyses.loc[mine, list(kshot.columns)]], ignore_index=True)
        analyses = analyses[~mine].dropna(axis=1, how="all")
    scores = pd.concat(
        [
            scores_of(rows).assign(method=method, encoder=encoder)
            for (method, encoder), rows in predictions.groupby(["method", "encoder"])
        ],
        ignore_index=True,
    )
    tuned = scores["method"].str.startswith("pretrained") & ~scores["method"].isin(PROBES)
    for name, table in (
        ("predictions", predictions),
        ("finetune", scores[tuned]),
        ("baselines", scores[~tuned]),
        ("kshot", kshot.astype(dict.fromkeys(extra, int)) if len(kshot) else kshot),
        ("analyses", analyses),
    ):
        if not len(table):
            continue
        with atomic_path(folder / f"{name}.parquet") as part:
            table.to_parquet(part, index=False)


def search_tables(database: optuna.Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trials ("number", "state", "value", parameters) and their curves by epoch."""
    trials: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for trial in database.get_trials(deepcopy=False):
        trials.append(
            {
                "number": trial.number,
                "state": trial.state.name,
                "value": np.nan if trial.value is None else trial.value,
                **trial.params,
            }
        )
        curves.extend(
            {"number": trial.number, "epoch": e, "objective": v, "state": trial.state.name}
            for e, v in sorted(trial.intermediate_values.items())
        )
    return pd.DataFrame(trials), pd.DataFrame(curves)


def tables_of(predictions: pd.DataFrame, split: Split) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """What is scored, its table, and the comparisons that can be made."""
    seconds = split.stretch_seconds
    unit = reporting.TRIALS if seconds is None else f"stretches of {seconds} s"
    table = main_table(predictions, stretches=seconds is not None)
    # Stretches of one trial are not independent, so nothing could be claimed.
    compared = evidence.comparisons(predictions) if seconds is None else pd.DataFrame()
    return unit, table, compared


#: In place of permutations, other thresholds and the like.
_NOT_BESIDE_STRETCHES = (
    "<p>What a report says beside scores (permuted labels, other rules, ratings as numbers, drift) "
    "is left out: it would take stretches of one trial for independent trials.</p>"
)


def _name(options: Mapping[str, Any]) -> str:
    fold = f", fold {options['fold']} of {options['folds']}" if "fold" in options else ""
    return f"{options['name']}{fold}"


def report(
    folder: Path,
    *,
    database: optuna.Study,
    finalists: Sequence[FinalistTask],
    default: PretrainingConfig,
    labels: Labels,
    finetuning: FinetuningConfig,
    left_out: Sequence[str],
    synthetic: bool,
    storage: str,
    where: str,
) -> str:
    """Write report.html; returns the main table and where everything lies, as text.

    Parameters
    ----------
    where : the study's folder as its user knows it, which may be a URL
    """
    predictions = pd.read_parquet(folder / "predictions.parquet")
    content: Mapping[str, Any] = Ledger(folder).read()
    search, curves = search_tables(database)
    openings = evidence.openings_in_words(content["test_openings"], len(finished(database)))
    split = Split.load(folder / "split.json")
    unit, table, compared = tables_of(predictions, split)
    best = metrics_of(promoted(folder)[0])
    validation = evidence.validation_beside_test(
        table, best["mean_validation_score"], labels.objective, unit=unit
    )
    states = search["state"].value_counts()
    header = headline.header(
        content,
        split,
        {
            "trials": ", ".join(f"{n} {state.lower()}" for state, n in states.items()),
            "openings of the test part": openings,
            "validation beside test": validation,
        },
        name=_name(content["options"]),
        synthetic=synthetic,
    )
    warnings, shots, beside = [], None, [_NOT_BESIDE_STRETCHES]
    if unit == reporting.TRIALS:
        warnings = scrutiny.too_few(predictions)
        found = scrutiny.read(
            [folder],
            predictions,
            labels,
            finetuning.shots.trials,
            held_out=not split.knows_people,
        )
        shots = found.kshot
        beside = scrutiny_page.sections(found, header["data"])
    audited = kept_audit(folder / "audit.json")
    path = reporting.write_report(
        folder,
        header=header,
        predictions=predictions,
        table=table,
        compared=compared,
        search=search,
        curves=curves,
        finalists=finalist_scores(finalists, default=default).drop(columns="path"),
        notes=list(left_out),
        audit=audited,
        unit=unit,
        warnings=warnings,
        beside=beside,
    )
    title = headline.title(content, split, unit=unit, synthetic=synthetic)
    lines = [
        reporting.render_text(
            table, compared, title=title, unit=unit, shots=shots, warnings=warnings
        ),
        "",
        *headline.named("validation", validation),
        *headline.named("openings", f"of the test part: {openings}"),
        f"audit       {audited.lines()[0] if audited else 'none'}",
        f"encoders    {where}/best",
        f"scores      {where}/finetune.parquet, baselines.parquet, predictions.parquet",
        f"report      {where}/{path.name}",
        f"dashboard   optuna-dashboard {dashboard_argument(storage)}",
    ]
    return "\n".join(lines)
