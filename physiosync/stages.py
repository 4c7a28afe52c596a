"""`physiosync STAGE ...`: one subcommand a stage, no logic."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from physiosync.errors import StudyError
from physiosync.ledger import Ledger
from physiosync.options import StudyOptions, default_options
from physiosync.remote import Remote


def stages(words: Sequence[str]) -> dict[str, Callable[..., None]]:
    """Name -> subcommand, each with the options of the study that the command line names."""
    commands = {}
    default = _as_begun(words)
    for name, doc in (
        ("study", "All stages, on shards that `prepare` made (or on DEAP's .dat files)."),
        ("search", "Pretraining trials until --trials have ended."),
        ("finalists", "The best configurations again, over folds and seeds."),
        ("promote", "Rank the finalists; the best encoders go to best/."),
        (
            "controls",
            "The best configuration again: SimCLR, shuffled pairs; from everyone's labels.",
        ),
        ("finetune", "Fine-tuning and baselines; opens the test part."),
        ("report", "report.html and the main table."),
    ):
        # Recordings that the machine's set-up names are for recipes: this command takes shards.
        shards_alone = default.model_copy(update={"recordings": None})
        commands[name] = _stage(name, shards_alone if name == "study" else default)
        commands[name].__doc__ = doc
    return commands


def _stage(name: str, default: StudyOptions) -> Callable[..., None]:
    def run(options: tyro.conf.OmitArgPrefixes[StudyOptions] = default) -> None:
        from physiosync.folded import study_of
        from physiosync.recordings.deap import find_deap, read_deap

        study = study_of(options, find=find_deap, read=read_deap)
        if name == "study":
            study.run()
        else:
            study.run_stage(name)

    return run


def _as_begun(words: Sequence[str]) -> StudyOptions:
    """The options that a study was begun with, if the command line names one; else the preset's.

    So that a stage needs no more than --name, and can be given --trials or --cpus-per-trial.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--name", default=StudyOptions().name)
    parser.add_argument("--results", type=Path, default=StudyOptions().results)
    given, _ = parser.parse_known_args(list(words))
    named = StudyOptions(name=given.name, results=given.results)
    folder = named.folder
    if named.results_url is not None:
        remote = Remote(named.results_url, patient=False)
        if "study.json" in remote.sizes():
            remote.fetch("study.json", folder / "study.json")
    begun = Ledger(folder).read().get("options", {})
    if not begun:
        return default_options(words)
    if ":***@" in (begun.get("storage") or ""):
        del begun["storage"]  # No file has its password; it has to be given again.
    if "fold" in begun:
        raise StudyError(
            f"{folder}: expected a study, found fold {begun['fold']} of the study "
            f"{begun['name']!r}; a stage runs for all folds: --name {begun['name']}"
        )
    try:
        return StudyOptions(**begun)
    except ValueError as error:
        raise StudyError(f"{folder}/study.json: {error}") from error
