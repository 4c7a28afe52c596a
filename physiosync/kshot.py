"""k-shot: a pooled classifier adapted to a new person by a few labelled calibration trials.

Where people are held out, each person's k trials come from the calibration stimuli, which are never
tested. Only the last linear map of each classifier moves, on frozen features: a handful of trials
can carry no more.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from physiosync.classifier import Answers, Classifier, answers_for, complete
from physiosync.config import Config
from physiosync.labels import Labels
from physiosync.predictions import prediction_rows
from physiosync.probing import linear_weights
from physiosync.scoring import mean_by
from physiosync.windows import WindowStore

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class ShotsConfig(Config):
    """Fixed for a study; nothing here was chosen by scores."""

    trials: tuple[int, ...] = (1, 2, 4, 8)
    """How many labelled calibration trials each new person gives: the k of the curve."""
    draws: int = Field(default=10, ge=1)
    """Seeded draws of those trials; scores are means over draws."""
    spread: float = Field(default=1.0, gt=0)
    """How far a person's log odds are expected to lie from the pooled classifier's, as the standard
    deviation of a Gaussian prior: once for a person's own weights, once for an own bias."""


def draw_shots(candidates: Ints, subject: str, *, draw: int, seed: int) -> Ints:
    """One person's calibration trials in the order of one draw; the first k are the k-shot ones.

    So the trials of 2 contain that of 1, and all methods get the same.
    """
    rng = np.random.default_rng([seed, draw, *subject.encode()])
    return rng.permutation(np.sort(candidates))


def adapt(
    shots: Floats, logits: Floats, classes: Ints, windows: Floats, *, spread: float
) -> Floats:
    """What to add to the logits of `windows`, learned from a person's k labelled trials.

    The maximum a posteriori of a linear map whose prior is the pooled one (as Evgeniou & Pontil
    2004 tie tasks to a shared mean): cross-entropy of the shots, classes weighing alike, plus an L2
    pull towards the pooled weights. Solved over the shots (representer theorem). Until the shots
    show every class, the bias stays where it is: they can't tell a person who often answers so from
    a trial that deserves it, and moving it would end in one answer for everything.

    Parameters
    ----------
    shots, windows : (k, n_features) and (n_windows, n_features), centred on the person and of unit
        mean square norm over the person's calibration trials
    logits : (k, n_classes) the pooled classifier's of the shots
    classes : (k,) of the shots
    spread : see `ShotsConfig`

    Returns
    -------
    (n_windows, n_classes)
    """
    n_classes = logits.shape[1]
    seen, place, count = np.unique(classes, return_inverse=True, return_counts=True)
    bias = float(len(seen) == n_classes)
    # Log odds are a difference of two logits, each of which gets half the variance.
    variance = spread**2 / 2
    gram = variance * (shots @ shots.T + bias)
    weight = (len(classes) / (len(seen) * count))[place]
    truth = np.eye(n_classes)[classes]

    def objective(flat: Floats) -> tuple[float, Floats]:
        a = flat.reshape(truth.shape)
        moved = gram @ a
        out = logits + moved
        loss = -(weight[:, None] * truth * log_softmax(out, axis=1)).sum() + (a * moved).sum() / 2
        slope = weight[:, None] * (softmax(out, axis=1) - truth) + a
        return float(loss), (gram @ slope).ravel()

    found = minimize(
        objective, np.zeros(truth.size), jac=True, method="L-BFGS-B", options={"gtol": 1e-7}
    )
    moved: Floats = variance * (windows @ shots.T + bias) @ found.x.reshape(truth.shape)
    return moved


def kshot_rows(
    config: ShotsConfig,
    net: Classifier,
    store: WindowStore,
    *,
    scale: Ints,
    calibration: Ints,
    test: Ints,
    labels: Labels,
    seed: int,
) -> pd.DataFrame:
    """Predict the test trials with k = 1, 2, 4, ... labelled calibration trials of each person.

    Parameters
    ----------
    net : pooled over people who are not tested; left as it is
    store : these trials must be open
    scale : ids of the trials that each subject's scale is fitted on
    calibration, test : ids of the tested people's calibration trials and test trials

    Returns
    -------
    `predictions.prediction_rows` of whole trials with "shots" (k), "draw" and "available" (the
    person's rated calibration trials). A person with fewer than k has no rows of that k.

    Raises
    ------
    ValueError
        If a calibration trial is a test trial.
    SplitError
        If there is no whole trial to calibrate on or to test.
    """
    _check_apart(calibration, test)
    calibration, test = complete(store, net.model.config, calibration=calibration, test=test)
    windows, found = answers_for(net, store, scale, np.concatenate([calibration, test]))
    return _adapted(
        config,
        store.trials,
        windows.trials,
        found,
        calibration=calibration,
        test=test,
        labels=labels,
        seed=seed,
    )


def kshot_rows_of_features(
    config: ShotsConfig,
    features: pd.DataFrame,
    table: pd.DataFrame,
    *,
    train: Ints,
    calibration: Ints,
    test: Ints,
    labels: Labels,
    penalty: float,
    seed: int,
) -> pd.DataFrame:
    """`kshot_rows` for a linear classifier of given features, fitted here on `train`.

    Parameters
    ----------
    features : a row a trial (index: trial id)
    table : all trials (index: trial id)
    penalty : inverse strength of the L2 penalty (scikit-learn's C) of the pooled classifier
    """
    _check_apart(calibration, test)
    known = features.loc[train].to_numpy()
    mean, scale = known.mean(axis=0), known.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    trials = np.concatenate([calibration, test])
    x = (features.loc[trials].to_numpy() - mean) / scale
    logits = {}
    for target, n_classes in labels.targets.items():
        y = labels.classes(table, target).loc[train].to_numpy(dtype=np.int64)
        fitted = linear_weights(((known - mean) / scale)[y >= 0], y[y >= 0], n_classes, penalty)
        logits[target] = x @ fitted[0].T + fitted[1]
    found = Answers(inputs=dict.fromkeys(logits, x), logits=logits)
    return _adapted(
        config, table, trials, found, calibration=calibration, test=test, labels=labels, seed=seed
    )


def _check_apart(calibration: Ints, test: Ints) -> None:
    if len(both := np.intersect1d(calibration, test)):
        raise ValueError(f"expected calibration trials not to be tested, found {both[0]}")


def _adapted(
    config: ShotsConfig,
    table: pd.DataFrame,
    windows: Ints,
    found: Answers,
    *,
    calibration: Ints,
    test: Ints,
    labels: Labels,
    seed: int,
) -> pd.DataFrame:
    """Person by person, draw by draw.

    Parameters
    ----------
    windows : (n_windows,) the trial of each
    found : of these windows
    """
    truth = {target: labels.classes(table, target) for target in found.logits}
    rated = calibration[
        np.all([of_target.loc[calibration].to_numpy() >= 0 for of_target in truth.values()], axis=0)
    ]
    parts = []
    for subject in pd.unique(table["subject"].loc[test]):
        own, tested = (
            trials[(table["subject"].loc[trials] == subject).to_numpy()] for trials in (rated, test)
        )
        orders = [draw_shots(own, str(subject), draw=n, seed=seed) for n in range(config.draws)]
        shot, asked = (np.isin(windows, trials) for trials in (own, tested))
        for target in found.logits if len(own) else ():
            x, logits = found.inputs[target], found.logits[target]
            names, shots = mean_by(x[shot], windows[shot])
            _, pooled = mean_by(logits[shot], windows[shot])
            middle = shots.mean(axis=0)
            size = np.sqrt(((shots - middle) ** 2).sum(axis=1).mean()) or 1.0
            shots, x = (shots - middle) / size, (x[asked] - middle) / size
            for k in (k for k in config.trials if k <= len(own)):
                for draw, order in enumerate(orders):
                    first = np.searchsorted(names, order[:k])
                    classes = truth[target].loc[order[:k]].to_numpy(dtype=np.int64)
                    moved = adapt(shots[first], pooled[first], classes, x, spread=config.spread)
                    p = softmax(logits[asked] + moved, axis=1)
                    trials, mean = mean_by(p, windows[asked])
                    rows = prediction_rows(
                        table, trials, np.zeros_like(trials), target, mean, labels=labels, sfreq=1.0
                    )
                    parts.append(rows.assign(shots=k, draw=draw, available=len(own)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
