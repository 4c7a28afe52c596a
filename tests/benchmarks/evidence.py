"""What the evaluation says where the truth is known: of pure noise, and of the standard cohort.

    .venv/bin/python tests/benchmarks/evidence.py     # the same command goes on where it stopped

SYNTHETIC cohorts. Noise: ratings permuted within each person, so there is nothing to find, under
any protocol; 5 cohorts. Standard: as the generator makes it, 24 people and 80 clips; its 24 test
clips and 7 test people find differences of 0.10 (clips alone) and 0.16 (both). Large: 40 people and
120 clips, more than half of them for the test, made when that was seen. Each run pretrains the
default configuration once, keeps the epoch that validation trials choose, and then runs the tasks
of a study on the test part (its splits ignore sites: made-up people have none). Prints tables
and writes them to results/evidence/.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from physiosync.evaluation import pooled_tasks, tasks_on_test_part
from physiosync.files import atomic_path, write_text
from physiosync.finetuning import FinetuningConfig
from physiosync.labels import Labels
from physiosync.predictions import trial_predictions
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.pretraining import PretrainingConfig
from physiosync.probing import ProbeConfig
from physiosync.recordings.base import Recording
from physiosync.recordings.deap import find_deap, read_deap
from physiosync.recordings.synthetic import CohortConfig, write_cohort
from physiosync.shards import find_shards
from physiosync.splits import Split, both_split, stimulus_split, subject_split
from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.comparison import CHANCE, compare
from physiosync.statistics.crossed import crossed_test
from physiosync.statistics.scores import correctness
from physiosync.tables import METHODS, main_table
from physiosync.tasks import BaselineTask, FinalistTask, FinetuneTask, Workload, write_predictions
from physiosync.windows import WindowStore

#: Neither the cohort nor the method was ever tuned on these.
NOISE_SEEDS = (60, 61, 62, 63, 64)
STANDARD_SEED = 70
LARGE_SEED = 71
PROTOCOLS = ("stimulus", "subject", "both")
LABELS = Labels(targets={"arousal": 2, "valence": 2})
#: What learns from labels, and so could invent something.
LEARNERS = ("band_power", "pretrained_probe", "pretrained")
SHOWN = (
    "majority", "clip_consensus", "band_power", "untrained_probe", "scratch", "scratch_pooled",
    "pretrained_probe", "pretrained",
)  # fmt: skip
PAIRS = (
    ("pretrained", "scratch"),
    ("pretrained", "scratch_pooled"),
    ("pretrained_probe", "untrained_probe"),
    ("pretrained", CHANCE),
    ("pretrained_probe", CHANCE),
)


@dataclass(frozen=True)
class Cohort:
    """One made-up cohort, and what is pretrained on it."""

    name: str
    config: CohortConfig
    noise: bool
    pretraining: PretrainingConfig
    validation: float
    """Share of clips, of people, or of each."""
    test: float

    @property
    def seed(self) -> int:
        return self.config.seed


def noise_cohort(seed: int) -> Cohort:
    """Twelve people whose ratings are in random order."""
    config = CohortConfig(n_subjects=12, n_stimuli=40, seconds=30.0, seed=seed)
    short = PretrainingConfig(epochs=2, epoch_seconds=6_000)
    return Cohort(f"noise-{seed}", config, True, short, validation=0.2, test=0.3)


def standard_cohort() -> Cohort:
    """Enough people and clips, pretrained as long as in studies/synthetic_table.py."""
    config = CohortConfig(n_subjects=24, n_stimuli=80, seconds=30.0, seed=STANDARD_SEED)
    full = PretrainingConfig(epochs=6, epoch_seconds=20_000)
    return Cohort("standard", config, False, full, validation=0.1, test=0.3)


def large_cohort() -> Cohort:
    """As the standard one, with as many clips to train on, and many more people and clips to test.

    Of 40 people 22 are tested and of 120 clips 66 (standard: 7 of 24 and 24 of 80).
    """
    config = CohortConfig(n_subjects=40, n_stimuli=120, seconds=30.0, seed=LARGE_SEED)
    return replace(standard_cohort(), name="large", config=config, validation=0.05, test=0.55)


def read(path: Path, *, config: CohortConfig, noise: bool) -> Recording:
    """A recording; with its ratings in random order if they are to be noise."""
    recording = read_deap(path, shape=(config.n_stimuli, 40, config.n_times))
    if not noise:
        return recording
    rng = np.random.default_rng([config.seed, *path.stem.encode()])
    order = rng.permutation(len(recording.trials))
    trials = tuple(
        replace(trial, ratings=recording.trials[k].ratings)
        for trial, k in zip(recording.trials, order, strict=True)
    )
    return replace(recording, trials=trials)


def prepared(cohort: Cohort, data: Path) -> Path:
    """The cohort's shards; its recordings are not kept."""
    shards, recordings = data / cohort.name / "shards", data / cohort.name / "recordings"
    if not (data / cohort.name / "ready").exists():
        write_cohort(cohort.config, recordings)
        reader = partial(read, config=cohort.config, noise=cohort.noise)
        prepare(find_deap(recordings), reader, shards, PreprocessingConfig())
        write_text(data / cohort.name / "ready", "")
        shutil.rmtree(recordings)
    return shards


def new_split(protocol: str, store: WindowStore, cohort: Cohort) -> Split:
    """Of clips, of people, or of both."""
    make: dict[str, Callable[..., Split]] = {
        "stimulus": stimulus_split,
        "subject": subject_split,
        "both": both_split,
    }
    return make[protocol](
        store.trials, validation=cohort.validation, test=cohort.test, seed=cohort.seed
    )


def run(cohort: Cohort, protocol: str, shards: Path, folder: Path) -> pd.DataFrame:
    """Pretrain, fine-tune and compare, as a study of one trial would; the predictions."""
    whole = folder / "predictions.parquet"
    if whole.exists():
        return pd.read_parquet(whole)
    config = cohort.pretraining
    paths = tuple(path.resolve() for path in find_shards(shards))
    cache = shards.parent / "cache"
    store = WindowStore.open(paths, ("eeg", *config.pps), cache)
    split = new_split(protocol, store, cohort)
    workload = Workload(
        shards=paths, pps=config.pps, split=split, labels=LABELS, probe=ProbeConfig(), cache=cache
    )
    best = folder / "best" / "rank-1"
    if not best.exists():
        FinalistTask(
            workload=workload, config=config, split=split, fold=0, seed=cohort.seed, output=best
        ).run()
    # Of noise, only what could invent something is asked.
    rivals = pooled_tasks(folder, workload, FinetuningConfig(), seed=cohort.seed)
    for rival in () if cohort.noise else rivals:
        if not rival.output.exists():
            rival.run()
    tasks = [
        task
        for task in tasks_on_test_part(folder, workload, FinetuningConfig(), seed=cohort.seed)
        if isinstance(task, FinetuneTask | BaselineTask)
        and task.method in (LEARNERS if cohort.noise else SHOWN)
    ]
    for task in tasks:
        if not task.output.exists():
            task.run()
    predictions = pd.concat([pd.read_parquet(task.output) for task in tasks], ignore_index=True)
    write_predictions(whole, predictions)
    return predictions


def noise_table(results: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Scores of noise: over all cohorts together, and how many single intervals hold 0.5.

    Parameters
    ----------
    results : "protocol/cohort" -> predictions
    """
    rows = []
    for protocol in PROTOCOLS:
        for method in LEARNERS:
            for target in LABELS.targets:
                each = [
                    _scores(table, method, target)
                    for key, table in results.items()
                    if key.startswith(f"{protocol}/noise-")
                ]
                # Cohorts share neither people nor clips.
                together = pd.concat(
                    [
                        table.assign(
                            subject=table["subject"] + f"/{k}", stimulus=table["stimulus"] + f"/{k}"
                        )
                        for k, table in enumerate(each)
                    ],
                    ignore_index=True,
                )
                low, high = two_way_interval(together)
                intervals = [two_way_interval(table) for table in each]
                tests = [crossed_test(table, null=0.5) for table in each]
                rows.append(
                    {
                        "protocol": protocol,
                        "method": method,
                        "target": target,
                        "score": crossed_test(together).difference,
                        "low": low,
                        "high": high,
                        "holds": sum(lo <= 0.5 <= hi for lo, hi in intervals),
                        "cohorts": len(each),
                        "rejected": sum(test.p < 0.05 for test in tests),
                    }
                )
    return pd.DataFrame(rows)


def _scores(predictions: pd.DataFrame, method: str, target: str) -> pd.DataFrame:
    mine = (predictions["method"] == method) & (predictions["target"] == target)
    return correctness([trial_predictions(predictions[mine])])


def noise_text(table: pd.DataFrame) -> str:
    """As Markdown."""
    lines = [
        "| protocol | method | target | balanced accuracy [95 %], all cohorts | "
        "intervals of single cohorts with 0.5 | p < 0.05 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['protocol']} | {METHODS[row['method']]} | {row['target']} | {row['score']:.3f} "
        f"[{row['low']:.3f}, {row['high']:.3f}] | {row['holds']} of {row['cohorts']} | "
        f"{row['rejected']} |"
        for row in table.to_dict("records")
    ]
    holds, of = int(table["holds"].sum()), int(table["cohorts"].sum())
    together = int(((table["low"] <= 0.5) & (table["high"] >= 0.5)).sum())
    lines += [
        "",
        f"{together} of {len(table)} intervals over all cohorts and {holds} of {of} of single ones "
        f"hold 0.5; the primary test rejects {int(table['rejected'].sum())} of {of} at 0.05.",
    ]
    return "\n".join(lines) + "\n"


def true_text(results: dict[str, pd.DataFrame], name: str) -> str:
    """Scores under the three protocols side by side, and the comparisons, as Markdown.

    Parameters
    ----------
    results : "protocol/cohort" -> predictions
    name : of the cohort
    """
    tables = {
        protocol: main_table(results[f"{protocol}/{name}"]).set_index(["target", "method"])
        for protocol in PROTOCOLS
    }
    lines = ["| target | method | " + " | ".join(PROTOCOLS) + " |", "|---" * 5 + "|"]
    for target in LABELS.targets:
        for method in SHOWN:
            cells = []
            for table in tables.values():
                if (target, method) not in table.index:
                    cells.append("")
                    continue
                row = table.loc[(target, method)]
                cells.append(
                    f"{row['balanced_accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
                )
            if any(cells):
                lines.append(f"| {target} | {METHODS[method]} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| protocol | target | comparison | difference [95 %] | p (Holm) | detectable |",
        "|---|---|---|---|---|---|",
    ]
    for protocol in PROTOCOLS:
        for row in compare(results[f"{protocol}/{name}"], PAIRS).to_dict("records"):
            reference = METHODS.get(row["reference"], row["reference"])
            lines.append(
                f"| {protocol} | {row['target']} | {METHODS[row['method']]} less {reference} | "
                f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] | "
                f"{row['p_holm']:.2g} | {row['minimal_detectable']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def main(only: tuple[str, ...] = (), folder: Path = Path("results/evidence")) -> None:
    """Run what is missing, then print.

    Parameters
    ----------
    only : cohorts, such as standard, large or noise-60; default all
    folder : of the results
    """
    cohorts = [*map(noise_cohort, NOISE_SEEDS), standard_cohort(), large_cohort()]
    cohorts = [cohort for cohort in cohorts if not only or cohort.name in only]
    data = Path("data/evidence")
    # The longest first, so that no process is left with one at the end.
    jobs = [
        (cohort, protocol, prepared(cohort, data), folder / cohort.name / protocol)
        for cohort in reversed(cohorts)
        for protocol in PROTOCOLS
    ]
    results = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        predicted = pool.map(run, *zip(*jobs, strict=True))
        for done, ((cohort, protocol, *_), predictions) in enumerate(
            zip(jobs, predicted, strict=True), 1
        ):
            results[f"{protocol}/{cohort.name}"] = predictions
            print(f"{done}/{len(jobs)} {cohort.name}, protocol {protocol}", flush=True)
    text = ""
    if any(cohort.noise for cohort in cohorts):
        table = noise_table(results)
        with atomic_path(folder / "noise.parquet") as part:
            table.to_parquet(part, index=False)
        text += "SYNTHETIC cohorts, ratings permuted within people\n\n" + noise_text(table)
    for cohort in cohorts:
        if not cohort.noise:
            people, clips = cohort.config.n_subjects, cohort.config.n_stimuli
            text += f"\nSYNTHETIC {cohort.name} cohort, {people} people and {clips} clips\n\n"
            text += true_text(results, cohort.name)
    write_text(folder / "evidence.md", text)
    print("\n" + text)


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
