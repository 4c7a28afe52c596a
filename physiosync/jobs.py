"""Many independent jobs as one Tune run: finalists, fine-tuning, baselines, analyses, ablations.

Bare Ray tasks would hang for a minute and more when a node falls silent; Tune restarts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from physiosync.ablation import AblationTask
from physiosync.errors import StudyError
from physiosync.further_tasks import AnalysisTask, PooledTask
from physiosync.interruption import Interruption
from physiosync.mirror import Copies
from physiosync.tasks import BaselineTask, FinalistTask, FinetuneTask
from physiosync.tuner import (
    Resources,
    StopEarly,
    Watcher,
    Watching,
    ready_ray,
    refuse_full_disk,
    run_place,
    trial_folder_name,
)

Task = FinalistTask | PooledTask | FinetuneTask | BaselineTask | AnalysisTask | AblationTask
_KINDS: Mapping[str, type[Task]] = {
    kind.__name__: kind
    for kind in (
        FinalistTask,
        PooledTask,
        FinetuneTask,
        BaselineTask,
        AnalysisTask,
        AblationTask,
    )
}


def run_jobs(
    tasks: Sequence[Task],
    stage: str,
    *,
    results: Path,
    resources: Resources,
    watcher: Watcher,
    interruption: Interruption,
) -> None:
    """Run the tasks whose output does not exist yet.

    Each writes its own output in one step, so an interrupted stage goes on where it was.

    Parameters
    ----------
    stage : names the Tune run: `results/tune/<stage>`

    Raises
    ------
    StudyError
        If jobs failed after two retries; the others are finished first.
    Interrupted
        After a clean stop.
    """
    missing = [task for task in tasks if not task.output.exists()]
    if not missing:
        return
    workload = missing[0].workload
    ready_ray(results, workload)
    encoders = _encoders(missing)
    jobs = [
        {
            "name": task.output.stem,
            "kind": type(task).__name__,
            "task": task.model_dump_json(),
            "encoder": encoders.get(_encoder(task)),
        }
        for task in missing
    ]
    tuner = tune.Tuner(
        tune.with_resources(_job, resources.as_tune()),
        param_space={"job": tune.grid_search(jobs)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=resources.slots(),
            reuse_actors=True,
            trial_dirname_creator=trial_folder_name,
        ),
        run_config=tune.RunConfig(
            **run_place(results, stage, workload.mirror),
            verbose=0,
            stop=StopEarly(interruption, results),
            failure_config=tune.FailureConfig(max_failures=2),
            callbacks=[Watching(watcher)],
        ),
    )
    with interruption.deferred():
        grid = tuner.fit()
    if workload.mirror is not None:
        workload.mirror.fetch_missing()
    refuse_full_disk(stage, results, [str(result.error) for result in grid if result.error])
    failed = [task.output.stem for task in missing if not task.output.exists()]
    if failed:
        cause = next((str(result.error) for result in grid if result.error), "no error reported")
        raise StudyError(
            f"{stage}: {len(failed)} of {len(missing)} jobs failed ({', '.join(failed[:5])}); "
            f"the first error was: {cause}"
        )


def _job(config: dict[str, Any]) -> None:
    job = config["job"]
    task = _KINDS[job["kind"]].model_validate_json(job["task"])
    if job["encoder"] is not None:
        copies = Copies.model_validate_json(job["encoder"])
        copies.fetch()
        task = task.model_copy(update={"encoder": copies.folder})
    task.run()
    if task.workload.mirror is not None:
        task.workload.mirror.put(task.output)


def _encoder(task: Task) -> Path | None:
    return None if isinstance(task, FinalistTask | PooledTask | AblationTask) else task.encoder


def _encoders(tasks: Sequence[Task]) -> dict[Path | None, str]:
    """Where jobs get the encoders that they start from, if results are in an object store."""
    mirror = tasks[0].workload.mirror
    if mirror is None:
        return {}
    paths = {path for path in map(_encoder, tasks) if path is not None}
    return {path: Copies.of_model(path, mirror.url_of(path)).model_dump_json() for path in paths}
