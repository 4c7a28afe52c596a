"""What steers the search inside Ray Tune: Optuna's suggestions, ASHA's stops, folders to resume."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
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

from physiosync.storage import patiently

#: What Optuna is told and ASHA compares: the highest validation score so far.
OBJECTIVE = "objective"


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

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles the whole tuner into the results; a storage in it would bring its password.
        return {name: v for name, v in self.__dict__.items() if name not in ("_study", "_trials")}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        # In steps: asked for all at once, an outage between them would leave a trial behind.
        trial = patiently(self._study.ask)
        for name, distribution in self._space.items():
            patiently(partial(trial._suggest, name, distribution))
        self._trials[trial_id] = trial
        folders = trial.user_attrs.get("folders", [])
        return {
            "name": f"trial-{trial.number:05d}",
            "params": trial.params,
            "folders": folders,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        patiently(lambda: self._report(trial_id, result))

    def _report(self, trial_id: str, result: Mapping[str, Any]) -> None:
        trial, known = self._trials[trial_id], self.values(trial_id)
        # The whole history each time: a driver may have died after an epoch was saved and before
        # it was told; and an epoch that is run again after a restore is known already.
        for epoch, value in enumerate(result.get("history", ()), 1):
            if epoch not in known:
                trial.report(value, epoch)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if trial_id in self._trials:
            patiently(lambda: self._tell(trial_id, result, error))
            del self._trials[trial_id]

    def _tell(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        trial = self._trials[trial_id]
        if trial.storage.get_trial(trial._trial_id).state.is_finished():
            return  # told just before the database went away
        if error or result is None or not math.isfinite(result.get(OBJECTIVE, math.nan)):
            trial.set_user_attr("failure", "diverged" if result and not error else "error")
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._report(trial_id, result)
            # Attributes and artifacts can't be written once the trial is told.
            self._attach(trial, result)
            if result["epoch"] >= self._max_epochs:
                self._study.tell(trial, result[OBJECTIVE])
            else:
                self._study.tell(trial, state=TrialState.PRUNED)

    def values(self, trial_id: str) -> dict[int, float]:
        """Step -> value of a running trial, as the database has it."""
        trial = self._trials.get(trial_id)
        if trial is None:
            return {}
        found = patiently(lambda: trial.storage.get_trial(trial._trial_id))
        return dict(found.intermediate_values)

    def remember_folder(self, trial_id: str, folder: str) -> None:
        """Note where a trial keeps its checkpoints, for the driver after this one."""
        trial = self._trials.get(trial_id)
        if trial is not None:
            patiently(lambda: _add_folder(trial, folder))

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


def _add_folder(trial: optuna.Trial, folder: str) -> None:
    folders = trial.user_attrs.get("folders", [])
    if folder not in folders:
        trial.set_user_attr("folders", [*folders, folder])


class RememberFolders(tune.Callback):
    """Writes each trial's folder into the database once it starts."""

    def __init__(self, searcher: StudySearch) -> None:
        self._searcher = searcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        place = trial.storage
        scheme = "s3://" if place.storage_filesystem.type_name == "s3" else ""
        self._searcher.remember_folder(trial.trial_id, f"{scheme}{place.trial_fs_path}")
