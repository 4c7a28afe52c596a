"""All jobs that meet the test part: fine-tuning of the best encoders, and the baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from physiosync.errors import StudyError
from physiosync.finetuning import FinetuningConfig
from physiosync.model import PhysioSync
from physiosync.tasks import BaselineTask, FinetuneTask, Workload

TestTask = FinetuneTask | BaselineTask


def tasks_on_test_part(
    folder: Path,
    workload: Workload,
    config: FinetuningConfig,
    *,
    seed: int,
    pooled: bool = False,
) -> list[TestTask]:
    """Fine-tuning of every best encoder, and all baselines beside it.

    Known people get a job each; without a whole trial to train on, or without one to test, none.
    For people who are held out, and if `pooled`, there is one classifier.
    """
    best = sorted((folder / "best").glob("rank-*"), key=lambda p: int(p.name[5:]))
    if not best:
        raise StudyError(f"{folder / 'best'}: expected promoted encoders, found none")
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
        uid = json.loads((path / "metrics.json").read_text())["configuration"]
        jobs("pretrained" if path.name == "rank-1" else f"pretrained {path.name}", path, uid)
    first = json.loads((best[0] / "metrics.json").read_text())["configuration"]
    jobs("scratch", None, f"scratch-{first}")
    methods = ["majority", "band_power", "untrained_probe", "pretrained_probe"]
    if _knows_tested_stimuli(workload, network.long_times):
        # Clips that others have rated: what they agree about needs no signal at all.
        methods.insert(1, "clip_consensus")
    tasks.extend(
        BaselineTask(
            workload=workload,
            method=method,
            encoder=best[0] if method == "pretrained_probe" else None,
            network=network,
            seed=seed,
            output=out / f"baselines-{first}" / f"{method}.parquet",
        )
        for method in methods
    )
    return tasks


def _knows_tested_stimuli(workload: Workload, n_times: int) -> bool:
    """Whether a stimulus of the test trials is one that was trained on."""
    stimulus = workload.store().trials["stimulus"]
    train, test, _ = workload.final_trials(n_times)
    return bool(stimulus.loc[test].isin(stimulus.loc[train]).any())
