"""Negative controls: what pretraining is worth has to go with what it claims to live on.

On a small synthetic cohort; `make table` prints the same comparison at length.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from physiosync.labels import Labels
from physiosync.loading import Loader
from physiosync.model import PhysioSync
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.pretraining import Pretraining, PretrainingConfig
from physiosync.probing import (
    Embedding,
    Floats,
    Ints,
    ProbeConfig,
    covering_windows,
    embedding,
    predict_trials,
)
from physiosync.recordings.deap import find_deap, read_deap
from physiosync.recordings.synthetic import CohortConfig, write_cohort
from physiosync.scaling import fit_scaling
from physiosync.scoring import balanced_accuracy, mean_by
from physiosync.splits import stimulus_split
from physiosync.training import seed_everything
from physiosync.windows import WindowStore

pytestmark = pytest.mark.slow

COHORT = CohortConfig(n_subjects=6, n_stimuli=60, seconds=30.0, seed=5)
LABELS = Labels()
CONFIG = PretrainingConfig(epochs=1, epoch_seconds=45_000)


def _store(cohort: CohortConfig, folder: Path) -> WindowStore:
    write_cohort(cohort, folder / "recordings")
    read = partial(read_deap, shape=(cohort.n_stimuli, 40, cohort.n_times))
    sources = find_deap(folder / "recordings")
    prepare(sources, read, folder / "shards", PreprocessingConfig(), workers=2)
    return WindowStore.open(folder / "shards", ("eeg", *CONFIG.pps), folder / "cache")


def _kept(embed: Embedding) -> Embedding:
    """Embed each set of windows once."""
    kept: dict[bytes, Floats] = {}

    def remembered(trials: Ints, starts: Ints) -> Floats:
        key = trials.tobytes() + starts.tobytes()
        if key not in kept:
            kept[key] = embed(trials, starts)
        return kept[key]

    return remembered


def _gains(store: WindowStore) -> dict[str, float]:
    """By how much a frozen probe does better after pretraining, with true and permuted labels."""
    split = stimulus_split(store.trials, validation=0.1, test=0.4, seed=0)
    known = split.trials(store.trials, "train", "validation")
    test = split.trials(store.trials, "test")
    run = Pretraining(CONFIG, store.restrict(known), split, seed=0)
    pretrained = run.run()
    seed_everything(0)
    untrained = PhysioSync(pretrained.config).eval()
    scaling = fit_scaling(store, known, ("eeg", *CONFIG.pps), CONFIG.scaling)
    loader = Loader(store, scaling, run.loader.lags)
    n_times = pretrained.config.long_times
    windows = [
        covering_windows(store.trials, trials, n_times=n_times, sfreq=store.sfreq, seconds=None)
        for trials in (known, test)
    ]
    embed = {
        name: _kept(embedding(model, loader))
        for name, model in (("pretrained", pretrained), ("untrained", untrained))
    }

    def score(name: str, table: pd.DataFrame) -> float:
        probabilities = predict_trials(
            embed[name],
            table,
            *windows,
            labels=LABELS,
            targets=LABELS.objective,
            penalty=ProbeConfig().penalty,
        )
        scores = []
        for target, p in probabilities.items():
            y = LABELS.classes(table, target)
            trials, mean = mean_by(p, windows[1].trials)
            scores.append(balanced_accuracy(y.loc[trials].to_numpy(), mean.argmax(axis=1)))
        return float(np.mean(scores))

    def gain(table: pd.DataFrame) -> float:
        return score("pretrained", table) - score("untrained", table)

    shuffles = []
    for seed in range(5):
        rng, table = np.random.default_rng(seed), store.trials
        for mine in table.groupby("subject").groups.values():
            ratings = list(LABELS.objective)
            table.loc[mine, ratings] = table.loc[rng.permutation(mine), ratings].to_numpy()
        shuffles.append(gain(table))
    return {"true": gain(store.trials), "permuted": float(np.mean(shuffles))}


@pytest.fixture(scope="module")
def synchronous(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return _gains(_store(COHORT, tmp_path_factory.mktemp("synchronous")))


def test_pretraining_helps_and_with_permuted_labels_it_does_not(
    synchronous: dict[str, float],
) -> None:
    assert synchronous["true"] > 0.05
    assert abs(synchronous["permuted"]) < 0.04


def test_without_synchrony_pretraining_is_worth_nothing(
    synchronous: dict[str, float], tmp_path: Path
) -> None:
    alone = COHORT.model_copy(update={"synchrony": 0.0})
    gain = _gains(_store(alone, tmp_path))["true"]
    assert gain < 0.04
    assert gain < synchronous["true"] - 0.05
