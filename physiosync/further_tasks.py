"""More that a worker does once the search is over, told by paths and configs as in `tasks`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from physiosync.analyses import analyse
from physiosync.baselines import BAND_POWER_PENALTY, band_power_features, trial_features
from physiosync.config import Config
from physiosync.finetuning import FinetuningConfig
from physiosync.kshot import ShotsConfig, kshot_rows_of_features
from physiosync.loading import of_same_people, usable_trials
from physiosync.model import PhysioSync
from physiosync.model_config import ModelConfig
from physiosync.pooled import train_pooled
from physiosync.provenance import Seen
from physiosync.tasks import Workload, write_predictions
from physiosync.training import seed_everything

#: "analysis" of the rows that belong to the k-shot curves.
KSHOT = "kshot"


class PooledTask(Config):
    """Train a fresh network on everyone's labels; see `physiosync.pooled`."""

    workload: Workload
    config: FinetuningConfig
    network: ModelConfig
    epochs: int
    epoch_seconds: float
    """The budget: of the pretraining that it is compared with."""
    seed: int
    output: Path

    def run(self) -> None:
        """Write the encoders to the folder `output`; no test trial can be read."""
        torch.set_num_threads(self.workload.threads)
        store, split = self.workload.store(), self.workload.split
        modalities = ("eeg", *self.workload.pps)
        train, validation, scale = usable_trials(
            store.trials, split, modalities, self.network.long_times
        )
        seed_everything(self.seed)
        model, metrics = train_pooled(
            self.config,
            PhysioSync(self.network),
            store.restrict(np.unique(np.concatenate([train, validation, scale]))),
            scale=scale,
            train=train,
            validation=validation,
            labels=self.workload.labels,
            seed=self.seed,
            epochs=self.epochs,
            epoch_seconds=self.epoch_seconds,
        )
        model.seen = Seen.of(store, np.union1d(train, validation))
        model.save_pretrained(self.output, metrics={"method": "scratch_pooled"} | metrics)


class AnalysisTask(Config):
    """What frozen features tell beside the study's classes; see `physiosync.analyses`."""

    workload: Workload
    method: Literal["pretrained_probe", "band_power"]
    """Whose features."""
    encoder: Path | None
    """A model folder, for "pretrained_probe"."""
    shots: ShotsConfig
    """For band power, where people are held out."""
    network: ModelConfig
    seed: int
    output: Path

    def run(self) -> None:
        """Write a row a test trial and question to `output`; rows of k-shot as `kshot` has them."""
        torch.set_num_threads(self.workload.threads)
        store = self.workload.store()
        train, test, scale = self.workload.final_trials(self.network.long_times)
        if self.encoder is None:
            penalty = BAND_POWER_PENALTY
            features = band_power_features(store, train=train, test=test, scale=scale)
        else:
            penalty = self.workload.probe.penalty
            model = PhysioSync.from_pretrained(self.encoder)
            features = trial_features(model, store, np.union1d(train, test), scale=scale)
        rows = analyse(
            features,
            store.trials,
            train=train,
            test=test,
            labels=self.workload.labels,
            penalty=penalty,
        )
        if self.method == "band_power" and self.workload.split.protocol in ("subject", "both"):
            shots = kshot_rows_of_features(
                self.shots,
                features,
                store.trials,
                train=train,
                calibration=of_same_people(store.trials, scale, test),
                test=test,
                labels=self.workload.labels,
                penalty=penalty,
                seed=self.seed,
            )
            rows = pd.concat([rows, shots.assign(analysis=KSHOT)], ignore_index=True)
        write_predictions(self.output, rows.assign(method=self.method, seed=self.seed))
