"""Fine-tuning: classifiers fitted on everyone's training trials, then trained with the encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from physiosync.augmentation import AugmentationConfig, augment
from physiosync.classifier import Classifier, complete, predict, window_features
from physiosync.config import Config
from physiosync.fusion import LinearClassifier
from physiosync.kshot import ShotsConfig
from physiosync.labels import Labels
from physiosync.loading import Loader, scaled_loader
from physiosync.model import Features, PhysioSync
from physiosync.probing import covering_windows, linear_weights
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
    shots: ShotsConfig = ShotsConfig()
    """Adaptation to people who are held out."""


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
    (everyone,) = complete(store, model.config, training=everyone)
    net = Classifier(model, labels.targets).to(pick_device(device))
    run = training_of(config, net, store, everyone if scale is None else scale, labels, seed)
    run.train_heads(everyone)
    return net


def train_classifier(
    config: FinetuningConfig,
    start: Classifier,
    store: WindowStore,
    *,
    scale: Ints,
    trials: Ints,
    labels: Labels,
    seed: int,
    pretrained: bool,
) -> Classifier:
    """Train everything on `trials`, from `start` on.

    Parameters
    ----------
    start : of `fit_heads`, with the same scale; left as it is
    store : these trials must be open
    scale, trials : ids of the trials that each subject's scale is fitted on, and of those to train
        on (the subject's own; all of them for people who are not known)
    pretrained : whether the encoders get the small learning rate of pretrained ones

    Raises
    ------
    DivergedError
        If the loss stops being finite.
    SplitError
        If no trial can be trained on.
    """
    seed_everything(seed)
    net = deepcopy(start)
    (trials,) = complete(store, net.model.config, training=trials)
    run = training_of(config, net, store, scale, labels, seed)
    encoder_rate = config.encoder_learning_rate if pretrained else config.learning_rate
    generator = torch.Generator(net.device).manual_seed(seed)
    run.train_all(trials, encoder_rate, generator, epochs=config.epochs)
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
    """`train_classifier` on the trials `train`, then `predict` those of `test`."""
    complete(store, start.model.config, test=test)  # Before anything is trained.
    net = train_classifier(
        config,
        start,
        store,
        scale=scale,
        trials=train,
        labels=labels,
        seed=seed,
        pretrained=pretrained,
    )
    return predict(net, store, scale=scale, test=test, labels=labels)


def training_of(
    config: FinetuningConfig,
    net: Classifier,
    store: WindowStore,
    scale: Ints,
    labels: Labels,
    seed: int,
) -> Training:
    loader = scaled_loader(store, scale, net.model.config.lags, net.model.config.scaling)
    truth = {target: labels.classes(store.trials, target) for target in net.heads}
    return Training(config, net, loader, truth, np.random.default_rng(seed))


@dataclass(frozen=True, eq=False)
class Training:
    """What all phases of training share.

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
        features = window_features(net, self.loader, windows)
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
        self,
        trials: Ints,
        encoder_learning_rate: float,
        generator: torch.Generator,
        *,
        epochs: int,
        after: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        """Train encoders and classifiers on random windows of `trials`.

        Parameters
        ----------
        generator : of the augmentation
        epochs : of `windows_per_trial` windows from each trial
        after : is called after each epoch with its number, from 1
        """
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
            n_steps=epochs * n_batches,
        )
        for epoch in range(1, epochs + 1):
            net.train()
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
            after(epoch)

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
