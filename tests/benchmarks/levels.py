"""How often tests of balanced accuracy cry wolf when subjects share clips, and what they find.

    .venv/bin/python tests/benchmarks/levels.py --simulations 2000     # about an hour on one core

SIMULATED predictions. A clip has a label that people agree about. A method's answers to a clip are
alike for everyone; they have nothing to do with the label (the null), or lean to it (power). Prints
false positives at 0.05 with their standard error, for the package's primary test and for others.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.comparison import wilcoxon_over_subjects
from physiosync.statistics.crossed import crossed_test
from physiosync.statistics.permutation import permutation_test
from physiosync.statistics.scores import weighted


@dataclass(frozen=True)
class Design:
    """Who sees what, and how alike people are.

    Parameters
    ----------
    correlation : of a method's latent answers to one clip, between people
    agreement : of the latent ratings of one clip, between people
    effect : how far the latent answers of the first method lean to the label
    common : the same, for both methods
    """

    n_subjects: int = 32
    n_clips: int = 8
    correlation: float = 0.3
    agreement: float = 0.5
    effect: float = 0.0
    common: float = 0.0
    bias: float = 0.3


def simulate(design: Design, rng: np.random.Generator) -> pd.DataFrame:
    """Answers "one" and "two" of two methods for the same trials, beside the "truth"."""
    shape = design.n_subjects, design.n_clips

    def latent(shared: float) -> np.ndarray:
        """Unit variance; `shared` of it belongs to the clip; and each person leans to one side."""
        clips = np.sqrt(shared) * rng.standard_normal((1, design.n_clips))
        own = np.sqrt(1 - shared) * rng.standard_normal(shape)
        return clips + own + design.bias * rng.standard_normal((design.n_subjects, 1))

    truth = (latent(design.agreement) > 0).astype(int)
    lean = design.common * (2 * truth - 1)
    more = design.effect * (2 * truth - 1)
    one = (latent(design.correlation) + lean + more > 0).astype(int)
    two = (latent(design.correlation) + lean > 0).astype(int)
    table = {
        "subject": np.repeat(np.arange(design.n_subjects), design.n_clips),
        "stimulus": np.tile(np.arange(design.n_clips), design.n_subjects),
        "truth": truth.ravel(),
    }
    return pd.DataFrame(table | {"one": one.ravel(), "two": two.ravel()})


def scores_for(design: Design, against: str, rng: np.random.Generator) -> pd.DataFrame:
    """Trial scores with null 0: one method less chance, or two methods."""
    table = simulate(design, rng)
    right = table["one"] == table["truth"]
    other = 0.5 if against == "chance" else (table["two"] == table["truth"]).astype(float)
    return table.assign(score=right.astype(float) - other)


# ---- the tests: from trial scores (null 0) to p


def primary(scores: pd.DataFrame) -> float:
    return crossed_test(scores).p


def _parts(scores: pd.DataFrame) -> tuple[float, float, float, float, int, int]:
    """Estimate, plain V_s, V_c and V_sc, and the numbers of subjects and clips."""
    w = weighted(scores)
    mean = np.bincount(w.truth, w.weight * w.score) / np.bincount(w.truth, w.weight)
    share = w.weight * (w.score - mean[w.truth])
    s, c, n = w.n_subjects, w.n_stimuli, len(share)
    v_s = np.square(np.bincount(w.subject, share)).sum() * s / (s - 1)
    v_c = np.square(np.bincount(w.stimulus, share)).sum() * c / (c - 1)
    return w.estimate, v_s, v_c, np.square(share).sum() * n / (n - 1), s, c


def cluster_robust(scores: pd.DataFrame) -> float:
    """Cameron, Gelbach & Miller 2011 with min(S, C) - 1 degrees of freedom."""
    estimate, v_s, v_c, v_sc, s, c = _parts(scores)
    v = v_s + v_c - v_sc
    return 2 * stats.t.sf(abs(estimate) / np.sqrt(v), min(s, c) - 1) if v > 0 else np.nan


def min_f(scores: pd.DataFrame) -> float:
    """Clark 1973, min F'."""
    estimate, v_s, v_c, _, s, c = _parts(scores)
    if v_s + v_c <= 0:
        return np.nan
    df = (v_s + v_c) ** 2 / (v_s**2 / (s - 1) + v_c**2 / (c - 1))
    return 2 * stats.t.sf(abs(estimate) / np.sqrt(v_s + v_c), df)


def pigeonhole(scores: pd.DataFrame) -> float:
    """0 where the 95 % bootstrap interval over subjects and clips leaves 0 out, else 1."""
    low, high = two_way_interval(scores, n_resamples=400)
    return float(low <= 0 <= high)


def t_over_subjects(scores: pd.DataFrame) -> float:
    return float(stats.ttest_1samp(weighted(scores).by_subject, 0).pvalue)


def mixed_model(scores: pd.DataFrame) -> float:
    """Crossed random intercepts by REML, z test, on the linearised trial scores (statsmodels)."""
    import statsmodels.formula.api as smf

    w = weighted(scores)
    mean = np.bincount(w.truth, w.weight * w.score) / np.bincount(w.truth, w.weight)
    y = len(w.score) * w.weight * (w.score - mean[w.truth]) + w.estimate
    table = pd.DataFrame({"y": y, "subject": w.subject, "clip": w.stimulus, "one": 1})
    parts = {"subject": "0 + C(subject)", "clip": "0 + C(clip)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smf.mixedlm("y ~ 1", table, groups="one", vc_formula=parts, re_formula="0")
        return float(model.fit(reml=True).pvalues["Intercept"])


TESTS: dict[str, Callable[[pd.DataFrame], float]] = {
    "primary": primary,
    "V_s+V_c-V_sc": cluster_robust,
    "min F'": min_f,
    "pigeonhole": pigeonhole,
    "t subjects": t_over_subjects,
    "Wilcoxon": wilcoxon_over_subjects,
}


def rejections(
    tests: dict[str, Callable[[pd.DataFrame], float]],
    design: Design,
    against: str,
    *,
    n: int,
    seed: int,
) -> dict[str, float]:
    """Share of simulations in which each test's p is below 0.05; no p is no rejection."""
    rng = np.random.default_rng(seed)
    hits = dict.fromkeys(tests, 0)
    for _ in range(n):
        scores = scores_for(design, against, rng)
        for name, test in tests.items():
            hits[name] += bool(test(scores) < 0.05)
    return {name: count / n for name, count in hits.items()}


def permutation_rejections(design: Design, *, n: int, seed: int) -> dict[str, float]:
    """The same for label permutations, one-sided."""
    rng = np.random.default_rng(seed)
    hits = {"within_subject": 0, "whole_clip": 0}
    for _ in range(n):
        one = simulate(design, rng).rename(columns={"one": "predicted"})
        for kind in hits:
            hits[kind] += permutation_test(one, kind, n_permutations=99).p <= 0.05  # type: ignore[arg-type]
    return {name: count / n for name, count in hits.items()}


def main(simulations: int = 2000, bootstraps: int = 300, mixed: int = 100, seed: int = 1) -> None:
    """Print all tables.

    Parameters
    ----------
    simulations : of each design; the slow tests get `bootstraps` and `mixed`
    """
    quick = {name: test for name, test in TESTS.items() if name != "pigeonhole"}
    slow = {"pigeonhole": pigeonhole}
    designs = [
        Design(n_subjects=s, n_clips=c, correlation=r, agreement=a)
        for a in (0.5, 0.9)
        for s in (32, 10)
        for c in (8, 40)
        for r in (0.3, 0.6)
    ]
    print("SIMULATED predictions; r correlation of answers, a agreement of labels, between people")
    print(f"false positives at 0.05 (nominal); {simulations} simulations, standard error at most")
    print(f"{np.sqrt(0.06 * 0.94 / simulations):.4f} for a rate of 0.06; pigeonhole {bootstraps}")
    print(f"{'':46}" + "".join(f"{name:>14}" for name in TESTS))
    for against in ("chance", "other method"):
        for design in designs:
            began = time.monotonic()
            found = rejections(quick, design, against, n=simulations, seed=seed)
            found |= rejections(slow, design, against, n=bootstraps, seed=seed)
            print(_line(against, design, found, time.monotonic() - began), flush=True)
    print("\nboth methods equally good (common leaning 0.5), other method")
    for design in designs[:8]:
        good = Design(**(design.__dict__ | {"common": 0.5}))
        found = rejections(quick, good, "other method", n=simulations, seed=seed)
        print(_line("other method", good, found, 0), flush=True)
    print(f"\nlabel permutations against chance, one-sided, {bootstraps} simulations")
    for design in designs[:8]:
        found = permutation_rejections(design, n=bootstraps, seed=seed)
        print(_line("chance", design, found, 0), found, flush=True)
    print("\npower against another method: true gain of about 0.1 and 0.2, agreement 0.5")
    for effect in (0.35, 0.7):
        for design in designs[:8]:
            real = Design(**(design.__dict__ | {"effect": effect}))
            rng = np.random.default_rng(seed)
            tests = [crossed_test(scores_for(real, "other method", rng)) for _ in range(300)]
            found = rejections(quick, real, "other method", n=bootstraps, seed=seed)
            found |= rejections(slow, real, "other method", n=min(100, bootstraps), seed=seed)
            mean = np.mean([test.difference for test in tests])
            detectable = np.nanmedian([test.minimal_detectable for test in tests])
            print(
                _line("other method", real, found, 0)
                + f"  gain {mean:.3f}, detectable {detectable:.3f}",
                flush=True,
            )
    print(f"\nmixed model, {mixed} simulations, 8 clips")
    for design in [d for d in designs[:8] if d.n_clips == 8]:
        found = rejections({"mixed model": mixed_model}, design, "other method", n=mixed, seed=seed)
        print(_line("other method", design, {}, 0), found, flush=True)


def _line(against: str, design: Design, found: dict[str, float], seconds: float) -> str:
    what = (
        f"{against:12} {design.n_subjects:2d} subjects {design.n_clips:2d} clips "
        f"r {design.correlation} a {design.agreement}"
    )
    rates = "".join(f"{found[name]:14.4f}" if name in found else f"{'':14}" for name in TESTS)
    return f"{what:46}{rates}" + (f"   {seconds:.0f} s" if seconds else "")


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
