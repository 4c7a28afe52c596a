"""Skin conductance of DEAP's two sites as one quantity, the resistance in Ohm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from physiosync.recordings.deap import MAX_MAGNITUDE, SITES

Array = NDArray[np.float64]

#: Unit -> (factor, exponent): Ohm = factor * x ** exponent.
_TO_OHM = {"nS": (1e9, -1), "uS": (1e6, -1), "Ohm": (1.0, 1), "kOhm": (1e3, 1)}
#: Other spellings of these.
_SPELLINGS = {unit.lower(): unit for unit in _TO_OHM} | {"ohms": "Ohm", "nsiemens": "nS"}


def scale_to_ohm(unit: str, participant: int) -> tuple[float, int] | str:
    """(factor, exponent) so that Ohm = factor * x ** exponent; or why nobody knows.

    Twente recorded a conductance in nS, Geneva a resistance in Ohm. The unit in the header counts
    if it is one of either, and what is known of the site if not. Where they contradict each other,
    a resistance can't be told from a conductance: 30,000 may be both.
    """
    said = _SPELLINGS.get(unit.lower())
    site = None
    if participant <= SITES["Geneva"]:
        site = "nS" if participant <= SITES["Twente"] else "Ohm"
    if said is not None and site is not None and _TO_OHM[said][1] != _TO_OHM[site][1]:
        return f"GSR1 is in {unit} by the header, and in {site} by DEAP's documentation"
    known = said or site
    return f"GSR1 is in {unit!a}, no unit of skin conductance" if known is None else _TO_OHM[known]


def resistance(x: Array, factor: float, exponent: int) -> tuple[Array, NDArray[np.bool_]]:
    """A session's GSR in Ohm, its gaps interpolated, and where these are; all (n_times,).

    Neither a resistance nor a conductance is zero or negative, and nobody's skin has more than
    1e9 Ohm, so such samples are gaps.
    """
    most = MAX_MAGNITUDE / factor  # of x, or of 1 / x
    gaps = np.asarray((x <= 0) | (x > most if exponent == 1 else x * most < 1))
    if gaps.all():
        return np.full_like(x, MAX_MAGNITUDE), gaps
    there = np.flatnonzero(~gaps)
    whole = np.interp(np.arange(len(x)), there, x[there]) if gaps.any() else x
    return factor * whole**exponent, gaps
