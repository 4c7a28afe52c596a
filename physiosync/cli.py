"""`physiosync STAGE ...`: one subcommand a stage, no logic."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

import tyro
from pydantic import Field, model_validator

from physiosync import progress
from physiosync.config import Config
from physiosync.errors import PhysioSyncError, StudyError
from physiosync.files import causes, disk_is_full
from physiosync.filtering import Band
from physiosync.interruption import Interrupted
from physiosync.ledger import Ledger
from physiosync.options import Preset, StudyOptions
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Recording
from physiosync.shard_layout import BASE_SECONDS

if TYPE_CHECKING:  # Each format's reader is imported when it is used.
    from physiosync.recordings.deap_bdf import DeapBdfPreprocessing
    from physiosync.recordings.dreamer import DreamerPreprocessing


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


_Recordings: TypeAlias = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RECORDINGS")]


class _PrepareOptions(Config):
    """What all formats have in common."""

    recordings: _Recordings
    """Folder of the recordings."""
    shards: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SHARDS")]
    """Folder to write to."""
    preset: Preset = "small"
    """Of the study that will use them."""
    strict: bool = False
    """Take anything that would be left out (a trial, a modality, a rating) for an error."""
    workers: int = Field(default=0, ge=0)
    """Processes; 0 for one a CPU."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.preprocessing()
        return self

    def preprocessing(self) -> PreprocessingConfig:
        """What is done to recordings of this format."""
        return StudyOptions(preset=self.preset).preprocessing


class PrepareDeap(_PrepareOptions):
    """DEAP: s01.dat, s02.dat, ... as its authors preprocessed them."""


class PrepareDreamer(_PrepareOptions):
    """DREAMER: all subjects in one DREAMER.mat."""

    recordings: _Recordings
    """DREAMER.mat, or the folder that holds it."""
    seconds: float = Field(default=60.0, ge=BASE_SECONDS)
    """Taken of each clip; shorter clips are taken whole."""
    part: Literal["first", "last"] = "last"
    """Which end of the clip they are."""
    low: float | None = Field(default=None, gt=0)
    """Lower edge of a band-pass of the EEG, in Hz, such as 4; None keeps the offset."""
    high: float | None = Field(default=None, gt=0)
    """Upper edge, in Hz, such as 45; None for no low-pass."""
    workers: int = Field(default=1, ge=0)
    """Processes, each of which parses the whole file and needs 2 GB for it; 0 for one a CPU."""

    def preprocessing(self) -> DreamerPreprocessing:
        """What is done to recordings of this format."""
        from physiosync.recordings.dreamer import DreamerPreprocessing

        return DreamerPreprocessing(
            **super().preprocessing().model_dump(),
            seconds=self.seconds,
            part=self.part,
            band=Band(low=self.low, high=self.high),
        )


class PrepareDeapBdf(_PrepareOptions):
    """DEAP as recorded: s01.bdf, s02.bdf, ... and participant_ratings.csv."""

    ratings: Path | None = None
    """participant_ratings.csv; by default it is looked for in RECORDINGS and in metadata_csv."""
    low: float | None = Field(default=4.0, gt=0)
    """Lower edge of the EEG's band, in Hz; None for no high-pass."""
    high: float | None = Field(default=45.0, gt=0)
    """Upper edge of the EEG's band, in Hz; None for no low-pass."""
    reference: Literal["average", "recorded"] = "average"
    """Of the EEG; average: the mean of the 32 electrodes is subtracted."""
    eyes: Literal["regress", "keep"] = "regress"
    """regress: the share of the EOG is subtracted from the EEG."""
    sfreq: float = Field(default=128.0, gt=0, le=512)
    """Rate of the shards, in Hz."""
    seconds: float = Field(default=60.0, ge=BASE_SECONDS)
    """Taken of each video, from its onset."""
    workers: int = Field(default=0, ge=0)
    """Processes, each of which needs 1 GB; 0 for one a CPU."""

    def preprocessing(self) -> DeapBdfPreprocessing:
        """What is done to recordings of this format."""
        from physiosync.recordings.deap_bdf import DeapBdfPreprocessing

        common = super().preprocessing().model_dump(exclude={"sfreq"})
        return DeapBdfPreprocessing(
            **common,
            sfreq=self.sfreq,
            band=Band(low=self.low, high=self.high),
            reference=self.reference,
            eyes=self.eyes,
            seconds=self.seconds,
        )


Prepare: TypeAlias = (
    Annotated[PrepareDeap, tyro.conf.subcommand("deap")]
    | Annotated[PrepareDeapBdf, tyro.conf.subcommand("deap-bdf")]
    | Annotated[PrepareDreamer, tyro.conf.subcommand("dreamer")]
)


def prepare(
    given: tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[Prepare]],
) -> None:
    """Read recordings, preprocess them, and write one Parquet shard a subject."""
    from physiosync.preparation import Source
    from physiosync.preparation import prepare as write_shards
    from physiosync.recordings.deap import find_deap, read_deap
    from physiosync.recordings.deap_bdf import find_deap_bdf, read_deap_bdf
    from physiosync.recordings.deap_ratings import find_ratings
    from physiosync.recordings.dreamer import find_dreamer, read_dreamer

    def say(path: Path, done: int, total: int, skipped: bool) -> None:
        print(f"{path.stem} {'is up to date' if skipped else 'written'}, {done}/{total}")

    config = given.preprocessing()
    sources: Sequence[Source]
    read: Callable[..., Recording]
    if isinstance(given, PrepareDreamer):
        config = of_dreamer = given.preprocessing()
        sources = find_dreamer(given.recordings)
        read = partial(read_dreamer, seconds=given.seconds, part=given.part, band=of_dreamer.band)
    elif isinstance(given, PrepareDeapBdf):
        sources = find_deap_bdf(given.recordings)
        ratings = given.ratings or find_ratings(given.recordings)
        config = of_deap = given.preprocessing().rated_by(ratings)
        read = partial(read_deap_bdf, ratings=ratings, config=of_deap)
    else:
        sources, read = find_deap(given.recordings), read_deap
    write_shards(
        sources,
        read,
        given.shards,
        config,
        workers=given.workers,
        strict=given.strict,
        on_subject=say,
    )


def _stage(name: str, default: StudyOptions) -> Callable[..., None]:
    def run(options: tyro.conf.OmitArgPrefixes[StudyOptions] = default) -> None:
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
    guarded(lambda: _main(sys.argv[1:]))


def _main(words: Sequence[str]) -> None:
    commands: dict[str, Any] = {"prepare": prepare}
    default = _as_begun(words)
    for name, doc in (
        ("search", "Pretraining trials until --trials have ended."),
        ("finalists", "The best configurations again, over stimulus folds and seeds."),
        ("promote", "Rank the finalists; the best encoders go to best/."),
        ("finetune", "Per-subject fine-tuning and baselines; opens the test part."),
        ("report", "report.html and the main table."),
    ):
        commands[name] = _stage(name, default)
        commands[name].__doc__ = doc
    commands["clean"] = clean
    tyro.extras.subcommand_cli_from_dict(commands, prog="physiosync", args=words)


def _as_begun(words: Sequence[str]) -> StudyOptions:
    """The options that a study was begun with, if the command line names one; else the defaults.

    So that a stage needs no more than --name, and can be given --trials or --cpus-per-trial.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--name", default=StudyOptions().name)
    parser.add_argument("--results", type=Path, default=StudyOptions().results)
    given, _ = parser.parse_known_args(list(words))
    begun = Ledger(given.results / given.name).read().get("options", {})
    if ":***@" in (begun.get("storage") or ""):
        del begun["storage"]  # No file has its password; it has to be given again.
    try:
        return StudyOptions(**begun)
    except ValueError as error:
        raise StudyError(f"{given.results / given.name}/study.json: {error}") from error


if __name__ == "__main__":
    main()
