"""Statistics by hand, against libraries, and on simulated predictions with a known truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, brier_score_loss
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from physiosync.evidence import comparisons
from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.calibration import brier_score, calibration_error, reject_curve
from physiosync.statistics.comparison import at_or_below_chance, holm, wilcoxon_over_subjects
from physiosync.statistics.crossed import crossed_test
from physiosync.statistics.permutation import permutation_test
from physiosync.statistics.scores import correctness, difference, weighted
from tests.benchmarks.levels import Design, primary, rejections, simulate


def answers(
    n_subjects: int = 6, n_clips: int = 10, n_classes: int = 2, seed: int = 0
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = n_subjects * n_clips
    return pd.DataFrame(
        {
            "subject": np.repeat([f"s{i}" for i in range(n_subjects)], n_clips),
            "stimulus": np.tile([f"v{i}" for i in range(n_clips)], n_subjects),
            "truth": rng.integers(n_classes, size=n),
            "predicted": rng.integers(n_classes, size=n),
        }
    )


# ---- balanced accuracy as a sum


@pytest.mark.parametrize("n_classes", [2, 4])
def test_weighted_trials_give_scikit_learns_balanced_accuracy(n_classes: int) -> None:
    table = answers(n_classes=n_classes, n_clips=14)
    # Missing trials, and a person with one class only, who stands in no mean.
    table = table.drop([3, 17, 40])
    table.loc[table["subject"] == "s5", "truth"] = 1
    expected = [
        balanced_accuracy_score(rows["truth"], rows["predicted"])
        if n_classes == 2
        else np.mean(
            [(rows["predicted"][rows["truth"] == k] == k).mean() for k in rows["truth"].unique()]
        )
        for name, rows in table.groupby("subject")
        if name != "s5"
    ]
    w = weighted(correctness([table]))
    assert w.estimate == pytest.approx(np.mean(expected))
    np.testing.assert_allclose(w.by_subject, expected)
    assert w.n_subjects == 5


def test_runs_are_averaged_and_must_be_of_the_same_trials() -> None:
    one, two = answers(seed=1), answers(seed=1)
    two["predicted"] = 1 - two["predicted"]
    assert (correctness([one, two])["score"] == 0.5).all()
    assert (difference(correctness([one]), correctness([one]))["score"] == 0).all()
    with pytest.raises(ValueError, match="same trials"):
        correctness([one, two.drop(index=4)])
    with pytest.raises(ValueError, match="once"):
        correctness([pd.concat([one, one.iloc[:1]])])


# ---- the primary test


def crossed_by_hand(x: np.ndarray) -> tuple[float, float]:
    """t and its degrees of freedom from mean squares of a (subjects, clips) table (Clark 1973)."""
    s, c = x.shape
    ms_s = c * x.mean(axis=1).var(ddof=1)
    ms_c = s * x.mean(axis=0).var(ddof=1)
    total = ((x - x.mean()) ** 2).sum()
    v_s, v_c, v_sc = ms_s / (s * c), ms_c / (s * c), total / (s * c) ** 2
    v = max(v_s, v_c, v_s + v_c - v_sc)
    return x.mean() / np.sqrt(v), v**2 / (v_s**2 / (s - 1) + v_c**2 / (c - 1))


def full_table(x: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """From (subjects, clips) to a row a trial."""
    return pd.DataFrame(
        {
            "subject": np.repeat(np.arange(len(x)), x.shape[1]),
            "stimulus": np.tile(np.arange(x.shape[1]), len(x)),
            "truth": truth.ravel(),
            "score": x.ravel(),
        }
    )


@pytest.mark.parametrize("n_targets", [1, 2])
def test_the_variance_is_statsmodels_with_each_ways_own_correction(n_targets: int) -> None:
    rng = np.random.default_rng(11)
    x = rng.standard_normal((10, 8)) + rng.standard_normal((10, 1)) + rng.standard_normal((1, 8))
    truth = (np.arange(10)[:, None] + np.arange(8)) % 2
    tables = []
    for target in range(n_targets):
        # The targets of one trial resemble each other.
        y = x + 0.5 * rng.standard_normal(x.shape) * (n_targets > 1)
        for k in (0, 1):
            y[truth == k] -= y[truth == k].mean()
        tables.append(full_table(y, truth + 2 * target))
    table = pd.concat(tables, ignore_index=True)
    fitted = sm.OLS(table["score"].to_numpy(), np.ones(len(table))).fit()
    groups = table["subject"].to_numpy(), table["stimulus"].to_numpy()
    both, by_subject, by_clip = (
        float(np.squeeze(v)) for v in cov_cluster_2groups(fitted, *groups, use_correction=False)
    )
    expected = by_subject * 10 / 9 + by_clip * 8 / 7 - (by_subject + by_clip - both)
    assert crossed_test(table).standard_error == pytest.approx(np.sqrt(expected))


def test_a_full_table_gives_what_mean_squares_give() -> None:
    """Two classes that every clip shows to half of the people leave all weights equal."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((8, 6)) + rng.standard_normal((8, 1)) + rng.standard_normal((1, 6))
    truth = (np.arange(8)[:, None] + np.arange(6)) % 2
    # Both classes with one mean: the class means that are taken out are then the grand mean.
    for k in (0, 1):
        x[truth == k] -= x[truth == k].mean() - 0.3
    table = full_table(x, truth)
    t, df = crossed_by_hand(x)
    found = crossed_test(table)
    assert found.difference == pytest.approx(0.3)
    assert found.degrees_of_freedom == pytest.approx(df)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), df))
    assert found.effect_size == pytest.approx(0.3 / x.std())
    needed = stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)
    assert found.minimal_detectable == pytest.approx(needed * 0.3 / t)


def test_with_variation_of_clips_alone_it_is_a_t_test_of_clips() -> None:
    by_clip = np.array([0.2, -0.1, 0.4, 0.3, 0.1, -0.2])
    table = pd.DataFrame(
        {
            "subject": np.repeat(np.arange(40), 6),
            "stimulus": np.tile(np.arange(6), 40),
            "truth": (np.repeat(np.arange(40), 6) + np.tile(np.arange(6), 40)) % 2,
            "score": np.tile(by_clip, 40),
        }
    )
    expected = stats.ttest_1samp(by_clip, 0)
    assert crossed_test(table).p == pytest.approx(expected.pvalue, rel=0.02)


def test_what_cannot_be_known_is_no_number() -> None:
    table = answers()
    alone = table.assign(truth=(table["stimulus"] == "v3").astype(int))
    assert np.isnan(crossed_test(correctness([alone]), null=0.5).p), "one clip shows the class"
    one_person = table[table["subject"] == "s1"]
    assert np.isnan(crossed_test(correctness([one_person]), null=0.5).p)
    same = difference(correctness([table]), correctness([table]))
    assert crossed_test(same).p == 1.0
    majority = table.assign(predicted=1)
    assert crossed_test(correctness([majority]), null=0.5).p == 1.0


def test_a_class_that_only_left_out_people_show_changes_nothing() -> None:
    table = answers(n_subjects=7, n_classes=2)
    alone = table["subject"] == "s3"
    table["truth"] = np.where(alone, 1, 2 * table["truth"])
    table["predicted"] *= 2
    found = crossed_test(correctness([table]))
    assert found == crossed_test(correctness([table[~alone]]))
    assert found.degrees_of_freedom > 0
    assert weighted(correctness([table])).truth.max() == 1


def test_the_primary_test_holds_its_level_where_wilcoxon_does_not() -> None:
    """False positives at 0.05, 400 simulations: standard error 0.011 at 0.05."""
    tests = {"primary": primary, "Wilcoxon": wilcoxon_over_subjects}
    found = rejections(tests, Design(correlation=0.6), "other method", n=400, seed=5)
    assert stats.binomtest(round(found["primary"] * 400), 400, 0.05, "greater").pvalue > 0.01
    assert found["Wilcoxon"] > 0.15


def test_the_primary_test_finds_a_true_effect() -> None:
    """A gain of about 0.13 over another method, 32 people, 40 clips."""
    design = Design(n_clips=40, correlation=0.3, effect=0.35)
    found = rejections({"primary": primary}, design, "other method", n=60, seed=6)
    assert found["primary"] > 0.8


# ---- beside it


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.5, np.nan, 0.02])), [0.5, np.nan, 0.04])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])
    p = np.random.default_rng(0).random(7) / 10
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_an_interval_of_a_difference_leaves_out_what_methods_share() -> None:
    """Two methods that differ on a few trials only differ surely, however hard the clips are."""
    table = answers(n_subjects=20, n_clips=20, seed=2)
    better = table.copy()
    wrong = better.index[better["truth"] != better["predicted"]][::8]
    better.loc[wrong, "predicted"] = better.loc[wrong, "truth"]
    one, two = correctness([better]), correctness([table])
    low, high = two_way_interval(difference(one, two))
    assert 0 < low < weighted(one).estimate - weighted(two).estimate < high
    alone = two_way_interval(one)
    assert high - low < (alone[1] - alone[0]) / 1.5


def test_permutations_of_both_kinds() -> None:
    """Answers that follow clips, not labels: only whole clips tell that it was luck."""
    knowing = answers(n_subjects=10, n_clips=12, seed=4)
    right = np.random.default_rng(0).random(120) < 0.9
    knowing["predicted"] = np.where(right, knowing["truth"], 1 - knowing["truth"])
    for kind in ("within_subject", "whole_clip"):
        found = permutation_test(knowing, kind, n_permutations=200)  # type: ignore[arg-type]
        assert found.p == pytest.approx(1 / 201)
        assert found.mean == pytest.approx(0.5, abs=0.05)
        assert found.score == pytest.approx(weighted(correctness([knowing])).estimate)
    rng = np.random.default_rng(8)
    design = Design(n_subjects=20, correlation=0.6, agreement=0.9)
    p = {"within_subject": [], "whole_clip": []}
    for _ in range(40):
        null = simulate(design, rng).rename(columns={"one": "predicted"})
        for kind, values in p.items():
            values.append(permutation_test(null, kind, n_permutations=39).p)  # type: ignore[arg-type]
    # Far from the permutations' middle, on either side: 10 % of the time if p holds.
    far = {kind: np.mean([not 0.05 < value < 0.975 for value in p[kind]]) for kind in p}
    assert far["within_subject"] > 0.3
    assert far["whole_clip"] < 0.25


def test_clips_are_swapped_among_those_that_the_same_people_met() -> None:
    """In folds of new people and new clips a label of another fold's clip would meet no answer."""
    folds = []
    for k in range(5):
        fold = answers(n_subjects=4, n_clips=6, seed=k)
        fold[["subject", "stimulus"]] = fold[["subject", "stimulus"]] + f"-{k}"
        folds.append(fold)
    table = pd.concat(folds, ignore_index=True)
    right = np.random.default_rng(0).random(len(table)) < 0.75
    table["predicted"] = np.where(right, table["truth"], 1 - table["truth"])
    found = permutation_test(table, "whole_clip", n_permutations=200)
    assert found.n_permutations == 200
    assert found.standard_deviation < 0.08
    assert found.p < 0.02


def test_permuted_labels_of_missing_trials_stay_missing() -> None:
    table = answers(n_subjects=3, n_clips=6).drop(index=[1, 8])
    table["predicted"] = table["truth"]
    table.loc[table["subject"] == "s2", "truth"] = [0, 1, 0, 1, 0, 1]
    table["predicted"] = table["truth"]
    found = permutation_test(table, "within_subject", n_permutations=50)
    assert found.score == 1.0
    assert found.n_permutations == 50
    # Every permutation keeps each person's classes, so each of them has a score below.
    assert 0.3 < found.mean < 0.7


def test_people_at_or_below_chance() -> None:
    scores = pd.Series([0.5, 0.1 + 0.4, 0.51, 0.2, np.nan])
    assert at_or_below_chance(scores, 0.5) == 3


def test_calibration_by_hand_and_by_scikit_learn() -> None:
    truth = np.array([1, 1, 0, 0])
    high = np.array([0.9, 0.6, 0.6, 0.2])
    p = np.stack([1 - high, high], axis=1)
    assert brier_score(truth, p) == pytest.approx(2 * brier_score_loss(truth, high))
    # Bins of confidence: 0.9 (right), 0.6 (one of two right), 0.8 (right).
    expected = (abs(1 - 0.9) + abs(1 - 1.2) + abs(1 - 0.8)) / 4
    assert calibration_error(truth, p) == pytest.approx(expected)
    curve = reject_curve(truth, p)
    assert curve["coverage"].tolist() == [0.25, 0.5, 1.0], "equal confidence goes together"
    assert curve["accuracy"].tolist() == [1.0, 1.0, 0.75]


def test_comparisons_of_a_study() -> None:
    """Scratch guesses, the pretrained one is right on nine of ten; per target, Holm over both."""
    rng = np.random.default_rng(7)
    rows = []
    for target in ("arousal", "valence"):
        base = answers(n_subjects=12, n_clips=16, seed=len(rows))
        for method, share in (("pretrained", 0.9), ("scratch", 0.5)):
            right = rng.random(len(base)) < share
            high = np.where(right, base["truth"], 1 - base["truth"]) * 0.6 + 0.2
            rows.append(
                base.assign(
                    target=target, method=method, seed=0, trial=base.index, p0=1 - high, p1=high
                )
            )
    table = comparisons(pd.concat(rows, ignore_index=True))
    against = table[table["reference"] == "scratch"]
    assert against["target"].tolist() == ["arousal", "valence"]
    assert (against["difference"].between(0.3, 0.5)).all()
    assert (against["low"] > 0).all()
    smaller, larger = sorted(against["p"])
    assert sorted(against["p_holm"]) == pytest.approx(
        sorted([2 * smaller, max(2 * smaller, larger)])
    )
    chance = table[table["reference"] == "chance"]
    assert (chance["difference"].between(0.3, 0.5)).all()
    assert (chance["low"] < chance["difference"]).all()
    assert (chance["difference"] < chance["high"]).all()
