import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from physiosync.labels import Labels
from physiosync.predictions import prediction_rows, scores_of, trial_predictions
from physiosync.scoring import (
    balanced_accuracy,
    chance_corrected,
    mean_by,
    score_by_subject,
)
from physiosync.statistics.bootstrap import two_way_interval
from physiosync.statistics.scores import correctness
from physiosync.tables import main_table


@pytest.mark.parametrize(
    ("arousal", "valence", "expected"),
    [
        (9, 9, (1, 1, 0)),
        (9, 1, (1, 0, 1)),
        (1, 9, (0, 1, 2)),
        (1, 1, (0, 0, 3)),
        (5, 5, (1, 1, 0)),  # on the threshold is high, for quadrants too
        (4.99, 5, (0, 1, 2)),
        (np.nan, 5, (-1, 1, -1)),
    ],
)
def test_classes(arousal: float, valence: float, expected: tuple[int, int, int]) -> None:
    table = pd.DataFrame({"arousal": [arousal], "valence": [valence]})
    found = tuple(int(Labels().classes(table, t)[0]) for t in ("arousal", "valence", "quadrant"))
    assert found == expected


def test_unknown_target_is_refused() -> None:
    with pytest.raises(ValueError, match="'joy'"):
        Labels().classes(pd.DataFrame({"joy": [1.0]}), "joy")
    with pytest.raises(ValueError, match="rating 'arousal'"):
        Labels().classes(pd.DataFrame({"joy": [1.0]}), "arousal")


def test_a_column_may_hold_the_class_itself() -> None:
    labels = Labels(targets={"task": 3}, threshold=None)
    table = pd.DataFrame({"task": [0.0, 2.0, np.nan, 1.0]}, index=[5, 6, 7, 8])
    assert labels.classes(table, "task").to_dict() == {5: 0, 6: 2, 7: -1, 8: 1}
    assert labels.objective == ("task",)
    assert Labels().objective == ("arousal", "valence")
    for wrong in (3.0, 0.5, -1.0):
        with pytest.raises(ValueError, match=f"from 0 to 2, but got {wrong:g}"):
            labels.classes(pd.DataFrame({"task": [wrong]}), "task")


def test_tables_of_any_number_of_classes_are_scored_alike() -> None:
    table = pd.DataFrame({"subject": "s1", "stimulus": list("abc"), "task": [0.0, 1.0, 2.0]})
    rows = prediction_rows(
        table,
        np.arange(3),
        np.zeros(3),
        "task",
        np.eye(3),
        labels=Labels(targets={"task": 3}, threshold=None),
        sfreq=128.0,
    )
    found = main_table(rows.assign(method="majority", seed=0)).iloc[0]
    assert found["balanced_accuracy"] == 1.0
    assert found["n_classes"] == 3


def test_balanced_accuracy_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, predicted = rng.integers(4, size=(2, 30))
        assert balanced_accuracy(truth, predicted) == pytest.approx(
            balanced_accuracy_score(truth, predicted)
        )


def test_one_class_has_no_balanced_accuracy() -> None:
    assert np.isnan(balanced_accuracy(np.ones(5, dtype=int), np.ones(5, dtype=int)))


def test_chance_is_zero_whatever_the_classes() -> None:
    assert chance_corrected(0.5, 2) == chance_corrected(0.25, 4) == 0.0
    assert chance_corrected(1.0, 4) == 1.0


def test_mean_by_keeps_groups_apart() -> None:
    p = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    groups, mean = mean_by(p, np.array([7, 3, 7]))
    assert groups.tolist() == [3, 7]
    np.testing.assert_allclose(mean, [[1.0, 0.0], [0.25, 0.75]])


def _table(rng: np.random.Generator, n_subjects: int, n_clips: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"subject": f"s{s}", "stimulus": f"v{c}", "truth": rng.integers(2), "predicted": 0}
            for s in range(n_subjects)
            for c in range(n_clips)
        ]
    )


def test_knowing_a_persons_base_rate_does_not_pay() -> None:
    rng = np.random.default_rng(1)
    table = _table(rng, 2, 40)
    # One person says "high" nearly always, the other nearly never; answer just that.
    high = table["subject"] == "s0"
    table["truth"] = np.where(rng.random(80) < 0.9, high, ~high).astype(int)
    table["predicted"] = high.astype(int)
    assert balanced_accuracy(table["truth"].to_numpy(), table["predicted"].to_numpy()) > 0.8
    assert score_by_subject(table).mean() == 0.5


def test_interval_is_wider_when_errors_belong_to_clips() -> None:
    """A bootstrap over subjects alone would not see it."""
    rng = np.random.default_rng(2)
    table = _table(rng, 16, 8)
    of_clip = table["stimulus"].map({f"v{c}": rng.random() < 0.6 for c in range(8)})
    alone = pd.Series(rng.random(len(table)) < 0.6)
    widths = []
    for right in (of_clip, alone):
        table["predicted"] = np.where(right, table["truth"], 1 - table["truth"])
        low, high = two_way_interval(correctness([table]), seed=0)
        assert low < score_by_subject(table).mean() < high
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


def test_trial_scores_come_from_mean_probabilities() -> None:
    table = pd.DataFrame(
        {"subject": "s1", "stimulus": ["a", "b"], "arousal": [9.0, 1.0], "valence": [9.0, 1.0]},
        index=[4, 9],
    )
    # Two of three windows of trial 4 say "low", but weakly.
    p_high = np.array([0.45, 0.45, 0.95, 0.1, 0.2, 0.9])
    rows = prediction_rows(
        table,
        np.array([4, 4, 4, 9, 9, 9]),
        np.arange(6) * 128,
        "valence",
        np.stack([1 - p_high, p_high], axis=1),
        labels=Labels(),
        sfreq=128.0,
    )
    assert trial_predictions(rows)["predicted"].tolist() == [1, 0]
    scores = scores_of(rows).set_index("level")
    assert scores.loc["trial", "balanced_accuracy"] == 1.0
    assert scores.loc["window", "balanced_accuracy"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert scores.loc["trial", "n"] == 2
    assert rows["start_seconds"].tolist() == [0, 1, 2, 3, 4, 5]


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(40):
        table = _table(rng, 12, 12)
        right = rng.random(len(table)) < 0.7
        table["predicted"] = np.where(right, table["truth"], 1 - table["truth"])
        low, high = two_way_interval(correctness([table]), n_resamples=200)
        inside += low <= 0.7 <= high
    assert stats.binomtest(inside, 40, 0.95).pvalue > 1e-3
