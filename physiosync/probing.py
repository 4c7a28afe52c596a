"""A frozen linear probe: how well an embedding tells what people felt, on clips it never saw."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from physiosync.config import Config
from physiosync.errors import SplitError
from physiosync.labels import Labels
from physiosync.loading import Loader
from physiosync.model import PhysioSync
from physiosync.model_config import ROLES, Role
from physiosync.scoring import balanced_accuracy, chance_corrected, mean_by

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

#: (trial ids, start samples) -> (n_windows, n_features)
Embedding = Callable[[Ints, Ints], Floats]


class ProbeConfig(Config):
    """Fixed for a study, never searched, so that all trials are scored alike."""

    penalty: float = 0.001
    """Inverse strength of the L2 penalty (scikit-learn's C), on standardised features."""
    seconds: float = 20.0
    """Stretch of each trial that is scored, in its middle, whatever the window length."""
    max_train_trials: int = 512
    """Fixed, seeded subset of the training trials."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows that cover the same seconds of the same trials, whatever their length.

    Parameters
    ----------
    trials, starts : (n_windows,) trial id and first sample
    units : (n_windows,) number of the 10 s stretch that holds the window's centre, unique over
        trials
    """

    trials: Ints
    starts: Ints
    units: Ints


def covering_windows(
    table: pd.DataFrame, trials: Ints, *, n_times: int, sfreq: float, seconds: float | None
) -> Windows:
    """Evenly spaced windows over the middle of each trial (all of it if `seconds` is None)."""
    parts: list[tuple[Ints, Ints, Ints]] = []
    lengths = table["n_times"].loc[trials].to_numpy(dtype=np.int64)
    unit = round(10 * sfreq)
    for trial, length in zip(trials.tolist(), lengths.tolist(), strict=True):
        if length < n_times:
            continue
        span = length if seconds is None else min(length, max(n_times, round(seconds * sfreq)))
        first = (length - span) // 2
        n_windows = -(-span // n_times)
        starts = np.linspace(first, first + span - n_times, n_windows).round().astype(np.int64)
        units = trial * 1_000 + (starts + n_times // 2) // unit
        parts.append((np.full(n_windows, trial, dtype=np.int64), starts, units))
    if not parts:
        raise ValueError(f"no trial is as long as a window of {n_times} samples")
    columns = zip(*parts, strict=True)
    return Windows(*(np.concatenate(column) for column in columns))


def embedding(
    model: PhysioSync,
    loader: Loader,
    *,
    roles: Sequence[Role] = ROLES,
    batch_size: int = 256,
) -> Embedding:
    """The frozen model as a function of windows.

    Parameters
    ----------
    roles : whose features are wanted, of those that `PhysioSync.embed` joins
    """
    device = next(model.parameters()).device
    n_times = model.config.long_times
    wanted = np.concatenate(
        [
            np.full(model.n_features(role, "long") + model.n_features(role, "short"), role in roles)
            for role in ROLES
        ]
    )

    def embed(trials: Ints, starts: Ints) -> Floats:
        rows = []
        for first in range(0, len(trials), batch_size):
            some = slice(first, first + batch_size)
            eeg = loader.eeg(trials[some], starts[some], n_times).to(device)
            pps = loader.pps(trials[some], starts[some], n_times).to(device)
            rows.append(model.embed(eeg, pps).cpu())
        return torch.cat(rows).numpy()[:, wanted]

    return embed


def linear_classifier(penalty: float) -> LogisticRegression:
    """Standardisation and an L2-penalised logistic regression: the one linear model we fit."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300))


def fit_predict(
    train_x: NDArray[np.floating],
    train_y: Ints,
    test_x: NDArray[np.floating],
    *,
    n_classes: int,
    penalty: float,
) -> NDArray[np.float64]:
    """Class probabilities (n_test, n_classes); the share of each class if only one was trained."""
    out = np.zeros((len(test_x), n_classes))
    seen = np.unique(train_y)
    if len(seen) == 1:
        out[:, seen[0]] = 1.0
        return out
    model = linear_classifier(penalty)
    with warnings.catch_warnings():
        # A probe need not converge to the last digit to rank encoders.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train_x, train_y)
    out[:, seen] = model.predict_proba(test_x)
    return out


def linear_weights(
    x: NDArray[np.float64], y: Ints, n_classes: int, penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (n_classes, n_features) and biases of a logistic regression, as softmax logits.

    A class that never occurs in `y` gets a bias of -20; with one class only, all weights are 0.
    """
    weight, bias = np.zeros((n_classes, x.shape[1])), np.full(n_classes, -20.0)
    seen = np.unique(y)
    if len(seen) == 1:
        bias[seen] = 0.0
        return weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=penalty, max_iter=300).fit(x, y)
    if len(seen) == 2:
        # Two classes have one row of weights; half of it for each gives the same odds.
        half, half_bias = fitted.coef_[0] / 2, fitted.intercept_[0] / 2
        weight[seen], bias[seen] = np.stack([-half, half]), np.array([-half_bias, half_bias])
    else:
        weight[seen], bias[seen] = fitted.coef_, fitted.intercept_
    return weight, bias


def predict_trials(
    embed: Embedding,
    table: pd.DataFrame,
    train: Windows,
    test: Windows,
    *,
    labels: Labels,
    targets: Sequence[str],
    penalty: float,
) -> dict[str, NDArray[np.float64]]:
    """Probabilities of every test window, (n_windows, n_classes) a target.

    One probe is fitted over all subjects together, on the mean features of whole trials: a trial
    has one label, and its windows are not independent examples of it.
    """
    trials, train_x = mean_by(embed(train.trials, train.starts), train.trials)
    test_x = embed(test.trials, test.starts)
    out = {}
    for target in targets:
        y = labels.classes(table, target).loc[trials].to_numpy(dtype=np.int64)
        n_classes = labels.targets[target]
        out[target] = fit_predict(
            train_x[y >= 0], y[y >= 0], test_x, n_classes=n_classes, penalty=penalty
        )
    return out


class Probe:
    """Scores a model on validation trials; the search's objective.

    Windows' probabilities are averaged over whole trials, the confusion is pooled over subjects for
    each target, and balanced accuracy is rescaled so that 0 is chance; "score" is the mean over
    the labels' objective. "score_10s" is the same with 10 s stretches instead of trials.

    Parameters
    ----------
    table : the trials that are open (index: trial id) with ratings
    train, validation : trial ids
    labels : what is predicted

    Raises
    ------
    SplitError
        If the validation part shows one class only, of any target of the objective.
    """

    def __init__(
        self,
        config: ProbeConfig,
        table: pd.DataFrame,
        train: Ints,
        validation: Ints,
        labels: Labels,
    ) -> None:
        rng = np.random.default_rng(config.seed)
        if len(train) > config.max_train_trials:
            train = np.sort(rng.choice(train, config.max_train_trials, replace=False))
        self._config, self._table, self._labels = config, table, labels
        self._train, self._validation = train, validation
        for target in labels.objective:
            found = np.unique(labels.classes(table, target).loc[validation])
            if len(found[found >= 0]) < 2:
                raise SplitError(
                    f"expected validation trials of both classes of {target}, found one class "
                    "only; another --seed or --threshold makes another split"
                )

    def __call__(self, model: PhysioSync, loader: Loader) -> Mapping[str, float]:
        config, n_times = self._config, model.config.long_times
        train, validation = (
            covering_windows(
                self._table,
                trials,
                n_times=n_times,
                sfreq=model.config.sfreq,
                seconds=config.seconds,
            )
            for trials in (self._train, self._validation)
        )
        probabilities = predict_trials(
            embedding(model, loader),
            self._table,
            train,
            validation,
            labels=self._labels,
            targets=self._labels.objective,
            penalty=config.penalty,
        )
        scores: dict[str, float] = {}
        for target, p in probabilities.items():
            scores[f"balanced_accuracy_{target}"] = self._score(target, p, validation.trials, 1)
            scores[f"balanced_accuracy_{target}_10s"] = self._score(
                target, p, validation.units, 1_000
            )
        for name, suffix in (("score", ""), ("score_10s", "_10s")):
            each = [
                chance_corrected(
                    scores[f"balanced_accuracy_{target}{suffix}"], self._labels.targets[target]
                )
                for target in self._labels.objective
            ]
            scores[name] = float(np.mean(each))
        return scores

    def _score(
        self, target: str, p: NDArray[np.float64], groups: Ints, units_per_trial: int
    ) -> float:
        names, mean = mean_by(p, groups)
        truth = self._labels.classes(self._table, target).loc[names // units_per_trial].to_numpy()
        rated = truth >= 0
        return balanced_accuracy(truth[rated], mean[rated].argmax(axis=1))
