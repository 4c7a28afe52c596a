"""A study in K folds: each a study of its own, search included, and at the end one table of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import optuna

from physiosync import folded_outcome
from physiosync.errors import SamplingError, SplitError, StudyError
from physiosync.mirror import Mirror
from physiosync.options import FoldOptions, StudyOptions
from physiosync.preparation import Source
from physiosync.progress import log
from physiosync.recordings.base import Recording
from physiosync.search import finished
from physiosync.split_folds import outer_folds
from physiosync.splits import Split
from physiosync.study import Study, mirrored


def study_of(
    options: StudyOptions,
    *,
    find: Callable[[Path], Sequence[Source]],
    read: Callable[..., Recording],
    synthetic: bool = False,
) -> Study:
    """The study that the options ask for, in folds or not; parameters as of `Study`."""
    kind = Study if options.folds == 1 else FoldedStudy
    return kind(options, find=find, read=read, synthetic=synthetic)


class FoldedStudy(Study):
    """The stages of a study, each for all its folds, in one session.

    Everything below `split.json` lies in a folder a fold; what is here is the whole's.
    """

    @cached_property
    def folds(self) -> list[Fold]:
        """In their order."""
        return [Fold(self, number) for number in range(1, self.options.folds + 1)]

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """Of the folds."""
        o = self.options
        return outer_folds(
            self.store.trials,
            o.folds,
            protocol=o.protocol,
            validation=o.validation_share,
            seed=o.seed,
            calibration=o.calibration or o.calibration_share,
            sites=self.store.sites,
            stretch_seconds=o.stretch_seconds,
        )

    @mirrored
    def compute(self) -> None:
        """From the search to the test part, one fold after the other."""
        self._each(Fold.compute)

    def notes(self) -> list[str]:
        """What is worth knowing of each fold; raises if one is not possible."""
        said: list[str] = []
        _ = self.splits  # What is wrong with all is not the first's fault.
        self._each(
            lambda fold: said.extend(f"{fold.label}: {note}" for note in fold.notes()), aloud=False
        )
        return said

    def absent(self) -> list[str]:
        """Why methods have no row in a fold, in sentences, each once."""
        return list(dict.fromkeys(why for fold in self.folds for why in fold.absent()))

    def bind(self) -> None:
        """Write down what the study is, and each fold's part of it."""
        self.ledger.bind(self.identity(), self.options.without_secrets())
        self._each(Fold.bind, aloud=False)

    def audit(self) -> None:
        """Prove the folds' splits, or stop."""
        self._each(Fold.audit)

    @mirrored
    def search(self) -> None:
        """A search a fold; with --reuse-search, the first fold's is everyone's."""
        self._each(Fold.search)

    @mirrored
    def run_finalists(self) -> None:
        """Each fold's best configurations again, on its own training part."""
        self._each(Fold.run_finalists)

    @mirrored
    def promote(self) -> None:
        """Rank each fold's finalists."""
        self._each(Fold.promote)

    @mirrored
    def controls(self) -> None:
        """What is trained to stand beside each fold's winner."""
        self._each(Fold.controls)

    @mirrored
    def finetune(self) -> None:
        """Fine-tuning and baselines on each fold's test part."""
        self._each(Fold.finetune)

    @mirrored
    def report(self) -> None:
        """A report of each fold, and one table of the trials of all."""
        self._each(Fold.report, aloud=False)
        log.info("%s", self.write_report())

    def write_report(self) -> str:
        """Pool the folds' predictions; returns their table and where everything lies, as text."""
        return folded_outcome.report(
            self.folder,
            [fold.folder for fold in self.folds],
            trials=[len(finished(fold.database)) for fold in self.folds],
            shots=self.options.finetuning.shots.trials,
            labels=self.options.labels,
            left_out=[*self.store.left_out, *self.absent()],
            synthetic=self.synthetic,
            storage=self.options.storage_url,
            where=self.mirror.url_of(self.folder),
        )

    @property
    def mirrors(self) -> list[Mirror]:
        """The whole's and the folds'."""
        return [self.mirror, *(fold.mirror for fold in self.folds)]

    def new_split(self) -> Split:
        """There is none of the whole, so a stage that asks for it forgot the folds."""
        raise NotImplementedError("a study in folds has a split for each of them")

    def _each(self, stage: Callable[[Fold], None], *, aloud: bool = True) -> None:
        """Do it for each fold; an error says for which."""
        for fold in self.folds:
            if aloud:
                log.info("%s", fold.label)
            try:
                stage(fold)
            except (StudyError, SplitError, SamplingError) as error:
                raise type(error)(f"{fold.label}: {error}") from error


class Fold(Study):
    """One fold, in the session of the whole.

    Parameters
    ----------
    whole : the study
    number : from 1 on
    """

    options: FoldOptions

    def __init__(self, whole: FoldedStudy, number: int) -> None:
        options = FoldOptions(**whole.options.model_dump(), fold=number)
        super().__init__(options, find=whole.data.find, read=whole.read)
        self._whole = whole
        self.data, self.interruption = whole.data, whole.interruption

    @property
    def label(self) -> str:
        """As users know it."""
        return f"fold {self.options.fold} of {self.options.folds}"

    @cached_property
    def synthetic(self) -> bool:
        """Whether the recordings are."""
        return self._whole.synthetic

    def new_split(self) -> Split:
        """This fold's turn."""
        return self._whole.splits[self.options.fold - 1]

    @mirrored
    def report(self) -> None:
        """The fold's own; its table is not printed, for one of all follows."""
        self.write_report()

    @cached_property
    def database(self) -> optuna.Study:
        """The fold's Optuna study, or the first fold's, whose configurations are re-used."""
        if self.options.reuse_search and self.options.fold > 1:
            return self._whole.folds[0].database
        return super().database
