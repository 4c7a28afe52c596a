"""Fine-tuning: classifiers fitted on everyone's training trials, then one job a person.

The only stage, with the baselines, that opens test trials. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from physiosync.augmentation import AugmentationConfig, augment
from physiosync.config import Config
from physiosync.errors import SplitError
from physiosync.fusion import FusionClassifier, LinearClassifier
from physiosync.labels import Labels
from physiosync.loading import Loader, complete_trials, scaled_loader
from physiosync.model import Features, ModelConfig, PhysioSync
from physiosync.predictions import prediction_rows
from physiosync.probing import Windows, covering_windows, linear_weights
from physiosync.training import Optimisation, autocast, pick_device, seed_everything
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]


class FinetuningConfig(Config):
    """Fixed for a study, so that pretrained and from-scratch networks get the same."""

    head_epochs: int = Field(default=12, ge=0)
    """Epochs of the paper's classifiers alone, on frozen features of everyone's training trials:
    one person's trials are few for a fresh classifier, and its first gradients would spoil what the
    encoders learned (Kumar et al. 2022, LP-FT). Linear classifiers are fitted to convergence."""
    penalty: float = Field(default=0.01, gt=0)
    """Of that fit: inverse strength of the L2 penalty (scikit-learn's C)."""
    head_seconds: float = Field(default=20.0, gt=0)
    """Stretch in the middle of each trial that these features are taken from."""
    epochs: int = Field(default=4, ge=0)
    """Epochs of everything, on the subject's own training trials."""
    windows_per_trial: int = Field(default=4, ge=1)
    """Windows drawn from each training trial in an epoch, at random places."""
    batch_size: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of the classifier, and of everything in a network from scratch."""
    encoder_learning_rate: float = Field(default=1e-4, gt=0)
    """Of pretrained encoders."""
    weight_decay: float = Field(default=1e-2, ge=0)
    augmentation: AugmentationConfig = AugmentationConfig()


class Classifier(nn.Module):
    """Encoders under one fusion classifier a target; all targets are trained together."""

    def __init__(self, model: PhysioSync, targets: Mapping[str, int]) -> None:
        super().__init__()
        self.model = model
        self.heads = nn.ModuleDict(
            {target: _classifier(model, n_classes) for target, n_classes in targets.items()}
        )

    def forward(self, eeg: Tensor, pps: Tensor) -> dict[str, Tensor]:
        """Logits (B, n_classes) of each target from long windows (B, n_chans, n_times)."""
        f = self.model.features(eeg, pps)
        return {target: head(*f.parts()) for target, head in self.heads.items()}

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return next(self.parameters()).device


def _classifier(model: PhysioSync, n_classes: int) -> nn.Module:
    long, short = (model.n_features("eeg", length) for length in ("long", "short"))
    if model.config.encoder.family == "patch":
        return LinearClassifier(2 * long + 2 * short, n_classes)
    return FusionClassifier(
        long_features=long,
        short_features=short,
        n_pieces=model.config.long_pieces,
        n_classes=n_classes,
    )


def fit_heads(
    config: FinetuningConfig,
    model: PhysioSync,
    store: WindowStore,
    *,
    everyone: Ints,
    labels: Labels,
    seed: int,
    scale: Ints | None = None,
    device: str = "auto",
) -> Classifier:
    """Where every subject's fine-tuning starts: the encoders as given, classifiers fitted.

    Parameters
    ----------
    model : becomes part of the result
    store : these trials must be open
    everyone : ids of all subjects' training trials; the classifiers are fitted on them
    scale : ids of the trials that each subject's scale is fitted on; by default `everyone`

    Raises
    ------
    DivergedError
        If the loss stops being finite.
    SplitError
        If no trial can be trained on.
    """
    seed_everything(seed)
    (everyone,) = _complete(store, model.config, training=everyone)
    net = Classifier(model, labels.targets).to(pick_device(device))
    run = _run(config, net, store, everyone if scale is None else scale, labels, seed)
    run.train_heads(everyone)
    return net


def finetune(
    config: FinetuningConfig,
    start: Classifier,
    store: WindowStore,
    *,
    scale: Ints,
    train: Ints,
    test: Ints,
    labels: Labels,
    seed: int,
    pretrained: bool,
) -> pd.DataFrame:
    """Train everything on `train`, from `start` on; predict `test`.

    Parameters
    ----------
    start : of `fit_heads`, with the same scale; left as it is
    store : these trials must be open
    scale, train, test : ids of the trials that each subject's scale is fitted on, of those to train
        on (the subject's own; all of them for people who are not known), and of those to predict
    pretrained : whether the encoders get the small learning rate of pretrained ones

    Returns
    -------
    A row a test window and target, see `predictions.prediction_rows`.

    Raises
    ------
    DivergedError
        If the loss stops being finite.
    SplitError
        If no trial of the subject can be trained on or predicted.
    """
    seed_everything(seed)
    net = deepcopy(start)
    train, test = _complete(store, net.model.config, training=train, test=test)
    run = _run(config, net, store, scale, labels, seed)
    encoder_rate = config.encoder_learning_rate if pretrained else config.learning_rate
    run.train_all(train, encoder_rate, torch.Generator(net.device).manual_seed(seed))
    table, sfreq = store.trials, store.sfreq
    n_times = net.model.config.long_times
    windows = covering_windows(table, test, n_times=n_times, sfreq=sfreq, seconds=None)
    probabilities = _predict(net, run.loader, windows)
    return pd.concat(
        [
            prediction_rows(
                table,
                windows.trials,
                windows.starts,
                target,
                p,
                labels=labels,
                sfreq=sfreq,
            )
            for target, p in probabilities.items()
        ],
        ignore_index=True,
    )


def _complete(store: WindowStore, config: ModelConfig, **parts: Ints) -> list[Ints]:
    """Of each part those trials that the network can read; SplitError if a part has none."""
    modalities = ("eeg", *config.pps_channels)
    found = [
        complete_trials(store.trials, trials, modalities, config.long_times)
        for trials in parts.values()
    ]
    for part, trials in zip(parts, found, strict=True):
        if not len(trials):
            raise SplitError(
                f"expected a {part} trial of at least {config.long_times / config.sfreq:g} s with "
                f"{', '.join(modalities)}, found none"
            )
    return found


def _run(
    config: FinetuningConfig,
    net: Classifier,
    store: WindowStore,
    scale: Ints,
    labels: Labels,
    seed: int,
) -> _Run:
    loader = scaled_loader(store, scale, net.model.config.lags, net.model.config.scaling)
    truth = {target: labels.classes(store.trials, target) for target in net.heads}
    return _Run(config, net, loader, truth, np.random.default_rng(seed))


@dataclass(frozen=True, eq=False)
class _Run:
    """What both phases of a job share.

    Parameters
    ----------
    truth : target -> class of each trial (index: trial id), -1 where it has no rating
    """

    config: FinetuningConfig
    net: Classifier
    loader: Loader
    truth: Mapping[str, pd.Series[int]]
    rng: np.random.Generator

    def train_heads(self, trials: Ints) -> None:
        """Fit the classifiers on frozen features of windows that cover `trials`."""
        config, net, model = self.config, self.net, self.net.model.config
        windows = covering_windows(
            self.loader.store.trials,
            trials,
            n_times=model.long_times,
            sfreq=model.sfreq,
            seconds=config.head_seconds,
        )
        features = _features(net, self.loader, windows)
        if model.encoder.family == "patch":
            self._set_probes(features, windows.trials)
            return
        device = net.device
        batch_size = min(config.batch_size, len(windows.trials))
        n_batches = len(windows.trials) // batch_size
        optimisation = Optimisation(
            [{"params": list(net.heads.parameters()), "lr": config.learning_rate}],
            weight_decay=config.weight_decay,
            n_steps=config.head_epochs * n_batches,
        )
        net.heads.train()
        for _ in range(config.head_epochs):
            order = self.rng.permutation(len(windows.trials))
            for first in range(0, n_batches * batch_size, batch_size):
                some = order[first : first + batch_size]
                picked = [part[torch.from_numpy(some)].to(device) for part in features.parts()]
                logits = {target: head(*picked) for target, head in net.heads.items()}
                optimisation.step(self._loss(logits, windows.trials[some]))

    def train_all(
        self, trials: Ints, encoder_learning_rate: float, generator: torch.Generator
    ) -> None:
        """Train encoders and classifiers on random windows of `trials`."""
        config, net, loader = self.config, self.net, self.loader
        device = net.device
        n_times = net.model.config.long_times
        room = loader.store.trials["n_times"].loc[trials].to_numpy(dtype=np.int64) - n_times
        n_windows = len(trials) * config.windows_per_trial
        # Whole batches only: batch norm can't do with a last batch of one window.
        batch_size = min(config.batch_size, n_windows)
        n_batches = n_windows // batch_size
        optimisation = Optimisation(
            [
                {"params": list(net.heads.parameters()), "lr": config.learning_rate},
                {"params": list(net.model.parameters()), "lr": encoder_learning_rate},
            ],
            weight_decay=config.weight_decay,
            n_steps=config.epochs * n_batches,
        )
        net.train()
        for _ in range(config.epochs):
            rows = np.repeat(np.arange(len(trials)), config.windows_per_trial)
            rows = self.rng.permutation(rows)
            starts = self.rng.integers(room[rows] + 1)
            for first in range(0, n_batches * batch_size, batch_size):
                some = slice(first, first + batch_size)
                ids = trials[rows[some]]
                eeg = loader.eeg(ids, starts[some], n_times).to(device)
                pps = loader.pps(ids, starts[some], n_times).to(device)
                with autocast(device):
                    logits = net(
                        augment(eeg, config.augmentation, generator),
                        augment(pps, config.augmentation, generator),
                    )
                optimisation.step(self._loss(logits, ids))

    @torch.no_grad()
    def _set_probes(self, features: Features, trials: Ints) -> None:
        """Give each linear classifier the weights of a fitted logistic regression."""
        x = features.joined().double().numpy()
        mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
        for target, head in self.net.heads.items():
            assert isinstance(head, LinearClassifier)
            y = self.truth[target].loc[trials].to_numpy()
            weight, bias = linear_weights(
                ((x - mean) / scale)[y >= 0], y[y >= 0], len(head.linear.bias), self.config.penalty
            )
            for parameter, value in (
                (head.mean, mean),
                (head.scale, scale),
                (head.linear.weight, weight),
                (head.linear.bias, bias),
            ):
                parameter.copy_(torch.from_numpy(value))

    def _loss(self, logits: Mapping[str, Tensor], trials: Ints) -> Tensor:
        """Cross-entropy summed over targets; trials without a rating count for nothing."""
        terms = []
        for target, out in logits.items():
            truth = torch.tensor(self.truth[target].loc[trials].to_numpy(), device=out.device)
            if bool((truth >= 0).any()):  # the mean over no trial at all would be NaN
                terms.append(nn.functional.cross_entropy(out.float(), truth, ignore_index=-1))
            else:
                terms.append(out.sum() * 0)
        return torch.stack(terms).sum()


@torch.no_grad()
def _features(net: Classifier, loader: Loader, windows: Windows) -> Features:
    """Features of all windows, in evaluation mode, on the CPU."""
    net.eval()
    device = net.device
    parts = []
    for trials, starts in _batches(windows):
        eeg = loader.eeg(trials, starts, net.model.config.long_times).to(device)
        pps = loader.pps(trials, starts, net.model.config.long_times).to(device)
        parts.append(net.model.features(eeg, pps).parts())
    return Features(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def _batches(windows: Windows, size: int = 256) -> Iterator[tuple[Ints, Ints]]:
    for first in range(0, len(windows.trials), size):
        yield windows.trials[first : first + size], windows.starts[first : first + size]


@torch.no_grad()
def _predict(net: Classifier, loader: Loader, windows: Windows) -> dict[str, NDArray[np.float64]]:
    net.eval()
    device = net.device
    n_times = net.model.config.long_times
    parts: dict[str, list[Tensor]] = {target: [] for target in net.heads}
    for trials, starts in _batches(windows):
        eeg = loader.eeg(trials, starts, n_times).to(device)
        pps = loader.pps(trials, starts, n_times).to(device)
        for target, logits in net(eeg, pps).items():
            parts[target].append(logits.double().softmax(dim=1).cpu())
    return {target: torch.cat(each).numpy() for target, each in parts.items()}
