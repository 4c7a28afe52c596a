"""What `physiosync prepare FORMAT` can be told, and what it then reads and how.

Each format's reader is imported when it is used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self, TypeAlias

import tyro
from pydantic import Field, model_validator

from physiosync.config import Config
from physiosync.filtering import Band
from physiosync.preparation import Source
from physiosync.preprocessing import PreprocessingConfig, Preset
from physiosync.recordings.base import Recording
from physiosync.shard_layout import BASE_SECONDS

if TYPE_CHECKING:
    from physiosync.recordings.deap_bdf import DeapBdfPreprocessing
    from physiosync.recordings.dreamer import DreamerPreprocessing

_Recordings: TypeAlias = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RECORDINGS")]


class Work(NamedTuple):
    """What `physiosync.preparation.prepare` is given."""

    sources: Sequence[Source]
    read: Callable[..., Recording]
    config: PreprocessingConfig


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
        return PreprocessingConfig.of(self.preset)

    @abstractmethod
    def work(self) -> Work:
        """What there is to prepare, and how."""


class PrepareDeap(_PrepareOptions):
    """DEAP: s01.dat, s02.dat, ... as its authors preprocessed them."""

    def work(self) -> Work:
        """See the base class."""
        from physiosync.recordings.deap import find_deap, read_deap

        return Work(find_deap(self.recordings), read_deap, self.preprocessing())


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

    def work(self) -> Work:
        """See the base class."""
        from physiosync.recordings.dreamer import find_dreamer, read_dreamer

        config = self.preprocessing()
        read = partial(read_dreamer, seconds=self.seconds, part=self.part, band=config.band)
        return Work(find_dreamer(self.recordings), read, config)


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

    def work(self) -> Work:
        """See the base class."""
        from physiosync.recordings.deap_bdf import find_deap_bdf, read_deap_bdf
        from physiosync.recordings.deap_ratings import find_ratings

        ratings = self.ratings or find_ratings(self.recordings)
        config = self.preprocessing().rated_by(ratings)
        read = partial(read_deap_bdf, ratings=ratings, config=config)
        return Work(find_deap_bdf(self.recordings), read, config)


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
    low: float | None = Field(default=None, gt=0)
    """Lower edge of a band-pass of the EEG, in Hz; None for none."""
    high: float | None = Field(default=None, gt=0)
    """Upper edge, in Hz; None for no low-pass."""
    dataset: str = "mne"
    """Name that the shards keep."""

    def work(self) -> Work:
        """See the base class; the folder's recordings by a table, or as BIDS."""
        from physiosync.recordings.bids import find_recordings
        from physiosync.recordings.channels import described
        from physiosync.recordings.mne_raw import read_mne
        from physiosync.recordings.mne_sources import MneOptions

        options = MneOptions(
            **described(self.channels, self.types),
            common_channels=self.common_channels,
            drop=self.drop,
            band=Band(low=self.low, high=self.high),
            ratings=self.ratings,
            baseline_seconds=self.baseline_seconds,
            dataset=self.dataset,
        )
        sources = find_recordings(
            self.recordings,
            events=self.events,
            options=options,
            task=self.task,
            stimulus=self.stimulus,
        )
        return Work(sources, read_mne, self.preprocessing())


Prepare: TypeAlias = (
    Annotated[PrepareDeap, tyro.conf.subcommand("deap")]
    | Annotated[PrepareDeapBdf, tyro.conf.subcommand("deap-bdf")]
    | Annotated[PrepareDreamer, tyro.conf.subcommand("dreamer")]
    | Annotated[PrepareMne, tyro.conf.subcommand("mne")]
)
