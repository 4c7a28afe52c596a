"""DEAP: 32 people, 40 one-minute music videos, EEG with peripheral signals.

    .venv/bin/python studies/deap.py --recordings data_preprocessed_python

 Data      data_preprocessed_python/s01.dat ... s32.dat, from the DEAP authors after their agreement
 Space     temperature, window lengths, loss weights, lags, augmentation, batch, learning rate
 Budget    64 trials of up to 27 epochs of 40,000 s of signal; ASHA stops most of them early
 Promotion 4 finalists (the default among them) on 3 fresh stimulus folds; the best 2 encoders are
           fine-tuned for every person and tested on 8 videos that nobody's training has seen
 Expect    nothing of what papers with shuffled windows report; see the majority row beside yours

    .venv/bin/python studies/deap.py --preset paper --protocol window --pooled --name deap-paper

is the paper's own configuration, LEAKY as it is: `physiosync/paper.py` says what it fixes and where
this differs; `--preset paper --help` shows its numbers. `studies/leakage.py` measures what it buys.

`--help` explains every option, `--dry-run` says what it will cost on this machine. The same command
resumes; a larger --trials adds trials.
"""

import sys

import tyro

from physiosync.cli import guarded
from physiosync.folded import study_of
from physiosync.options import StudyOptions, default_options
from physiosync.recordings.deap import find_deap, read_deap


def main() -> None:
    default = default_options(sys.argv[1:], name="deap")
    options = tyro.cli(StudyOptions, description=__doc__, default=default)
    guarded(lambda: study_of(options, find=find_deap, read=read_deap).run())


if __name__ == "__main__":
    main()
