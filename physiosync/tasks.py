"""What a worker does, told by paths and configs alone, so any process of any node can do it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from physiosync.baselines import frozen_probe
from physiosync.baselines.features import Trials
from physiosync.baselines.methods import PROBES, answer
from physiosync.classifier import Classifier, complete, predict
from physiosync.config import Config
from physiosync.files import atomic_path
from physiosync.finetuning import FinetuningConfig, fit_heads, train_classifier
from physiosync.kshot import kshot_rows
from physiosync.labels import Labels
from physiosync.loading import complete_trials, of_same_people, usable_trials
from physiosync.mirror import Copies, Mirror
from physiosync.model import PhysioSync
from physiosync.model_config import ModelConfig
from physiosync.pretraining import EpochReport, Pretraining, PretrainingConfig
from physiosync.probing import Probe, ProbeConfig
from physiosync.shards import read_info
from physiosync.splits import Split
from physiosync.training import DivergedError, seed_everything
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]

#: Of the chance-corrected balanced accuracy: every trial wrong, with two classes.
WORST_SCORE = -1.0


class Workload(Config):
    """What all jobs of a study share."""

    shards: tuple[Path, ...]
    pps: tuple[str, ...]
    split: Split
    labels: Labels
    probe: ProbeConfig
    cache: Path | None = None
    threads: int = 1
    copies: Copies | None = None
    """Of the shards, if they lie in an object store."""
    mirror: Mirror | None = None
    """Of the results, if they do."""

    def store(self) -> WindowStore:
        """The window store of all shards, opened once a process; in stretches if the split is."""
        return self.store_of(("eeg", *self.pps))

    def store_of(self, modalities: tuple[str, ...]) -> WindowStore:
        """The same trials, with the same ids, and other modalities."""
        stretches = self.split.stretch_seconds
        return _open(self.shards, modalities, self.cache, self.copies, stretches)

    def recorded_modalities(self) -> set[str]:
        """The modalities that any shard holds."""
        self.store()  # by which they lie on this machine
        return {name for path in self.shards for name in read_info(path).channels}

    def final_trials(self, n_times: int) -> tuple[Ints, Ints, Ints]:
        """Ids of the trials that are trained on once the search is over, of those to predict, and
        of those that each subject's scale is fitted on.

        Only whole ones that hold a window of `n_times` samples, of people who can be scaled. Known
        people are scaled on what they are trained on.
        """
        table, modalities = self.store().trials, ("eeg", *self.pps)
        train, test, scale = (
            complete_trials(table, trials, modalities, n_times)
            for trials in (
                self.split.known(table),
                self.split.trials(table, "test"),
                self.split.scale_trials(table, final=True),
            )
        )
        train, test = (of_same_people(table, trials, scale) for trials in (train, test))
        return train, test, scale

    def tested(self, n_times: int) -> list[str]:
        """Subjects with a trial to predict, in the store's order."""
        store, (_, test, _) = self.store(), self.final_trials(n_times)
        subjects = set(store.trials["subject"].loc[test])
        return [subject for subject in store.subjects if subject in subjects]


@lru_cache(maxsize=4)
def _open(
    shards: tuple[Path, ...],
    modalities: tuple[str, ...],
    cache: Path | None,
    copies: Copies | None,
    stretches: int | None,
) -> WindowStore:
    if copies is not None:
        copies.fetch()
    store = WindowStore.open(shards, modalities, cache)
    return store if stretches is None else store.in_stretches(stretches)


def open_pretraining(
    workload: Workload, config: PretrainingConfig, *, split: Split, seed: int
) -> Pretraining:
    """A pretraining run that can read training, validation and scale trials, and no others."""
    torch.set_num_threads(workload.threads)
    store = workload.store()
    train = split.trials(store.trials, "train")
    validation = split.trials(store.trials, "validation")
    scale = split.scale_trials(store.trials, final=False)
    open_part = store.restrict(np.concatenate([train, validation, scale]))
    n_times = config.model_config_for(store).long_times
    modalities = ("eeg", *config.pps)
    train, validation, _ = usable_trials(store.trials, split, modalities, n_times)
    probe = Probe(workload.probe, open_part.trials, train, validation, workload.labels)
    return Pretraining(config, open_part, split, seed, evaluate=probe)


class FinalistTask(Config):
    """Pretrain one configuration on one fold with one seed."""

    workload: Workload
    config: PretrainingConfig
    split: Split
    fold: int
    seed: int
    output: Path

    def run(self) -> None:
        """Write the best epoch's encoders and their scores to `output`."""
        run = open_pretraining(self.workload, self.config, split=self.split, seed=self.seed)
        curve: list[dict[str, float]] = []

        def keep(report: EpochReport) -> None:
            curve.append({"epoch": report.epoch, **report.losses, **report.scores})

        diverged = False
        try:
            run.run(keep)
        except DivergedError:
            # The same seed would diverge again: the configuration ranks last, the study goes on.
            diverged = True
        best = curve[run.best_epoch - 1] if run.best_epoch else {}
        if diverged or not best:
            best = best | {"score": WORST_SCORE}
        metrics = {
            "configuration": self.config.uid(),
            "fold": self.fold,
            "seed": self.seed,
            "best_epoch": run.best_epoch,
            "diverged": diverged,
            "pretraining": self.config.model_dump(mode="json"),
            **{f"validation_{name}": value for name, value in best.items() if name != "epoch"},
        }
        model = run.best() if run.best_epoch else PhysioSync(run.model_config)
        model.save_pretrained(self.output, metrics=metrics)


class FinetuneTask(Config):
    """Fine-tune one encoder; or train the same network from scratch."""

    workload: Workload
    config: FinetuningConfig
    encoder: Path | None
    """A model folder; None for the same network with fresh weights."""
    network: ModelConfig
    method: str
    subject: str | None
    """Trained on and tested; None for one classifier that is trained on all people who are known
    and tested on all who are to be: where people are held out, or if it was asked for."""
    seed: int
    output: Path

    def run(self) -> None:
        """Write the predictions of the test trials to `output`.

        Where people are held out, also those of the classifier adapted to each of them by k
        calibration trials; "shots" is k, 0 for the classifier as it is.
        """
        torch.set_num_threads(self.workload.threads)
        store = self.workload.store()
        everyone, test, scale = self.workload.final_trials(self.network.long_times)
        train = everyone
        if self.subject is not None:
            mine = store.trials.index[store.trials["subject"] == self.subject]
            train, test = (mine.intersection(trials).to_numpy() for trials in (train, test))
        store = store.restrict(np.concatenate([everyone, scale, test]))
        complete(store, self.network, test=test)  # Before anything is trained.
        labels = self.workload.labels
        net = train_classifier(
            self.config,
            self._start(),
            store,
            scale=scale,
            trials=train,
            labels=labels,
            seed=self.seed,
            pretrained=self.encoder is not None,
        )
        rows = predict(net, store, scale=scale, test=test, labels=labels).assign(shots=0)
        if self.workload.split.protocol in ("subject", "both"):
            shots = kshot_rows(
                self.config.shots,
                net,
                store,
                scale=scale,
                calibration=of_same_people(store.trials, scale, test),
                test=test,
                labels=labels,
                seed=self.seed,
            )
            rows = pd.concat([rows, shots], ignore_index=True)
        write_predictions(self.output, rows.assign(method=self.method, seed=self.seed))

    def _start(self) -> Classifier:
        """What all subjects' jobs start from; a worker fits it once for all that it runs."""
        all_subjects = self.model_copy(update={"subject": None, "output": Path()})
        return _fitted(all_subjects.model_dump_json())


@lru_cache(maxsize=1)
def _fitted(task: str) -> Classifier:
    job = FinetuneTask.model_validate_json(task)
    store = job.workload.store()
    everyone, _, scale = job.workload.final_trials(job.network.long_times)
    return fit_heads(
        job.config,
        _encoders(job),
        store.restrict(np.union1d(everyone, scale)),
        everyone=everyone,
        scale=scale,
        labels=job.workload.labels,
        seed=job.seed,
    )


class BaselineTask(Config):
    """Everything that needs no job for each subject."""

    workload: Workload
    method: str
    """One of `baselines.methods`."""
    encoder: Path | None
    network: ModelConfig
    artefacts: tuple[str, ...] = ()
    """Of the method of that name: the modalities that it reads."""
    seed: int
    output: Path

    def run(self) -> None:
        """Write the predictions of all test trials to `output`."""
        torch.set_num_threads(self.workload.threads)
        workload = self.workload
        # All methods answer for the same trials: those that the networks can read.
        train, test, scale = workload.final_trials(self.network.long_times)
        if self.method in PROBES:
            rows = frozen_probe(
                _encoders(self),
                workload.store(),
                train=train,
                test=test,
                labels=workload.labels,
                penalty=workload.probe.penalty,
                scale=scale,
                roles=PROBES[self.method],
            )
        else:
            rows = answer(
                self.method,
                workload.store_of(self.artefacts) if self.artefacts else workload.store(),
                Trials(train=train, test=test, scale=scale),
                workload.labels,
                modalities=self.artefacts or workload.pps,
                # An SVM's probabilities are fitted on what is new in the test part.
                grouped_by="subject" if workload.split.protocol == "subject" else "stimulus",
            )
        write_predictions(self.output, rows.assign(method=self.method, seed=self.seed))


def _encoders(task: FinetuneTask | BaselineTask) -> PhysioSync:
    """The saved encoders of a task, or its network with fresh weights."""
    seed_everything(task.seed)
    if task.encoder is None:
        return PhysioSync(task.network)
    return PhysioSync.from_pretrained(task.encoder)


def write_predictions(path: Path, rows: pd.DataFrame) -> None:
    """Write a table of predictions as Parquet, in one step."""
    with atomic_path(path) as part:
        rows.to_parquet(part, index=False)
