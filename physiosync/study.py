"""The whole flow on one page: recordings, shards, search, finalists, best/, fine-tuning, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import optuna

from physiosync import outcome, promotion
from physiosync.audit.run import audit_encoders, audit_once, demand_passed
from physiosync.best import promoted, write_best
from physiosync.controls import control_tasks, trained
from physiosync.errors import StudyError
from physiosync.evaluation import TestTask, absent_methods, pooled_tasks, tasks_on_test_part
from physiosync.feasibility import check_feasible
from physiosync.forecast import forecast
from physiosync.further_tasks import PooledTask
from physiosync.interruption import Interruption
from physiosync.jobs import Task, run_jobs
from physiosync.ledger import Ledger
from physiosync.mirror import Mirror
from physiosync.options import StudyOptions
from physiosync.planning import finalist_tasks, new_split, search_space
from physiosync.preparation import Source, prepare
from physiosync.progress import Uploading, log
from physiosync.recordings.base import Recording
from physiosync.remote import url_of
from physiosync.search import SearchPlan, best_value, finished, search
from physiosync.session import driver_session
from physiosync.splits import Split
from physiosync.storage import open_study
from physiosync.study_data import StudyData
from physiosync.tasks import FinalistTask, Workload
from physiosync.tuner import ray_session
from physiosync.windows import WindowStore
from physiosync.wording import all_done, counted

AnyStudy = TypeVar("AnyStudy", bound="Study")


def mirrored(stage: Callable[[AnyStudy], None]) -> Callable[[AnyStudy], None]:
    """Have an object store hold what a stage wrote before the next begins."""

    @wraps(stage)
    def run(study: AnyStudy) -> None:
        stage(study)
        study.mirror.push()

    return run


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
        self.options, self.read = options, read
        self.data = StudyData(options, find)
        self.folder = options.folder
        self.ledger = Ledger(self.folder)
        self.mirror = Mirror(folder=self.folder, url=options.results_url)
        self._said_synthetic = synthetic
        self.interruption = Interruption()

    def run(self) -> None:
        """All stages, in order."""
        if self.options.dry_run:
            self.plan()
            return
        with self.session():
            self.prepare()
            with ray_session():
                self.compute()
            self.report()

    def compute(self) -> None:
        """From the search to the test part."""
        self.search()
        self.run_finalists()
        self.promote()
        self.controls()
        self.finetune()

    def run_stage(self, name: str) -> None:
        """One stage alone; those before it must be done."""
        if name != "search" and self.mirror.url is None and not self.ledger.read():
            begun = sorted(path.parent.name for path in self.folder.parent.glob("*/study.json"))
            raise StudyError(
                f"expected a study {self.options.name!r} in {self.folder.parent}, found "
                + (", ".join(begun) or "none")
            )
        stage = {"finalists": self.run_finalists}.get(name) or getattr(self, name)
        with self.session(), ray_session():
            self.check()
            stage()

    def plan(self) -> None:
        """Say what would run and what it would cost; change nothing."""
        o = self.options
        has_shards = self.data.has_shards()
        sources = [] if o.recordings is None and has_shards else self.data.sources()
        # Shards that only some recordings have become yet say nothing of what is possible.
        whole = has_shards and len(sources) in (0, len(self.store.subjects))
        notes = self.notes() if whole else []
        print(forecast(o, sources, self.store if has_shards else None))
        for note in notes:
            print(f"  note         {note}")

    def session(self) -> AbstractContextManager[None]:
        """Be the only driver, with a log, ready to be interrupted."""
        return driver_session(self.options, self.mirrors, self.data.shards_url, self.interruption)

    # ---- the stages

    @mirrored
    def prepare(self) -> None:
        """Recordings -> one Parquet shard a subject; then check that a study is possible.

        Without recordings, shards that are there are taken as they are.
        """
        o = self.options
        if o.recordings is None and self.data.has_shards():
            log.info("prepare: no --recordings, so the shards are taken as they are")
            self.check()
            return
        sources = self.data.sources()
        self.ledger.check(self._identity())  # before any shard is replaced
        log.info(
            "prepare: %d recordings in %s -> %s",
            len(sources), o.recordings, url_of(o.shards_folder),
        )  # fmt: skip

        def say(path: Path, done: int, total: int, skipped: bool) -> None:
            if not skipped:
                log.info("  %s written, %d/%d", path.stem, done, total)

        prepare(
            sources,
            self.read,
            o.shards_folder,
            o.preprocessing,
            workers=o.prepare_workers,
            on_subject=say,
        )
        self.check()

    @mirrored
    def check(self) -> None:
        """Everything that can be wrong with data or options, before any compute is spent."""
        self.ledger.check(self.identity())
        self.data.check_preset()
        notes = self.notes()  # Nothing of a study that is not possible is written.
        self.bind()
        for sentence in self.store.left_out:
            log.info("  left out: %s", sentence)
        for note in notes:
            log.info("  note: %s", note)
        self.audit()

    def notes(self) -> list[str]:
        """What is worth knowing before compute is spent; raises if the study is not possible."""
        return check_feasible(self.options, self.store.trials, self.store.sfreq, self.split)

    def bind(self) -> None:
        """Write down what the study is, and its split."""
        self.ledger.bind(self.identity(), self.options.without_secrets())
        if not (path := self.folder / "split.json").exists():
            self.split.save(path)

    def audit(self) -> None:
        """Prove the split, or stop."""
        path = self.folder / "split.json"
        audited = audit_once(self.data.recorded, path, self.folder / "audit.json")
        for line in audited.lines()[: 1 if audited.passed else None]:
            log.info("  %s", line)
        demand_passed(audited, path)

    @mirrored
    def search(self) -> None:
        """Pretraining trials: Optuna suggests, Ray Tune runs, ASHA stops."""
        o = self.options
        plan = SearchPlan(
            trials=o.trials, base=o.pretraining, grace_epochs=1, reduction=3, seed=o.seed
        )
        done = finished(self.database)
        epochs = counted(o.max_epochs, "epoch")
        log.info("search: %s of up to %s", counted(o.trials, "trial"), epochs)
        if len(done) >= o.trials:
            log.info("  %s", all_done(len(done)))
            return
        search(
            self.database,
            plan,
            self.workload,
            search_space(o, self.store.trials, self.store.sfreq, self.split),
            results=self.folder,
            resources=o.resources,
            watcher=Uploading(
                partial(self.mirror.push, patient=False),
                "search",
                total=o.trials,
                done=len(done),
                epochs=o.max_epochs,
                best=best_value(self.database),
            ),
            interruption=self.interruption,
        )

    @mirrored
    def run_finalists(self) -> None:
        """The best configurations and the default again, over folds and seeds."""
        self._jobs("finalists", self._finalist_tasks())

    @mirrored
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
        write_best(self.folder, tasks, scores, winners, synthetic=self.synthetic)
        log.info("promote: %d of %d finalists to best/", len(winners), len(ranking))
        for rank, (uid, row) in enumerate(winners.iterrows(), 1):
            log.info(
                "  rank-%d: %s, on fresh folds %s; 0 chance, 1 perfect",
                rank, uid, promotion.result_in_words(row),
            )  # fmt: skip
        self._audit_encoders(promoted(self.folder))

    @mirrored
    def controls(self) -> None:
        """What stands beside the winner: the same without what its method claims to live on, and
        its network trained on everyone's labels."""
        tasks: list[Task] = [*self._control_tasks()[0].values(), *self._pooled_tasks()]
        if tasks:
            self._jobs("controls", tasks)

    @mirrored
    def finetune(self) -> None:
        """Fine-tuning and baselines on the test part: the only stage that opens it."""
        pooled = [task.output for task in self._pooled_tasks()]
        controls = [task.output for task in self._control_tasks()[0].values()]
        _need([*controls, *pooled], "controls")
        used = self._control_encoders()[0].values()
        self._audit_encoders([*promoted(self.folder), *used, *pooled])
        tasks = self._test_tasks()
        for sentence in self.absent():
            log.info("  left out: %s", sentence)
        tested = self.workload.tested(max(task.network.long_times for task in tasks))
        for subject in sorted({*self.split.test.subjects} - {*tested}):
            log.info("  left out: %s has no whole trial to be scaled on, or none to test", subject)
        if any(not task.output.exists() for task in tasks):
            methods = ", ".join(sorted({task.method for task in tasks}))
            n = self.ledger.opened_test(methods, trials=len(finished(self.database)))
            self.mirror.push()  # whatever happens now, it was opened
            log.info("the test part is opened (time %d in this study)", n)
        self._jobs("finetune", tasks)
        outcome.compact(self.folder, tasks)

    @mirrored
    def report(self) -> None:
        """Tables and figures, from what lies in the folder."""
        log.info("%s", self.write_report())

    def write_report(self) -> str:
        """Write report.html; returns the main table and where everything lies, as text."""
        _need([task.output for task in self._finalist_tasks()], "finalists")
        _need([self.folder / "predictions.parquet"], "finetune")
        return outcome.report(
            self.folder,
            database=self.database,
            finalists=self._finalist_tasks(),
            default=self.options.pretraining,
            labels=self.options.labels,
            finetuning=self.options.finetuning,
            left_out=[*self.store.left_out, *self.absent()],
            synthetic=self.synthetic,
            storage=self.options.storage_url,
            where=self.mirror.url_of(self.folder),
        )

    # ---- what the stages share

    @property
    def mirrors(self) -> list[Mirror]:
        """Of all folders that the study writes to."""
        return [self.mirror]

    @cached_property
    def synthetic(self) -> bool:
        """Whether the recordings are; a stage that is run alone, on shards, can't see them."""
        known = self.ledger.read().get("identity", {})
        return self._said_synthetic or bool(known.get("synthetic"))

    def identity(self) -> dict[str, Any]:
        """All that changes results."""
        store = self.store
        return self._identity() | {"dataset": store.dataset, "data": store.identity}

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

    @property
    def store(self) -> WindowStore:
        """The windows of all subjects who take part."""
        return self.data.store

    @cached_property
    def split(self) -> Split:
        """The study's one split, made first."""
        path = self.folder / "split.json"
        return Split.load(path) if path.exists() else self.new_split()

    def new_split(self) -> Split:
        """The split of a study that has none yet."""
        return new_split(self.options, self.store.trials, self.store.sites)

    @cached_property
    def workload(self) -> Workload:
        """What every worker is told."""
        o = self.options
        return Workload(
            shards=self.data.shards,
            pps=o.pps,
            split=self.split,
            labels=o.labels,
            probe=o.probe,
            cache=o.cache,
            threads=max(1, int(o.cpus_per_trial)),
            copies=self.data.copies,
            mirror=self.mirror if self.mirror.url else None,
        )

    @cached_property
    def database(self) -> optuna.Study:
        """The Optuna study of this one."""
        o = self.options
        identity = self.ledger.fingerprint()
        return open_study(o.database_name, o.storage_url, identity, seed=o.seed, trials=o.trials)

    def _finalist_tasks(self) -> list[FinalistTask]:
        return finalist_tasks(
            self.options,
            self.workload,
            finished(self.database),
            self.folder / "tune" / "encoders",
        )

    def _control_tasks(self) -> tuple[dict[str, FinalistTask], list[str]]:
        if not self.options.controls:
            return {}, ["no control encoders, by --no-controls"]
        return control_tasks(self.folder, self.workload, seed=self.options.seed)

    def _pooled_tasks(self) -> list[PooledTask]:
        o = self.options
        return pooled_tasks(self.folder, self.workload, o.finetuning, seed=o.seed)

    def _control_encoders(self) -> tuple[dict[str, Path], list[str]]:
        """Method -> the encoder that it judges; and why others are not there, in sentences."""
        return trained(*self._control_tasks())

    def absent(self) -> list[str]:
        """Why methods have no row in the tables, in sentences."""
        return absent_methods(self.folder, self.workload) + self._control_encoders()[1]

    def _test_tasks(self) -> list[TestTask]:
        return tasks_on_test_part(
            self.folder,
            self.workload,
            self.options.finetuning,
            seed=self.options.seed,
            pooled=self.options.pooled,
            controls=self._control_encoders()[0],
        )

    def _audit_encoders(self, encoders: Sequence[Path]) -> None:
        """See that none has met what the test part holds out."""
        path = self.folder / "split.json"
        audited = audit_encoders(self.data.recorded, path, self.folder / "audit.json", encoders)
        demand_passed(audited, path)

    def _jobs(self, stage: str, tasks: Sequence[Task]) -> None:
        missing = sum(not task.output.exists() for task in tasks)
        log.info("%s: %s", stage, counted(len(tasks), "job"))
        if not missing:
            log.info("  %s", all_done(len(tasks)))
            return
        run_jobs(
            tasks,
            stage,
            results=self.folder,
            resources=self.options.resources,
            watcher=Uploading(
                partial(self.mirror.push, patient=False),
                stage,
                total=len(tasks),
                done=len(tasks) - missing,
            ),
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
