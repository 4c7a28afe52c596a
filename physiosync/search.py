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
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import Searcher

from physiosync.errors import CheckpointError, StudyError
from physiosync.interruption import Interruption
from physiosync.pretraining import Pretraining, PretrainingConfig
from physiosync.space import first_points, to_config
from physiosync.tasks import Workload, open_pretraining
from physiosync.training import DivergedError
from physiosync.tuner import (
    Resources,
    StopOnSignal,
    Watcher,
    Watching,
    fresh_name,
    trial_folder_name,
)

OBJECTIVE = "objective"
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


def open_study(name: str, storage: str, *, seed: int, trials: int) -> optuna.Study:
    """The named Optuna study, made if it does not exist.

    Raises
    ------
    StudyError
        If the storage can't be reached; passwords are never repeated.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, n_startup_trials=min(10, max(4, trials // 3))
    )
    try:
        return optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            sampler=sampler,
            load_if_exists=True,
        )
    except Exception as error:
        raise StudyError(f"Optuna storage of study {name!r}: {type(error).__name__}") from error


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ended, one way or another."""
    return study.get_trials(deepcopy=False, states=_FINISHED)


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


class StudySearch(Searcher):
    """Optuna's ask and tell as a Tune searcher that tells the whole truth.

    Every step is reported, the last one included. A trial that was stopped early is PRUNED, one
    whose objective is not finite FAIL, as is one whose retries are used up. Its snapshot is empty:
    the database is the state, and its password must not get into the results.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Mapping[str, BaseDistribution],
        *,
        max_epochs: int,
        artifacts: Path | None = None,
    ) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self._study, self._space, self._max_epochs = study, dict(space), max_epochs
        self._artifacts = artifacts
        self._trials: dict[str, optuna.Trial] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        trial = self._study.ask(self._space)
        self._trials[trial_id] = trial
        folders = trial.user_attrs.get("folders", [])
        return {
            "name": f"trial-{trial.number:05d}",
            "params": trial.params,
            "folders": folders,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        trial, known = self._trials[trial_id], self.values(trial_id)
        # The whole history each time: a driver may have died after an epoch was saved and before
        # it was told; and an epoch that is run again after a restore is known already.
        for epoch, value in enumerate(result.get("history", ()), 1):
            if epoch not in known:
                trial.report(value, epoch)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self._trials.get(trial_id)
        if trial is None:
            return
        if error or result is None or not math.isfinite(result.get(OBJECTIVE, math.nan)):
            trial.set_user_attr("failure", "diverged" if result and not error else "error")
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self.on_trial_result(trial_id, result)
            # Attributes and artifacts can't be written once the trial is told.
            self._attach(trial, result)
            if result["epoch"] >= self._max_epochs:
                self._study.tell(trial, result[OBJECTIVE])
            else:
                self._study.tell(trial, state=TrialState.PRUNED)
        del self._trials[trial_id]

    def values(self, trial_id: str) -> dict[int, float]:
        """Step -> value of a running trial, as the database has it."""
        trial = self._trials.get(trial_id)
        if trial is None:
            return {}
        return dict(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def remember_folder(self, trial_id: str, folder: str) -> None:
        """Note where a trial keeps its checkpoints, for the driver after this one."""
        trial = self._trials.get(trial_id)
        if trial is not None:
            folders = trial.user_attrs.get("folders", [])
            if folder not in folders:
                trial.set_user_attr("folders", [*folders, folder])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""

    def _attach(self, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
        kept = ("configuration", "best_epoch", "retrieval", "score_10s", "time_total_s")
        for name in (*kept, *(key for key in result if key.startswith("balanced_accuracy"))):
            if name in result:
                trial.set_user_attr(name, result[name])
        if self._artifacts is None:
            return
        values = self._study._storage.get_trial(trial._trial_id).intermediate_values
        self._artifacts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            curve = Path(folder) / "objective-by-epoch.csv"
            rows = (f"{epoch},{value}" for epoch, value in sorted(values.items()))
            curve.write_text("\n".join(["epoch,objective", *rows]) + "\n")
            upload_artifact(
                artifact_store=FileSystemArtifactStore(self._artifacts),
                file_path=str(curve),
                study_or_trial=trial,
            )


class ResumableASHA(AsyncHyperBandScheduler):
    """ASHA whose rungs know what earlier drivers saw."""

    def __init__(self, searcher: StudySearch, past: Sequence[FrozenTrial], **options: Any) -> None:
        super().__init__(time_attr="epoch", metric=OBJECTIVE, mode="max", **options)
        self._searcher = searcher
        for trial in past:
            self._replay(f"past-{trial.number}", trial.intermediate_values)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        self._refill(trial, self._searcher.values(trial.trial_id))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        # A diverged trial ends by itself; its NaN must not become a rung's cutoff.
        if not math.isfinite(result.get(OBJECTIVE, 0.0)):
            return str(self.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if math.isfinite(result.get(OBJECTIVE, 0.0)):
            super().on_trial_complete(tune_controller, trial, result)

    def _replay(self, name: str, values: Mapping[int, float]) -> None:
        stand_in = SimpleNamespace(trial_id=name)
        super().on_trial_add(None, stand_in)
        self._refill(stand_in, values)

    def _refill(self, trial: Any, values: Mapping[int, float]) -> None:
        # The decisions were taken when these values were new; only the records matter here.
        for epoch, value in sorted(values.items()):
            self.on_trial_result(None, trial, {"epoch": epoch, OBJECTIVE: value})


class _RememberFolders(tune.Callback):
    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._searcher.remember_folder(trial.trial_id, trial.path)


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
    """
    requeue_orphans(study)
    past = finished(study)
    if not study.get_trials(deepcopy=False):
        for point in first_points(plan.base)[: plan.trials]:
            study.enqueue_trial(point)
    missing = plan.trials - len(past)
    if missing <= 0:
        return
    folder = (results / "tune").resolve()
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
            name=fresh_name(folder, "search"),
            storage_path=str(folder),
            verbose=0,
            stop=StopOnSignal(interruption),
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[Watching(watcher), _RememberFolders(searcher)],
        ),
    )
    with interruption.deferred():
        try:
            tuner.fit()
        finally:
            requeue_orphans(study)


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
        yield from sorted(Path(folder).glob(f"checkpoint_*/{_STATE}"), reverse=True)
