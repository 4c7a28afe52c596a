"""`physiosync STAGE ...`: one subcommand a stage, no logic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import tyro
from pydantic import Field

from physiosync import progress
from physiosync.config import Config
from physiosync.errors import PhysioSyncError
from physiosync.files import causes, disk_is_full
from physiosync.interruption import Interrupted
from physiosync.options import Preset, StudyOptions
from physiosync.recordings.base import Recording
from physiosync.shard_layout import BASE_SECONDS


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
    except Exception as error:
        if not disk_is_full(error):
            raise
        *_, cause = causes(error)
        print(
            f"error: expected room on the disk, found it full ({cause}); what is done is kept, and "
            "the same command goes on after space is made",
            file=sys.stderr,
        )
        sys.exit(1)


class _PrepareOptions(Config):
    """What all formats have in common."""

    recordings: tyro.conf.Positional[Path]
    """Folder of the recordings."""
    shards: tyro.conf.Positional[Path]
    """Folder to write to."""
    preset: Preset = "small"
    """Of the study that will use them."""
    workers: int = Field(default=0, ge=0)
    """Processes; 0 for one a CPU."""


class PrepareDeap(_PrepareOptions):
    """DEAP: s01.dat, s02.dat, ... as its authors preprocessed them."""


class PrepareDreamer(_PrepareOptions):
    """DREAMER: all subjects in one DREAMER.mat."""

    recordings: tyro.conf.Positional[Path]
    """DREAMER.mat, or the folder that holds it."""
    seconds: float = Field(default=60.0, ge=BASE_SECONDS)
    """Taken of each clip; shorter clips are taken whole."""
    part: Literal["first", "last"] = "last"
    """Which end of the clip they are."""
    workers: int = Field(default=1, ge=0)
    """Processes, each of which parses the whole file and needs 2 GB for it; 0 for one a CPU."""


class PrepareMne(_PrepareOptions):
    """Any files that MNE reads (EDF, BDF, BrainVision, EEGLAB, FIF), with a table of events."""

    events: Path
    """Table with columns file, subject, onset, duration, stimulus, and ratings or class labels."""
    ratings: tuple[str, ...] = ()
    """Columns to take as ratings; all that have no other meaning if none are named."""
    types: tuple[str, ...] = ()
    """What channels are where the file does not say, such as ECG=ecg EDA=gsr."""
    channels: Path | None = None
    """Table with columns name, and type or unit or both, where files lack them or are wrong."""
    common_channels: bool = False
    """Take only the channels that all files have, where they differ."""
    drop: tuple[str, ...] = ()
    """Channels to leave out, such as A2-A1."""
    baseline_seconds: float = Field(default=0.0, ge=0)
    """Of rest before each onset, where the table names no baseline."""
    highpass: float | None = Field(default=None, gt=0)
    """Hz, of the EEG."""
    lowpass: float | None = Field(default=None, gt=0)
    """Hz, of the EEG."""
    dataset: str = "mne"
    """Name that the shards keep."""


Prepare: TypeAlias = (
    Annotated[PrepareDeap, tyro.conf.subcommand("deap")]
    | Annotated[PrepareDreamer, tyro.conf.subcommand("dreamer")]
    | Annotated[PrepareMne, tyro.conf.subcommand("mne")]
)


def prepare(
    given: tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[Prepare]],
) -> None:
    """Read recordings, preprocess them, and write one Parquet shard a subject."""
    from physiosync.preparation import Source
    from physiosync.preparation import prepare as write_shards
    from physiosync.recordings.channels import described
    from physiosync.recordings.deap import find_deap, read_deap
    from physiosync.recordings.dreamer import DreamerPreprocessing, find_dreamer, read_dreamer
    from physiosync.recordings.mne_raw import MneOptions, find_mne, read_mne

    def say(path: Path, done: int, total: int, skipped: bool) -> None:
        print(f"{path.stem} {'is up to date' if skipped else 'written'}, {done}/{total}")

    config = StudyOptions(preset=given.preset).preprocessing
    sources: Sequence[Source]
    read: Callable[..., Recording]
    if isinstance(given, PrepareDreamer):
        sources = find_dreamer(given.recordings)
        read = partial(read_dreamer, seconds=given.seconds, part=given.part)
        config = DreamerPreprocessing(**config.model_dump(), seconds=given.seconds, part=given.part)
    elif isinstance(given, PrepareMne):
        options = MneOptions(
            **described(given.channels, given.types),
            common_channels=given.common_channels,
            drop=given.drop,
            highpass=given.highpass,
            lowpass=given.lowpass,
            ratings=given.ratings,
            baseline_seconds=given.baseline_seconds,
            dataset=given.dataset,
        )
        sources = find_mne(given.recordings, events=given.events, options=options)
        read = read_mne
    else:
        sources, read = find_deap(given.recordings), read_deap
    write_shards(sources, read, given.shards, config, workers=given.workers, on_subject=say)


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
        ("finalists", "The best configurations again, over folds and seeds."),
        ("promote", "Rank the finalists; the best encoders go to best/."),
        ("finetune", "Fine-tuning and baselines; opens the test part."),
        ("report", "report.html and the main table."),
    ):
        commands[name] = _stage(name)
        commands[name].__doc__ = doc
    commands["clean"] = clean
    guarded(lambda: tyro.extras.subcommand_cli_from_dict(commands, prog="physiosync"))


if __name__ == "__main__":
    main()
