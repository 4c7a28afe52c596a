"""k-shot: which trials a new person gives, what is learned from them, and what must not happen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from physiosync.baselines import BAND_POWER_PENALTY, band_power, band_power_features
from physiosync.classifier import predict
from physiosync.finetuning import fit_heads
from physiosync.kshot import ShotsConfig, adapt, draw_shots, kshot_rows, kshot_rows_of_features
from physiosync.kshot_curve import kshot_lines, kshot_table, left_out
from physiosync.labels import Labels
from physiosync.loading import of_same_people
from physiosync.scrutiny import too_few
from physiosync.splits import both_split, subject_split
from physiosync.tasks import FinetuneTask
from tests.test_finetuning_and_baselines import CONFIG, MODEL, MODELS, fresh, rated, written
from tests.test_new_people import PEOPLE, _workload

Floats = NDArray[np.float64]
LABELS = Labels(targets={"arousal": 2, "valence": 2})


# ---- which trials


def test_the_trials_of_more_shots_contain_those_of_fewer_and_draws_differ() -> None:
    candidates = np.arange(100, 108)
    orders = [draw_shots(candidates, "s1", draw=n, seed=0) for n in range(20)]
    assert all(sorted(order) == candidates.tolist() for order in orders)
    assert len({tuple(order[:2]) for order in orders}) > 10
    again = draw_shots(candidates[::-1], "s1", draw=3, seed=0)
    np.testing.assert_array_equal(again, orders[3])
    assert tuple(draw_shots(candidates, "s2", draw=3, seed=0)) != tuple(orders[3])


@pytest.mark.parametrize("protocol", ["subject", "both"])
def test_a_job_adapts_by_trials_that_it_does_not_test(tmp_path: Path, protocol: str) -> None:
    store = written(tmp_path, subjects=PEOPLE)
    split = {"subject": subject_split, "both": both_split}[protocol](store.trials, seed=1)
    workload = _workload(tmp_path, split).model_copy(update={"labels": LABELS})
    shots = ShotsConfig(trials=(1, 2, 64), draws=2)
    task = FinetuneTask(
        workload=workload,
        config=CONFIG.model_copy(update={"shots": shots}),
        encoder=None,
        network=MODEL,
        method="scratch",
        subject=None,
        seed=0,
        output=tmp_path / "out.parquet",
    )
    task.run()
    rows = pd.read_parquet(task.output)
    assert set(rows["stimulus"]) == set(split.test.stimuli)
    assert not set(split.test.stimuli) & set(split.calibration)
    assert set(rows["subject"]) == set(split.test.subjects)
    assert set(rows["shots"]) == {0, 1, 2}, "nobody has 64"
    assert set(rows.loc[rows["shots"] > 0, "available"]) == {len(split.calibration)}
    trials = rows.groupby(["shots", "target"])["trial"].unique().map(set)
    assert (trials == trials.iloc[0]).all(), "every k answers for the same trials"
    zero, kshot = rows[rows["shots"] == 0], rows[rows["shots"] > 0]
    (said,) = left_out(zero, kshot, shots.trials)
    assert said.startswith("k = 64 is left out: it needs 64 calibration trials a person, and ")


@pytest.mark.parametrize("family", MODELS)
def test_only_the_labels_of_calibration_trials_are_used(tmp_path: Path, family: str) -> None:
    """Those of test trials change nothing but the column of truth."""
    calibration, test = np.arange(6), np.array([6, 7])

    def rows(name: str, flipped: int | None) -> pd.DataFrame:
        def ratings(k: int) -> dict[str, float]:
            return {"arousal": 1.0, "valence": 1.0} if k == flipped else rated(k)

        store = written(tmp_path / name, ratings=ratings)
        plain = written(tmp_path / "plain")
        start = fit_heads(
            CONFIG, fresh(MODELS[family]), plain, everyone=np.arange(4), labels=LABELS, seed=0
        )
        return kshot_rows(
            ShotsConfig(trials=(6,), draws=1),
            start,
            store,
            scale=calibration,
            calibration=calibration,
            test=test,
            labels=LABELS,
            seed=0,
        )

    same, tested, shot = (rows(n, k) for n, k in (("same", None), ("tested", 6), ("shot", 0)))
    np.testing.assert_allclose(tested["p1"], same["p1"])
    assert not tested["truth"].equals(same["truth"])
    assert np.abs(shot["p1"] - same["p1"]).max() > 1e-3


def test_a_test_trial_is_no_calibration_trial(tmp_path: Path) -> None:
    store = written(tmp_path)
    start = fit_heads(CONFIG, fresh(), store, everyone=np.arange(4), labels=LABELS, seed=0)
    with pytest.raises(ValueError, match="expected calibration trials not to be tested, found 6"):
        kshot_rows(
            ShotsConfig(), start, store, scale=np.arange(8), calibration=np.arange(7),
            test=np.array([6, 7]), labels=LABELS, seed=0,
        )  # fmt: skip


def test_a_prior_without_spread_leaves_the_classifier_as_it_is(tmp_path: Path) -> None:
    store = written(tmp_path)
    start = fit_heads(CONFIG, fresh(), store, everyone=np.arange(4), labels=LABELS, seed=0)
    test = np.array([6, 7])
    rows = kshot_rows(
        ShotsConfig(trials=(4,), draws=1, spread=1e-6), start, store, scale=np.arange(6),
        calibration=np.arange(6), test=test, labels=LABELS, seed=0,
    )  # fmt: skip
    zero = predict(start, store, scale=np.arange(6), test=test, labels=LABELS)
    expected = zero.groupby(["target", "trial"])["p1"].mean()
    found = rows.set_index(["target", "trial"])["p1"]
    np.testing.assert_allclose(found.sort_index(), expected.sort_index(), atol=1e-6)


# ---- what is learned


@pytest.mark.parametrize("classes", [[0, 1, 1, 2], [0, 1, 1, 1], [1, 1, 1, 1]])
def test_it_is_the_map_estimate_of_weights_and_bias(classes: list[int]) -> None:
    """Found over the weights themselves; the bias is free only where shots show all classes."""
    rng = np.random.default_rng(0)
    x, logits, windows = rng.normal(size=(4, 6)), rng.normal(size=(4, 3)), rng.normal(size=(5, 6))
    y, spread = np.array(classes), 1.3
    share = {c: 4 / (len(set(classes)) * classes.count(c)) for c in classes}
    weight = np.array([share[c] for c in classes])
    free = float(len(set(classes)) == 3)

    def parts(flat: Floats) -> tuple[Floats, Floats]:
        return flat[:18].reshape(6, 3), free * flat[18:]

    def objective(flat: Floats) -> float:
        w, b = parts(flat)
        fit = log_softmax(logits + x @ w + b, axis=1)[np.arange(4), y] @ weight
        return float(-fit + flat @ flat / spread**2)

    best = minimize(objective, np.zeros(21), method="BFGS", options={"gtol": 1e-8})
    w, b = parts(best.x)
    found = adapt(x, logits, y, windows, spread=spread)
    np.testing.assert_allclose(found, windows @ w + b, atol=1e-4)


def person(rng: np.random.Generator, *, personal: float, n: int = 120) -> tuple[Floats, ...]:
    """Centred features, the pooled classifier's logits, and classes of one made-up person.

    Pooled logits hold the truth shifted by the person's own bias.
    """
    x = rng.normal(size=(n, 40)) / np.sqrt(40)
    y = rng.integers(2, size=n)
    log_odds = 1.5 * (2 * y - 1) + rng.normal(size=n) + personal
    return x, np.stack([-log_odds, log_odds], axis=1) / 2, y


def score(x: Floats, logits: Floats, y: Floats, k: int, labels: Floats | None = None) -> float:
    shown = y if labels is None else labels
    out = logits[20:]
    if k:
        out = out + adapt(x[:k], logits[:k], shown[:k], x[20:], spread=1.0)
    answer, truth = out.argmax(axis=1), y[20:]
    return float(np.mean([(answer[truth == c] == c).mean() for c in (0, 1)]))


def test_a_personal_bias_is_made_good_the_better_the_more_trials_there_are() -> None:
    rng = np.random.default_rng(1)
    people = [person(rng, personal=2.5 * rng.choice([-1, 1])) for _ in range(60)]
    means = [np.mean([score(*one, k) for one in people]) for k in (0, 2, 4, 8)]
    assert (np.diff(means) > 0.01).all(), means
    assert means[-1] > means[0] + 0.08, means


def test_one_trial_does_not_end_in_one_answer() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        x, logits, y = person(rng, personal=0.0)
        moved = adapt(x[:1], logits[:1], y[:1], x[20:], spread=1.0)
        before, after = (out.argmax(axis=1) for out in (logits[20:], logits[20:] + moved))
        assert 0.25 < after.mean() < 0.75
        assert (before != after).mean() < 0.25


@pytest.mark.parametrize("k", [1, 8])
def test_labels_that_mean_nothing_give_chance(k: int) -> None:
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(200):
        x, logits, y = person(rng, personal=0.0)
        scores.append(score(x, rng.permutation(logits), y, k, labels=rng.permutation(y)))
    assert abs(np.mean(scores) - 0.5) < 3 * np.std(scores) / np.sqrt(len(scores)) + 0.002


# ---- the table


def _rows(right: float, *, shots: int, draw: int, people: tuple[str, ...]) -> pd.DataFrame:
    """Ten trials a person, the first `right` of them answered rightly."""
    made = pd.DataFrame(
        [(s, f"v{c}", 10 * i + c, c % 2) for i, s in enumerate(people) for c in range(10)],
        columns=["subject", "stimulus", "trial", "truth"],
    )
    p = np.where(made["trial"] % 10 < 10 * right, made["truth"], 1 - made["truth"]).astype(float)
    return made.assign(
        target="arousal", start_seconds=0.0, p0=1 - p, p1=p, method="pretrained", seed=0,
        shots=shots, draw=draw, available=4,
    )  # fmt: skip


def test_scores_are_means_over_draws_and_a_k_that_someone_lacks_is_left_out() -> None:
    two = ("s1", "s2")
    zero = _rows(0.5, shots=0, draw=0, people=two).drop(columns=["shots", "draw", "available"])
    kshot = pd.concat(
        [
            _rows(0.6, shots=1, draw=0, people=two),
            _rows(0.8, shots=1, draw=1, people=two),
            _rows(1.0, shots=4, draw=0, people=("s1",)),
        ],
        ignore_index=True,
    )
    kshot.loc[kshot["subject"] == "s2", "available"] = 3
    table = kshot_table(zero, kshot).set_index("shots")
    assert list(table.index) == [0, 1]
    np.testing.assert_allclose(table["balanced_accuracy"], [0.5, 0.7])
    assert table.loc[1, "subjects"] == pytest.approx((0.7, 0.7))
    assert left_out(zero, kshot, (1, 4)) == [
        "k = 4 is left out: it needs 4 calibration trials a person, and s2 has 3"
    ]
    head, line = kshot_lines(table.reset_index(), "arousal")
    assert head.split()[-2:] == ["zero-shot", "k=1"]
    assert line.split()[-2:] == ["0.500", "0.700"]
    assert max(len(head), len(line)) <= 100


def test_few_people_or_clips_are_warned_of() -> None:
    many = tuple(f"s{k}" for k in range(5))
    assert too_few(_rows(1.0, shots=0, draw=0, people=many)) == []
    (said,) = too_few(_rows(1.0, shots=0, draw=0, people=("s1",)))
    assert said.startswith("WARNING: 1 test person: intervals")
    assert len(said) <= 100
    rows = _rows(1.0, shots=0, draw=0, people=many)
    (said,) = too_few(rows[rows["stimulus"].isin(["v0", "v1"])])
    assert "2 test clips" in said


def test_band_power_is_adapted_by_the_same_trials(tmp_path: Path) -> None:
    """With no spread it answers as the baseline does."""
    store = written(tmp_path, subjects=PEOPLE)
    split = subject_split(store.trials, seed=1)
    workload = _workload(tmp_path, split).model_copy(update={"labels": LABELS})
    train, test, scale = workload.final_trials(MODEL.long_times)
    mine = of_same_people(store.trials, scale, test)
    features = band_power_features(store, train=train, test=test, scale=scale)
    rows = kshot_rows_of_features(
        ShotsConfig(trials=(1, 2), draws=2, spread=1e-6), features, store.trials, train=train,
        calibration=mine, test=test, labels=LABELS, penalty=BAND_POWER_PENALTY, seed=0,
    )  # fmt: skip
    expected = band_power(store, train=train, test=test, labels=LABELS, scale=scale)
    for _, some in rows.groupby(["shots", "draw"]):
        both = some.merge(expected, on=["target", "trial"], suffixes=("", "_expected"))
        assert len(both) == len(expected)
        np.testing.assert_allclose(both["p1"], both["p1_expected"], atol=1e-4)
