"""`physiosync STAGE ...`: one subcommand a stage, no logic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro

from physiosync import progress
from physiosync.errors import PhysioSyncError
from physiosync.interruption import Interrupted
from physiosync.options import Preset, StudyOptions


def guarded(run: Callable[[], None]) -> None:
    """Run, and leave as a shell expects: 0, 1 with one clear line, or 128 + signal.

    A second run of the same command goes on after any of these.
    """
    try:
        run()
    except Interrupted as stop:
        print(f"{stop}; run the same command again to go on", file=sys.stderr)
        sys.exit(stop.exit_code)
    except PhysioSyncError as error:
        progress.log.debug("stopped", exc_info=error)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def prepare(
    format: Literal["deap"],
    recordings: Path,
    shards: Path,
    /,
    preset: Preset = "small",
    workers: int = 0,
) -> None:
    """Read recordings, preprocess them, and write one Parquet shard a subject.

    Parameters
    ----------
    format : how the recordings are stored
    recordings : folder they lie in
    shards : folder to write to
    preset : of the study that will use them
    workers : processes; 0 for one a CPU
    """
    from physiosync.preparation import prepare as write_shards
    from physiosync.recordings.deap import find_deap, read_deap

    def say(path: Path, done: int, total: int, skipped: bool) -> None:
        print(f"{path.stem} {'is up to date' if skipped else 'written'}, {done}/{total}")

    write_shards(
        find_deap(recordings),
        read_deap,
        shards,
        StudyOptions(preset=preset).preprocessing,
        workers=workers,
        on_subject=say,
    )


def _stage(name: str) -> Callable[[StudyOptions], None]:
    def run(options: tyro.conf.OmitArgPrefixes[StudyOptions]) -> None:
        from physiosync.recordings.deap import find_deap, read_deap
        from physiosync.study import Study

        Study(options, find=find_deap, read=read_deap).run_stage(name)

    return run


def clean(cache: Path | None = None) -> None:
    """Remove the memory-mapped windows; they are made again when needed."""
    from physiosync.cache import clean_cache

    print(f"{clean_cache(cache) / 2**30:.2f} GiB freed")


def main() -> None:
    """Entry point of the `physiosync` command."""
    commands: dict[str, Any] = {"prepare": prepare}
    for name, doc in (
        ("search", "Pretraining trials until --trials have ended."),
        ("finalists", "The best configurations again, over stimulus folds and seeds."),
        ("promote", "Rank the finalists; the best encoders go to best/."),
        ("finetune", "Per-subject fine-tuning and baselines; opens the test part."),
        ("report", "report.html and the main table."),
    ):
        commands[name] = _stage(name)
        commands[name].__doc__ = doc
    commands["clean"] = clean
    guarded(lambda: tyro.extras.subcommand_cli_from_dict(commands, prog="physiosync"))


if __name__ == "__main__":
    main()
