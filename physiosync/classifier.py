"""Encoders under classifiers: what fine-tuning trains, and how it answers for test trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from physiosync.errors import SplitError
from physiosync.fusion import FusionClassifier, LinearClassifier
from physiosync.labels import Labels
from physiosync.loading import Loader, complete_trials, scaled_loader
from physiosync.model import Features, PhysioSync
from physiosync.model_config import ModelConfig
from physiosync.predictions import prediction_rows
from physiosync.probing import Windows, covering_windows
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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


def complete(store: WindowStore, config: ModelConfig, **parts: Ints) -> list[Ints]:
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


def window_features(net: Classifier, loader: Loader, windows: Windows) -> Features:
    """Features of all windows, in evaluation mode, on the CPU."""
    parts = [f.parts() for f in _in_batches(net, loader, windows)]
    return Features(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


@dataclass(frozen=True, eq=False)
class Answers:
    """What a classifier makes of windows.

    Parameters
    ----------
    inputs : target -> (n_windows, n_features) of the head's last linear map, float64
    logits : target -> (n_windows, n_classes), float64
    """

    inputs: dict[str, Floats]
    logits: dict[str, Floats]


def answers(net: Classifier, loader: Loader, windows: Windows) -> Answers:
    """Of all windows, in evaluation mode."""
    inputs: dict[str, list[Tensor]] = {target: [] for target in net.heads}
    logits: dict[str, list[Tensor]] = {target: [] for target in net.heads}
    for f in _in_batches(net, loader, windows):
        for target, head in net.heads.items():
            assert isinstance(head, FusionClassifier | LinearClassifier)
            with torch.no_grad():
                x = head.inputs(*f.parts())
                inputs[target].append(x.double().cpu())
                logits[target].append(head.last(x).double().cpu())
    return Answers(
        *({target: torch.cat(each).numpy() for target, each in d.items()} for d in (inputs, logits))
    )


def predict(
    net: Classifier, store: WindowStore, *, scale: Ints, test: Ints, labels: Labels
) -> pd.DataFrame:
    """Probabilities of windows that cover the test trials.

    Parameters
    ----------
    store : these trials must be open
    scale, test : ids of the trials that each subject's scale is fitted on, and of those to predict

    Returns
    -------
    A row a test window and target, see `predictions.prediction_rows`.

    Raises
    ------
    SplitError
        If no trial can be predicted.
    """
    (test,) = complete(store, net.model.config, test=test)
    windows, found = answers_for(net, store, scale, test)
    table, sfreq = store.trials, store.sfreq
    return pd.concat(
        [
            prediction_rows(
                table,
                windows.trials,
                windows.starts,
                target,
                softmax(logits, axis=1),
                labels=labels,
                sfreq=sfreq,
            )
            for target, logits in found.logits.items()
        ],
        ignore_index=True,
    )


def answers_for(
    net: Classifier, store: WindowStore, scale: Ints, trials: Ints
) -> tuple[Windows, Answers]:
    """The windows that cover `trials`, and what the classifier makes of them."""
    config = net.model.config
    windows = covering_windows(
        store.trials, trials, n_times=config.long_times, sfreq=store.sfreq, seconds=None
    )
    return windows, answers(net, scaled_loader(store, scale, config.lags, config.scaling), windows)


@torch.no_grad()
def _in_batches(
    net: Classifier, loader: Loader, windows: Windows, size: int = 256
) -> Iterator[Features]:
    net.eval()
    n_times = net.model.config.long_times
    for first in range(0, len(windows.trials), size):
        some = slice(first, first + size)
        trials, starts = windows.trials[some], windows.starts[some]
        eeg = loader.eeg(trials, starts, n_times).to(net.device)
        pps = loader.pps(trials, starts, n_times).to(net.device)
        yield net.model.features(eeg, pps)
