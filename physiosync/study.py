"""The whole flow on one page: recordings, shards, search, finalists, best/, fine-tuning, report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from physiosync import outcome, promotion
from physiosync.driving import only_driver
from physiosync.errors import PhysioSyncError, StudyError
from physiosync.feasibility import check_feasible
from physiosync.files import sweep
from physiosync.forecast import forecast
from physiosync.interruption import Interruption
from physiosync.jobs import Task, run_jobs
from physiosync.ledger import Ledger
from physiosync.options import StudyOptions
from physiosync.planning import finalist_tasks, new_split, search_space
from physiosync.preparation import Source, prepare, subject_of
from physiosync.progress import StageProgress, log, log_to
from physiosync.recordings.base import Recording
from physiosync.search import SearchPlan, best_value, finished, search
from physiosync.shards import find_shards
from physiosync.splits import Split
from physiosync.storage import open_study, without_password
from physiosync.tasks import BaselineTask, FinalistTask, FinetuneTask, Workload
from physiosync.tuner import ray_session
from physiosync.windows import WindowStore

#: Free bytes below which a disk is taken for full.
_FULL = 1 << 20


class Study:
    """One study in one folder. Any stage can be run again: what is done is not done twice.

    Parameters
    ----------
    options : what the user asked for
    find, read : the reader of the recordings' format
    synthetic : whether the recordings are; said in every table
    """

    def __init__(
        self,
        options: StudyOptions,
        *,
        find: Callable[[Path], Sequence[Source]],
        read: Callable[..., Recording],
        synthetic: bool = False,
    ) -> None:
        self.options, self._find, self._read = options, find, read
        self.folder = options.folder
        self.ledger = Ledger(self.folder)
        # A stage that is run alone, on shards, can't see what the recordings were.
        self.synthetic = synthetic or bool(self.ledger.read().get("identity", {}).get("synthetic"))
        self.interruption = Interruption()

    def run(self) -> None:
        """All stages, in order."""
        if self.options.dry_run:
            self.plan()
            return
        with self.session():
            self.prepare()
            with ray_session():
                self.search()
                self.run_finalists()
                self.promote()
                self.finetune()
            self.report()

    def run_stage(self, name: str) -> None:
        """One stage alone; those before it must be done."""
        stage = {"finalists": self.run_finalists}.get(name) or getattr(self, name)
        with self.session(), ray_session():
            self.check()
            stage()

    def plan(self) -> None:
        """Say what would run and what it would cost; change nothing."""
        o = self.options
        print(forecast(o, self._sources(), self.store if o.shards_folder.is_dir() else None))

    @contextmanager
    def session(self) -> Iterator[None]:
        """Be the only driver, with a log, ready to be interrupted."""
        o = self.options
        log_to(self.folder / "study.log")
        with self.interruption.installed(), only_driver(self.folder, o.name, o.storage_url):
            log.info("results in %s, shards in %s", self.folder, o.shards_folder)
            log.info("trials in %s", without_password(o.storage_url))
            for folder in (self.folder, self.options.shards_folder):
                sweep(folder)
            try:
                yield
            except PhysioSyncError:
                raise
            except Exception as error:
                # Ray meets a full disk in many ways: it also reads back what it could not write.
                if shutil.disk_usage(self.folder).free >= _FULL:
                    raise
                raise StudyError(
                    f"expected room on the disk of {self.folder}, found it full; what is done is "
                    "kept, and the same command goes on after space is made"
                ) from error

    # ---- the stages

    def prepare(self) -> None:
        """Recordings -> one Parquet shard a subject; then check that a study is possible."""
        o, sources = self.options, self._sources()
        self.ledger.check(self._identity())  # before any shard is replaced
        log.info("prepare: %d recordings in %s -> %s", len(sources), o.recordings, o.shards_folder)

        def say(path: Path, done: int, total: int, skipped: bool) -> None:
            if not skipped:
                log.info("  %s written, %d/%d", path.stem, done, total)

        prepare(
            sources,
            self._read,
            o.shards_folder,
            o.preprocessing,
            workers=o.prepare_workers,
            on_subject=say,
        )
        self.check()

    def check(self) -> None:
        """Everything that can be wrong with data or options, before any compute is spent."""
        self.ledger.bind(
            self._identity() | {"data": self.store.identity},
            self.options.without_secrets(),
        )
        split = self.split
        table = self.store.trials
        for sentence in self.store.left_out:
            log.info("  left out: %s", sentence)
        for note in check_feasible(self.options, table, self.store.sfreq, split):
            log.info("  note: %s", note)

    def search(self) -> None:
        """Pretraining trials: Optuna suggests, Ray Tune runs, ASHA stops."""
        o = self.options
        plan = SearchPlan(
            trials=o.trials, base=o.pretraining, grace_epochs=1, reduction=3, seed=o.seed
        )
        done = finished(self.database)
        log.info("search: %d trials of up to %d epochs", o.trials, o.max_epochs)
        if len(done) >= o.trials:
            log.info("  all %d are done", len(done))
            return
        search(
            self.database,
            plan,
            self.workload,
            search_space(o, self.store.trials, self.store.sfreq, self.split),
            results=self.folder,
            resources=o.resources,
            watcher=StageProgress(
                "search",
                total=o.trials,
                done=len(done),
                epochs=o.max_epochs,
                best=best_value(self.database),
            ),
            interruption=self.interruption,
        )

    def run_finalists(self) -> None:
        """The best configurations and the default again, over folds and seeds."""
        self._jobs("finalists", self._finalist_tasks())

    def promote(self) -> None:
        """Rank the finalists by the one-standard-error rule; the first go to best/."""
        tasks = self._finalist_tasks()
        _need([task.output for task in tasks], "finalists")
        scores = outcome.finalist_scores(tasks, default=self.options.pretraining)
        costs = {
            task.config.uid(): promotion.signal_per_step(task.config)
            * (task.config.uid() != self.options.pretraining.uid())
            for task in tasks
        }
        ranking = promotion.one_standard_error(scores, costs)
        winners = ranking.head(self.options.promote)
        outcome.write_best(self.folder, tasks, scores, winners, synthetic=self.synthetic)
        log.info("promote: %d of %d finalists to best/", self.options.promote, len(ranking))
        for rank, (uid, row) in enumerate(winners.iterrows(), 1):
            log.info(
                "  rank-%d: %s, on fresh folds %.3f +- %.3f (0 chance, 1 perfect; %d runs)",
                rank, uid, row["mean"], row["standard_error"], row["runs"],
            )  # fmt: skip

    def finetune(self) -> None:
        """Fine-tuning and baselines on the test part: the only stage that opens it."""
        tasks = self._test_tasks()
        tested = self.workload.tested(max(task.network.long_times for task in tasks))
        for subject in sorted({*self.split.test.subjects} - {*tested}):
            log.info("  left out: %s has no whole trial to be scaled on, or none to test", subject)
        if any(not task.output.exists() for task in tasks):
            n = self.ledger.opened_test(", ".join(sorted({task.method for task in tasks})))
            log.info("the test part is opened (time %d in this study)", n)
        self._jobs("finetune", tasks)
        outcome.compact(self.folder, tasks)

    def report(self) -> None:
        """Tables and figures, from what lies in the folder."""
        _need([task.output for task in self._finalist_tasks()], "finalists")
        _need([self.folder / "predictions.parquet"], "finetune")
        text = outcome.report(
            self.folder,
            database=self.database,
            finalists=self._finalist_tasks(),
            default=self.options.pretraining,
            left_out=self.store.left_out,
            synthetic=self.synthetic,
            storage=self.options.storage_url,
        )
        log.info("%s", text)

    # ---- what the stages share

    def _identity(self) -> dict[str, Any]:
        """All that changes results, as far as it is known without the data."""
        o = self.options
        return o.identity() | {
            "synthetic": self.synthetic,
            # What the code fixes changes results as well as what the user asked for.
            "fixed": {
                "pretraining": o.pretraining.uid(),
                "preprocessing": o.preprocessing.uid(),
                "probe": o.probe.uid(),
                "finetuning": o.finetuning.uid(),
            },
        }

    def _sources(self) -> list[Source]:
        o = self.options
        if o.recordings is None:
            raise StudyError("expected --recordings DIR, found none")
        found = self._find(o.recordings)
        if strangers := set(o.exclude) - {subject_of(source) for source in found}:
            raise StudyError(
                f"--exclude: expected subjects of this study, found {', '.join(sorted(strangers))}"
            )
        return [source for source in found if subject_of(source) not in o.exclude]

    @cached_property
    def store(self) -> WindowStore:
        """The windows of all subjects who take part."""
        o = self.options
        return WindowStore.open(self._shards, ("eeg", *o.pps), o.cache)

    @cached_property
    def _shards(self) -> tuple[Path, ...]:
        o = self.options
        found = find_shards(o.shards_folder)
        return tuple(path.resolve() for path in found if path.stem.lower() not in o.exclude)

    @cached_property
    def split(self) -> Split:
        """The study's one split, made first and saved."""
        path = self.folder / "split.json"
        if not path.exists():
            new_split(self.options, self.store.trials).save(path)
        return Split.load(path)

    @cached_property
    def workload(self) -> Workload:
        """What every worker is told."""
        o = self.options
        return Workload(
            shards=self._shards,
            pps=o.pps,
            split=self.split,
            labels=o.labels,
            probe=o.probe,
            cache=o.cache,
            threads=max(1, int(o.cpus_per_trial)),
        )

    @cached_property
    def database(self) -> optuna.Study:
        """The Optuna study, named like this one."""
        o = self.options
        identity = self.ledger.fingerprint()
        return open_study(o.name, o.storage_url, identity, seed=o.seed, trials=o.trials)

    def _finalist_tasks(self) -> list[FinalistTask]:
        return finalist_tasks(
            self.options,
            self.workload,
            finished(self.database),
            self.folder / "tune" / "encoders",
        )

    def _test_tasks(self) -> list[FinetuneTask | BaselineTask]:
        return outcome.tasks_on_test_part(
            self.folder, self.workload, self.options.finetuning, seed=self.options.seed
        )

    def _jobs(self, stage: str, tasks: Sequence[Task]) -> None:
        missing = sum(not task.output.exists() for task in tasks)
        log.info("%s: %d jobs", stage, len(tasks))
        if not missing:
            log.info("  all %d are done", len(tasks))
            return
        run_jobs(
            tasks,
            stage,
            results=self.folder,
            resources=self.options.resources,
            watcher=StageProgress(stage, total=len(tasks), done=len(tasks) - missing),
            interruption=self.interruption,
        )


def _need(paths: Sequence[Path], stage: str) -> None:
    """See that an earlier stage is done."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise StudyError(
            f"expected the stage {stage!r} to be done, found {len(missing)} of {len(paths)} of its "
            f"results missing ({missing[0].name}); run it first"
        )
