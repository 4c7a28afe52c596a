"""DEAP as it was recorded: `s01.bdf` to `s32.bdf` and `participant_ratings.csv`.

An hour of each of 32 people at 512 Hz, recorded in Twente (s01 to s22) and Geneva [1]_. From these
the authors made what `deap.py` reads, and the same is made here, with every step an option: another
rate, the average reference, eye movements out, 4-45 Hz, trials. All but the cutting happens on the
whole session, so no trial begins or ends in a filter's transient. Eye movements are taken out by
regression on the EOG, where the authors separated sources blindly.

Peripheral channels change their rate and nothing else. EOG and EMG are differences of two
electrodes. Twente's skin conductance in nS becomes a resistance in Ohm like Geneva's.

.. [1] Koelstra et al. (2012). DEAP: A Database for Emotion Analysis Using Physiological Signals.
   IEEE Transactions on Affective Computing 3(1), 18-31. https://doi.org/10.1109/T-AFFC.2011.15
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from physiosync.errors import RecordingError
from physiosync.files import sha256
from physiosync.filtering import (
    Band,
    average_reference,
    band_pass,
    eye_weights,
    resample,
    without_eyes,
)
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Channels, Recording, Trial, require_file
from physiosync.recordings.deap import MAX_MAGNITUDE, ROWS, ROWS_OF, site_of, where_constant
from physiosync.recordings.deap_ratings import Rated, read_ratings
from physiosync.recordings.deap_session import RATE, Session, open_session
from physiosync.recordings.deap_skin import resistance, scale_to_ohm
from physiosync.recordings.deap_trials import BASELINE_SECONDS, Spans, shown_trials
from physiosync.recordings.numbered import find_numbered, number_of
from physiosync.shard_layout import BASE_SECONDS
from physiosync.skin import MOST_MISSING

Floats = NDArray[np.float32]
Array = NDArray[np.float64]


#: How a header may spell degrees Celsius.
_CELSIUS = re.compile(r"(°|deg)? ?C(elsius)?", re.IGNORECASE)


#: Correlation beyond which two eye channels are taken for one.
_ALIKE = 0.999


class DeapBdfPreprocessing(PreprocessingConfig):
    """The whole way from a session to shards; `sfreq` is the rate that all channels get."""

    band: Band = Band(low=4.0, high=45.0)
    """Of the EEG that is kept."""
    reference: Literal["average", "recorded"] = "average"
    """average: of the 32 electrodes. recorded: none is subtracted; BioSemi's signals then hold what
    all electrodes have in common, mains hum too."""
    eyes: Literal["regress", "keep"] = "regress"
    """regress: the share of the EOG is subtracted from the EEG."""
    seconds: float = Field(default=60.0, ge=BASE_SECONDS)
    """Taken of each video, from its onset."""
    ratings_sha256: str = ""
    """Of the bytes of the table of ratings."""

    @model_validator(mode="after")
    def _band_fits(self) -> DeapBdfPreprocessing:
        if self.sfreq > RATE:
            raise ValueError(f"sfreq must be at most {RATE} Hz, but got {self.sfreq:g}")
        self.band.check(self.sfreq)
        return self

    def rated_by(self, ratings: Path) -> DeapBdfPreprocessing:
        """The same with this table of ratings, so that another one makes other shards."""
        require_file(ratings, "a table of ratings")
        return self.model_copy(update={"ratings_sha256": sha256(ratings)})


def find_deap_bdf(folder: Path) -> list[Path]:
    """The BDF files of a folder, in the order of the subjects' numbers.

    Raises
    ------
    RecordingError
        if there is no such folder, no such file in it, or two files of one subject
    """
    return find_numbered(folder, ".bdf")


def read_deap_bdf(
    path: Path, *, ratings: Path, config: DeapBdfPreprocessing, n_trials: int = 40
) -> Recording:
    """Read one subject: filter the session, then cut its trials.

    Skin conductance that is not positive, or stands for more than 1e9 Ohm, is missing. Up to 5 % of
    a trial are interpolated; a trial with more has no GSR, or none in its baseline.

    Parameters
    ----------
    path : `s01.bdf`, ...; the number is the participant's, the name in lower case the subject
    ratings : `participant_ratings.csv`
    config : what is done; `prepare` has to be given the same
    n_trials : that were shown; only tests need another number

    Returns
    -------
    Recording
        one trial per video that was shown, sorted by video and named as `read_deap` names it;
        `order` is the position in the session. Signals are (n_chans, n_times) float32 at
        `config.sfreq`, with names, order and units of `read_deap`. A trial begins within half a
        sample of its onset. `left_out` tells of trials that the recording or the table lacks, of
        missing ratings, of trials that the end of the file cuts short, of modalities whose channels
        are missing, and of what is constant while a video runs.

    Raises
    ------
    RecordingError
        for what `open_session`, `read_ratings` and `shown_trials` refuse, no EOG to regress on, and
        EEG that is constant in every trial
    """
    session = open_session(path)
    number = number_of(path)
    table = read_ratings(ratings, number, n_trials=n_trials)
    if config.eyes == "regress" and "eog" in session.missing:
        expected = "EXG1 to EXG4, to take eye movements out (--eyes keep leaves them in)"
        raise RecordingError(path, "EOG", expected=expected, found=session.missing["eog"])
    notes: list[str] = []
    header = session.header
    if -1 < header.stated_records < header.n_records:
        notes.append(
            f"the header counts {header.stated_records} records and the file holds "
            f"{header.n_records}; all were read"
        )
    shown = shown_trials(session, number, table, config.seconds, n_trials, notes)
    return _cut(session, number, shown, config, notes)


def _cut(
    session: Session,
    number: int,
    shown: Sequence[tuple[Rated, int]],
    config: DeapBdfPreprocessing,
    notes: list[str],
) -> Recording:
    """Change the rate of the whole session, filter its EEG, and take the trials out of it."""
    spans = Spans.of([onset for _, onset in shown], config.seconds, config.sfreq)
    absent = dict(session.missing)
    to_ohm = None if "gsr" in absent else scale_to_ohm(session.sensors["GSR"][0].unit, number)
    if isinstance(to_ohm, str):
        absent["gsr"] = to_ohm
    notes += [f"{modality} left out: {why}" for modality, why in absent.items()]
    ratio = (Fraction(config.sfreq) / RATE).limit_denominator(10_000)
    flat = np.zeros((len(shown), len(ROWS)), dtype=bool)
    gaps = np.zeros(session.n_times, dtype=bool)
    whole: dict[str, Floats] = {}
    for modality, rows in ROWS_OF.items():
        if modality in absent:
            continue
        resampled = []
        for row, x in enumerate(session.rows([name for name, _, _ in ROWS[rows]]), rows.start):
            flat[:, row] = [np.ptp(x[span]) == 0 for span in spans.raw]
            if isinstance(to_ohm, tuple) and modality == "gsr":
                x, gaps = resistance(x, *to_ohm)
            resampled.append(resample(x[np.newaxis], ratio)[0])
        whole[modality] = np.stack(resampled)
    missing = {m: np.asarray(flat[:, rows].all(axis=1)) for m, rows in ROWS_OF.items()}
    if missing["eeg"].all():
        expected, found = "EEG that varies", "constant channels only, in every trial"
        raise RecordingError(session.path, "data", expected=expected, found=found)
    whole["eeg"] = _filtered(whole, flat, spans, config, notes)
    names = [f"video-{rated.video:02d}" for rated, _ in shown]
    trials = []
    for k, (rated, onset) in enumerate(shown):
        if missing["eeg"][k]:
            continue
        signals = {m: x[:, spans.video[k]].copy() for m, x in whole.items() if not missing[m][k]}
        rest = {m: x[:, spans.rest[k]].copy() for m, x in whole.items() if m in signals}
        if config.reference == "average":
            signals["eeg"][flat[k, ROWS_OF["eeg"]]] = 0  # Not the other electrodes upside down.
        if "gsr" in signals:
            lost = float(gaps[spans.raw[k]].mean())
            before = gaps[max(0, onset - BASELINE_SECONDS * RATE) : onset]
            if lost > MOST_MISSING:
                notes.append(
                    f"gsr of trial {rated.trial} ({names[k]}) left out: {lost:.1%} of it are not "
                    f"positive or beyond {MAX_MAGNITUDE:g} Ohm, more than {MOST_MISSING:.0%}"
                )
                del signals["gsr"], rest["gsr"]
            elif before.size and before.mean() > MOST_MISSING:
                del rest["gsr"]
        trials.append(
            Trial(
                stimulus=names[k],
                order=rated.trial,
                signals=signals,
                baseline={m: x for m, x in rest.items() if x.size},
                ratings=rated.ratings,
            )
        )
    used = {m for trial in trials for m in trial.signals}
    return Recording(
        dataset="deap",
        subject=session.path.stem.lower(),
        modalities={m: _channels(m, session, config.sfreq) for m in ROWS_OF if m in used},
        trials=tuple(trials),
        source=session.path,
        fingerprint=sha256(session.path),
        left_out=(*notes, *where_constant(names, flat, missing)),
        provenance=site_of(session.path.stem.lower()),
    )


def _filtered(
    whole: Mapping[str, Floats],
    flat: NDArray[np.bool_],
    spans: Spans,
    config: DeapBdfPreprocessing,
    notes: list[str],
) -> Floats:
    """The EEG of the session, referenced, without eye movements, and in its band."""
    eeg = whole["eeg"]
    alive = np.asarray(~flat[:, ROWS_OF["eeg"]].all(axis=0))
    if config.reference == "average":
        eeg = average_reference(eeg, alive)
    if config.eyes == "regress":
        eog = whole["eog"][~flat[:, ROWS_OF["eog"]].all(axis=0)]
        # Between trials people talk and move, and their electrodes are mended.
        seen = [
            slice(rest.start, video.stop)
            for rest, video in zip(spans.rest, spans.video, strict=True)
        ]
        if len(eog) == 2 and abs(float(np.corrcoef(eog[0], eog[1]).flat[1])) > _ALIKE:
            eog = eog[:1]  # The regression could not tell them apart.
        if len(eog):
            weights = eye_weights(eeg, eog, config.sfreq, seen)
            eeg = without_eyes(eeg, eog, weights * alive[:, None])
        else:
            notes.append("eye movements are left in the EEG: the EOG is constant")
    return band_pass(eeg, config.sfreq, config.band)


def _channels(modality: str, session: Session, sfreq: float) -> Channels:
    rows = ROWS[ROWS_OF[modality]]
    unit = rows[0][2]
    if modality == "temp" and not _CELSIUS.fullmatch(session.sensors["Temp"][0].unit):
        unit = "a.u."
    return Channels(tuple(name for name, _, _ in rows), unit, sfreq)
