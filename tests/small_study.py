"""A whole study that takes a minute, as a program of its own, so that tests can kill it."""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from physiosync.cli import guarded
from physiosync.folded import study_of
from physiosync.options import StudyOptions
from physiosync.recordings.deap import find_deap, read_deap, write_deap
from physiosync.study import Study

SHAPE = (12, 40, 384 + 60 * 128)


def write_recordings(
    folder: Path, n_subjects: int = 4, shape: tuple[int, int, int] = SHAPE
) -> None:
    """Made-up noise with ratings, in DEAP's format."""
    folder.mkdir(parents=True)
    for i in range(n_subjects):
        rng = np.random.default_rng(i)
        data = rng.standard_normal(shape)
        data[:, 36] = 1e5 * (1 + 0.1 * rng.random(shape[::2]))
        write_deap(folder / f"s{i + 1:02d}.dat", data, rng.uniform(1, 9, (shape[0], 4)))


def options(folder: Path, **changes: object) -> StudyOptions:
    defaults: dict[str, object] = {
        "name": "small",
        "recordings": folder / "recordings",
        "results": folder / "results",
        "shards": folder / "shards",
        "cache": folder / "cache",
        "pps": ("gsr",),
        "trials": 4,
        "max_epochs": 2,
        "epoch_seconds": 300,
        "finalists": 2,
        "finalist_folds": 1,
        "promote": 1,
        "finetune_epochs": 1,
        "prepare_workers": 1,
    }
    return StudyOptions(**(defaults | changes))  # type: ignore[arg-type]


def study(settings: StudyOptions) -> Study:
    return study_of(settings, find=find_deap, read=partial(read_deap, shape=SHAPE), synthetic=True)


if __name__ == "__main__":
    changes: dict[str, object] = {"trials": int(sys.argv[2])}
    for place in sys.argv[3:]:  # such as results=s3://bucket/prefix
        name, _, url = place.partition("=")
        changes[name] = Path(url)
    guarded(study(options(Path(sys.argv[1]), **changes)).run)
