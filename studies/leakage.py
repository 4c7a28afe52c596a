"""What leakage buys: the papers' split and ours, with the papers' baseline template and without.

   .venv/bin/python studies/leakage.py                     # SYNTHETIC cohorts
   .venv/bin/python studies/leakage.py --noise             # the same, with permuted ratings
   .venv/bin/python studies/leakage.py --recordings data_preprocessed_python --seeds 3

 Data      DEAP's .dat files; or --shards, a folder prepared with the template and one without; else
           synthetic people, others for each seed
 Method    one configuration, no search: pretrain, then a frozen probe and one classifier fine-tuned
           on everybody, beside band power and the majority
 Protocols window: 5 s stretches shuffled, LEAKY; stimulus: whole clips held out. Both are scored on
           the same 5 s stretches
 Expect    with --noise, everything at 0.5 but what leaks
 Takes     eight jobs of some 45 s of processor time with the default; writes the table to
           results/leakage.md or results/leakage_noise.md

`--help` explains every option.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import tyro
from pydantic import Field

from physiosync.cli import guarded
from physiosync.config import CommandLine
from physiosync.errors import StudyError
from physiosync.files import write_text
from physiosync.leakage import LeakageConfig, LeakageJob, jobs_for, run_all, side_by_side
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.deap import find_deap, read_deap
from physiosync.recordings.synthetic import CohortConfig, write_cohort

#: Many short clips: a clip that all share is one observation.
COHORT: dict[str, Any] = {"n_subjects": 6, "n_stimuli": 32, "seconds": 30.0}


class Options(CommandLine):
    """What may be chosen."""

    recordings: Path | None = None
    """Folder of DEAP's .dat files."""
    shards: tuple[Path, ...] = ()
    """Folders of shards instead, such as one prepared with the template and one without."""
    pps: tuple[str, ...] = ("gsr", "resp", "ppg")
    """Peripheral modalities."""
    threshold: float = 5.0
    """A rating at or above it is high."""
    seeds: int = Field(default=2, ge=1)
    """How many, of splits and training, and of synthetic cohorts."""
    noise: bool = False
    """Permute each person's ratings over their trials: whatever is above 0.5 then is invented."""
    workers: int = Field(default=2, ge=1)
    """Processes."""
    out: Path = Path("results")
    """Where the table goes."""


def shards_of(
    recordings: Path, folder: Path, shape: tuple[int, int, int] | None = None
) -> list[Path]:
    """Two folders of shards: with the paper's template subtracted, and without."""
    read = read_deap if shape is None else partial(read_deap, shape=shape)
    folders = []
    for name, config in (
        ("template", PreprocessingConfig(baseline="template")),
        ("without", PreprocessingConfig()),
    ):
        prepare(find_deap(recordings), read, folder / name, config, workers=2)
        folders.append(folder / name)
    return folders


def synthetic_jobs(config: LeakageConfig, seeds: range, folder: Path) -> list[LeakageJob]:
    """Cohorts of their own for each seed."""
    jobs = []
    for seed in seeds:
        cohort = CohortConfig(**COHORT, seed=seed)
        place = folder / f"cohort-{seed}"
        write_cohort(cohort, place / "recordings")
        shape = (cohort.n_stimuli, 40, cohort.n_times)
        shards = shards_of(place / "recordings", place / "shards", shape)
        jobs += jobs_for(config, shards, [seed], place / "cache")
        print(f"SYNTHETIC cohort {seed} prepared", flush=True)
    return jobs


def run(options: Options) -> None:
    if options.recordings is not None and options.shards:
        raise StudyError("expected --recordings or --shards, found both")
    default = LeakageConfig()
    config = LeakageConfig(
        pretraining=default.pretraining.model_copy(update={"pps": options.pps}),
        labels=default.labels.model_copy(update={"threshold": options.threshold}),
        noise=options.noise,
    )
    seeds = range(options.seeds)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.recordings is not None:
            shards = shards_of(options.recordings, folder / "shards")
            jobs, data = jobs_for(config, shards, seeds, folder / "cache"), str(options.recordings)
        elif options.shards:
            jobs = jobs_for(config, options.shards, seeds, folder / "cache")
            data = ", ".join(map(str, options.shards))
        else:
            jobs = synthetic_jobs(config, seeds, folder)
            data = f"SYNTHETIC cohorts of {COHORT['n_subjects']} people"
        done: list[LeakageJob] = []

        def say(job: LeakageJob, rows: pd.DataFrame) -> None:
            done.append(job)
            scores = rows.groupby("method", sort=False)["balanced_accuracy"].mean()
            each = ", ".join(f"{method} {score:.3f}" for method, score in scores.items())
            print(
                f"{len(done)}/{len(jobs)} after {time.monotonic() - began:.0f} s: seed {job.seed}, "
                f"{job.protocol}, {job.shards.name}: {each}",
                flush=True,
            )

        rows = run_all(jobs, workers=options.workers, on_job=say)
    labels = "PERMUTED ratings" if options.noise else "true ratings"
    text = (
        f"{data}, {labels}, {len(seeds)} seeds. Stretches of {config.stretch_seconds} s: balanced "
        "accuracy (standard deviation over seeds), accuracy; chance 0.5.\n\n"
        f"{side_by_side(rows)}\n"
    )
    path = options.out / ("leakage_noise.md" if options.noise else "leakage.md")
    write_text(path, text)
    print(f"\n{text}\n{path}")


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    guarded(lambda: run(options))


if __name__ == "__main__":
    main()
