"""What leakage buys: one configuration under a leaky and under a clean split, scored alike.

The papers shuffle windows, so that most windows of the test part have neighbours of the same trial
in training, and subtract one waveform from every second of a trial, which marks its windows alike.
Here both are done and left undone: stretches of trials are dealt out one by one (protocol
"window"), or with their whole clips (protocol "stimulus"); with the baseline template or without.
What is trained and what is scored, stretches of one length, is the same in all four. Each stretch
counts as a stimulus, so neighbours of one trial may be negatives of each other, in all four too.
Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from physiosync.baselines import band_power, frozen_probe, majority
from physiosync.cohort import rating_names
from physiosync.config import Config
from physiosync.errors import ShardError
from physiosync.finetuning import FinetuningConfig, finetune, fit_heads
from physiosync.labels import Labels
from physiosync.loading import complete_trials
from physiosync.model import PhysioSync
from physiosync.predictions import trial_predictions
from physiosync.pretraining import Pretraining, PretrainingConfig
from physiosync.probing import ProbeConfig
from physiosync.scoring import score_by_subject
from physiosync.shards import find_shards, read_info
from physiosync.splits import Split, stimulus_split
from physiosync.stretch_splits import by_stretch, window_split
from physiosync.tables import METHODS
from physiosync.windows import WindowStore

Leaky = Literal["window", "stimulus"]

#: In the order of the table.
_METHODS = ("majority", "band_power", "pretrained_probe", "pretrained")


class LeakageConfig(Config):
    """What is trained under either split."""

    pretraining: PretrainingConfig = PretrainingConfig(
        epochs=2, epoch_seconds=8_000, lag_skin_seconds=0, lag_body_seconds=0
    )
    """Its long window is the stretch, so there is no room for lags."""
    finetuning: FinetuningConfig = FinetuningConfig(
        windows_per_trial=1, epochs=6, encoder_learning_rate=1e-3
    )
    """As many epochs as the papers', and at their rate."""
    labels: Labels = Labels(targets={"arousal": 2, "valence": 2})
    probe: ProbeConfig = ProbeConfig()
    test_share: float = Field(default=0.25, gt=0, lt=1)
    noise: bool = False
    """Permute the ratings of each person's trials, so that there is nothing to be known."""

    @property
    def stretch_seconds(self) -> int:
        """Length of the stretches."""
        return round(self.pretraining.long_seconds)


class LeakageJob(Config):
    """One of the four, with one seed."""

    config: LeakageConfig
    shards: Path
    """A folder of them."""
    cache: Path | None
    protocol: Leaky
    seed: int

    def run(self) -> pd.DataFrame:
        """Pretrain, fine-tune and score.

        Returns
        -------
        A row a target and method: "baseline" (what the shards' preprocessing does with it),
        "protocol", "seed", "target", "method", "balanced_accuracy" (mean over subjects) and
        "accuracy", both of stretches.

        Raises
        ------
        SplitError, SamplingError, ShardError
            If the shards are too few, or damaged.
        """
        torch.set_num_threads(1)
        config = self.config
        recorded = WindowStore.open(self.shards, ("eeg", *config.pretraining.pps), self.cache)
        if config.noise:
            recorded = recorded.with_ratings(permuted(recorded.trials, self.seed))
        store, split = dealt(recorded, config, self.protocol, self.seed)
        baseline = read_info(recorded.paths[0]).config["baseline"]
        rows = [
            {
                "baseline": baseline,
                "protocol": self.protocol,
                "seed": self.seed,
                "target": target,
                "method": method,
            }
            | _scores(some)
            for method, table in _predicted(store, split, config, self.seed).items()
            for target, some in table.groupby("target", sort=False)
        ]
        return pd.DataFrame(rows)


def permuted(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The ratings of each person's trials, all of a trial together, dealt out anew.

    Parameters
    ----------
    table : `WindowStore.trials`, whole trials

    Returns
    -------
    The columns of ratings, with the same index.
    """
    ratings = table[rating_names(table)].copy()
    rng = np.random.default_rng(seed)
    for mine in table.groupby("subject", sort=True).groups.values():
        ratings.loc[mine] = ratings.loc[rng.permutation(mine)].to_numpy()
    return ratings


def dealt(
    recorded: WindowStore, config: LeakageConfig, protocol: Leaky, seed: int
) -> tuple[WindowStore, Split]:
    """The store in stretches, and its split into training and test: nothing is chosen here.

    Raises
    ------
    SplitError
        If there are too few stimuli.
    """
    seconds = config.stretch_seconds
    store = recorded.in_stretches(seconds)
    shares: dict[str, Any] = {"validation": 0.1, "test": config.test_share, "seed": seed}
    if protocol == "window":
        split = window_split(store.trials, stretch_seconds=seconds, **shares)
    else:
        split = by_stretch(stimulus_split(recorded.trials, **shares), store.trials, seconds)
    train, validation = split.train, split.validation
    known = train.model_copy(update={"stimuli": (*train.stimuli, *validation.stimuli)})
    none = validation.model_copy(update={"stimuli": ()})
    return store, split.model_copy(update={"train": known, "validation": none})


def jobs_for(
    config: LeakageConfig, shards: Sequence[Path], seeds: Sequence[int], cache: Path | None
) -> list[LeakageJob]:
    """Both protocols on every preparation of the same recordings, with every seed.

    Parameters
    ----------
    shards : folders, each prepared with another treatment of the baseline

    Raises
    ------
    ShardError
        If a folder holds none, or two have their baseline treated alike.
    """
    protocols: tuple[Leaky, ...] = ("window", "stimulus")
    seen: dict[Any, Path] = {}
    for folder in shards:
        baseline = read_info(find_shards(folder)[0]).config["baseline"]
        if (other := seen.setdefault(baseline, folder)) != folder:
            raise ShardError(
                folder, "baseline", expected=f"another than in {other}", found=str(baseline)
            )
    return [
        LeakageJob(config=config, shards=folder, cache=cache, protocol=protocol, seed=seed)
        for seed in seeds
        for protocol in protocols
        for folder in shards
    ]


def run_all(
    jobs: Sequence[LeakageJob],
    *,
    workers: int,
    on_job: Callable[[LeakageJob, pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """The rows of all jobs, in their order.

    Parameters
    ----------
    workers : processes; 1 for this one
    on_job : called after each, in the order in which they end
    """
    if workers == 1:
        tables = []
        for job in jobs:
            tables.append(job.run())
            if on_job is not None:
                on_job(job, tables[-1])
        return pd.concat(tables, ignore_index=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(job.run): job for job in jobs}
        for done in as_completed(running):
            if on_job is not None:
                on_job(running[done], done.result())
        return pd.concat([done.result() for done in running], ignore_index=True)


def side_by_side(rows: pd.DataFrame) -> str:
    """A Markdown table: a row a target and method, a column a protocol and baseline.

    Parameters
    ----------
    rows : of `run_all`

    Returns
    -------
    Cells are means over seeds: balanced accuracy, its standard deviation over seeds in brackets,
    and accuracy.
    """
    table = rows.groupby(["target", "method", "protocol", "baseline"])[
        ["balanced_accuracy", "accuracy"]
    ]
    mean, spread = table.mean(), table.std()["balanced_accuracy"]
    cells = [
        (protocol, baseline)
        for protocol in ("window", "stimulus")
        for baseline in sorted(rows["baseline"].unique(), key=lambda name: name != "template")
    ]
    heads = [
        f"{protocol}{' (LEAKY)' if protocol == 'window' else ''}, "
        + ("with template" if baseline == "template" else "without")
        for protocol, baseline in cells
    ]
    lines = ["| target | method | " + " | ".join(heads) + " |", "|---" * (len(cells) + 2) + "|"]
    for target in rows["target"].unique():
        for method in _METHODS:
            texts = []
            for cell in cells:
                score, accuracy = mean.loc[(target, method, *cell)]
                over_seeds = spread.loc[(target, method, *cell)]
                between = "" if np.isnan(over_seeds) else f" ({over_seeds:.3f})"
                texts.append(f"{score:.3f}{between}, {accuracy:.3f}")
            lines.append(f"| {target} | {METHODS[method]} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _predicted(
    store: WindowStore, split: Split, config: LeakageConfig, seed: int
) -> dict[str, pd.DataFrame]:
    """Method -> predictions of all test stretches."""
    modalities, n_times = ("eeg", *config.pretraining.pps), 1
    known = split.trials(store.trials, "train")
    # Nothing of the test part is open before its encoders are made.
    model = Pretraining(config.pretraining, store.restrict(known), split, seed).run()
    train, test = (
        complete_trials(store.trials, trials, modalities, n_times)
        for trials in (known, split.trials(store.trials, "test"))
    )
    labels = config.labels
    both: dict[str, Any] = {"train": train, "test": test, "labels": labels}
    found = {
        "majority": majority(store.trials, **both),
        "band_power": band_power(store, **both),
        "pretrained_probe": frozen_probe(model, store, penalty=config.probe.penalty, **both),
    }
    copy = PhysioSync(model.config)
    copy.load_state_dict(model.state_dict(), strict=True)
    start = fit_heads(config.finetuning, copy, store, everyone=train, labels=labels, seed=seed)
    found["pretrained"] = finetune(
        config.finetuning, start, store, scale=train, seed=seed, pretrained=True, **both
    )
    return found


def _scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Of one method and target; a "trial" is a stretch here."""
    stretches = trial_predictions(predictions)
    return {
        "balanced_accuracy": float(score_by_subject(stretches).mean()),
        "accuracy": float((stretches["truth"] == stretches["predicted"]).mean()),
    }
