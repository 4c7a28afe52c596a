"""DREAMER: 23 people, 18 film clips, EEG with ECG.

    .venv/bin/python studies/dreamer.py --recordings DREAMER.mat

 Data      DREAMER.mat, from Zenodo (record 546113) after its authors' agreement; the last 60 s of
           each clip. Reading it takes half a minute and about 2.5 GB of memory
 Space     temperature, window lengths, loss weights, lags, augmentation, batch, learning rate
 Budget    64 trials of up to 27 epochs of 40,000 s of signal; ASHA stops most of them early
 Promotion 4 finalists (the default among them) on 3 fresh stimulus folds; the best 2 encoders are
           fine-tuned for every person and tested on clips that nobody's training has seen
 Expect    nothing of what papers with shuffled windows report. Ratings are whole numbers, 1 to 5,
           and 3 counts as high, so arousal is high in about 7 of 10 trials: see the majority row

`--help` explains every option, `--dry-run` says what it will cost on this machine. The same command
resumes; a larger --trials adds trials.
"""

import tyro

from physiosync.cli import guarded
from physiosync.folded import study_of
from physiosync.options import StudyOptions
from physiosync.recordings.dreamer import find_dreamer, read_dreamer

#: One process reads, because each would parse the whole file.
DEFAULT = StudyOptions(name="dreamer", pps=("ecg",), threshold=3.0, prepare_workers=1)


def main() -> None:
    options = tyro.cli(StudyOptions, description=__doc__, default=DEFAULT)
    guarded(lambda: study_of(options, find=find_dreamer, read=read_dreamer).run())


if __name__ == "__main__":
    main()
