"""Fine-tuning and baselines: what they predict, what they may read, and what they must not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from physiosync.baselines import band_power, frozen_probe, majority
from physiosync.encoders import EncoderConfig
from physiosync.errors import SplitError
from physiosync.evaluation import tasks_on_test_part
from physiosync.finetuning import FinetuningConfig, finetune, fit_heads
from physiosync.kshot import ShotsConfig
from physiosync.labels import Labels
from physiosync.loading import Loader
from physiosync.model import PhysioSync
from physiosync.model_config import ModelConfig
from physiosync.preprocessing import PreprocessingConfig
from physiosync.probing import ProbeConfig, covering_windows, embedding, fit_predict
from physiosync.recordings.base import Channels, Recording, Trial
from physiosync.scaling import fit_scaling
from physiosync.shards import write_shard
from physiosync.splits import Part, Split
from physiosync.tasks import BaselineTask, FinetuneTask, Workload
from physiosync.windows import WindowStore

SFREQ = 64.0
SECONDS = 10.0
N_TRIALS = 8
#: Samples of a long window: three pieces of a second.
LONG = 192
TRAIN = np.array([0, 1, 2, 3, 4, 5])
TEST = np.array([6, 7])
MODEL = ModelConfig(
    encoder=EncoderConfig(width=16, depth=1, heads=2, projector=(16, 8), cmca=8),
    sfreq=SFREQ,
    eeg_channels=("E0", "E1"),
    pps_channels={"gsr": ("GSR",)},
    pps_lag_seconds={"gsr": 0.5},
    short_seconds=1.0,
    long_pieces=3,
    scaling="robust",
)
#: The default family, and the paper's with its fusion classifier.
MODELS = {
    "patch": MODEL,
    "multiview": MODEL.model_copy(
        update={
            "encoder": EncoderConfig(
                family="multiview", width_per_second=8, depth=1, heads=2, projector=(8,), cmca=8
            )
        }
    ),
}
LABELS = Labels()
CONFIG = FinetuningConfig(
    head_epochs=2, epochs=2, batch_size=12, shots=ShotsConfig(trials=(1, 2), draws=2)
)
LONG_ENOUGH = FinetuningConfig(head_epochs=15, epochs=15, batch_size=12)

Signals = dict[str, NDArray[np.float32]]
Change = Callable[[str, int, Signals], Signals]


def high(k: int) -> tuple[bool, bool]:
    """Whether arousal and valence of trial k are high: four quadrants in turn."""
    return k % 2 == 0, k % 4 < 2


def separable(subject: str, k: int) -> Signals:
    """Arousal decides the level of the first EEG channel, valence that of the skin."""
    rng = np.random.default_rng([k, *subject.encode()])
    arousal, valence = high(k)
    eeg = rng.standard_normal((2, round(SECONDS * SFREQ)))
    gsr = rng.standard_normal((1, round(SECONDS * SFREQ)))
    eeg[0] += 4 if arousal else -4
    gsr[0] += 4 if valence else -4
    return {"eeg": eeg.astype(np.float32), "gsr": gsr.astype(np.float32)}


def rated(k: int) -> dict[str, float]:
    arousal, valence = high(k)
    return {"arousal": 7.0 if arousal else 2.0, "valence": 8.0 if valence else 3.0}


def written(
    folder: Path,
    *,
    subjects: tuple[str, ...] = ("s1",),
    change: Change = lambda subject, k, signals: signals,
    ratings: Callable[[int], Mapping[str, float]] = rated,
) -> WindowStore:
    """Shards of the separable problem, changed as asked."""
    for subject in subjects:
        recording = Recording(
            dataset="made-up",
            subject=subject,
            modalities={
                "eeg": Channels(("E0", "E1"), "uV", SFREQ),
                "gsr": Channels(("GSR",), "log10(uS)", SFREQ),
            },
            trials=tuple(
                Trial(
                    stimulus=f"v{k}",
                    order=k + 1,
                    signals=change(subject, k, separable(subject, k)),
                    baseline={},
                    ratings=ratings(k),
                )
                for k in range(N_TRIALS)
            ),
            source=Path(f"{subject}.made-up"),
            fingerprint=f"{folder}-{subject}",
        )
        write_shard(recording, folder / "shards", PreprocessingConfig())
    return WindowStore.open(folder / "shards", ("eeg", "gsr"), folder / "cache")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return written(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return written(tmp_path_factory.mktemp("three"), subjects=("s1", "s2", "s3"))


@pytest.fixture(params=MODELS)
def network(request: pytest.FixtureRequest) -> ModelConfig:
    return MODELS[request.param]


def fresh(config: ModelConfig = MODEL) -> PhysioSync:
    torch.manual_seed(0)
    return PhysioSync(config)


def tuned(
    store: WindowStore,
    config: FinetuningConfig = CONFIG,
    network: ModelConfig = MODEL,
    *,
    train: NDArray[np.int64] = TRAIN,
    everyone: NDArray[np.int64] | None = None,
    seed: int = 0,
    model: PhysioSync | None = None,
    pretrained: bool = False,
) -> pd.DataFrame:
    model = fresh(network) if model is None else model
    everyone = train if everyone is None else everyone
    torch.seed()  # Whatever ran before in this process must not matter.
    start = fit_heads(config, model, store, everyone=everyone, labels=LABELS, seed=seed)
    torch.seed()
    return finetune(
        config,
        start,
        store,
        scale=everyone,
        train=train,
        test=TEST,
        labels=LABELS,
        seed=seed,
        pretrained=pretrained,
    )


def truth_of(store: WindowStore, target: str) -> pd.Series:
    return LABELS.classes(store.trials, target)


# ---- fine-tuning


def test_a_row_for_each_test_window_and_target(one: WindowStore, network: ModelConfig) -> None:
    rows = tuned(one, network=network)
    # 10 s in windows of 3 s: four, evenly spaced from the first sample to the last.
    starts = [0.0, 2 + 1 / 3, 4 + 2 / 3, 7.0]
    assert len(rows) == 2 * 4 * 3
    for (target, trial), some in rows.groupby(["target", "trial"]):
        np.testing.assert_allclose(some["start_seconds"], starts, atol=0.5 / SFREQ)
        assert set(some["subject"]) == {"s1"}
        assert set(some["stimulus"]) == {f"v{trial}"}
        assert set(some["truth"]) == {truth_of(one, str(target))[trial]}
    for target, some in rows.groupby("target"):
        n_classes = 4 if target == "quadrant" else 2
        p = some[["p0", "p1", "p2", "p3"]]
        np.testing.assert_allclose(p.iloc[:, :n_classes].sum(axis=1), 1.0, atol=1e-6)
        assert p.iloc[:, n_classes:].isna().all(axis=None)
    assert set(rows["target"]) == {"arousal", "valence", "quadrant"}


@pytest.mark.parametrize("part", ["head_epochs", "epochs"])
def test_learns_what_is_easy(one: WindowStore, network: ModelConfig, part: str) -> None:
    """With the classifiers alone, and with everything together."""
    other = {"head_epochs", "epochs"} - {part}
    config = LONG_ENOUGH.model_copy(update=dict.fromkeys(other, 0))
    rows = tuned(one, config, network)
    for target, some in rows.groupby("target"):
        columns = ["p0", "p1", "p2", "p3"] if target == "quadrant" else ["p0", "p1"]
        right = some[columns].to_numpy().argmax(axis=1) == some["truth"]
        assert right.mean() > 0.9, target


def test_reads_no_trial_that_it_was_not_given(three: WindowStore) -> None:
    everyone = np.concatenate([TRAIN, TRAIN + N_TRIALS])
    mine = three.restrict([*everyone, *TEST])
    pd.testing.assert_frame_equal(tuned(three, everyone=everyone), tuned(mine, everyone=everyone))


def window_probe(store: WindowStore, train: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Target -> probabilities of the rated test windows, by a classifier of rated windows."""
    model = fresh().eval()
    modalities = ("eeg", "gsr")
    loader = Loader(store, fit_scaling(store, train, modalities, "robust"), model.config.lags)
    windows = [
        covering_windows(store.trials, trials, n_times=LONG, sfreq=SFREQ, seconds=None)
        for trials in (train, TEST)
    ]
    x, test_x = (embedding(model, loader)(part.trials, part.starts) for part in windows)
    out = {}
    for target, n_classes in LABELS.targets.items():
        y = truth_of(store, target).loc[windows[0].trials].to_numpy()
        p = fit_predict(x[y >= 0], y[y >= 0], test_x, n_classes=n_classes, penalty=0.1)
        out[target] = p[truth_of(store, target).loc[windows[1].trials].to_numpy() >= 0]
    return out


def test_the_classifier_starts_as_a_probe_over_everyone(three: WindowStore) -> None:
    """Without epochs, fine-tuning is a linear probe of windows: other people's trials count."""
    config = FinetuningConfig(epochs=0, penalty=0.1)
    found = tuned(three, config, everyone=TRAIN_3)
    for target, p in window_probe(three, TRAIN_3).items():
        columns = [f"p{c}" for c in range(p.shape[1])]
        np.testing.assert_allclose(found.loc[found["target"] == target, columns], p, atol=1e-3)
    alone = tuned(three, config, everyone=TRAIN)
    assert not np.allclose(alone["p0"], found["p0"], atol=1e-2)


def test_encoders_stand_still_while_the_classifiers_are_fitted(
    one: WindowStore, network: ModelConfig
) -> None:
    model = fresh(network)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned(one, CONFIG.model_copy(update={"epochs": 0}), model=model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def _shout(subject: str, k: int, signals: Signals) -> Signals:
    """Another recording of the last test trial."""
    return {m: 100 * x + 7 for m, x in signals.items()} if k == 7 else signals


def test_one_test_trial_changes_nothing_for_another(
    one: WindowStore, network: ModelConfig, tmp_path: Path
) -> None:
    """Neither the scale nor a batch statistic is taken from test trials."""

    loud = written(tmp_path, change=_shout)
    before, after = tuned(one, network=network), tuned(loud, network=network)
    same = before["trial"] == 6
    pd.testing.assert_frame_equal(before[same], after[same], rtol=1e-9)
    p = ["p0", "p1"]
    assert not np.allclose(before.loc[~same, p], after.loc[~same, p])


def test_a_seed_gives_one_result(one: WindowStore, network: ModelConfig) -> None:
    first = tuned(one, network=network, seed=3)
    pd.testing.assert_frame_equal(first, tuned(one, network=network, seed=3))
    assert not np.allclose(first["p0"], tuned(one, network=network, seed=4)["p0"], atol=1e-4)


def test_people_of_one_class_get_that_class(network: ModelConfig, tmp_path: Path) -> None:
    def ratings(k: int) -> dict[str, float]:
        return rated(k) | {"arousal": 9.0}

    rows = tuned(written(tmp_path, ratings=ratings), LONG_ENOUGH, network)
    arousal = rows[rows["target"] == "arousal"]
    assert (arousal["p1"] > 0.5).all()


def test_trials_that_lack_a_modality_are_left_out(tmp_path: Path) -> None:
    def drop(subject: str, k: int, signals: Signals) -> Signals:
        return {"eeg": signals["eeg"]} if k in (2, 6) else signals

    store = written(tmp_path, change=drop)
    rows = tuned(store)
    assert set(rows["trial"]) == {7}
    pd.testing.assert_frame_equal(rows, tuned(store, train=np.array([0, 1, 3, 4, 5])))


def _partly_rated(k: int) -> dict[str, float]:
    return {"arousal": 7.0} if k in (2, 6) else rated(k)


def test_unrated_trials_neither_teach_nor_count(network: ModelConfig, tmp_path: Path) -> None:
    rows = tuned(written(tmp_path, ratings=_partly_rated), LONG_ENOUGH, network)
    per_target = rows.groupby("target")["trial"].unique().map(sorted)
    assert per_target.to_dict() == {"arousal": [6, 7], "valence": [7], "quadrant": [7]}
    assert np.isfinite(rows["p0"]).all()
    # Were the unrated trial 2 taken for a high one, low trials would be a toss-up.
    assert (rows.loc[rows["target"] == "valence", "p0"] > 0.75).all()


def test_unrated_trials_do_not_teach_the_first_classifier(tmp_path: Path) -> None:
    """They only help to standardise its features, which changes little."""
    store = written(tmp_path, ratings=_partly_rated)
    found = tuned(store, FinetuningConfig(epochs=0, penalty=0.1))
    for target, p in window_probe(store, TRAIN).items():
        columns = [f"p{c}" for c in range(p.shape[1])]
        mine = found.loc[found["target"] == target, columns]
        np.testing.assert_allclose(mine, p, atol=0.04)


def test_pretrained_encoders_get_a_rate_of_their_own(one: WindowStore) -> None:
    slow = FinetuningConfig(
        epochs=1, batch_size=12, learning_rate=1e-2, encoder_learning_rate=1e-9, weight_decay=0
    )
    fast = slow.model_copy(update={"encoder_learning_rate": slow.learning_rate})
    scratch = tuned(one, slow, pretrained=False)
    pd.testing.assert_frame_equal(tuned(one, fast, pretrained=True), scratch)
    difference = tuned(one, slow, pretrained=True)["p0"] - scratch["p0"]
    assert float(difference.abs().max()) > 1e-3


def test_every_subject_starts_from_the_same(one: WindowStore) -> None:
    start = fit_heads(CONFIG, fresh(), one, everyone=TRAIN, labels=LABELS, seed=0)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    for _ in range(2):
        finetune(
            CONFIG, start, one, scale=TRAIN, train=TRAIN, test=TEST,
            labels=LABELS, seed=0, pretrained=False,
        )  # fmt: skip
        for name, value in start.state_dict().items():
            assert torch.equal(value, before[name]), name


# ---- majority


def test_majority_by_hand() -> None:
    nan = float("nan")
    rows = [
        # s1: three of four high in arousal; valence 2 of 3 low, one unrated.
        ("s1", 5.0, 2.0),
        ("s1", 9.0, 2.0),
        ("s1", 8.0, 6.0),
        ("s1", 1.0, nan),
        # s2: two low in arousal, both high in valence.
        ("s2", 2.0, 7.0),
        ("s2", 4.9, 7.0),
        # The test trials; s3 has no training trial.
        ("s1", 1.0, 9.0),
        ("s2", 1.0, nan),
        ("s3", 9.0, 1.0),
    ]
    table = pd.DataFrame(rows, columns=["subject", "arousal", "valence"])
    table["stimulus"] = [f"v{k}" for k in range(len(table))]
    table.index = pd.Index(np.arange(len(table)) + 10)
    found = majority(table, train=np.arange(10, 16), test=np.arange(16, 19), labels=LABELS)

    def p(target: str) -> dict[str, list[float]]:
        some = found[found["target"] == target].set_index("subject")
        columns = ["p0", "p1", "p2", "p3"] if target == "quadrant" else ["p0", "p1"]
        return {str(subject): list(row) for subject, row in some[columns].iterrows()}

    # A rating on the threshold is high. s3 gets everyone's shares: 3 of 6 are high.
    assert p("arousal") == {"s1": [0.25, 0.75], "s2": [1.0, 0.0], "s3": [0.5, 0.5]}
    # The unrated test trial of s2 has no row, and the unrated training trial no weight.
    assert p("valence") == {"s1": pytest.approx([2 / 3, 1 / 3]), "s3": pytest.approx([0.4, 0.6])}
    # s1: high/low, high/low, high/high; s2: low/high twice.
    assert p("quadrant") == {
        "s1": pytest.approx([1 / 3, 2 / 3, 0, 0]),
        "s3": pytest.approx([0.2, 0.4, 0.4, 0]),
    }
    truth = found.set_index(["target", "subject"])["truth"]
    assert truth["arousal", "s1"] == 0
    assert truth["valence", "s1"] == 1
    assert truth["quadrant", "s3"] == 1


# ---- band power


def rhythmic(subject: str, k: int, signals: Signals) -> Signals:
    """Arousal decides the alpha rhythm of the first channel; the second is broken."""
    t = np.arange(signals["eeg"].shape[1]) / SFREQ
    rng = np.random.default_rng([k, *subject.encode()])
    eeg = 0.1 * rng.standard_normal((2, len(t)))
    eeg[0] += (3 if high(k)[0] else 1) * np.sin(2 * np.pi * 10 * t)
    eeg[1] = 0
    return {"eeg": eeg.astype(np.float32), "gsr": signals["gsr"]}


def by_person(base: int) -> NDArray[np.int64]:
    """Trials of three people, from one's."""
    return np.concatenate([np.arange(3) * N_TRIALS + base])


TRAIN_3 = np.sort(np.concatenate([by_person(k) for k in TRAIN]))
TEST_3 = np.sort(np.concatenate([by_person(k) for k in TEST]))


def powered(store: WindowStore) -> pd.DataFrame:
    return band_power(store, train=TRAIN_3, test=TEST_3, labels=Labels(targets={"arousal": 2}))


def test_band_power_tells_rhythms_apart_whatever_the_gain(tmp_path: Path) -> None:
    people = ("s1", "s2", "s3")

    def amplified(subject: str, k: int, signals: Signals) -> Signals:
        gain = {"s1": 1.0, "s2": 30.0, "s3": 0.2}[subject]
        made = rhythmic(subject, k, signals)
        return made | {"eeg": np.float32(gain) * made["eeg"]}

    plain = powered(written(tmp_path / "a", subjects=people, change=rhythmic))
    assert ((plain["p1"] > 0.5) == plain["truth"]).all()
    np.testing.assert_allclose(plain["p0"] + plain["p1"], 1.0)
    loud = powered(written(tmp_path / "b", subjects=people, change=amplified))
    np.testing.assert_allclose(loud["p1"], plain["p1"], atol=1e-4)


def test_band_power_is_scaled_by_training_trials_alone(tmp_path: Path) -> None:
    people = ("s1", "s2", "s3")

    def shout(subject: str, k: int, signals: Signals) -> Signals:
        made = rhythmic(subject, k, signals)
        return made | {"eeg": made["eeg"] * np.float32(50 if k == 7 else 1)}

    plain = powered(written(tmp_path / "a", subjects=people, change=rhythmic))
    loud = powered(written(tmp_path / "b", subjects=people, change=shout))
    others = ~plain["trial"].isin(by_person(7))
    assert others.sum() == 3
    np.testing.assert_allclose(loud.loc[others, "p1"], plain.loc[others, "p1"], rtol=1e-9)


# ---- the frozen probe


def test_frozen_probe_by_hand(three: WindowStore) -> None:
    model = fresh().eval()
    found = frozen_probe(
        model,
        three,
        train=TRAIN_3,
        test=TEST_3,
        labels=Labels(targets={"valence": 2}),
        penalty=0.1,
    )
    starts = [0, 149, 299, 448]

    def embedded(trials: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = []
        for trial in trials:
            mine = TRAIN + trial // N_TRIALS * N_TRIALS
            for start in starts:
                windows = []
                for modality, lag in (("eeg", 0), ("gsr", 32)):
                    whole = np.concatenate([three.read(modality, int(t)) for t in mine])
                    low, middle, top = np.percentile(whole, [25, 50, 75], axis=0)
                    begin = min(start + lag, three.read(modality, int(trial)).shape[0] - LONG)
                    x = three.read(modality, int(trial), begin, begin + LONG)
                    x = np.clip((x - middle) / ((top - low) / 1.349), -8, 8)
                    windows.append(torch.from_numpy(x.T.astype(np.float32))[None])
                rows.append(model.embed(*windows)[0].numpy())
        return np.stack(rows)

    y = truth_of(three, "valence").loc[TRAIN_3]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    whole_trials = np.stack([four.mean(axis=0) for four in np.split(embedded(TRAIN_3), len(y))])
    expected = probe.fit(whole_trials, y).predict_proba(embedded(TEST_3))
    np.testing.assert_array_equal(found["trial"], np.repeat(TEST_3, 4))
    np.testing.assert_allclose(found["start_seconds"] * SFREQ, starts * 6)
    np.testing.assert_allclose(found[["p0", "p1"]], expected, atol=1e-3)
    assert ((found["p1"] > 0.5) == found["truth"]).all()


def test_frozen_probe_takes_its_scale_from_training_trials_alone(
    one: WindowStore, tmp_path: Path
) -> None:
    def probed(store: WindowStore) -> pd.DataFrame:
        return frozen_probe(fresh(), store, train=TRAIN, test=TEST, labels=LABELS, penalty=0.1)

    before, after = probed(one), probed(written(tmp_path, change=_shout))
    same = before["trial"] == 6
    pd.testing.assert_frame_equal(before[same], after[same], rtol=1e-6)
    assert not np.allclose(before.loc[~same, "p0"], after.loc[~same, "p0"])


def test_frozen_probe_leaves_the_encoders_alone_and_skips_incomplete_trials(
    tmp_path: Path,
) -> None:
    def drop(subject: str, k: int, signals: Signals) -> Signals:
        return {"eeg": signals["eeg"]} if k in (2, 6) else signals

    store = written(tmp_path, change=drop)
    model = fresh()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = {"test": TEST, "labels": LABELS, "penalty": 0.1}
    rows = frozen_probe(model, store, train=TRAIN, **options)
    assert set(rows["trial"]) == {7}
    pd.testing.assert_frame_equal(
        rows, frozen_probe(model, store, train=np.array([0, 1, 3, 4, 5]), **options)
    )
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_subject_without_a_whole_trial_is_refused_by_name(one: WindowStore) -> None:
    none = np.array([], dtype=np.int64)
    start = fit_heads(CONFIG, fresh(), one, everyone=TRAIN, labels=LABELS, seed=0)
    for train, test, message in (
        (none, TEST, "expected a training trial of at least 3 s with eeg, gsr, found none"),
        (TRAIN, none, "expected a test trial of at least 3 s with eeg, gsr, found none"),
    ):
        with pytest.raises(SplitError, match=message):
            finetune(
                CONFIG, start, one, scale=TRAIN, train=train, test=test,
                labels=LABELS, seed=0, pretrained=True,
            )  # fmt: skip


def test_trials_shorter_than_a_window_are_left_out(tmp_path: Path) -> None:
    def cut(subject: str, k: int, signals: Signals) -> Signals:
        return {name: x[:, : LONG - 1] for name, x in signals.items()} if k in (2, 6) else signals

    store = written(tmp_path, change=cut)
    assert set(tuned(store)["trial"]) == {7}


def test_people_without_a_whole_trial_get_no_job_and_baselines_answer_for_the_same_trials(
    tmp_path: Path,
) -> None:
    def drop(subject: str, k: int, signals: Signals) -> Signals:
        missing = (subject == "s1" and k == 6) or (subject == "s2" and k in TEST)
        return {"eeg": signals["eeg"]} if missing else signals

    store = written(tmp_path, subjects=("s1", "s2", "s3"), change=drop)

    def part(*numbers: int) -> Part:
        return Part(subjects=store.subjects, stimuli=tuple(f"v{k}" for k in numbers))

    workload = Workload(
        shards=tuple(sorted((tmp_path / "shards").glob("*.parquet"))),
        pps=("gsr",),
        split=Split(seed=0, train=part(0, 1, 2, 3), validation=part(4, 5), test=part(6, 7)),
        labels=LABELS,
        probe=ProbeConfig(),
        cache=tmp_path / "cache",
    )
    fresh().save_pretrained(tmp_path / "best" / "rank-1", metrics={"configuration": "c"})
    tasks = tasks_on_test_part(tmp_path, workload, CONFIG, seed=0)
    assert {task.subject for task in tasks if isinstance(task, FinetuneTask)} == {"s1", "s3"}
    for task in tasks:
        if isinstance(task, BaselineTask):
            task.run()
            found = pd.read_parquet(task.output)
            assert set(zip(found["subject"], found["stimulus"], strict=True)) == {
                ("s1", "v7"), ("s3", "v6"), ("s3", "v7"),
            }, task.method  # fmt: skip
