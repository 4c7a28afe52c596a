"""All jobs that meet the test part: fine-tuning of the best encoders, and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from physiosync.baselines.methods import CLASSICAL, PROBES
from physiosync.baselines.peripheral import ARTEFACTS
from physiosync.best import metrics_of, promoted, unfinished
from physiosync.finetuning import FinetuningConfig
from physiosync.further_tasks import AnalysisTask, PooledTask
from physiosync.model import PhysioSync
from physiosync.pretraining import PretrainingConfig
from physiosync.tasks import BaselineTask, FinetuneTask, Workload

TestTask = FinetuneTask | BaselineTask | AnalysisTask


def pooled_tasks(
    folder: Path, workload: Workload, config: FinetuningConfig, *, seed: int
) -> list[PooledTask]:
    """What has to be trained before `tasks_on_test_part` and opens no test trial.

    The network of the first best encoder, from scratch on everyone's labels, with as many seconds
    of signal as that encoder's pretraining saw.
    """
    if workload.split.stretch_seconds is not None:
        return []  # Under the papers' protocol no comparison is worth a training of its own.
    best = promoted(folder)[0]
    metrics = metrics_of(best)
    budget = PretrainingConfig.model_validate(metrics["pretraining"])
    return [
        PooledTask(
            workload=workload,
            config=config,
            network=PhysioSync.from_pretrained(best).config,
            epoch_seconds=budget.epoch_seconds,
            epochs=budget.epochs,
            seed=seed,
            output=_pooled(folder, metrics["configuration"]),
        )
    ]


def _pooled(folder: Path, uid: str) -> Path:
    # Beside the finalists, which an object store keeps too.
    return folder / "tune" / "encoders" / f"scratch-pooled-{uid}"


def tasks_on_test_part(
    folder: Path,
    workload: Workload,
    config: FinetuningConfig,
    *,
    seed: int,
    pooled: bool = False,
    controls: Mapping[str, Path] | None = None,
) -> list[TestTask]:
    """Fine-tuning of every best encoder, and all baselines beside it.

    Known people get a job each; without a whole trial to train on, or without one to test, none.
    For people who are held out, and if `pooled`, there is one classifier.

    Parameters
    ----------
    controls : method -> the encoder that its probe judges (see `controls.py`)
    """
    best = promoted(folder)
    networks = [PhysioSync.from_pretrained(path).config for path in best]
    network = networks[0]
    split = workload.split
    subjects: Sequence[str | None] = [None]
    if split.knows_people and not pooled:
        subjects = workload.tested(max(network.long_times for network in networks))
    tasks: list[TestTask] = []
    out = folder / "finetune"

    def jobs(method: str, encoder: Path | None, uid: str) -> None:
        tasks.extend(
            FinetuneTask(
                workload=workload,
                config=config,
                encoder=encoder,
                network=network,
                method=method,
                subject=subject,
                seed=seed,
                output=out / uid / f"{subject or 'everyone'}.parquet",
            )
            for subject in subjects
        )

    for path in best:
        uid = metrics_of(path)["configuration"]
        jobs("pretrained" if path.name == "rank-1" else f"pretrained {path.name}", path, uid)
    first = metrics_of(best[0])["configuration"]
    jobs("scratch", None, f"scratch-{first}")
    if split.stretch_seconds is None and not unfinished(_pooled(folder, first)):
        jobs("scratch_pooled", _pooled(folder, first), f"scratch-pooled-{first}")
    encoders = dict.fromkeys((m for m in PROBES if m.startswith("pretrained")), best[0])
    encoders |= controls or {}
    artefacts, _ = artefact_modalities(workload, network.long_times)
    left_out = {
        # Clips that others have rated: what they agree about needs no signal at all.
        "clip_consensus": not _knows_tested_stimuli(workload, network.long_times),
        "artefacts": not artefacts,
    }
    methods = [name for name in CLASSICAL if not left_out.get(name)]
    methods += ["untrained_probe", *encoders]
    tasks.extend(
        BaselineTask(
            workload=workload,
            method=method,
            encoder=encoders.get(method),
            network=network,
            artefacts=artefacts if method == "artefacts" else (),
            seed=seed,
            output=out / f"baselines-{first}" / f"{method}.parquet",
        )
        for method in methods
    )
    features: tuple[Literal["pretrained_probe", "band_power"], ...]
    # Nothing is asked of stretches of trials: what they score means nothing beyond the trial.
    features = ("pretrained_probe", "band_power") if split.stretch_seconds is None else ()
    tasks.extend(
        AnalysisTask(
            workload=workload,
            method=method,
            encoder=best[0] if method == "pretrained_probe" else None,
            shots=config.shots,
            network=network,
            seed=seed,
            output=out / f"analyses-{first}" / f"{method}.parquet",
        )
        for method in features
    )
    return tasks


def absent_methods(folder: Path, workload: Workload) -> list[str]:
    """Why baselines have no row, or read less than they might, in sentences."""
    best = promoted(folder)[0]
    said = artefact_modalities(workload, PhysioSync.from_pretrained(best).config.long_times)[1]
    if unfinished(_pooled(folder, metrics_of(best)["configuration"])):
        said.append("no training from scratch on everyone: its loss did not stay finite")
    return said


def _knows_tested_stimuli(workload: Workload, n_times: int) -> bool:
    """Whether a stimulus of the test trials is one that was trained on."""
    stimulus = workload.store().trials["stimulus"]
    train, test, _ = workload.final_trials(n_times)
    return bool(stimulus.loc[test].isin(stimulus.loc[train]).any())


def artefact_modalities(workload: Workload, n_times: int) -> tuple[tuple[str, ...], list[str]]:
    """What the artefact control can read, and a sentence for each modality that it can't.

    A modality is read if it was recorded in all trials that the other methods answer for.
    """
    recorded = [name for name in ARTEFACTS if name in workload.recorded_modalities()]
    sentences = [
        f"no control for artefacts by {name.upper()}, which was not recorded"
        for name in ARTEFACTS
        if name not in recorded
    ]
    if not recorded:
        return (), sentences
    needed = np.unique(np.concatenate(workload.final_trials(n_times)))
    table = workload.store_of(tuple(recorded)).trials.loc[needed]
    lacking = {name: int((~table[f"has_{name}"]).sum()) for name in recorded}
    sentences += [
        f"no control for artefacts by {name.upper()}, which {n} of {len(needed)} trials lack"
        for name, n in lacking.items()
        if n
    ]
    return tuple(name for name in recorded if not lacking[name]), sentences
