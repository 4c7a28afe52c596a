"""Control encoders: the winner's pretraining once more, without what its method claims to live on.

Judged by the same frozen probe as the winner, they tell what is due to synchrony between people and
what any contrastive pretraining on these signals would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from physiosync.augmentation import AugmentationConfig
from physiosync.best import metrics_of, promoted, unfinished
from physiosync.errors import SamplingError
from physiosync.pretraining import PretrainingConfig, moment_sampler
from physiosync.splits import folds
from physiosync.tasks import FinalistTask, Workload


def control_configs(winner: PretrainingConfig) -> dict[str, PretrainingConfig]:
    """Method -> what its encoder is pretrained with.

    "shuffled_probe" differs from the winner in nothing but the pairs. "simclr_probe" learns from
    two views of the same window, so there is nobody to pool (groups of one) and no other modality
    to align with (no CM-CA). Its views are the paper's six: where positives are one window, all
    that is learned is what augmentation leaves alone, and the winner may do with hardly any. Of
    both, an epoch holds as many seconds of signal as the winner's.
    """
    changes: dict[str, dict[str, object]] = {
        "shuffled_probe": {"pairs": "shuffled"},
        "simclr_probe": {
            "pairs": "self",
            "group_size": 1,
            # EEG and PPS share no weights, so any two would do that are not 0.
            "w_eeg": 1.0,
            "w_pps": 1.0,
            "w_cmca": 0.0,
            "augmentation": AugmentationConfig(recipe="paper"),
        },
    }
    return {
        name: PretrainingConfig.model_validate(dict(winner) | change)
        for name, change in changes.items()
    }


def control_tasks(
    folder: Path, workload: Workload, *, seed: int
) -> tuple[dict[str, FinalistTask], list[str]]:
    """Runs of the control encoders, on the fold and with the seed of best/rank-1.

    Parameters
    ----------
    folder : of the study, with best/rank-1
    seed : of the study, as its finalists' folds were made

    Returns
    -------
    tasks : method -> its run; the output's name has the configuration, so another winner has others
    sentences : one for each control for which the trials are too few or too short

    Raises
    ------
    StudyError
        If nothing was promoted yet.
    """
    metrics = metrics_of(promoted(folder)[0])
    store, fold = workload.store(), int(metrics["fold"])
    split = folds(workload.split, seed=seed)[fold]
    train = store.trials.loc[split.trials(store.trials, "train")]
    tasks: dict[str, FinalistTask] = {}
    sentences = []
    for method, config in control_configs(
        PretrainingConfig.model_validate(metrics["pretraining"])
    ).items():
        try:
            moment_sampler(config, train, store.sfreq)
        except SamplingError as error:
            sentences.append(f"no control encoder for {method}: {error}")
            continue
        name = f"{method.removesuffix('_probe')}-{config.uid()}"
        tasks[method] = FinalistTask(
            workload=workload,
            config=config,
            split=split,
            fold=fold,
            seed=metrics["seed"],
            output=folder / "tune" / "encoders" / f"{name}-fold-{fold}-seed-{metrics['seed']}",
        )
    return tasks, sentences


def trained(
    tasks: Mapping[str, FinalistTask], sentences: Sequence[str]
) -> tuple[dict[str, Path], list[str]]:
    """Method -> its encoder; and `sentences`, with one more for each run that left none."""
    encoders, said = {}, list(sentences)
    for method, task in tasks.items():
        if not task.output.is_dir():
            said.append(f"no control encoder for {method}: the stage 'controls' was not run")
        elif unfinished(task.output):
            said.append(f"no control encoder for {method}: its loss did not stay finite")
        else:
            encoders[method] = task.output
    return encoders, said
