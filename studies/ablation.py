"""What each part of the method carries: LS-TCL, CM-CA, pairs, lags, augmentation, windows, ...

   python studies/ablation.py                              # a SYNTHETIC cohort
   python studies/ablation.py --shards shards --split results/deap/split.json

 Data      12 synthetic people and 120 clips of 30 s; or shards of yours
 Variants  the default configuration with one thing changed each, beside two controls (shuffled
           pairs, no pretraining); all see the same seconds of signal, on the same clips and seeds
 Judged by a frozen linear probe on whole trials of clips that were held out, fold by fold. The test
           part of the split stays closed, and nothing is chosen on the clips that judge
 Takes     a quarter of an hour on two idle cores; the same command goes on where it was stopped.
           Runs as jobs of Ray, so on a cluster it takes all of it
 Writes    results/ablation/{table.md, ablation.png, runs.parquet}

`--help` explains every option.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import pandas as pd
import tyro
from pydantic import Field

from physiosync.ablation import AblationTask, chosen, infeasible
from physiosync.ablation_report import draw, markdown, summary
from physiosync.cli import guarded
from physiosync.config import CommandLine
from physiosync.driving import only_driver
from physiosync.errors import StudyError
from physiosync.files import sweep, write_text
from physiosync.interruption import Interruption
from physiosync.jobs import run_jobs
from physiosync.labels import Labels
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.pretraining import PretrainingConfig
from physiosync.probing import ProbeConfig
from physiosync.progress import StageProgress, log, log_to
from physiosync.recordings.deap import find_deap, read_deap
from physiosync.recordings.synthetic import CohortConfig, write_cohort
from physiosync.shards import find_shards
from physiosync.splits import Split, folds, stimulus_split
from physiosync.storage import default_storage
from physiosync.tasks import Workload, write_predictions
from physiosync.tuner import Resources, ray_session
from physiosync.windows import WindowStore
from physiosync.wording import counted

#: Many short clips, for a clip that all share is one observation; a seed that nothing was tuned on.
COHORT = CohortConfig(n_subjects=12, n_stimuli=120, seconds=30.0, seed=50)


class Options(CommandLine):
    """One ablation. The same command resumes it."""

    shards: Path | None = None
    """Folder of Parquet shards; default: a SYNTHETIC cohort, made in data/NAME."""
    split: Path | None = None
    """split.json of a study, whose test part then stays closed; default: a new one by stimulus."""
    name: str = Field(default="ablation", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Results go to RESULTS/NAME."""
    results: Path = Path("results")
    """Where studies lie."""
    variants: tuple[str, ...] = ()
    """Names of some variants; default all. The default configuration is always run."""
    folds: int = Field(default=2, ge=1)
    """Held-out sets of clips; each is predicted by runs that never saw it, with a seed of their
    own."""
    seeds: int = Field(default=1, ge=1)
    """Runs of each variant on each fold."""
    validation_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of the stimuli that a fold holds out; not used with --split."""
    test_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the stimuli that stay closed; not used with --split."""
    seconds: float = Field(default=24_000.0, gt=0)
    """Signal that a run sees, in seconds, summed over subjects."""
    pps: tuple[str, ...] = ("gsr", "resp", "ppg")
    """Peripheral modalities to pair with the EEG."""
    threshold: float = 5.0
    """A rating at or above it is high."""
    seed: int = Field(default=0, ge=0)
    """Of the split, the folds and all training."""
    cpus_per_trial: float = Field(default=1.0, gt=0)
    """CPUs (and threads) of a run."""
    gpus_per_trial: float = Field(default=0.0, ge=0)
    """GPUs of a run; 0.25 puts four on one."""
    cache: Path | None = None
    """Folder of the memory-mapped windows; default ~/.cache/physiosync/windows."""

    @property
    def folder(self) -> Path:
        """Of the results."""
        return (self.results / self.name).resolve()

    @property
    def base(self) -> PretrainingConfig:
        """The default configuration, with this budget."""
        return PretrainingConfig(pps=self.pps, epochs=1, epoch_seconds=self.seconds)


def run(options: Options) -> None:
    """Shards, jobs, table and figure."""
    interruption = Interruption()
    log_to(options.folder / "ablation.log")
    storage = default_storage(options.folder)
    with interruption.installed(), only_driver(options.folder, options.name, storage):
        sweep(options.folder)
        folder = options.shards or _synthetic_shards(options.name)
        shards = tuple(path.resolve() for path in find_shards(folder))
        store = WindowStore.open(shards, ("eeg", *options.pps), options.cache)
        tasks, left_out = planned(options, shards, store)
        for sentence in left_out:
            log.info("  left out: %s", sentence)
        done = sum(task.output.exists() for task in tasks)
        log.info("%d runs in %s, %d done before", len(tasks), options.folder, done)
        with ray_session():
            run_jobs(
                tasks,
                "ablation",
                results=options.folder,
                resources=Resources(
                    cpus_per_trial=options.cpus_per_trial, gpus_per_trial=options.gpus_per_trial
                ),
                watcher=StageProgress("ablation", total=len(tasks), done=done),
                interruption=interruption,
            )
        report(options, tasks, store, left_out)


def _synthetic_shards(name: str) -> Path:
    folder = Path("data") / name
    log.info("no --shards: a SYNTHETIC cohort of %d people in %s", COHORT.n_subjects, folder)
    write_cohort(COHORT, folder / "recordings")
    read = partial(read_deap, shape=(COHORT.n_stimuli, 40, COHORT.n_times))
    sources = find_deap(folder / "recordings")
    prepare(sources, read, folder / "shards", PreprocessingConfig())
    return folder / "shards"


def planned(
    options: Options, shards: tuple[Path, ...], store: WindowStore
) -> tuple[list[AblationTask], list[str]]:
    """A task for each variant, fold and seed; and which variants can't be run, in sentences."""
    if options.split is not None:
        split = Split.load(options.split)
        if split.stretch_seconds is not None:
            raise StudyError(
                f"--split {options.split}: expected whole trials, found stretches (protocol window)"
            )
    else:
        split = stimulus_split(
            store.trials,
            validation=options.validation_share,
            test=options.test_share,
            seed=options.seed,
        )
    splits = folds(split, seed=options.seed)
    if len(splits) < options.folds:
        raise StudyError(f"--folds: expected at most {len(splits)}, found {options.folds}")
    labels = Labels(targets={"arousal": 2, "valence": 2}, threshold=options.threshold)
    workload = Workload(
        shards=shards,
        pps=options.pps,
        split=split,
        labels=labels,
        probe=ProbeConfig(),
        cache=options.cache,
        threads=max(1, int(options.cpus_per_trial)),
    )
    judged = [store.identity, labels.uid(), workload.probe.uid()]
    data = hashlib.sha256(json.dumps(judged).encode()).hexdigest()
    tasks, left_out = [], []
    for variant in chosen(options.variants):
        if reason := infeasible(variant, options.base, store, splits[: options.folds]):
            left_out.append(f"{variant.words}: {reason}")
            continue
        for fold, part in enumerate(splits[: options.folds]):
            for repeat in range(options.seeds):
                task = AblationTask(
                    workload=workload,
                    data=data,
                    variant=variant.name,
                    config=variant.config(options.base),
                    roles=variant.roles,
                    trained=variant.trained,
                    split=part,
                    fold=fold,
                    repeat=repeat,
                    # Every fold has a seed of its own, and every variant the same ones.
                    seed=options.seed + 1000 * repeat + fold,
                    output=Path(),
                )
                name = f"{variant.name}-fold-{fold}-seed-{repeat}-{task.uid()}.parquet"
                output = options.folder / "runs" / name
                tasks.append(task.model_copy(update={"output": output}))
    return tasks, left_out


def report(
    options: Options, tasks: list[AblationTask], store: WindowStore, left_out: list[str]
) -> None:
    """Write the table, the figure and all predictions."""
    predictions = pd.concat([pd.read_parquet(task.output) for task in tasks], ignore_index=True)
    table = summary(predictions)
    n_clips = predictions["stimulus"].nunique()
    kind = "SYNTHETIC cohort" if options.shards is None else str(options.shards)
    what = (
        f"{kind}, protocol {tasks[0].split.protocol}: {len(store.subjects)} people, {n_clips} "
        f"held-out clips in {options.folds} folds, {counted(options.seeds, 'run')} on each, "
        f"{options.seconds:g} s of signal a run"
    )
    heading = (
        f"{what}. Balanced accuracy of held-out trials by a frozen linear probe, mean of arousal "
        "and valence; chance 0.5. Intervals resample people and clips."
    )
    text = markdown(table, heading) + "".join(f"\nLeft out: {why}.\n" for why in left_out)
    write_text(options.folder / "table.md", text)
    draw(table, options.folder / "ablation.png", what.replace(": ", "\n", 1))
    write_predictions(options.folder / "runs.parquet", predictions)
    log.info("%s", text)
    log.info("table, figure and runs in %s", options.folder)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    guarded(lambda: run(options))


if __name__ == "__main__":
    main()
