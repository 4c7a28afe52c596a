"""The primary test: a difference of balanced accuracies, with subjects and clips both drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from physiosync.statistics.scores import Floats, Weighted, weighted

_NAN = float("nan")


@dataclass(frozen=True)
class CrossedTest:
    """What the primary test says.

    Parameters
    ----------
    difference : mean over subjects, in units of balanced accuracy (0.05 is five points)
    standard_error : of it, for new subjects *and* new clips; NaN where it can't be known
    degrees_of_freedom : of Student's t
    p : two-sided; 1 if nothing differs anywhere, NaN if nothing can be said
    effect_size : difference / standard deviation of a single trial's difference, weighted as the
        difference is (Westfall, Kenny & Judd 2014, their d, which counts variation over subjects,
        clips and the rest alike)
    minimal_detectable : the true difference that this design finds with the asked-for power
    n_subjects, n_stimuli : that counted
    """

    difference: float
    standard_error: float
    degrees_of_freedom: float
    p: float
    effect_size: float
    minimal_detectable: float
    n_subjects: int
    n_stimuli: int


def crossed_test(
    scores: pd.DataFrame, *, null: float = 0.0, level: float = 0.05, power: float = 0.8
) -> CrossedTest:
    """Test the mean balanced accuracy of subjects, or a difference of two, with crossed effects.

    Balanced accuracy is first made a weighted sum of trials (`scores.weighted`), then linearised:
    each trial's share in its error is its weight times its score less the mean of its class, so
    that knowing which clips are high costs nothing. Squared sums over subjects, over clips and over
    each subject's trials of a clip give V_s, V_c and V_sc. The variance is the largest of V_s, V_c
    and V_s + V_c - V_sc (Cameron, Gelbach & Miller 2011, guarded as MacKinnon, Nielsen & Webb 2024
    advise), with Satterthwaite's degrees of freedom, V^2 / (V_s^2 / df_s + V_c^2 / df_c), as in a
    quasi-F (Clark 1973). V_s is scaled by S / (S - 1), df_s is S - 1. Clips weigh unequally, so V_c
    and df_c are what independent clip effects would give (Bell & McCaffrey 2002).
    `tests/benchmarks/levels.py` measures its false positives and its power.

    Parameters
    ----------
    scores : rows with "subject", "stimulus", "truth" and "score", one a trial (or a few, as of two
        targets); see `correctness` (one method) and `difference` (two)
    null : the value that is tested: chance for one method, 0 for a difference
    level, power : of `minimal_detectable`, for a two-sided test

    Returns
    -------
    p is NaN with fewer than two subjects, or if a class is shown by one clip only.
    """
    w = weighted(scores)
    effect = w.estimate - null
    variance, df = _variance(w)
    if np.isnan(variance):
        return CrossedTest(effect, _NAN, _NAN, _NAN, _NAN, _NAN, w.n_subjects, w.n_stimuli)
    error = float(np.sqrt(variance))
    spread = float(np.sqrt(np.sum(w.weight * (w.score - w.estimate) ** 2)))
    # Sums of fractions leave rounding errors where there is no variation.
    if error < 1e-12:
        p = 1.0 if abs(effect) < 1e-12 else _NAN
        return CrossedTest(effect, 0.0, df, p, _NAN, _NAN, w.n_subjects, w.n_stimuli)
    return CrossedTest(
        difference=effect,
        standard_error=error,
        degrees_of_freedom=df,
        p=float(2 * stats.t.sf(abs(effect) / error, df)),
        effect_size=effect / spread,
        minimal_detectable=float(stats.t.ppf(1 - level / 2, df) + stats.t.ppf(power, df)) * error,
        n_subjects=w.n_subjects,
        n_stimuli=w.n_stimuli,
    )


def _variance(w: Weighted) -> tuple[float, float]:
    """Variance of the estimate and its degrees of freedom; NaN if they can't be known."""
    if w.n_subjects < 2:
        return _NAN, _NAN
    # h[k, c]: what clip c weighs in the mean of class k.
    h = np.zeros((int(w.truth.max()) + 1, w.n_stimuli))
    np.add.at(h, (w.truth, w.stimulus), w.weight)
    of_class = h.sum(axis=1)
    h /= of_class[:, None]
    if h.max() > 1 - 1e-9:
        return _NAN, _NAN
    class_mean = np.bincount(w.truth, w.weight * w.score) / of_class
    share = w.weight * (w.score - class_mean[w.truth])
    by_subject = (w.by_subject - w.estimate) / w.n_subjects
    by_clip = np.bincount(w.stimulus, share)
    v_s = float(by_subject @ by_subject) * w.n_subjects / (w.n_subjects - 1)
    scale, df_c = _clip_scale(h, of_class)
    v_c = float(by_clip @ by_clip) * scale
    # A trial may have several rows: one for each target, where targets are tested together.
    by_trial = np.bincount(w.subject * w.n_stimuli + w.stimulus, share)
    v_sc = float(by_trial @ by_trial)
    v = max(v_s, v_c, v_s + v_c - v_sc)
    if v <= 0:
        return 0.0, _NAN
    return v, v**2 / (v_s**2 / (w.n_subjects - 1) + v_c**2 / df_c)


def _clip_scale(h: Floats, of_class: Floats) -> tuple[float, float]:
    """What the squared sums over clips have to be multiplied by, and their degrees of freedom.

    With clip effects a that are independent and equal in variance, the sums over clips are M a, and
    the estimate varies by (weight of each clip)^2. Equal weights give C / (C - 1) and C - 1.

    Parameters
    ----------
    h : (n_classes, n_clips), rows sum to 1
    of_class : (n_classes,) weight of each class, sums to 1
    """
    m = np.diag(of_class @ h) - np.einsum("k,kc,kd->cd", of_class, h, h)
    mm = m.T @ m
    trace = float(np.trace(mm))
    return float(((of_class @ h) ** 2).sum()) / trace, trace**2 / float((mm * mm).sum())
