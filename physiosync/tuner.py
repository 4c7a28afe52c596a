"""Ray, started and quietened in one place; what `search` and `jobs` share of Ray Tune."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from physiosync.config import Config
from physiosync.errors import StudyError
from physiosync.files import disk_is_full, has_room
from physiosync.interruption import Interruption

# Read by Ray when it is imported or started, so they have to stand before that import.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
# What ends a trial or a job is reported by us, in a line.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")

import ray
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from physiosync.mirror import Mirror
from physiosync.nodes import check_nodes
from physiosync.remote import Remote
from physiosync.tasks import Workload


class Resources(Config):
    """What one trial or job gets."""

    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0

    def slots(self) -> int:
        """How many fit onto the running cluster at once; at least 1."""
        have = ray.cluster_resources()
        fits = have.get("CPU", 1.0) / max(self.cpus_per_trial, 1e-3)
        if self.gpus_per_trial:
            fits = min(fits, have.get("GPU", 0.0) / self.gpus_per_trial)
        return max(1, int(fits))

    def as_tune(self) -> dict[str, float]:
        """In Ray's words."""
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}


class Watcher(Protocol):
    """Is told what happens to trials and jobs; see `physiosync.progress`."""

    def started(self, name: str) -> None: ...
    def reported(self, name: str, metrics: Mapping[str, Any]) -> None: ...
    def ended(self, name: str, *, failed: bool) -> None: ...


@contextmanager
def ray_session() -> Iterator[None]:
    """Where `start_ray` may be called; what it started is shut down at the end of the block."""
    ours = not ray.is_initialized()
    try:
        yield
    finally:
        if ours and ray.is_initialized():
            ray.shutdown()


def ready_ray(results: Path, workload: Workload) -> None:
    """Have a running Ray whose nodes can all work for this study.

    Parameters
    ----------
    results : the study's folder

    Raises
    ------
    StudyError
        If a node of a cluster can't.
    """
    if start_ray():
        check_nodes(results, workload)


def start_ray() -> bool:
    """Have a running Ray; called when there is work for it, for it takes seconds to start.

    On a cluster (`RAY_ADDRESS` is set there) it joins; elsewhere it starts its own, because a bare
    `ray.init()` would attach to whatever else runs on this machine.

    Returns
    -------
    Whether it joined a cluster just now.
    """
    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Tells with a traceback that Tune's snapshot could not be written; nothing reads that snapshot.
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    on_cluster = bool(os.environ.get("RAY_ADDRESS"))
    ray.init(
        address="auto" if on_cluster else "local",
        include_dashboard=None if on_cluster else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    if in_main:
        # Ray puts its own in place, which would end the driver on the spot.
        signal.signal(signal.SIGTERM, before)
    return on_cluster


class StopEarly(tune.Stopper):
    """Ends a Tune run when a signal came, or when the disk of the results is full.

    The searcher is not told, so trials stay resumable. Without room every further trial or job
    would be begun, fail and be begun again.
    """

    def __init__(self, interruption: Interruption, results: Path) -> None:
        self._interruption, self._results = interruption, results

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._interruption.requested or not has_room(self._results)


class Watching(TrialProgressCallback):
    """Passes Tune's events on to a `Watcher`; takes the place of Tune's own lines a trial."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watcher.started(_name(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._watcher.reported(_name(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watcher.ended(_name(trial), failed=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watcher.ended(_name(trial), failed=True)


def refuse_full_disk(stage: str, results: Path, errors: Sequence[str]) -> None:
    """Stop a study whose trials or jobs ended for want of space: more of them would as well.

    Raises
    ------
    StudyError
        If one of the errors says so, or the disk of the results is full now.
    """
    if not has_room(results) or any(disk_is_full(error) for error in errors):
        free = shutil.disk_usage(results).free / 2**20
        raise StudyError(
            f"{stage}: expected room for results in {results} and for decoded windows in the "
            f"cache, found a full disk ({free:.0f} MiB free in the results now); what is done is "
            "kept, and the same command goes on after space is made"
        )


def run_place(results: Path, stem: str, mirror: Mirror | None) -> dict[str, Any]:
    """Where a new Tune run lies, as `tune.RunConfig` takes it.

    It is named `stem`, or `stem-2`, `stem-3`, ... if earlier runs of the study used that.
    """
    if mirror is None or mirror.url is None:
        folder = (results / "tune").resolve()
        taken = {path.name for path in folder.glob("*")}
        return {"name": _fresh(stem, taken), "storage_path": str(folder)}
    remote = Remote(mirror.url)
    return {
        "name": _fresh(stem, remote.folders("tune")),
        "storage_path": f"{remote.path}/tune",
        "storage_filesystem": remote.file_system,
    }


def _fresh(stem: str, taken: Container[str]) -> str:
    names = [stem, *(f"{stem}-{n}" for n in range(2, 10_000))]
    return next(name for name in names if name not in taken)


def trial_folder_name(trial: Any) -> str:
    """Tune would put parameters into folder names; ours are short, and unique over all runs."""
    return f"{_name(trial)}-{trial.trial_id}"


def _name(trial: Any) -> str:
    config = trial.config
    return str(config["job"]["name"] if "job" in config else config["name"])
