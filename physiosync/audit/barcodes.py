"""Whether windows tell which trial they are from: random labels of trials must not be readable."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from physiosync.audit.assignment import Assignment
from physiosync.audit.verdict import Status, Verdict
from physiosync.windows import WindowStore

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Of a window: the template of one second that the paper subtracts is in each of them.
SECONDS = 1.0
_CHECK = "trial barcodes"
_FEATURES = 256
_DRAWS = 12
_SUBJECTS = 8
#: One-sided, over the draws of labels.
_LEVEL = 0.001


def check_barcodes(store: WindowStore, assignment: Assignment, *, measure: bool) -> Verdict:
    """Give trials random labels and read them from held-out windows, for the split at hand.

    Labels that mean nothing can only be read where a trial lies on both sides and its windows carry
    a mark of it: the paper's baseline template, or a state that lasts. Such a mark serves real
    labels as well, so scores then say nothing of new trials. With whole trials in one part each,
    nothing can be read by construction; `measure` then shuffles windows on purpose, and says what
    could be read of these shards. Those numbers are information, no verdict: a lasting state is in
    any recording, a mark in the waveforms comes from preprocessing.

    Parameters
    ----------
    store : only signals are read, never ratings
    measure : whether to measure where nothing can fail
    """
    spans = assignment.spans
    parts = spans.groupby("trial")["part"].nunique()
    shared = parts.index[parts > 1].to_numpy(dtype=np.int64)
    if len(shared):
        read = _read_labels(store, *_sides(store, assignment, shared))
        said = f"random labels of trials are read off held-out windows: {_in_words(read)}"
        status: Status = "failed" if any(_above_chance(a) for a in read.values()) else "passed"
        return Verdict(check=_CHECK, status=status, number=_largest(read), said=said)
    said = "no trial is in two parts, so none can be recognised, by construction"
    if not measure:
        return Verdict(check=_CHECK, status="passed", number=None, said=said)
    read = _read_labels(store, *_shuffled(store))
    said += f"; if windows were shuffled, random labels would be read off them: {_in_words(read)}"
    if _above_chance(read["waveforms"]):
        said += ". The waveforms mark their trial: is a template subtracted?"
    return Verdict(check=_CHECK, status="passed", number=_largest(read), said=said)


def _in_words(read: Mapping[str, Floats]) -> str:
    each = ", ".join(f"by {kind} {accuracies.mean():.2f}" for kind, accuracies in read.items())
    return f"{each} (chance 0.5)"


def _largest(read: Mapping[str, Floats]) -> float:
    return max(float(accuracies.mean()) for accuracies in read.values())


def _above_chance(accuracies: Floats) -> bool:
    """Over independent draws of labels."""
    if np.ptp(accuracies) < 1e-12:
        return bool(accuracies.mean() > 0.5 + 1e-9)
    p = stats.ttest_1samp(accuracies, 0.5, alternative="greater").pvalue
    return bool(p < _LEVEL)


def _windows(store: WindowStore, trials: Ints) -> tuple[Ints, Ints, int]:
    """All whole seconds of trials: trial ids, first samples, samples of a window."""
    n_times = round(SECONDS * store.sfreq)
    table = store.trials
    kept = [t for t in trials.tolist() if table["has_eeg"][t]]
    counts = [int(table["n_times"][t]) // n_times for t in kept]
    trial = np.repeat(np.array(kept, dtype=np.int64), counts)
    start = np.concatenate([np.arange(n) * n_times for n in counts] or [np.zeros(0, np.int64)])
    return trial, start.astype(np.int64), n_times


def _sides(
    store: WindowStore, assignment: Assignment, shared: Ints
) -> tuple[Ints, Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """Seconds of shared trials that touch training windows, and that touch held-out ones only."""
    trial, start, n_times = _windows(store, shared)
    train, held = np.zeros(len(trial), dtype=bool), np.zeros(len(trial), dtype=bool)
    spans = assignment.spans[assignment.spans["trial"].isin(shared)]
    rows = {key: np.flatnonzero(trial == key) for key in np.unique(trial)}
    for key, first, stop, part in zip(
        spans["trial"], spans["start"], spans["stop"], spans["part"], strict=True
    ):
        mine = rows.get(key, np.zeros(0, dtype=np.int64))
        touching = mine[(start[mine] < stop) & (start[mine] + n_times > first)]
        (train if part == "train" else held)[touching] = True
    return trial, start, train, held & ~train


def _shuffled(
    store: WindowStore,
) -> tuple[Ints, Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """Every fifth second, by chance, held out of each trial."""
    trial, start, _ = _windows(store, store.trials.index.to_numpy(dtype=np.int64))
    held = np.random.default_rng(0).random(len(trial)) < 0.2
    return trial, start, ~held, held


def _read_labels(
    store: WindowStore,
    trial: Ints,
    start: Ints,
    train: NDArray[np.bool_],
    held: NDArray[np.bool_],
) -> dict[str, Floats]:
    """Kind of feature -> accuracy on held-out windows for each draw of labels.

    Two kinds are read: waveforms, where a template shows, and channels' level and log power, where
    a lasting state does. A classifier is fitted for each subject (of up to eight, evenly chosen).
    """
    names = store.trials["subject"]
    subject = names.loc[trial].to_numpy()
    everyone = list(dict.fromkeys(subject.tolist()))
    some = everyone[:: max(1, -(-len(everyone) // _SUBJECTS))]
    rng = np.random.default_rng(0)
    hits = {kind: np.zeros(_DRAWS) for kind in ("waveforms", "level and power")}
    total = 0
    for name in some:
        mine = np.flatnonzero((subject == name) & (train | held))
        # Both sides have to show every trial that is asked for.
        both = np.intersect1d(trial[mine][train[mine]], trial[mine][held[mine]])
        mine = mine[np.isin(trial[mine], both)]
        if len(both) < 4:
            continue
        fit, ask = train[mine], held[mine]
        _, place = np.unique(trial[mine], return_inverse=True)
        labels = np.stack([rng.permutation(len(both)) % 2 for _ in range(_DRAWS)], axis=1)[place]
        total += int(ask.sum())
        for kind, x in _features(store, trial[mine], start[mine]).items():
            scaler = StandardScaler().fit(x[fit])
            model = RidgeClassifier(alpha=float(fit.sum()) / 10)
            model.fit(scaler.transform(x[fit]), labels[fit])
            hits[kind] += (model.predict(scaler.transform(x[ask])) == labels[ask]).sum(axis=0)
    # With fewer than four shared trials a subject, there is nothing to tell apart: chance.
    return {kind: found / total if total else found + 0.5 for kind, found in hits.items()}


def _features(store: WindowStore, trial: Ints, start: Ints) -> dict[str, Floats]:
    n_times = round(SECONDS * store.sfreq)
    n_chans = len(store.channels["eeg"].ch_names)
    rng = np.random.default_rng(0)
    projection = rng.standard_normal((n_times * n_chans, _FEATURES)).astype(np.float32)
    waveforms, state = [], []
    for first in range(0, len(trial), 256):
        x = store.gather("eeg", trial[first : first + 256], start[first : first + 256], n_times)
        mean = x.mean(axis=1)
        x -= mean[:, None]
        state.append(np.concatenate([mean, np.log(x.var(axis=1) + 1e-9)], axis=1))
        waveforms.append(x.reshape(len(x), -1) @ projection)
    return {
        "waveforms": np.concatenate(waveforms).astype(np.float64),
        "level and power": np.concatenate(state).astype(np.float64),
    }
