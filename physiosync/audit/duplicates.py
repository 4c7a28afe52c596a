"""The same signal in two parts, under whatever name: exact copies, and copies with noise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from physiosync.audit.assignment import CALIBRATION, PARTS, Assignment
from physiosync.audit.verdict import Verdict, from_count
from physiosync.shard_layout import BASE_SECONDS
from physiosync.windows import WindowStore

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

#: Correlation over all channels and samples. A copy with 1 % of noise has 0.999; the likest pair
#: of 0.5 s windows in five real resting recordings (19 channels, no copies) 0.71.
THRESHOLD = 0.98
#: In the projection, where correlations are estimates.
_CANDIDATE = 0.9
_PROJECTED = 64
_BLOCK = 2048
_PARTS = (*PARTS, CALIBRATION)


@dataclass(frozen=True, eq=False)
class _Windows:
    """Base windows that lie in exactly one part.

    Parameters
    ----------
    trial, start : (n,) id and first sample
    part : (n,) position in `_PARTS`
    digest : (n,) of the samples
    sketch : (n, 64) of unit length: a random projection of the standardised window
    named_twice : how many base windows lie in several parts
    """

    trial: Ints
    start: Ints
    part: Ints
    digest: NDArray[np.uint64]
    sketch: Floats
    named_twice: int


def check_duplicates(store: WindowStore, assignment: Assignment) -> list[Verdict]:
    """Look for every held-out base window in the other parts.

    Windows are compared as wholes, all EEG channels together, after each channel's mean and trend
    are taken out: neither slow drift nor another scale hides a copy or feigns one. Flat windows say
    nothing and are left out. Near copies are looked for in other trials alone. Trials that held-out
    people are calibrated on count as a part. A copy that is shifted by less than a base window is
    not found.

    Parameters
    ----------
    store : only signals are read, never ratings
    """
    windows = _read(store, assignment)
    exact = _exact(windows)
    near = _near(store, windows, exact)
    n_held = int((windows.part > 0).sum())
    aside = f" ({windows.named_twice} that two parts name aside)" if windows.named_twice else ""
    names = store.trials
    where = [f"{names['subject'][t]}/{names['stimulus'][t]}" for t in windows.trial[exact][:3]]
    also = [f"{names['subject'][t]}/{names['stimulus'][t]}" for t in windows.trial[near][:3]]
    return [
        from_count(
            "exact copies",
            int(exact.sum()),
            f"of {n_held} held-out windows of {BASE_SECONDS:g} s{aside} also in another part",
            examples=where,
        ),
        from_count(
            "near copies",
            int(near.sum()),
            f"of {n_held} held-out windows correlate above {THRESHOLD:g} with another trial's in "
            "another part",
            examples=also,
        ),
    ]


def _read(store: WindowStore, assignment: Assignment) -> _Windows:
    base = round(BASE_SECONDS * store.sfreq)
    table = store.trials
    n_chans = len(store.channels["eeg"].ch_names)
    rng = np.random.default_rng(0)
    projection = rng.standard_normal((base * n_chans, _PROJECTED)).astype(np.float32)
    named_twice = 0
    columns: list[tuple[Ints, Ints, Ints, NDArray[np.uint64], Floats]] = []
    for trial, spans in assignment.all_spans.groupby("trial"):
        if not table["has_eeg"][trial]:
            continue
        start, part, twice = _base_windows(spans, base)
        named_twice += twice
        if not len(start):
            continue
        one = np.full(len(start), trial, dtype=np.int64)
        raw = store.gather("eeg", one, start, base)
        x, power = standardised(raw)
        kept = power > 0
        digest = [_digest(window) for window in raw[kept]]
        sketch = x[kept] @ projection
        sketch /= np.linalg.norm(sketch, axis=1, keepdims=True)
        columns.append(
            (one[kept], start[kept], part[kept], np.array(digest, dtype=np.uint64), sketch)
        )
    trial, first, where, digests, sketches = (np.concatenate(c) for c in zip(*columns, strict=True))
    return _Windows(trial, first, where, digests, sketches, named_twice)


def _base_windows(spans: pd.DataFrame, base: int) -> tuple[Ints, Ints, int]:
    """First samples and parts of the base windows of a trial that lie in one part alone, and how
    many lie in several."""
    n = int(spans["stop"].max()) // base
    inside = np.zeros((len(_PARTS), n), dtype=bool)
    for start, stop, part in zip(spans["start"], spans["stop"], spans["part"], strict=True):
        inside[_PARTS.index(part), -(-start // base) : stop // base] = True
    index = np.flatnonzero(inside.sum(axis=0) == 1)
    twice = int((inside.sum(axis=0) > 1).sum())
    return index * base, inside[:, index].argmax(axis=0), twice


def standardised(x: Floats) -> tuple[Floats, Floats]:
    """Windows (n, n_times, n_chans) as vectors of unit length, without means and trends.

    Returns
    -------
    vectors : (n, n_times * n_chans); zeros for a flat window
    length : (n,) before; 0 for a flat window
    """
    x = x - x.mean(axis=1, keepdims=True)
    ramp = np.linspace(-1, 1, x.shape[1], dtype=np.float32)
    ramp /= np.linalg.norm(ramp)
    x = x - ramp[:, None] * np.einsum("t,ntc->nc", ramp, x)[:, None]
    flat = x.reshape(len(x), -1)
    length = np.linalg.norm(flat, axis=1)
    scale = np.abs(flat).max(axis=1, initial=0.0)
    # What rounding leaves of a constant or of a straight line is no signal.
    length = np.where(scale > 1e-6, length, 0.0)
    unit = np.divide(flat, length[:, None], out=np.zeros_like(flat), where=length[:, None] > 0)
    return unit, length


def _digest(x: Floats) -> int:
    return int.from_bytes(hashlib.blake2b(x.tobytes(), digest_size=8).digest(), "little")


def _exact(windows: _Windows) -> NDArray[np.bool_]:
    """Held-out windows whose samples are those of a window of an earlier part."""
    first = pd.Series(windows.part).groupby(windows.digest).transform("min").to_numpy()
    return windows.part > first


def _near(store: WindowStore, windows: _Windows, exact: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Held-out windows all but the same as one of another trial in an earlier part, exact ones
    aside: neighbours in one trial may resemble each other, and are counted as what they are."""
    base = round(BASE_SECONDS * store.sfreq)
    found = np.zeros(len(windows.part), dtype=bool)
    for part in range(1, len(_PARTS)):
        other = np.flatnonzero(windows.part < part)
        mine = np.flatnonzero((windows.part == part) & ~exact)
        if not len(other):
            continue
        rest = windows.sketch[other].T.copy()
        for first in range(0, len(mine), _BLOCK):
            some = mine[first : first + _BLOCK]
            r = windows.sketch[some] @ rest
            for trial in np.unique(windows.trial[some]):
                r[np.ix_(windows.trial[some] == trial, windows.trial[other] == trial)] = -1.0
            best = r.argmax(axis=1)
            likely = r[np.arange(len(some)), best] > _CANDIDATE
            if not likely.any():
                continue
            ones, twos = some[likely], other[best[likely]]
            a, b = (
                standardised(store.gather("eeg", windows.trial[k], windows.start[k], base))[0]
                for k in (ones, twos)
            )
            found[ones] = (a * b).sum(axis=1) > THRESHOLD
    return found
