"""From scratch, pooled: a fresh network trained on everyone's labels before any fine-tuning.

The fair rival of pretraining, which sees everyone's signals as well, but not their labels.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from physiosync.classifier import complete, predict
from physiosync.finetuning import FinetuningConfig, fit_heads, training_of
from physiosync.labels import Labels
from physiosync.model import PhysioSync
from physiosync.predictions import trial_predictions
from physiosync.scoring import balanced_accuracy, chance_corrected
from physiosync.training import DivergedError, cloned
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]


def train_pooled(
    config: FinetuningConfig,
    model: PhysioSync,
    store: WindowStore,
    *,
    scale: Ints,
    train: Ints,
    validation: Ints,
    labels: Labels,
    seed: int,
    epochs: int,
    epoch_seconds: float,
    device: str = "auto",
) -> tuple[PhysioSync, dict[str, float | bool]]:
    """Train encoders and classifiers on everyone's training trials; keep the best epoch's encoders.

    As pretraining does it: the same trials, as many seconds of signal, the validation trials to
    choose the epoch; optimiser, learning rates and augmentation are fine-tuning's.

    Parameters
    ----------
    model : fresh; it is trained in place
    store : these trials must be open
    scale, train, validation : ids of the trials that each subject's scale is fitted on, of those to
        train on, and of those to choose the epoch by
    epochs, epoch_seconds : the budget; each epoch of so many seconds is scored once

    Returns
    -------
    The encoders, and "validation_score" (balanced accuracy of trials, 0 chance and 1 perfect, mean
    over the labels' objective; -1 if none was scored), "best_epoch" (then 0),
    "seconds" of signal seen and "diverged" (the epochs before that count).

    Raises
    ------
    SplitError
        If no trial can be trained on or validated.
    """
    train, validation = complete(store, model.config, training=train, validation=validation)
    net = fit_heads(
        config,
        model,
        store,
        everyone=train,
        scale=scale,
        labels=labels,
        seed=seed,
        device=device,
    )

    generator = torch.Generator(net.device).manual_seed(seed)
    a_pass = len(train) * config.windows_per_trial * model.config.long_times / model.config.sfreq
    passes = max(1, round(epochs * epoch_seconds / a_pass))
    best, best_score, best_epoch, ran = cloned(model), -1.0, 0, 0

    def judge(done: int) -> None:
        nonlocal best, best_score, best_epoch, ran
        ran = done
        epoch = done * epochs // passes
        if epoch == (done - 1) * epochs // passes:
            return
        score = _score(predict(net, store, scale=scale, test=validation, labels=labels), labels)
        # A score that is not defined is worse than any.
        if not best_epoch or score > best_score or (math.isnan(best_score) and score == score):
            best, best_score, best_epoch = cloned(model), score, epoch

    run = training_of(config, net, store, scale, labels, seed)
    diverged = False
    try:
        run.train_all(train, config.learning_rate, generator, epochs=passes, after=judge)
    except DivergedError:
        # The same seed would diverge again; what was best before that is what there is.
        diverged = True
    model.load_state_dict(best, strict=True)
    return model, {
        "validation_score": best_score,
        "best_epoch": best_epoch,
        "seconds": ran * a_pass,
        "diverged": diverged,
    }


def _score(rows: pd.DataFrame, labels: Labels) -> float:
    """As the probe scores encoders: confusion pooled over subjects, 0 chance, 1 perfect."""
    each = []
    for target in labels.objective:
        trials = trial_predictions(rows[rows["target"] == target])
        score = balanced_accuracy(trials["truth"].to_numpy(), trials["predicted"].to_numpy())
        each.append(chance_corrected(score, labels.targets[target]))
    return float(np.mean(each))
