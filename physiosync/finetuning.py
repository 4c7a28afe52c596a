"""One fine-tuning job: from an encoder and some people's training trials to test predictions.

The only stage, with the baselines, that opens test trials. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from physiosync.augmentation import AugmentationConfig, augment
from physiosync.config import Config
from physiosync.fusion import FusionClassifier
from physiosync.labels import N_CLASSES, TARGETS, classes
from physiosync.loading import Loader
from physiosync.model import PhysioSync
from physiosync.predictions import prediction_rows
from physiosync.probing import Windows, covering_windows
from physiosync.scaling import fit_scaling
from physiosync.training import Optimisation, autocast, pick_device, seed_everything
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]


class FinetuningConfig(Config):
    """Fixed for a study, so that pretrained and from-scratch networks get the same."""

    epochs: int = Field(default=12, ge=1)
    windows_per_trial: int = Field(default=4, ge=1)
    """Windows drawn from each training trial in an epoch, at random places."""
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of the classifier, and of everything in a network from scratch."""
    encoder_learning_rate: float = Field(default=1e-4, gt=0)
    """Of pretrained encoders."""
    weight_decay: float = Field(default=1e-2, ge=0)
    augmentation: AugmentationConfig = AugmentationConfig()


class Classifier(nn.Module):
    """Encoders under one fusion classifier a target; all targets are trained together."""

    def __init__(self, model: PhysioSync, targets: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.heads = nn.ModuleDict(
            {
                target: FusionClassifier(
                    long_features=model.n_features("eeg", "long"),
                    short_features=model.n_features("eeg", "short"),
                    n_pieces=model.config.long_pieces,
                    n_classes=N_CLASSES[target],
                )
                for target in targets
            }
        )

    def forward(self, eeg: Tensor, pps: Tensor) -> dict[str, Tensor]:
        """Logits (B, n_classes) of each target from long windows (B, n_chans, n_times)."""
        f = self.model.features(eeg, pps)
        return {
            target: head(f.long_eeg, f.short_eeg, f.long_pps, f.short_pps)
            for target, head in self.heads.items()
        }


def finetune(
    config: FinetuningConfig,
    model: PhysioSync,
    store: WindowStore,
    *,
    train: Ints,
    test: Ints,
    threshold: float,
    seed: int,
    pretrained: bool,
    targets: Sequence[str] = TARGETS,
    device: str = "auto",
) -> pd.DataFrame:
    """Train encoders and classifier on `train`, predict `test`.

    Parameters
    ----------
    model : trained in place; pass a fresh copy
    store : `train` and `test` trials must be open
    train, test : trial ids. The scale is fitted on `train` alone
    pretrained : whether the encoders get the small learning rate of pretrained ones

    Returns
    -------
    A row a test window and target, see `predictions.prediction_rows`.

    Raises
    ------
    DivergedError
        If the loss stops being finite.
    """
    seed_everything(seed)
    table, sfreq = store.trials, store.sfreq
    modalities = ("eeg", *model.config.pps_channels)
    train, test = (_complete(table, trials, modalities) for trials in (train, test))
    scaling = fit_scaling(store, train, modalities, model.config.scaling)
    loader = Loader(store, scaling, model.config.lags)
    net = Classifier(model, targets).to(pick_device(device))
    rng = np.random.default_rng(seed)
    labels = {
        target: pd.Series(classes(table, target, threshold), index=table.index)
        for target in targets
    }
    _train(config, net, loader, table, train, labels, rng, seed, pretrained)
    windows = covering_windows(
        table, test, n_times=model.config.long_times, sfreq=sfreq, seconds=None
    )
    probabilities = _predict(net, loader, windows)
    return pd.concat(
        [
            prediction_rows(
                table,
                windows.trials,
                windows.starts,
                target,
                probabilities[target],
                threshold=threshold,
                sfreq=sfreq,
            )
            for target in targets
        ],
        ignore_index=True,
    )


def _complete(table: pd.DataFrame, trials: Ints, modalities: Sequence[str]) -> Ints:
    """Those trials in which no modality is missing."""
    has = table.loc[trials, [f"has_{name}" for name in modalities]].all(axis=1).to_numpy()
    return trials[has]


def _train(
    config: FinetuningConfig,
    net: Classifier,
    loader: Loader,
    table: pd.DataFrame,
    train: Ints,
    labels: dict[str, pd.Series[int]],
    rng: np.random.Generator,
    seed: int,
    pretrained: bool,
) -> None:
    device = next(net.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    n_times = net.model.config.long_times
    room = table["n_times"].loc[train].to_numpy(dtype=np.int64) - n_times
    n_windows = len(train) * config.windows_per_trial
    # Whole batches only: batch norm can't do with a last batch of one window.
    batch_size = min(config.batch_size, n_windows)
    n_batches = n_windows // batch_size
    optimisation = Optimisation(
        [
            {"params": list(net.heads.parameters()), "lr": config.learning_rate},
            {
                "params": list(net.model.parameters()),
                "lr": config.encoder_learning_rate if pretrained else config.learning_rate,
            },
        ],
        weight_decay=config.weight_decay,
        n_steps=config.epochs * n_batches,
    )
    net.train()
    for _ in range(config.epochs):
        rows = rng.permutation(np.repeat(np.arange(len(train)), config.windows_per_trial))
        starts = rng.integers(room[rows] + 1)
        for first in range(0, n_batches * batch_size, batch_size):
            some = slice(first, first + batch_size)
            trials = train[rows[some]]
            eeg = loader.eeg(trials, starts[some], n_times).to(device)
            pps = loader.pps(trials, starts[some], n_times).to(device)
            with autocast(device):
                logits = net(
                    augment(eeg, config.augmentation, generator),
                    augment(pps, config.augmentation, generator),
                )
            loss = torch.stack(
                [
                    nn.functional.cross_entropy(
                        logits[target].float(),
                        torch.tensor(labels[target].loc[trials].to_numpy(), device=device),
                        ignore_index=-1,
                    )
                    for target in logits
                ]
            ).sum()
            optimisation.step(loss)


@torch.no_grad()
def _predict(net: Classifier, loader: Loader, windows: Windows) -> dict[str, NDArray[np.float64]]:
    net.eval()
    device = next(net.parameters()).device
    n_times = net.model.config.long_times
    parts: dict[str, list[Tensor]] = {target: [] for target in net.heads}
    for first in range(0, len(windows.trials), 256):
        some = slice(first, first + 256)
        eeg = loader.eeg(windows.trials[some], windows.starts[some], n_times).to(device)
        pps = loader.pps(windows.trials[some], windows.starts[some], n_times).to(device)
        for target, logits in net(eeg, pps).items():
            parts[target].append(logits.double().softmax(dim=1).cpu())
    return {target: torch.cat(each).numpy() for target, each in parts.items()}
