"""The search: pretraining trials that Optuna suggests, Ray Tune runs and ASHA stops.

The Optuna database is the only truth. Trials that a dead driver left RUNNING go back to the queue
and are taken up from their last checkpoint; ASHA's rungs are filled again from the reported values.
So nothing of Tune's own snapshots is needed to resume, and more trials are just another run.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from ray import tune

from physiosync.errors import CheckpointError, StudyError
from physiosync.interruption import Interruption
from physiosync.pretraining import Pretraining, PretrainingConfig
from physiosync.progress import log
from physiosync.remote import Remote
from physiosync.searcher import OBJECTIVE, RememberFolders, ResumableASHA, StudySearch
from physiosync.space import first_points, to_config
from physiosync.tasks import Workload, open_pretraining
from physiosync.training import DivergedError
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

_STATE = "state.pt"
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class SearchPlan:
    """A search, apart from its data.

    Parameters
    ----------
    trials : finished trials to reach, those of earlier runs counted in
    base : the default configuration, with its `epochs` as the most a trial may take
    grace_epochs, reduction : of ASHA: the first rung, and one in how many goes on
    seed : of Optuna's sampler and of every pretraining run
    """

    trials: int
    base: PretrainingConfig
    grace_epochs: int
    reduction: int
    seed: int


# ---- the database


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ended with a value, were stopped early, or diverged.

    Those that an error ended (no memory, a full disk) say nothing of their point: others take
    their place.
    """
    ended = study.get_trials(deepcopy=False, states=_FINISHED)
    return [trial for trial in ended if trial.user_attrs.get("failure") != "error"]


def best_value(study: optuna.Study) -> float | None:
    """Highest objective of the trials that ended with one."""
    return max((t.value for t in finished(study) if t.value is not None), default=None)


def requeue_orphans(study: optuna.Study) -> int:
    """Put trials that no driver runs any more back into the queue; returns how many.

    Only for the one driver that holds the study's lock.
    """
    orphans = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in orphans:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    return len(orphans)


# ---- the run


def search(
    study: optuna.Study,
    plan: SearchPlan,
    workload: Workload,
    space: Mapping[str, BaseDistribution],
    *,
    results: Path,
    resources: Resources,
    watcher: Watcher,
    interruption: Interruption,
) -> None:
    """Run trials until `plan.trials` have ended.

    Raises
    ------
    Interrupted
        After a clean stop; unfinished trials wait in the queue for the next run.
    StudyError
        If every trial of this run failed, with the first one's error.
    """
    requeue_orphans(study)
    past = finished(study)
    if not study.get_trials(deepcopy=False):
        for point in first_points(plan.base)[: plan.trials]:
            study.enqueue_trial(point)
    missing = plan.trials - len(past)
    if missing <= 0:
        return
    ready_ray(results, workload)
    searcher = StudySearch(
        study, space, max_epochs=plan.base.epochs, artifacts=results / "artifacts"
    )
    scheduler = ResumableASHA(
        searcher,
        past,
        max_t=plan.base.epochs,
        grace_period=min(plan.grace_epochs, plan.base.epochs),
        reduction_factor=plan.reduction,
    )
    shared = {
        "workload": workload.model_dump_json(),
        "base": plan.base.model_dump_json(),
        "seed": plan.seed,
    }
    tuner = tune.Tuner(
        tune.with_resources(_trial, resources.as_tune()),
        param_space=shared,
        tune_config=tune.TuneConfig(
            num_samples=missing,
            search_alg=searcher,
            scheduler=scheduler,
            max_concurrent_trials=resources.slots(),
            reuse_actors=True,
            trial_dirname_creator=trial_folder_name,
        ),
        run_config=tune.RunConfig(
            **run_place(results, "search", workload.mirror),
            verbose=0,
            stop=StopEarly(interruption, results),
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[Watching(watcher), RememberFolders(searcher)],
        ),
    )
    with interruption.deferred():
        try:
            grid = tuner.fit()
        finally:
            requeue_orphans(study)
    errors = [str(result.error) for result in grid if result.error]
    refuse_full_disk("search", results, errors)
    if errors and len(finished(study)) == len(past):
        raise StudyError(
            f"search: no trial of this run ended, {len(errors)} failed; the first error was: "
            f"{errors[0]}"
        )
    if errors:
        log.info("  %d trials failed; the first error was: %s", len(errors), errors[0])


def _trial(config: dict[str, Any]) -> None:
    """One pretraining trial, on a worker."""
    workload = Workload.model_validate_json(config["workload"])
    point = to_config(config["params"], PretrainingConfig.model_validate_json(config["base"]))
    run = open_pretraining(workload, point, split=workload.split, seed=config["seed"])
    _resume(run, config["folders"])
    if run.epoch >= point.epochs:
        # Its driver died between the last epoch and hearing of it: only the telling is left.
        tune.report(_told(run, point))
        return
    while run.epoch < point.epochs:
        try:
            report = run.run_epoch()
        except DivergedError:
            tune.report({"epoch": run.epoch + 1, OBJECTIVE: math.nan})
            return
        metrics = {
            **_told(run, point),
            **{f"loss_{name}": value for name, value in report.losses.items()},
            "retrieval": report.losses["retrieval"],
            **report.scores,
            "probe_share": report.evaluation_seconds / report.seconds,
        }
        with tempfile.TemporaryDirectory() as folder:
            run.save(Path(folder) / _STATE)
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def _told(run: Pretraining, point: PretrainingConfig) -> dict[str, Any]:
    return {
        "epoch": run.epoch,
        # What Optuna is told, what ASHA compares and what is kept is the same: the best yet.
        OBJECTIVE: run.best_scores[-1],
        "history": list(run.best_scores),
        "best_epoch": run.best_epoch,
        "configuration": point.uid(),
    }


def _resume(run: Pretraining, folders: Sequence[str]) -> None:
    """Go on from Tune's checkpoint (a lost node) or from an earlier driver's, if there is one."""
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            run.resume(Path(folder) / _STATE)
        return
    for path in _states(folders):
        try:
            run.resume(path)
        except CheckpointError:
            continue  # the driver died while this one was written; the one before is whole
        return


def _states(folders: Sequence[str]) -> Iterator[Path]:
    """Saved states of a trial, newest first."""
    for folder in reversed(folders):
        if folder.startswith("s3://"):
            yield from _downloaded(folder)
            continue
        yield from sorted(Path(folder).glob(f"checkpoint_*/{_STATE}"), reverse=True)


def _downloaded(url: str) -> Iterator[Path]:
    """Saved states of a trial in an object store, newest first."""
    remote = Remote(url)
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(remote.sizes(), reverse=True):
            if name.startswith("checkpoint_") and name.endswith(f"/{_STATE}"):
                remote.fetch(name, Path(folder) / _STATE)
                yield Path(folder) / _STATE
