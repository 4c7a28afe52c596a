"""Pretraining without labels: LS-TCL and CM-CA on pairs of windows. Knows no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from physiosync.augmentation import AugmentationConfig, augment
from physiosync.config import Config
from physiosync.encoders import EncoderConfig
from physiosync.loading import Loader, complete_trials, of_same_people, scaled_loader
from physiosync.losses import total_loss
from physiosync.model import PhysioSync
from physiosync.model_config import Length, ModelConfig, Role
from physiosync.pretraining_net import PretrainingNet
from physiosync.provenance import Seen
from physiosync.recording_sampling import RecordingSampler
from physiosync.sampling import Batch, MomentSampler, Pairing, Pairs, Sampler
from physiosync.scaling import ScalingKind
from physiosync.splits import Split
from physiosync.training import (
    Optimisation,
    OptimiserKind,
    autocast,
    cloned,
    load_state,
    pick_device,
    save_state,
    seed_everything,
)
from physiosync.windows import WindowStore


class PretrainingConfig(Config):
    """One point of the search space, and what is held fixed around it."""

    pps: tuple[str, ...] = ("gsr", "resp", "ppg")
    """Peripheral modalities, in the order of the PPS channels."""
    temperature: float = Field(default=0.3, gt=0)
    short_seconds: float = Field(default=1.0, gt=0)
    long_pieces: int = Field(default=5, ge=1)
    """The long window is this many short ones."""
    w_eeg: float = Field(default=0.5, ge=0)
    w_pps: float = Field(default=0.5, ge=0)
    w_cmca: float = Field(default=1.0, ge=0)
    w_tcl_long: float = Field(default=1.0, ge=0)
    """Multiplies `w_eeg` and `w_pps` for the long windows; 0 leaves LS-TCL long out."""
    w_tcl_short: float = Field(default=1.0, ge=0)
    """The same for the short windows. With encoders that share no weights between lengths, Adam
    undoes any other change of these two than to 0 where `w_cmca` is 0."""
    group_size: int = Field(default=1, ge=1)
    """Subjects in each of a moment's two groups."""
    lag_skin_seconds: float = Field(default=2.0, ge=0)
    """Skin conductance and temperature windows start this much later than the EEG's."""
    lag_body_seconds: float = Field(default=1.0, ge=0)
    """The same for heart, breath, eyes and muscles."""
    moments: int = Field(default=16, ge=2)
    """Stimulus moments in a batch."""
    gap_seconds: float = Field(default=10.0, ge=0)
    """Moments of one stimulus start at least this far apart; stretches count as stimuli of their
    own."""
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    optimiser: OptimiserKind = "adamw"
    """adam: the paper's; see `physiosync.training.Optimisation`."""
    epochs: int = Field(default=9, ge=1)
    epoch_seconds: float = Field(default=10_000.0, gt=0)
    """Signal seen in an epoch, summed over subjects; so the budget does not depend on windows."""
    augmentation: AugmentationConfig = AugmentationConfig()
    encoder: EncoderConfig = EncoderConfig()
    scaling: ScalingKind = "robust"
    pairing: Pairing = "stimulus"
    """stimulus: people who met one stimulus, as PhysioSync does. recording: one person's EEG and
    PPS, and neighbouring windows, for people who share no stimulus; another method."""
    pairs: Pairs = "matched"
    """"shuffled" is a negative control: positives share neither stimulus nor time. Paired by
    recording, only EEG and PPS are put out of step. "self" is another: positives are two augmented
    views of one window of one person, as in SimCLR (Chen et al. 2020)."""

    @model_validator(mode="after")
    def _some_weight(self) -> PretrainingConfig:
        if self.w_eeg + self.w_pps + self.w_cmca <= 0:
            raise ValueError("w_eeg + w_pps + w_cmca must be positive, but got 0")
        if not any(self.weights("long") + self.weights("short")):
            raise ValueError(
                "w_tcl_long + w_tcl_short must be positive where w_cmca is 0, but got 0"
            )
        return self

    @model_validator(mode="after")
    def _one_person(self) -> PretrainingConfig:
        if self.pairing == "recording" and self.group_size != 1:
            raise ValueError(
                'group_size must be 1 with pairing="recording" (a moment is one person), '
                f"but got {self.group_size}"
            )
        return self

    @property
    def long_seconds(self) -> float:
        """Length of the long window."""
        return self.short_seconds * self.long_pieces

    @property
    def steps(self) -> int:
        """Optimiser steps in an epoch."""
        seconds = self.moments * 2 * self.group_size * self.long_seconds
        return max(1, round(self.epoch_seconds / seconds))

    def weights(self, length: Length) -> tuple[float, float, float]:
        """Of the EEG, PPS and cross-modal term of one window length; all 0 if it has no part."""
        factor = self.w_tcl_long if length == "long" else self.w_tcl_short
        return factor * self.w_eeg, factor * self.w_pps, self.w_cmca

    def lag_seconds(self, modality: str) -> float:
        """How much later than the EEG a modality's window starts."""
        return self.lag_skin_seconds if modality in ("gsr", "temp") else self.lag_body_seconds

    def model_config_for(self, store: WindowStore) -> ModelConfig:
        """The network for the channels and rate of `store`."""
        return ModelConfig(
            encoder=self.encoder,
            sfreq=store.sfreq,
            eeg_channels=store.channels["eeg"].ch_names,
            pps_channels={name: store.channels[name].ch_names for name in self.pps},
            pps_lag_seconds={name: self.lag_seconds(name) for name in self.pps},
            short_seconds=self.short_seconds,
            long_pieces=self.long_pieces,
            scaling=self.scaling,
            pairing=self.pairing,
        )


@dataclass(frozen=True)
class EpochReport:
    """What an epoch gave.

    Parameters
    ----------
    epoch : from 1
    losses : means over the epoch's steps: "eeg", "pps", "cmca", "total", and the label-free
        "retrieval" (share of moments whose nearest neighbour in the other group is itself)
    scores : what `evaluate` returned
    best_scores : highest "score" so far, after each epoch from the first
    best_epoch : where the highest was
    seconds : of wall time; `evaluation_seconds` of them in `evaluate`
    """

    epoch: int
    losses: Mapping[str, float]
    scores: Mapping[str, float]
    best_scores: tuple[float, ...]
    best_epoch: int
    seconds: float
    evaluation_seconds: float


def moment_sampler(config: PretrainingConfig, rows: pd.DataFrame, sfreq: float) -> Sampler:
    """The sampler of a configuration, over those of `rows` in which no modality is missing.

    Raises
    ------
    SamplingError
        If subjects, stimuli or seconds are too few for the configuration.
    """
    n_times = round(config.short_seconds * sfreq) * config.long_pieces
    complete = complete_trials(rows, rows.index.to_numpy(), ("eeg", *config.pps), n_times)
    lag = max(config.lag_seconds(name) for name in config.pps)
    common: dict[str, Any] = {
        "n_times": n_times,
        "reach": n_times + round(lag * sfreq),
        "gap": round(config.gap_seconds * sfreq),
        "moments": config.moments,
        "n_pieces": config.long_pieces,
        "pairs": config.pairs,
    }
    if config.pairing == "recording":
        return RecordingSampler(rows.loc[complete], **common)
    return MomentSampler(rows.loc[complete], group_size=config.group_size, **common)


Evaluate = Callable[[PhysioSync, Loader], Mapping[str, float]]


@dataclass(eq=False)
class Pretraining:
    """A run that can be stopped after any epoch and taken up again with the same result.

    Parameters
    ----------
    config : what to train
    store : window store; only the split's training, validation and scale trials need to be open
    split : training trials give the batches, `scale_trials` the scale
    seed : of initialisation, batches, augmentation and dropout
    evaluate : scores the model after each epoch; "score" decides which epoch's weights are kept.
        Without it the last epoch's are
    """

    config: PretrainingConfig
    store: WindowStore
    split: Split
    seed: int
    evaluate: Evaluate | None = None
    device: str = "auto"
    epoch: int = 0
    best_score: float = float("-inf")
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_scores: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        config, table = self.config, self.store.trials
        self._device = pick_device(self.device)
        # Seeded here because initialisation takes no generator.
        seed_everything(self.seed)
        self.model_config = config.model_config_for(self.store)
        self.net = PretrainingNet(self.model_config).to(self._device)
        scale = self.split.scale_trials(table, final=False)
        lags = self.model_config.lags
        self.loader = scaled_loader(self.store, scale, lags, config.scaling)
        scale = complete_trials(table, scale, ("eeg", *config.pps), n_times=1)
        train = of_same_people(table, self.split.trials(table, "train"), scale)
        self.sampler = moment_sampler(config, table.loc[train], self.store.sfreq)
        self.optimisation = Optimisation(
            [{"params": list(self.net.parameters()), "lr": config.learning_rate}],
            weight_decay=config.weight_decay,
            n_steps=config.epochs * config.steps,
            kind=config.optimiser,
        )

    def run(self, on_epoch: Callable[[EpochReport], None] | None = None) -> PhysioSync:
        """Train the remaining epochs; returns the encoders of the best epoch.

        Raises
        ------
        DivergedError
            If a loss stops being finite.
        """
        while self.epoch < self.config.epochs:
            report = self.run_epoch()
            if on_epoch is not None:
                on_epoch(report)
        return self.best()

    def run_epoch(self) -> EpochReport:
        """Train one epoch and evaluate it."""
        began = time.monotonic()
        # Seeded anew each epoch, so a resumed run needs no generator's state.
        seed = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0])
        seed_everything(seed)
        rng = np.random.default_rng(seed)
        generator = torch.Generator(self._device).manual_seed(seed)
        self.net.train()
        sums: dict[str, float] = {}
        for _ in range(self.config.steps):
            for name, value in self._step(self.sampler.draw(rng), generator).items():
                sums[name] = sums.get(name, 0.0) + value
        self.epoch += 1
        trained = time.monotonic()
        scores = self._evaluate()
        return EpochReport(
            epoch=self.epoch,
            losses={name: total / self.config.steps for name, total in sums.items()},
            scores=scores,
            best_scores=tuple(self.best_scores),
            best_epoch=self.best_epoch,
            seconds=time.monotonic() - began,
            evaluation_seconds=time.monotonic() - trained,
        )

    def best(self) -> PhysioSync:
        """The encoders of the best epoch so far, in evaluation mode."""
        model = PhysioSync(self.model_config)
        model.load_state_dict(self.best_weights or cloned(self.net.model), strict=True)
        model.seen = self.seen
        return model.eval()

    @cached_property
    def seen(self) -> Seen:
        """The trials that train it, and those that choose its epoch."""
        return Seen.of(self.store, self.split.trials(self.store.trials, "train", "validation"))

    def save(self, path: Path) -> None:
        """Write all that `resume` needs."""
        state = {
            "config": self.config.uid(),
            "seed": self.seed,
            "epoch": self.epoch,
            "net": self.net.state_dict(),
            "optimisation": self.optimisation.state_dict(),
            "best": (self.best_score, self.best_epoch, self.best_weights, self.best_scores),
        }
        save_state(path, state)

    def resume(self, path: Path) -> None:
        """Take up where `save` left off.

        Raises
        ------
        CheckpointError
            If the file is damaged.
        ValueError
            If it is of another configuration or seed.
        """
        state: dict[str, Any] = load_state(path)
        for name, mine in (("config", self.config.uid()), ("seed", self.seed)):
            if (found := state.get(name)) != mine:
                raise ValueError(f"{path}: expected a run of {name} {mine}, found {found}")
        self.epoch = state["epoch"]
        self.net.load_state_dict(state["net"], strict=True)
        self.optimisation.load_state_dict(state["optimisation"])
        self.best_score, self.best_epoch, self.best_weights, self.best_scores = state["best"]

    def _step(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        config, lead = self.config, batch.trials.shape
        trials = batch.trials.reshape(-1)
        n_times = self.model_config.long_times
        windows: dict[Role, Tensor] = {
            "eeg": self.loader.eeg(trials, batch.starts.reshape(-1), n_times),
            "pps": self.loader.pps(trials, batch.pps_starts.reshape(-1), n_times),
        }
        views = {
            role: augment(x.to(self._device), config.augmentation, generator).unflatten(0, lead)
            for role, x in windows.items()
        }
        pieces = {role: _pieces(x, batch, self.model_config) for role, x in views.items()}
        with autocast(self._device):
            parts = [
                self.net.losses("long", views["eeg"], views["pps"], config.temperature),
                self.net.losses("short", pieces["eeg"], pieces["pps"], config.temperature),
            ]
        weighted = zip(parts, (config.weights("long"), config.weights("short")), strict=True)
        totals = [
            total_loss(p.eeg, p.pps, p.cmca, weights) for p, weights in weighted if any(weights)
        ]
        return {
            **{
                name: sum(float(getattr(part, name).detach()) for part in parts)
                for name in ("eeg", "pps", "cmca")
            },
            "total": self.optimisation.step(torch.stack(totals).sum()),
            "retrieval": parts[0].retrieval,
        }

    def _evaluate(self) -> Mapping[str, float]:
        if self.evaluate is None:
            self.best_epoch, self.best_weights = self.epoch, cloned(self.net.model)
            return {}
        self.net.eval()
        scores = self.evaluate(self.net.model, self.loader)
        if scores["score"] > self.best_score:
            self.best_score, self.best_epoch = scores["score"], self.epoch
            self.best_weights = cloned(self.net.model)
        self.best_scores.append(self.best_score)
        return scores


def _pieces(x: Tensor, batch: Batch, config: ModelConfig) -> Tensor:
    """The short window of each moment: (M, 2, N, C, T) -> (M, 2, N, C, short_times)."""
    length = config.short_times
    return torch.stack(
        [
            x[row, ..., piece * length : (piece + 1) * length]
            for row, piece in enumerate(batch.pieces.tolist())
        ]
    )
