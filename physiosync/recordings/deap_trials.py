"""Which trials a session of DEAP holds, and where: onsets joined with the table of ratings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from physiosync.errors import RecordingError
from physiosync.recordings.deap_ratings import Rated
from physiosync.recordings.deap_session import RATE, Session

#: Rest before each video.
BASELINE_SECONDS = 3
#: Participant -> trials that the recording lacks.
_NOT_RECORDED: Mapping[int, tuple[int, ...]] = {28: (23, 24, 25)}


@dataclass(frozen=True)
class Spans:
    """Where trials are: their videos in raw samples, and their rest and video at another rate."""

    raw: list[slice]
    rest: list[slice]
    video: list[slice]

    @classmethod
    def of(cls, onsets: Sequence[int], seconds: float, sfreq: float) -> Spans:
        """Of videos that begin at these raw samples; at `sfreq`, within half a sample."""
        rest, video = [], []
        for onset in onsets:
            begin = round(onset * Fraction(sfreq) / RATE)
            rest.append(slice(max(0, begin - round(BASELINE_SECONDS * sfreq)), begin))
            video.append(slice(begin, begin + round(seconds * sfreq)))
        raw = [slice(onset, onset + round(seconds * RATE)) for onset in onsets]
        return cls(raw, rest, video)


def shown_trials(
    session: Session,
    number: int,
    table: Sequence[Rated],
    seconds: float,
    n_trials: int,
    notes: list[str],
) -> list[tuple[Rated, int]]:
    """Trials and the samples of their onsets, by video.

    Parameters
    ----------
    number : of the participant; s28 may lack the three trials that were not recorded
    table : the participant's rows
    seconds : that a trial lasts; one that has less than half of them is left out
    n_trials : that were shown
    notes : gets a sentence for each thing that is left out

    Raises
    ------
    RecordingError
        For another number of onsets, onsets that are closer than a trial lasts, and if no trial is
        left.
    """
    path, onsets = session.path, session.onsets()
    skipped = _NOT_RECORDED.get(number, ())
    if len(onsets) == n_trials:
        skipped = ()
    elif not skipped or len(onsets) != n_trials - len(skipped):
        expected = f"{n_trials} onsets of a video (code 4)"
        if skipped:
            expected += f", or {n_trials - len(skipped)} without trials {_listed(skipped)}"
        raise RecordingError(path, "Status", expected=expected, found=f"{len(onsets)}")
    if skipped:
        notes.append(f"trials {_listed(skipped)} are not in the recording")
    if len(onsets) > 1 and (closest := int(np.diff(onsets).min())) < seconds * RATE:
        expected, found = f"onsets at least {seconds:g} s apart", f"{closest / RATE:g} s"
        raise RecordingError(path, "Status", expected=expected, found=found)
    trials = [trial for trial in range(1, n_trials + 1) if trial not in skipped]
    rated = {one.trial: one for one in table}
    shown = []
    for trial, onset in zip(trials, onsets.tolist(), strict=True):
        left = (session.n_times - onset) / RATE
        if trial not in rated:
            notes.append(f"trial {trial} left out: no row in the table of ratings")
        elif left < seconds / 2:
            notes.append(f"trial {trial} left out: the recording ends {left:g} s after its onset")
        else:
            shown.append((rated[trial], onset))
            if left < seconds:
                notes.append(f"trial {trial} cut short: the recording ends after {left:g} s")
    if not shown:
        raise RecordingError(
            path, "trials", expected="at least one to use", found=f"none: {'; '.join(notes)}"
        )
    for name in ("valence", "arousal", "dominance", "liking"):
        without = [one.trial for one, _ in shown if name not in one.ratings]
        if without:
            notes.append(f"{name} not given in trials {_listed(without)}")
    return sorted(shown, key=lambda pair: pair[0].video)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
