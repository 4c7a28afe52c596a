"""The two classifiers that baselines end in; neither has anything tuned."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from physiosync.probing import fit_predict

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: (training features, classes, names of groups, test features, number of classes) ->
#: probabilities (n_test, n_classes). Who has the same name in a group is never held out apart.
Classify: TypeAlias = Callable[[Floats, Ints, NDArray[np.str_], Floats, int], Floats]

#: Bounds of the logarithm of an SVM's slope: never 0, so that the order of trials stays.
_LOG_SLOPES = (-7.0, 5.0)
_FOLDS = 5


def linear(penalty: float) -> Classify:
    """Logistic regression, see `probing.fit_predict`.

    Parameters
    ----------
    penalty : inverse strength (scikit-learn's C)
    """

    def classify(
        x: Floats, y: Ints, groups: NDArray[np.str_], test_x: Floats, n_classes: int
    ) -> Floats:
        return fit_predict(x, y, test_x, n_classes=n_classes, penalty=penalty)

    return classify


def svm(penalty: float) -> Classify:
    """Linear support vector machine, see `svm_probabilities`."""
    return partial(svm_probabilities, penalty=penalty)


def svm_probabilities(
    x: Floats,
    y: Ints,
    groups: NDArray[np.str_],
    test_x: Floats,
    n_classes: int,
    *,
    penalty: float,
) -> Floats:
    """Probabilities from a linear SVM: a softmax of its decisions times one slope.

    The slope is what makes the decisions for held-out groups of training trials most likely
    (temperature scaling, Guo et al. 2017). Unlike Platt's sigmoid it has no offset and no sign, so
    the likeliest class is always the SVM's own, also where there is nothing to learn: decisions for
    held-out trials then lean to the wrong side, and a free sigmoid would turn them round.

    Parameters
    ----------
    penalty : inverse strength (scikit-learn's C), on standardised features
    """
    seen = np.unique(y)
    out = np.zeros((len(test_x), n_classes))
    if len(seen) == 1:
        out[:, seen[0]] = 1.0
        return out
    slope = _slope(*_held_out(x, y, groups, penalty))
    out[:, seen] = softmax(slope * _decisions(x, y, test_x, penalty), axis=1)
    return out


def _held_out(x: Floats, y: Ints, groups: NDArray[np.str_], penalty: float) -> tuple[Floats, Ints]:
    """Decisions for trials whose group was held out, and the position of their class."""
    seen, position = np.unique(y, return_inverse=True)
    n_folds = min(_FOLDS, len(np.unique(groups)))
    decisions = [np.zeros((0, len(seen)))]
    truth = [np.zeros(0, dtype=np.int64)]
    folds = GroupKFold(n_folds).split(x, y, groups) if n_folds > 1 else ()
    for fitted, held in folds:
        # Where a group is all there is of a class, its fold can't be judged.
        if len(np.unique(y[fitted])) == len(seen):
            decisions.append(_decisions(x[fitted], y[fitted], x[held], penalty))
            truth.append(position[held])
    return np.concatenate(decisions), np.concatenate(truth)


def _slope(decisions: Floats, truth: Ints) -> float:
    if not len(truth):
        return 1.0

    def cost(log_slope: float) -> float:
        logs = log_softmax(np.exp(log_slope) * decisions, axis=1)
        return -float(logs[np.arange(len(truth)), truth].mean())

    return float(np.exp(minimize_scalar(cost, bounds=_LOG_SLOPES, method="bounded").x))


def _decisions(x: Floats, y: Ints, test_x: Floats, penalty: float) -> Floats:
    """One column a class that `y` holds."""
    machine = make_pipeline(StandardScaler(), LinearSVC(C=penalty, dual=False, random_state=0))
    found: Floats = machine.fit(x, y).decision_function(test_x)
    return found if found.ndim == 2 else np.stack([-found / 2, found / 2], axis=1)
