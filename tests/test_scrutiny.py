"""What stands beside the scores: ratings as numbers, other rules, ceilings, order, permutations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from physiosync import scrutiny
from physiosync.analyses import ORDER, analyse
from physiosync.labels import Labels
from physiosync.predictions import trial_predictions
from physiosync.scrutiny_page import sections
from physiosync.statistics.noise_ceiling import consensus_scores
from physiosync.statistics.order import halves, tied_to_clips
from physiosync.statistics.permutation import permutation_test
from physiosync.statistics.regression import spearman_by_subject, spearman_interval
from physiosync.thresholds import median_classes, outside_the_middle

LABELS = Labels(targets={"arousal": 2, "valence": 2})
N_SUBJECTS, N_CLIPS = 8, 24


def cohort(*, drift: float = 0.0, signal: float = 1.0, seed: int = 0) -> tuple[pd.DataFrame, ...]:
    """Trials of people who saw the clips each in an own order, and 12 features of every trial.

    One feature follows arousal, one drifts over the session; the rest is noise.
    """
    rng = np.random.default_rng(seed)
    rows = [
        {"subject": f"s{s}", "stimulus": f"v{c}", "order": int(place) + 1}
        for s in range(N_SUBJECTS)
        for c, place in enumerate(rng.permutation(N_CLIPS))
    ]
    table = pd.DataFrame(rows)
    table["arousal"], table["valence"] = rng.uniform(1, 9, (2, len(table)))
    x = rng.normal(size=(len(table), 12))
    x[:, 0] += signal * (table["arousal"] - 5)
    x[:, 1] += drift * (table["order"] - N_CLIPS / 2) / N_CLIPS
    return table, pd.DataFrame(x, index=table.index)


def analysed(table: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Every third clip is tested."""
    tested = (table["stimulus"].str[1:].astype(int) % 3 == 0).to_numpy()
    train, test = (table.index[part].to_numpy() for part in (~tested, tested))
    rows = analyse(features, table, train=train, test=test, labels=LABELS, penalty=0.1)
    return rows.assign(method="band_power", seed=0)


# ---- ratings as numbers


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        [(f"s{s}", f"v{c}") for s in range(4) for c in range(9)], columns=["subject", "stimulus"]
    )
    rows["truth"] = rng.integers(1, 10, size=len(rows)).astype(float)
    rows["predicted"] = rows["truth"] + rng.normal(size=len(rows)) * 3
    rows = rows.drop(index=[3, 12, 13])  # trials that were never recorded
    found = spearman_by_subject(rows)
    for subject, mine in rows.groupby("subject"):
        expected = stats.spearmanr(mine["truth"], mine["predicted"]).statistic
        assert found[subject] == pytest.approx(expected), subject
    low, high = spearman_interval(rows)
    assert low < found.mean() < high


def test_a_constant_side_has_no_correlation() -> None:
    rows = pd.DataFrame({"subject": "s1", "stimulus": list("abc"), "truth": 5.0})
    assert spearman_by_subject(rows.assign(predicted=[1.0, 2.0, 3.0])).isna().all()
    assert np.isnan(spearman_interval(rows.assign(predicted=[1.0, 2.0, 3.0]))).all()


def test_a_rating_that_features_follow_is_found_and_one_that_they_do_not_is_not() -> None:
    table = scrutiny.rating_table(analysed(*cohort())).set_index("target")
    assert table.loc["arousal", "spearman"] > 0.6
    assert table.loc["arousal", "low"] > 0.4
    assert table.loc["arousal", "n_positive"] == N_SUBJECTS
    assert table.loc["valence", "low"] < 0 < table.loc["valence", "high"]


def test_how_people_use_the_scale_is_no_matter() -> None:
    """Neither of those who are trained on nor in what they are asked."""
    table, features = cohort()
    shifted = table.assign(arousal=table["arousal"] + 50 * table["subject"].str[1:].astype(int))
    before, after = (scrutiny.rating_table(analysed(t, features)) for t in (table, shifted))
    columns = ["spearman", "low", "high"]
    np.testing.assert_allclose(after.loc[0, columns].tolist(), before.loc[0, columns].tolist())


# ---- other rules for what is high


def test_the_middle_is_dropped_with_both_its_ends() -> None:
    rows = pd.DataFrame({"rating": [4.4, 4.5, 5.0, 5.5, 5.6, np.nan]})
    assert outside_the_middle(rows, 5.0)["rating"].tolist() == [4.4, 5.6]


def test_the_median_is_of_a_persons_training_ratings() -> None:
    table = pd.DataFrame(
        {
            "subject": ["s1"] * 4 + ["s2"] * 2 + ["s3"] * 2,
            "arousal": [1.0, 2.0, 3.0, 2.0, 8.0, 9.0, 2.5, 7.0],
        }
    )
    # s1's training median is 2, s2 has one training trial, s3 none: the median of 1, 2, 3, 8.
    classes = median_classes(table, "arousal", np.array([0, 1, 2, 4]))
    assert classes.tolist() == [0, 1, 1, 1, 1, 1, 1, 1]
    table.loc[7, "arousal"] = np.nan
    assert median_classes(table, "arousal", np.array([0, 1, 2, 4]))[7] == -1


def predictions(answers: np.ndarray, ratings: np.ndarray, **names: object) -> pd.DataFrame:
    """Of one method: a row a trial; answers are whether a trial is answered "high"."""
    n_subjects, n_clips = ratings.shape
    rows = pd.DataFrame(
        [
            (f"s{s}", f"v{c}", n_clips * s + c, float(ratings[s, c]))
            for s in range(n_subjects)
            for c in range(n_clips)
        ],
        columns=["subject", "stimulus", "trial", "rating"],
    )
    p = np.where(answers.ravel(), 0.9, 0.1)
    return rows.assign(
        truth=(rows["rating"] >= 5).astype(int), p0=1 - p, p1=p, start_seconds=0.0,
        **{"target": "arousal", "method": "pretrained", "seed": 0} | names,
    )  # fmt: skip


def test_scores_without_the_middle_are_of_the_clear_trials() -> None:
    ratings = np.tile([1.0, 4.8, 5.2, 9.0, 2.0, 8.0], (6, 1))
    answers = np.array(ratings >= 5)
    answers[:, 1:3] = ~answers[:, 1:3]  # only the unclear ones are wrong
    rows = predictions(answers, ratings)
    (row,) = scrutiny.rule_table(rows, pd.DataFrame(), LABELS).to_dict("records")
    assert (row["rule"], row["n_trials"]) == ("without 4.5 to 5.5", 24)
    assert row["balanced_accuracy"] == pytest.approx(1.0)


def test_the_median_rule_scores_a_model_that_was_fitted_to_it() -> None:
    """Ratings that are all high by the study's rule."""
    table, features = cohort()
    table["arousal"] = 5 + table["arousal"] / 3
    rules = scrutiny.rule_table(pd.DataFrame(), analysed(table, features), LABELS)
    median = rules[rules["target"] == "arousal"].iloc[0]
    assert median["rule"] == "each person's median"
    assert median["balanced_accuracy"] > 0.65


# ---- the ceiling


def test_consensus_is_what_the_others_said() -> None:
    trials = pd.DataFrame(
        [
            # Two say 1 and one 0: right for the two (1 : 1 is a tie), wrong for the one.
            ("s1", "a", 1), ("s2", "a", 1), ("s3", "a", 0),
            # All alike.
            ("s1", "b", 0), ("s2", "b", 0), ("s3", "b", 0),
            # Two people only: each has one other.
            ("s1", "c", 1), ("s2", "c", 1),
        ],
        columns=["subject", "stimulus", "truth"],
    )  # fmt: skip
    found = consensus_scores(trials).set_index(["stimulus", "subject"])["score"]
    assert found["a"].to_dict() == {"s1": 0.5, "s2": 0.5, "s3": 0.0}
    assert found["b"].tolist() == [1, 1, 1]
    assert "c" not in found


# ---- order


def test_halves_of_a_session() -> None:
    table = pd.DataFrame({"subject": ["a"] * 5 + ["b"] * 2, "order": [5, 1, 2, 4, 3, 9, 7]})
    assert halves(table).tolist() == [1, 0, 0, 1, 0, 1, 0]


def test_one_order_for_all_is_no_drift(tmp_path: Path) -> None:
    table, features = cohort(drift=20.0)
    assert not tied_to_clips(table)
    same = table.assign(order=table["stimulus"].str[1:].astype(int))
    assert tied_to_clips(same)
    rows = analysed(same, features)
    assert "order" not in set(rows["analysis"])
    found = scrutiny_of(tmp_path, predictions(np.ones((6, 6)), np.ones((6, 6))), rows)
    assert "drift can't be told from clips" in "".join(sections(found, "x"))


def test_a_planted_drift_is_found_and_none_where_there_is_none() -> None:
    (drifted,) = scrutiny.order_table(analysed(*cohort(drift=8.0))).to_dict("records")
    assert drifted["balanced_accuracy"] > 0.8
    assert drifted["p"] < 0.001
    still = [
        scrutiny.order_table(analysed(*cohort(seed=seed))).loc[0, "balanced_accuracy"]
        for seed in range(10)
    ]
    assert abs(np.mean(still) - 0.5) < 0.04


def test_the_target_of_order_is_no_emotion() -> None:
    rows = analysed(*cohort())
    assert set(rows.loc[rows["analysis"] == "order", "target"]) == {ORDER}


# ---- on the page


def scrutiny_of(folder: Path, rows: pd.DataFrame, analyses: pd.DataFrame) -> scrutiny.Scrutiny:
    if len(analyses):
        analyses.to_parquet(folder / "analyses.parquet")
    return scrutiny.read([folder], rows, LABELS, (1,), held_out=False)


def test_the_page_shows_the_ps_of_both_permutations(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ratings = np.tile(rng.uniform(1, 9, 12), (7, 1))
    answers = (ratings >= 5) ^ (rng.random(ratings.shape) < 0.4)
    rows = predictions(answers, ratings)
    found = scrutiny_of(tmp_path, rows, analysed(*cohort(drift=8.0)))
    table = found.permutations.iloc[0]
    trials = trial_predictions(rows)
    within, clip = (permutation_test(trials, kind) for kind in ("within_subject", "whole_clip"))
    assert (table["p_within_subject"], table["p_whole_clip"]) == (within.p, clip.p)
    assert within.p != clip.p
    html = "".join(sections(found, "SYNTHETIC cohort"))
    for p in (within.p, clip.p):
        assert f"<td>{p:.3f}</td>" in html or "<td>&lt;0.001</td>" in html
    for part in ("Ratings as numbers", "Other rules", "Drift", "Answering only when sure"):
        assert part in html
    assert html.count("SYNTHETIC cohort") >= 6
    assert ">nan<" not in html


def test_rejects_are_of_the_most_confident_and_never_of_a_few() -> None:
    """Twenty trials: the ten surest are right, of the unsure ones every other."""
    ratings = np.full((2, 10), 9.0)
    rows = predictions(np.ones((2, 10), dtype=bool), ratings)
    rows["p1"] = [*np.linspace(0.99, 0.9, 10), *(0.6, 0.45) * 5]
    rows["p0"] = 1 - rows["p1"]
    curve = scrutiny.reject_table(rows)
    # 0.6 and 1 - 0.45: trials of equal confidence are answered together.
    assert curve["coverage"].tolist() == [0.5, 0.75, 1.0]
    np.testing.assert_allclose(curve["accuracy"], [1, 1, 0.75])
    few = predictions(np.ones((1, 4), dtype=bool), np.full((1, 4), 9.0))
    assert not len(scrutiny.reject_table(few))


@pytest.mark.parametrize("held_out", [False, True])
def test_a_curve_that_nobody_can_give_is_said_where_one_is_expected(
    held_out: bool, tmp_path: Path
) -> None:
    """As where calibration trials have no label."""
    rows = predictions(np.ones((2, 10), dtype=bool), np.full((2, 10), 9.0))
    found = scrutiny.read([tmp_path], rows, LABELS, (1, 2), held_out=held_out)
    html = "".join(sections(found, "SYNTHETIC cohort"))
    assert ("k = 1 is left out" in html) == ("With labelled trials" in html) == held_out


def test_what_some_folds_lack_is_said(tmp_path: Path) -> None:
    folds = [tmp_path / f"fold-{k}" for k in (1, 2, 3)]
    for fold in folds:
        fold.mkdir()
    assert scrutiny.missing(folds) == []
    for fold in folds[:2]:
        (fold / "kshot.parquet").touch()
    (said,) = scrutiny.missing(folds)
    assert "k-shot" in said
    assert "fold-3" in said
