"""Synthetic cohorts in DEAP's form, with a known ground truth.

People watch the same clips; each clip has courses of valence and arousal (`synthetic_truth.py`).
This file turns them into what an EEG cap and a few peripheral sensors would record:

* evoked waveforms of four sources, in bursts that all subjects share; a pair stands for each of
  valence and arousal, and momentary affect makes one of the two larger and the other smaller;
* the same of four other sources, blinks and muscle, which say nothing of the ratings;
* rhythms of random phase in the same band, whose power differs between trials, and follows affect
  (weakly), the clip, and each subject's own disagreement with the others; 1/f background; gains
  that drift over the session;
* GSR, respiration, pulse, temperature, EOG and EMG, driven by events of the same affect after
  delays.

Every subject sees the sources through topographies, a gain and a lag of their own. The lags differ
by a quarter of a period at 6 Hz, so what people share is the course of a source's size more than
the phase of its waves: an encoder has to find sources, not to memorise waveforms. Rhythms lie in
the sources' band and outdo them at every electrode, so power as such says little; the background is
nearly white in space and weak, so a filter over all electrodes that follows what people share, and
nothing else, takes them apart, and can be learned in a minute.

Aims for the constants: a correlation between subjects of 0.01-0.05 per EEG channel; band power and
a linear classifier at 0.55-0.65 balanced accuracy on new clips; an oracle at 0.75-0.85; and that an
encoder which learns what people share makes clip affect linearly readable on new clips. They were
chosen by trying some sixty variants with pretraining runs of a minute on seeds 0 to 3, together
with the patch encoder's spatial filters and the default augmentation, temperature and group size,
and frozen then; so the cohort is not independent of the method, and its scores prove machinery, not
merit. The second aim is missed: band power reads affect at 0.7 to 0.75, for a source's power is
where affect shows, and a linear classifier over 32 electrodes subtracts rhythms too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from physiosync.errors import RecordingError
from physiosync.files import atomic_path, write_text
from physiosync.recordings.synthetic_config import CohortConfig
from physiosync.recordings.synthetic_eeg import EEG_NAMES, record_eeg
from physiosync.recordings.synthetic_kernels import blink_course
from physiosync.recordings.synthetic_pps import PPS_NAMES, record_pps
from physiosync.recordings.synthetic_truth import (
    felt_latents,
    oracle_ceiling,
    ratings,
    subject_stream,
    truth,
)

__all__ = [
    "EEG_NAMES",
    "PPS_NAMES",
    "CohortConfig",
    "inter_subject_correlation",
    "oracle_ceiling",
    "subject_name",
    "synthesize",
    "synthesize_subject",
    "truth",
    "write_cohort",
]

#: Beside the recordings of a synthetic cohort.
COHORT_FILE = "cohort.json"
#: Written into it; changes whenever the same config would give other signals.
MODEL = 4


def subject_name(index: int) -> str:
    """ "s01" for index 0, as DEAP's files are named."""
    return f"s{index + 1:02d}"


def synthesize(
    config: CohortConfig,
) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Give (name, data, labels) of one subject after another; see `synthesize_subject`."""
    for index in range(config.n_subjects):
        yield (subject_name(index), *synthesize_subject(config, index))


def synthesize_subject(
    config: CohortConfig, index: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Record one synthetic subject.

    Parameters
    ----------
    index : from 0; the same subject comes out whatever else was made before, however large the
        cohort is

    Returns
    -------
    data : (n_stimuli, 40, n_times) at 128 Hz, rest included; EEG, EOG and EMG in uV, GSR in Ohm,
        temperature in degrees Celsius, respiration and pulse in arbitrary units
    labels : (n_stimuli, 4) ratings of valence, arousal, dominance and liking, 1 to 9

    Raises
    ------
    ValueError
        If `index` is not one of the cohort's.
    """
    if not 0 <= index < config.n_subjects:
        raise ValueError(f"index must be in 0..{config.n_subjects - 1}, but got {index}")
    labels, personal = ratings(config, index)
    data = np.empty((config.n_stimuli, 40, config.n_times))
    eeg_latents = felt_latents(config, index, 0)
    # Both eyes and the frontal EEG see the same blinks.
    blinks = blink_course(config, eeg_latents, subject_stream(config, index, 2))
    data[:, :32] = record_eeg(config, index, eeg_latents, personal, blinks)
    data[:, 32:] = record_pps(config, index, felt_latents(config, index, 1), blinks)
    return data, labels


# ----------------------------------------------------------------------------------- diagnostics


def inter_subject_correlation(eeg: NDArray[np.floating]) -> float:
    """Mean over channels of the mean correlation between pairs of subjects, same stimulus.

    Parameters
    ----------
    eeg : (n_subjects, n_stimuli, n_chans, n_times), stimulus part only, band-passed 4-45 Hz
    """
    n = len(eeg)
    if n < 2:
        raise ValueError(f"a correlation between subjects needs two of them, but got {n}")
    z = eeg - eeg.mean(axis=-1, keepdims=True)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    # The sum over all pairs, each twice, is what the squared sum has beside n ones.
    pairs = (z.sum(axis=0) ** 2).sum(axis=-1) - n
    return float(pairs.mean() / (n * (n - 1)))


# --------------------------------------------------------------------------------------- writing


def write_cohort(
    config: CohortConfig,
    folder: Path,
    on_subject: Callable[[Path], None] | None = None,
    workers: int = 2,
) -> list[Path]:
    """Write s01.dat, s02.dat, ... as DEAP does, and cohort.json beside them.

    A file that is there already is left alone, so that an interrupted run goes on where it stopped.

    Parameters
    ----------
    on_subject : called with each path once its file is whole, from one thread at a time
    workers : subjects made at once; each takes about 0.6 GB at full size

    Raises
    ------
    RecordingError
        If the folder holds another cohort, or .dat files that are not ours.
    """
    from physiosync.recordings.deap import write_deap

    _claim(config, folder)
    paths = [folder / f"{subject_name(i)}.dat" for i in range(config.n_subjects)]

    def make(index: int) -> Path:
        path = paths[index]
        if not path.exists():
            data, labels = synthesize_subject(config, index)
            with atomic_path(path) as part:
                write_deap(part, data, labels)
        return path

    with ThreadPoolExecutor(workers) as pool:
        for path in pool.map(make, range(config.n_subjects)):
            if on_subject is not None:
                on_subject(path)
    return paths


def _claim(config: CohortConfig, folder: Path) -> None:
    """Make the folder this cohort's, or see that it is."""
    note = folder / COHORT_FILE
    wanted = json.dumps({"synthetic": True, "model": MODEL, **config.identity()}, indent=2) + "\n"
    if note.exists():
        if (found := note.read_text(encoding="utf-8")) != wanted:
            raise RecordingError(
                note,
                "synthetic cohort",
                expected=" ".join(wanted.split()),
                found=" ".join(found.split()),
            )
        return
    if strangers := sorted(folder.glob("*.dat")):
        raise RecordingError(
            folder,
            "",
            expected="an empty folder or a synthetic cohort's cohort.json",
            found=f"{strangers[0].name} that this cohort did not write",
        )
    write_text(note, wanted)
