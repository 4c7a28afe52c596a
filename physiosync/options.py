"""What a user can set on a study's command line, each with its one line of help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import Field, PlainSerializer, field_validator, model_validator

from physiosync import paper
from physiosync.config import CommandLine
from physiosync.errors import StudyError
from physiosync.finetuning import FinetuningConfig
from physiosync.labels import Labels
from physiosync.preprocessing import PreprocessingConfig, Preset
from physiosync.pretraining import PretrainingConfig
from physiosync.probing import ProbeConfig
from physiosync.remote import is_remote, url_of, working_folder
from physiosync.sampling import Pairing
from physiosync.splits import Protocol
from physiosync.storage import default_storage, without_password
from physiosync.tuner import Resources

#: A folder, or the URL of an object store.
Place: TypeAlias = Annotated[Path, PlainSerializer(url_of, when_used="json")]


def _folder(what: str) -> Path | None:
    """A folder that the machine's set-up names, so that no command has to."""
    given = os.environ.get(f"PHYSIOSYNC_{what}")
    return Path(given) if given else None


class StudyOptions(CommandLine):
    """One study. The same command resumes it; a larger --trials adds to it."""

    not_identity: ClassVar[frozenset[str]] = frozenset(
        {
            "recordings", "shards", "results", "name", "trials", "storage", "cpus_per_trial",
            "gpus_per_trial", "dry_run", "finalists", "promote", "controls", "cache",
            "prepare_workers",
        }
    )  # fmt: skip

    recordings: Path | None = Field(default_factory=lambda: _folder("RECORDINGS"))
    """Folder of the recordings; default $PHYSIOSYNC_RECORDINGS."""
    results: Place = Field(default_factory=lambda: _folder("RESULTS") or Path("results"))
    """Where studies lie, this one in RESULTS/NAME; default $PHYSIOSYNC_RESULTS, else results.
    A folder or s3://bucket/prefix, which needs --storage."""
    name: str = Field(default="deap", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the study, its folder and its Optuna study."""
    shards: Place | None = None
    """Parquet shards, a folder or s3://bucket/prefix; default $PHYSIOSYNC_SHARDS/NAME, else
    data/NAME/shards."""
    trials: int = Field(default=64, ge=1)
    """Search trials to reach, earlier runs of this study counted in."""
    max_epochs: int = Field(default=27, ge=1)
    """Epochs of a trial that is not stopped early."""
    epoch_seconds: float = Field(default=40_000.0, gt=0)
    """Seconds of signal in an epoch, summed over subjects."""
    preset: Preset = "small"
    """small: patch tokens, robust scale per subject. paper: the published network and scaling."""
    pps: tuple[str, ...] = ("gsr", "resp", "ppg")
    """Peripheral modalities to pair with the EEG: gsr resp ppg temp eog emg ecg."""
    threshold: float = 5.0
    """A rating at or above it is high."""
    label: str | None = None
    """Column of the recordings that holds a class (0, 1, ...), to predict instead of arousal,
    valence and quadrant."""
    n_classes: int = Field(default=2, ge=2)
    """Classes of --label."""
    protocol: Protocol = "stimulus"
    """What the test part holds out. stimulus: clips. subject: people. both: people and clips.
    window: LEAKY, the papers' shuffle: stretches of 5 s, their neighbours in training; window
    lengths are then fixed (5 s and 1 s), without lags. To compare with papers, for nothing else."""
    pooled: bool = False
    """Fine-tune one classifier on everybody's training trials, instead of one for each person."""
    pairing: Pairing = "stimulus"
    """stimulus: people who met one stimulus at one time. recording: for people who share none, EEG
    and peripheral signals of one person, and neighbouring windows; another method."""
    calibration: tuple[str, ...] = ()
    """Protocol subject: stimuli that give each person's scale, without labels, and are not tested;
    default --calibration-share of them, by chance."""
    calibration_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the stimuli for that."""
    exclude: tuple[str, ...] = ()
    """Subjects to leave out, such as s28."""
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the stimuli (people; of each) that score the search."""
    test_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the stimuli (people; of each) kept closed until fine-tuning."""
    folds: int = Field(default=1, ge=1)
    """More than 1: that many test parts in turn, instead of one of --test-share, so that every
    stimulus (person; both) is tested once. Each fold is a study of its own, search included."""
    reuse_search: bool = False
    """With --folds: search in fold 1 alone; cheaper, but what is chosen has seen other folds' test
    parts."""
    finalists: int = Field(default=4, ge=1)
    """Configurations re-run over folds and seeds, the default one among them as a control."""
    finalist_folds: int = Field(default=3, ge=1)
    """Folds of the non-test part for the finalists."""
    finalist_seeds: int = Field(default=1, ge=1)
    """Seeds for the finalists, on each fold."""
    promote: int = Field(default=2, ge=1)
    """Encoders that go on to best/ and to fine-tuning."""
    controls: bool = True
    """Pretrain the best configuration twice more, as within-subject SimCLR and on shuffled pairs,
    to stand beside it in the tables."""
    finetune_epochs: int = Field(default=4, ge=0)
    """Epochs of fine-tuning, the same for pretrained and from scratch."""
    seed: int = Field(default=0, ge=0)
    """Of the split, the sampler and all training."""
    storage: str | None = Field(default_factory=lambda: os.environ.get("PHYSIOSYNC_STORAGE"))
    """Optuna storage URL; default $PHYSIOSYNC_STORAGE, else a file in RESULTS/NAME: study.db on a
    local disk, study.journal on a shared one. Keep passwords in ~/.pgpass."""
    cpus_per_trial: float = Field(default=1.0, gt=0)
    """CPUs (and threads) of a trial."""
    gpus_per_trial: float = Field(default=0.0, ge=0)
    """GPUs of a trial; 0.25 puts four on one."""
    prepare_workers: int = Field(default=0, ge=0)
    """Processes that write shards; 0 for one a CPU."""
    cache: Path | None = None
    """Folder of the memory-mapped windows; default ~/.cache/physiosync/windows."""
    dry_run: bool = False
    """Say what would run and what it would cost, then stop."""

    @field_validator("exclude")
    @classmethod
    def _lower_case(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in names)

    @model_validator(mode="after")
    def _calibration_is_used(self) -> StudyOptions:
        if self.calibration and self.protocol != "subject":
            raise ValueError(
                f"--calibration belongs to --protocol subject, but got protocol {self.protocol!r}"
            )
        return self

    @model_validator(mode="after")
    def _a_search_can_be_reused(self) -> StudyOptions:
        if self.reuse_search and self.folds == 1:
            raise ValueError("--reuse-search needs --folds of at least 2, but got 1")
        return self

    @model_validator(mode="after")
    def _protocol_fits(self) -> StudyOptions:
        if self.pooled and self.protocol not in ("stimulus", "window"):
            raise ValueError(
                "--pooled belongs to protocols stimulus and window (held-out people share one "
                f"classifier anyway), but got protocol {self.protocol!r}"
            )
        if self.protocol == "window" and self.pairing != "stimulus":
            raise ValueError(
                "--protocol window belongs to pairing stimulus (its stretches are one window long, "
                f"and hold no neighbours), but got pairing {self.pairing!r}"
            )
        return self

    @property
    def folder(self) -> Path:
        """The study's folder on this machine; a working copy if `results_url` is not None."""
        if is_remote(self.results):
            return working_folder("results", url_of(self.results)) / self.name
        return (self.results / self.name).resolve()

    @property
    def results_url(self) -> str | None:
        """Where the study is kept, if in an object store."""
        return url_of(self.results / self.name) if is_remote(self.results) else None

    @property
    def shards_folder(self) -> Path:
        """Where the shards lie: a folder, or a URL as a path (see `physiosync.remote`)."""
        place, common = self.shards, _folder("SHARDS")
        if place is None:
            place = common / self.name if common else Path("data") / self.name / "shards"
        return place if is_remote(place) else place.resolve()

    @property
    def database_name(self) -> str:
        """Of the Optuna study."""
        return self.name

    @property
    def storage_url(self) -> str:
        """Of the Optuna database.

        Raises
        ------
        StudyError
            If the results lie in an object store, and no server was named that keeps the trials.
        """
        if is_remote(self.results) and not (self.storage or "").startswith("postgres"):
            found = without_password(self.storage) if self.storage else "none"
            raise StudyError(
                f"results in {self.results_url}: expected --storage (or $PHYSIOSYNC_STORAGE) with "
                "the URL of a PostgreSQL server, postgresql://USER@HOST/DATABASE, because an "
                f"object store can't hold a database that is written to, found {found}"
            )
        return self.storage or default_storage(self.folder)

    def without_secrets(self) -> dict[str, Any]:
        """All of it as plain JSON values, fit to be stored."""
        plain = self.model_dump(mode="json")
        return plain | {"storage": without_password(self.storage) if self.storage else None}

    @property
    def resources(self) -> Resources:
        """What one trial or job gets."""
        return Resources(cpus_per_trial=self.cpus_per_trial, gpus_per_trial=self.gpus_per_trial)

    @property
    def preprocessing(self) -> PreprocessingConfig:
        """Of the preset."""
        return PreprocessingConfig.of(self.preset)

    @property
    def labels(self) -> Labels:
        """What is predicted."""
        if self.label is None:
            return Labels(threshold=self.threshold)
        return Labels(targets={self.label: self.n_classes}, threshold=None)

    @property
    def stretch_seconds(self) -> int | None:
        """Length of the stretches of protocol "window": one long window of the default."""
        return round(self.pretraining.long_seconds) if self.protocol == "window" else None

    @property
    def pretraining(self) -> PretrainingConfig:
        """The default configuration, around which the search goes."""
        common: dict[str, Any] = {
            "pps": self.pps,
            "epochs": self.max_epochs,
            "epoch_seconds": self.epoch_seconds,
            "pairing": self.pairing,
        }
        if self.preset == "paper":
            return paper.pretraining(**common)
        if self.protocol == "window":
            common |= {"lag_skin_seconds": 0.0, "lag_body_seconds": 0.0}
        return PretrainingConfig(**common)

    @property
    def finetuning(self) -> FinetuningConfig:
        """Fixed for the study."""
        # A stretch is one window: more draws of it would be the same again.
        draws = {"windows_per_trial": 1} if self.protocol == "window" else {}
        if self.preset == "paper":
            return paper.finetuning(epochs=self.finetune_epochs, **draws)
        return FinetuningConfig(epochs=self.finetune_epochs, **draws)

    @property
    def probe(self) -> ProbeConfig:
        """Fixed for the study."""
        return ProbeConfig()


class FoldOptions(StudyOptions):
    """One fold of a study: a folder in the study's, and an Optuna study beside the other folds'."""

    fold: int = Field(ge=1)
    """From 1 on."""

    @property
    def folder(self) -> Path:
        """The fold's folder on this machine."""
        return super().folder / f"fold-{self.fold}"

    @property
    def results_url(self) -> str | None:
        """Where the fold is kept, if in an object store."""
        url = super().results_url
        return url and f"{url}/fold-{self.fold}"

    @property
    def database_name(self) -> str:
        """Of the Optuna study."""
        return f"{self.name}-fold-{self.fold}"

    @property
    def storage_url(self) -> str:
        """The study's: all folds share it."""
        return StudyOptions(**self.model_dump(exclude={"fold"})).storage_url


def default_options(words: Sequence[str], **given: Any) -> StudyOptions:
    """The defaults that `--preset` and `--protocol` of a command line choose.

    With `--preset paper` those of the paper (see `physiosync.paper`); whatever else the command
    line says still overrides them.

    Parameters
    ----------
    words : the command line
    given : what is the default in any case, such as the name
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--protocol", default="stimulus")
    chosen, _ = parser.parse_known_args(list(words))
    if chosen.preset != "paper":
        return StudyOptions(**given)
    shuffled = paper.SHUFFLED if chosen.protocol == "window" else {}
    return StudyOptions(**(paper.STUDY | shuffled | given))
