"""The whole study on a small SYNTHETIC cohort, in a few minutes on two cores and without any data.

   make study

Data      8 synthetic people and 40 clips, written as DEAP .dat files and then read as such
Space     the same as for real recordings
Budget    10 trials of up to 4 epochs; ASHA stops most of them early
Promotion 3 finalists (the default among them) on 2 fresh stimulus folds; the best encoder is
          fine-tuned for every synthetic person
Expect    pretrained above from scratch above chance: the cohort is made so that synchrony helps.
          It proves that the machinery works, and nothing about people
"""

from pathlib import Path

import tyro

from physiosync.cli import guarded
from physiosync.folded import study_of
from physiosync.options import StudyOptions
from physiosync.recordings.deap import find_deap, read_deap
from physiosync.recordings.synthetic import CohortConfig, write_cohort

DEFAULTS = StudyOptions(
    name="demo",
    recordings=Path("data/demo/recordings"),
    trials=10,
    max_epochs=4,
    epoch_seconds=2_400,
    finalists=3,
    finalist_folds=2,
    promote=1,
)


def main() -> None:
    options = tyro.cli(StudyOptions, description=__doc__, default=DEFAULTS)
    guarded(lambda: run(options))


def run(options: StudyOptions) -> None:
    """Write the cohort, then do with it what is done with real recordings."""
    study = study_of(options, find=find_deap, read=read_deap, synthetic=True)
    if not options.dry_run:
        assert options.recordings is not None
        write_cohort(CohortConfig(), options.recordings)
    study.run()


if __name__ == "__main__":
    main()
