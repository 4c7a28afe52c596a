"""`physiosync STAGE ...`: one subcommand a stage, no logic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro
from pydantic import Field

from physiosync import progress
from physiosync.config import Config
from physiosync.errors import InputError, PhysioSyncError, RecordingError
from physiosync.files import causes, disk_is_full, sweep
from physiosync.interruption import Interrupted
from physiosync.options import Preset, StudyOptions
from physiosync.recordings.base import Recording
from physiosync.shard_layout import BASE_SECONDS

if TYPE_CHECKING:
    from physiosync.recordings.mne_sources import MneSource


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
    """Any files that MNE reads (EDF, BDF, BrainVision, EEGLAB, FIF), with a table of events.

    A BIDS folder needs no table: its own events.tsv, channels.tsv are taken.
    """

    events: Path | None = None
    """Table with columns file, subject, onset, duration, stimulus, and ratings or class labels."""
    task: str = ""
    """BIDS: only recordings of this task; all if not given."""
    stimulus: str = ""
    """BIDS: column that names the stimulus; if not given, stimulus, stim_file or trial_type."""
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

    def sources(self) -> Sequence[MneSource]:
        """What the folder holds, by its table or as BIDS."""
        from physiosync.recordings.bids import find_recordings
        from physiosync.recordings.channels import described
        from physiosync.recordings.mne_sources import MneOptions

        options = MneOptions(
            **described(self.channels, self.types),
            common_channels=self.common_channels,
            drop=self.drop,
            highpass=self.highpass,
            lowpass=self.lowpass,
            ratings=self.ratings,
            baseline_seconds=self.baseline_seconds,
            dataset=self.dataset,
        )
        return find_recordings(
            self.recordings,
            events=self.events,
            options=options,
            task=self.task,
            stimulus=self.stimulus,
        )


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
    from physiosync.recordings.deap import find_deap, read_deap
    from physiosync.recordings.dreamer import DreamerPreprocessing, find_dreamer, read_dreamer
    from physiosync.recordings.mne_raw import read_mne

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
        sources = given.sources()
        read = read_mne
    else:
        sources, read = find_deap(given.recordings), read_deap
    sweep(given.shards)
    write_shards(sources, read, given.shards, config, workers=given.workers, on_subject=say)


def _stage(name: str) -> Callable[[StudyOptions], None]:
    def run(options: tyro.conf.OmitArgPrefixes[StudyOptions]) -> None:
        from physiosync.recordings.deap import find_deap, read_deap
        from physiosync.study import Study

        Study(options, find=find_deap, read=read_deap).run_stage(name)

    return run


def inspect(
    path: tyro.conf.Positional[Path],
    out: Path | None = None,
    subject: str = "",
    trial: str = "",
    threshold: float = 5.0,
    events: Path | None = None,
    channels: Path | None = None,
    types: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
) -> None:
    """Say what recordings or shards hold, and draw one trial.

    Args:
        path: Shards, DEAP's .dat, DREAMER.mat, BIDS, or what MNE reads; a file or a folder.
        out: HTML page to write, with signals, spectra and electrodes of one trial.
        subject: Only this one.
        trial: Drawn in the page: its stimulus, or its position in the session; else the first.
        threshold: From which a rating counts as high.
        events: Table of events, for a folder of recordings that MNE reads.
        channels: Table of channels with columns name, and type or unit or both.
        types: What channels are, such as ECG=ecg EDA=gsr.
        drop: Channels to leave out.
    """
    from physiosync.inspection import in_words, look_at_all, subjects_in, trial_of
    from physiosync.inspection_figures import write_report
    from physiosync.recordings.channels import described
    from physiosync.recordings.mne_sources import MneOptions

    options = MneOptions(**described(channels, types), drop=drop)
    read = subjects_in(path, events=events, options=options)
    if subject and subject not in read:
        raise RecordingError(path, "subject", expected=", ".join(read), found=subject)
    wanted = {subject: read[subject]} if subject else read
    found, names, failed = [], [], []
    for name, seen in look_at_all(wanted):
        if isinstance(seen, InputError):
            failed.append(seen)
            print(f"{name} can't be used: {seen}", file=sys.stderr)
        else:
            found.append(seen)
            names.append(name)
    if not found:
        raise failed[0]
    words = in_words(found, threshold=threshold)
    print(words)
    if out is not None:
        recording = read[names[0]]()
        write_report(out, recording, trial_of(recording, trial), words)
        print(f"\npictures in {out}")


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
    commands["inspect"] = inspect
    commands["clean"] = clean
    guarded(lambda: tyro.extras.subcommand_cli_from_dict(commands, prog="physiosync"))


if __name__ == "__main__":
    main()
