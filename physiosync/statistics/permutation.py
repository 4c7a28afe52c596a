"""Label permutations: what a method scores if its answers have nothing to do with the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from physiosync.statistics.scores import Floats, Ints

Kind = Literal["within_subject", "whole_clip"]


@dataclass(frozen=True)
class PermutationTest:
    """Where a score lies among those of permuted labels.

    Parameters
    ----------
    score : mean balanced accuracy of subjects, with the labels as they are
    mean, standard_deviation : of the scores with permuted labels
    p : one-sided, (1 + permutations at least as good) / (1 + permutations)
    n_permutations : that gave a score
    """

    score: float
    mean: float
    standard_deviation: float
    p: float
    n_permutations: int


def permutation_test(
    predictions: pd.DataFrame, kind: Kind, *, n_permutations: int = 1000, seed: int = 0
) -> PermutationTest:
    """Compare a method with itself under permuted labels.

    "within_subject" deals each person's labels out anew. It takes people for independent of each
    other, which they are not if they share clips: its p is too small then. "whole_clip" swaps whole
    clips, for everyone alike, so labels and answers keep what people share; its p holds. Clips are
    swapped within blocks that share people: in folds of new people and new clips a block is a fold,
    and labels of another block's clips would meet no answer.

    Parameters
    ----------
    predictions : a row a trial with "subject", "stimulus", "truth" and "predicted"

    Returns
    -------
    All NaN but the number if no subject shows two classes.
    """
    truth, predicted = (_grid(predictions, name) for name in ("truth", "predicted"))
    blocks = _blocks(truth >= 0)
    rng = np.random.default_rng(seed)
    n_classes = int(max(truth.max(initial=0), predicted.max(initial=0))) + 1
    score = _score(truth, predicted, n_classes)
    drawn = np.empty(n_permutations)
    for i in range(n_permutations):
        drawn[i] = _score(_permuted(truth, kind, blocks, rng), predicted, n_classes)
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(score) or not len(drawn):
        nan = float("nan")
        return PermutationTest(score, nan, nan, nan, len(drawn))
    return PermutationTest(
        score=score,
        mean=float(drawn.mean()),
        standard_deviation=float(drawn.std()),
        # Permutations that tie with the score must not depend on how sums are rounded.
        p=float((1 + (drawn >= score - 1e-12).sum()) / (1 + len(drawn))),
        n_permutations=len(drawn),
    )


def _grid(predictions: pd.DataFrame, column: str) -> Ints:
    """(n_subjects, n_stimuli), -1 where there was no trial."""
    table = predictions.pivot_table(index="subject", columns="stimulus", values=column)
    return table.fillna(-1).to_numpy(dtype=np.int64)


def _blocks(there: NDArray[np.bool_]) -> Ints:
    """(n_stimuli,): the number of the block of each clip; blocks share neither people nor clips."""
    n_subjects, n = len(there), sum(there.shape)
    met = np.zeros((n, n), dtype=np.int8)
    met[:n_subjects, n_subjects:] = there
    _, block = connected_components(met, directed=False)
    return block[n_subjects:].astype(np.int64)


def _permuted(truth: Ints, kind: Kind, blocks: Ints, rng: np.random.Generator) -> Ints:
    if kind == "whole_clip":
        out = np.empty_like(truth)
        drawn = np.lexsort((rng.random(len(blocks)), blocks))
        out[:, np.argsort(blocks, kind="stable")] = truth[:, drawn]
        return out
    # Random keys, with those of missing trials at the end, where the missing ones then stay.
    there = truth >= 0
    order = np.argsort(np.where(there, rng.random(truth.shape), 2.0), axis=1)
    shuffled = np.take_along_axis(truth, order, axis=1)
    place = np.argsort(~there, axis=1, kind="stable")
    out = np.full_like(truth, -1)
    np.put_along_axis(out, place, shuffled, axis=1)
    return out


def _score(truth: Ints, predicted: Ints, n_classes: int) -> float:
    """Mean over subjects of balanced accuracy, over the trials that have label and answer."""
    both: NDArray[np.bool_] = (truth >= 0) & (predicted >= 0)
    recalls: list[Floats] = []
    for k in range(n_classes):
        mine = both & (truth == k)
        n = mine.sum(axis=1)
        hits = (mine & (predicted == k)).sum(axis=1)
        recalls.append(np.where(n > 0, hits / np.maximum(n, 1), np.nan))
    recall = np.stack(recalls, axis=1)
    usable = (~np.isnan(recall)).sum(axis=1) >= 2
    return float(np.nanmean(recall[usable], axis=1).mean()) if usable.any() else float("nan")
