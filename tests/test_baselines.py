"""The classical baselines: each finds what was planted where it looks, and nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from physiosync.baselines.classifiers import svm_probabilities
from physiosync.baselines.covariance import tangent_features
from physiosync.baselines.features import Trials
from physiosync.baselines.methods import CLASSICAL, answer
from physiosync.baselines.probe import frozen_probe
from physiosync.baselines.spectral import ENTROPY_BANDS, entropy_of
from physiosync.evaluation import absent_methods, tasks_on_test_part
from physiosync.labels import Labels
from physiosync.preprocessing import PreprocessingConfig
from physiosync.probing import ProbeConfig
from physiosync.recordings.base import Channels, Recording, Trial
from physiosync.scoring import balanced_accuracy
from physiosync.shards import write_shard
from physiosync.splits import Part, Split
from physiosync.tasks import BaselineTask, Workload
from physiosync.windows import WindowStore
from tests.test_finetuning_and_baselines import CONFIG, LABELS, TEST, TRAIN, fresh, written

SFREQ = 128.0
N_TIMES = round(6 * SFREQ)
PEOPLE = ("s1", "s2", "s3", "s4")
#: Clips that people are scaled on, trained on and tested on.
SCALE, LEARNED, ASKED = range(8), range(8, 22), range(22, 34)
#: What each target is planted in: EEG, skin and breath, eyes and muscles.
PLANTED = Labels(targets={"arousal": 2, "valence": 2, "dominance": 2})
#: Method -> the targets that it can tell.
READS = {
    "peripheral": {"valence"},
    "artefacts": {"dominance"},
    "band_power": {"arousal"},
    "entropy": {"arousal"},
    "entropy_svm": {"arousal"},
    "entropy_peripheral": {"arousal", "valence"},
    "riemann": {"arousal"},
}

Drop = Callable[[str, int], Sequence[str]]


def high(subject: str, k: int) -> NDArray[np.bool_]:
    """Whether each target of trial k is high: of no two people alike."""
    return np.random.default_rng([k, *subject.encode()]).random(3) < 0.5


def signals(subject: str, k: int) -> dict[str, NDArray[np.float32]]:
    """Average-referenced EEG of four channels, of which one is broken in s2; gsr, eog, emg."""
    rng = np.random.default_rng([99, k, *subject.encode()])
    seconds = np.arange(N_TIMES) / SFREQ
    brain, skin, eyes = high(subject, k)
    gain = 1.0 + PEOPLE.index(subject)
    alpha = (3.0 if brain else 1.5) * np.sin(2 * np.pi * 10 * seconds + rng.uniform(0, 6))
    eeg = rng.standard_normal((4, N_TIMES)) + np.outer([1.0, 0.5, 0.0, -0.5], alpha)
    eeg -= eeg.mean(axis=0)
    if subject == "s2":
        eeg[3] = 0
    gsr = 0.1 * rng.standard_normal((1, N_TIMES)) + (0.2 if skin else -0.2) * (seconds - 3)
    slow = (4.0 if eyes else 2.0) * np.sin(2 * np.pi * 1.0 * seconds + rng.uniform(0, 6))
    made = {
        "eeg": gain * eeg,
        "gsr": gain * gsr,
        "eog": gain * (rng.standard_normal((1, N_TIMES)) + slow),
        "emg": rng.standard_normal((1, N_TIMES)),
    }
    return {name: x.astype(np.float32) for name, x in made.items()}


def shards(
    folder: Path,
    *,
    drop: Drop = lambda subject, k: (),
    turned: Sequence[int] = (),
) -> Path:
    """One file a person; of the clips `turned` all ratings are the opposite."""
    for subject in PEOPLE:
        trials = []
        for k in range(ASKED.stop):
            ratings = high(subject, k) ^ (k in turned)
            given = zip(PLANTED.targets, np.where(ratings, 8.0, 2.0).tolist(), strict=True)
            kept = {n: x for n, x in signals(subject, k).items() if n not in drop(subject, k)}
            trials.append(
                Trial(stimulus=f"v{k}", order=k + 1, signals=kept, baseline={}, ratings=dict(given))
            )
        channels = {
            "eeg": Channels(("E0", "E1", "E2", "E3"), "uV", SFREQ),
            "gsr": Channels(("GSR",), "log10(uS)", SFREQ),
            "eog": Channels(("EOG",), "uV", SFREQ),
            "emg": Channels(("EMG",), "uV", SFREQ),
        }
        held = {name for trial in trials for name in trial.signals}
        recording = Recording(
            dataset="made-up",
            subject=subject,
            modalities={name: c for name, c in channels.items() if name in held},
            trials=tuple(trials),
            source=Path(f"{subject}.made-up"),
            fingerprint=f"{folder}-{subject}",
        )
        write_shard(recording, folder / "shards", PreprocessingConfig())
    return folder / "shards"


def opened(folder: Path) -> WindowStore:
    return WindowStore.open(folder, ("eeg", "gsr", "eog", "emg"), folder.parent / "cache")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return opened(shards(tmp_path_factory.mktemp("planted")))


@pytest.fixture(scope="module")
def otherwise_rated(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    """The same signals, but every trial that is not trained on has the opposite ratings."""
    folder = tmp_path_factory.mktemp("otherwise")
    return opened(shards(folder, turned=[*SCALE, *ASKED]))


def parts(store: WindowStore) -> Trials:
    number = store.trials["order"] - 1
    train, test, scale = (
        store.trials.index[number.isin(each)].to_numpy() for each in (LEARNED, ASKED, SCALE)
    )
    return Trials(train=train, test=test, scale=scale)


def answers(method: str, store: WindowStore) -> pd.DataFrame:
    modalities = ("eog", "emg") if method == "artefacts" else ("gsr",)
    return answer(
        method, store, parts(store), PLANTED, modalities=modalities, grouped_by="stimulus"
    )


@pytest.mark.parametrize("method", READS)
def test_tells_what_is_planted_where_it_looks_and_nothing_else(
    planted: WindowStore, method: str
) -> None:
    """Targets that are planted elsewhere are labels that its features know nothing of."""
    found = answers(method, planted)
    assert len(found) == len(PEOPLE) * len(ASKED) * len(PLANTED.targets)
    np.testing.assert_allclose(found["p0"] + found["p1"], 1.0)
    for target, rows in found.groupby("target"):
        score = balanced_accuracy(rows["truth"].to_numpy(), (rows["p1"] > 0.5).to_numpy(np.int64))
        if target in READS[method]:
            assert score > 0.9, target
        else:
            assert 0.3 < score < 0.7, target


def test_every_classical_baseline_is_looked_at() -> None:
    assert {*CLASSICAL} == {"majority", "clip_consensus", *READS}


@pytest.mark.parametrize("method", CLASSICAL)
def test_ratings_of_test_and_scale_trials_are_never_used(
    planted: WindowStore, otherwise_rated: WindowStore, method: str
) -> None:
    before, after = answers(method, planted), answers(method, otherwise_rated)
    assert (before["truth"] == 1 - after["truth"]).all(), "they do differ"
    copied = ["truth", "rating"]
    pd.testing.assert_frame_equal(before.drop(columns=copied), after.drop(columns=copied))


@pytest.mark.parametrize("method", ["band_power", "entropy", "entropy_svm", "riemann"])
def test_a_trial_without_any_signal_gets_an_answer(tmp_path: Path, method: str) -> None:
    def flat(
        subject: str, k: int, given: dict[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        return given | {"eeg": 0 * given["eeg"]} if k in (2, 6) else given

    store = written(tmp_path, change=flat)
    trials = Trials(train=TRAIN, test=TEST, scale=TRAIN)
    found = answer(method, store, trials, LABELS, modalities=("gsr",), grouped_by="stimulus")
    assert np.isfinite(found[["p0", "p1"]]).all(axis=None)


def test_an_unknown_method_is_refused(planted: WindowStore) -> None:
    with pytest.raises(ValueError, match=r"method must be one of majority, .* but got 'guess'"):
        answers("guess", planted)


# ---- features


def test_entropy_is_that_of_white_noise_in_each_band() -> None:
    """In a band of b Hz, white noise of variance v at f Hz has v * b / (f / 2)."""
    x = 3.0 * np.random.default_rng(0).standard_normal((500 * 128, 2))
    found = entropy_of(x, 128.0).reshape(len(ENTROPY_BANDS), 2)
    for (low, high_), row in zip(ENTROPY_BANDS.values(), found, strict=True):
        expected = 0.5 * np.log(2 * np.pi * np.e * 9.0 * (high_ - low) / 64.0)
        # The logarithm of a few frequencies' power lies below that of its mean.
        assert (row < expected).all()
        np.testing.assert_allclose(row, expected, atol=1.2 / (high_ - low) / 2)
    np.testing.assert_allclose(entropy_of(2 * x, 128.0).reshape(-1, 2) - found, np.log(2))


def test_entropy_knows_the_band_and_leaves_out_what_the_rate_can_not_hold() -> None:
    seconds = np.arange(20 * 128) / 128
    x = 0.1 * np.random.default_rng(0).standard_normal((len(seconds), 1))
    loud = x + np.sin(2 * np.pi * 16 * seconds)[:, None]
    change = entropy_of(loud, 128.0) - entropy_of(x, 128.0)
    assert change.argmax() == list(ENTROPY_BANDS).index("low beta")
    assert (np.delete(change, 2) < 0.05).all()
    assert len(entropy_of(x, 48.0)) == 4
    assert np.isfinite(entropy_of(x[:50], 128.0)).all(), "shorter than a window"
    assert np.isfinite(entropy_of(0 * x, 128.0)).all()


def test_covariances_are_centred_for_each_person(planted: WindowStore) -> None:
    """Whatever a person's gain and reference: the mean over the scale trials is the origin."""
    trials = parts(planted)
    features = tangent_features(planted, trials)
    people = planted.trials["subject"].loc[trials.scale]
    means = features.loc[trials.scale].groupby(people).mean()
    assert len(features.columns) == 10
    spread = features.loc[trials.scale].std().mean()
    assert (means.max(axis=None) - means.min(axis=None)) < spread


# ---- the support vector machine


def test_svm_probabilities_follow_its_decisions_also_where_there_is_nothing_to_learn() -> None:
    rng = np.random.default_rng(3)
    x, test_x = rng.standard_normal((40, 30)), rng.standard_normal((200, 30))
    groups = np.repeat(np.arange(8), 5).astype(str)
    for n_classes in (2, 3):
        y = rng.integers(n_classes, size=40)
        p = svm_probabilities(x, y, groups, test_x, n_classes, penalty=0.01)
        np.testing.assert_allclose(p.sum(axis=1), 1.0)
        machine = make_pipeline(StandardScaler(), LinearSVC(C=0.01, dual=False)).fit(x, y)
        np.testing.assert_array_equal(p.argmax(axis=1), machine.predict(test_x))
        if n_classes == 2:
            order = np.argsort(machine.decision_function(test_x))
            assert (np.diff(p[order, 1]) > 0).all()


def test_svm_is_as_sure_as_it_is_right_on_groups_that_it_does_not_know() -> None:
    """Here all that can be learned is which group a trial is of."""
    rng = np.random.default_rng(0)
    which = np.repeat(np.arange(20), 4)
    x = 5.0 * np.eye(20)[which] + 0.1 * rng.standard_normal((80, 20))
    y = rng.permutation(np.arange(20) % 2)[which]
    sure = svm_probabilities(x, y, np.arange(80).astype(str), x, 2, penalty=1.0)
    unsure = svm_probabilities(x, y, which.astype(str), x, 2, penalty=1.0)
    assert np.abs(sure - 0.5).mean() > 0.4
    assert np.abs(unsure - 0.5).mean() < 0.1


def test_svm_of_one_class_and_of_one_group() -> None:
    x = np.random.default_rng(0).standard_normal((6, 3))
    groups = np.array(["v"] * 6)
    ones = svm_probabilities(x, np.full(6, 2), groups, x, 4, penalty=1.0)
    np.testing.assert_array_equal(ones, np.tile([0.0, 0.0, 1.0, 0.0], (6, 1)))
    two = svm_probabilities(x, np.array([0, 0, 0, 3, 3, 3]), groups, x, 4, penalty=1.0)
    assert (two[:, 1:3] == 0).all()
    np.testing.assert_allclose(two.sum(axis=1), 1.0)


# ---- frozen encoders, one modality alone


def test_a_probe_of_one_modality_knows_nothing_of_the_other(tmp_path: Path) -> None:
    def other_skin(
        subject: str, k: int, given: dict[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        return given | {"gsr": given["gsr"][:, ::-1] ** 2}

    stores = written(tmp_path / "a"), written(tmp_path / "b", change=other_skin)
    differs = {}
    for roles in (("eeg",), ("pps",), ("eeg", "pps")):
        one, two = (
            frozen_probe(
                fresh(), store, train=TRAIN, test=TEST, labels=LABELS, penalty=0.1, roles=roles
            )["p0"]
            for store in stores
        )
        differs[roles] = not np.allclose(one, two, atol=1e-6)
    assert differs == {("eeg",): False, ("pps",): True, ("eeg", "pps"): True}


# ---- what is not recorded


def _tasks(folder: Path, **where: Drop) -> tuple[set[str], list[str], Workload]:
    place = shards(folder, **where)
    people = tuple(PEOPLE)

    def part(numbers: range) -> Part:
        return Part(subjects=people, stimuli=tuple(f"v{k}" for k in numbers))

    workload = Workload(
        shards=tuple(sorted(place.glob("*.parquet"))),
        pps=("gsr",),
        split=Split(seed=0, train=part(LEARNED), validation=part(SCALE), test=part(ASKED)),
        labels=PLANTED,
        probe=ProbeConfig(),
        cache=folder / "cache",
    )
    fresh().save_pretrained(folder / "best" / "rank-1", metrics={"configuration": "c"})
    tasks = tasks_on_test_part(folder, workload, CONFIG, seed=0)
    read = {m for task in tasks if isinstance(task, BaselineTask) for m in task.artefacts}
    for task in tasks:
        if isinstance(task, BaselineTask) and task.method == "artefacts":
            task.run()
            assert set(pd.read_parquet(task.output)["method"]) == {"artefacts"}
    return read, absent_methods(folder, workload), workload


def test_artefacts_are_read_where_they_were_recorded(tmp_path: Path) -> None:
    read, said, _ = _tasks(tmp_path)
    assert (read, said) == ({"eog", "emg"}, [])


def test_artefacts_that_some_trials_lack_are_left_out_and_said(tmp_path: Path) -> None:
    def drop(subject: str, k: int) -> Sequence[str]:
        return ("eog",) if (subject, k) == ("s3", ASKED.start) else ()

    read, said, _ = _tasks(tmp_path, drop=drop)
    assert read == {"emg"}
    assert said == ["no control for artefacts by EOG, which 1 of 136 trials lack"]


def test_artefacts_that_nobody_recorded_give_no_row_and_are_said(tmp_path: Path) -> None:
    read, said, workload = _tasks(tmp_path, drop=lambda subject, k: ("eog", "emg"))
    assert not read
    assert said == [
        "no control for artefacts by EOG, which was not recorded",
        "no control for artefacts by EMG, which was not recorded",
    ]
    assert workload.recorded_modalities() == {"eeg", "gsr"}


NOT_FINITE = "its loss did not stay finite"


@pytest.mark.parametrize(
    ("diverged", "best_epoch", "row"), [(False, 2, True), (True, 2, False), (False, 0, False)]
)
def test_training_on_everyone_that_ended_early_gives_no_row_and_is_said(
    tmp_path: Path, diverged: bool, best_epoch: int, row: bool
) -> None:
    metrics = {"diverged": diverged, "best_epoch": best_epoch}
    fresh().save_pretrained(tmp_path / "tune" / "encoders" / "scratch-pooled-c", metrics=metrics)
    _, said, workload = _tasks(tmp_path)
    tasks = tasks_on_test_part(tmp_path, workload, CONFIG, seed=0)
    assert ("scratch_pooled" in {task.method for task in tasks}) == row
    assert said == ([] if row else [f"no training from scratch on everyone: {NOT_FINITE}"])
