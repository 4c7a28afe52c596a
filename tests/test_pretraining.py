"""Pretraining: it learns, it can be stopped, it keeps the best, and it never sees test data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from physiosync.encoders import EncoderConfig
from physiosync.errors import CheckpointError, SamplingError
from physiosync.labels import Labels
from physiosync.loading import Loader
from physiosync.losses import retrieval_accuracy
from physiosync.model import PhysioSync
from physiosync.preprocessing import PreprocessingConfig
from physiosync.pretraining import EpochReport, Pretraining, PretrainingConfig, moment_sampler
from physiosync.probing import Probe, ProbeConfig
from physiosync.shards import write_shard
from physiosync.splits import Split, both_split, stimulus_split, subject_split
from physiosync.tasks import FinalistTask, Workload, open_pretraining
from physiosync.training import DivergedError, Optimisation
from physiosync.windows import ClosedTrialError, WindowStore
from tests.conftest import made_up_recording
from tests.test_losses import slow_nt_xent, slow_pool

TINY = EncoderConfig(width=16, depth=1, heads=2, projector=(16, 8), cmca=8)
#: Seconds of signal in one batch of `CONFIG`: 4 moments, 2 groups of 2 subjects, 3 s windows.
BATCH_SECONDS = 4 * 2 * 2 * 3.0
CONFIG = PretrainingConfig(
    pps=("gsr",),
    short_seconds=1,
    long_pieces=3,
    moments=4,
    group_size=2,
    gap_seconds=3,
    lag_skin_seconds=0.5,
    learning_rate=1e-2,
    epochs=3,
    epoch_seconds=4 * BATCH_SECONDS,
    encoder=TINY,
)


@pytest.fixture(scope="module")
def split(store: WindowStore) -> Split:
    return stimulus_split(store.trials)


def changed(**update: object) -> PretrainingConfig:
    return PretrainingConfig.model_validate(CONFIG.model_dump() | update)


def weights(model: PhysioSync) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def differ(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return any(not torch.equal(value, two[name]) for name, value in one.items())


def scripted(*scores: float) -> Callable[[PhysioSync, Loader], Mapping[str, float]]:
    """An evaluation with known scores, epoch by epoch, and a decoy that is best at the end."""
    left = list(scores)

    def evaluate(model: PhysioSync, loader: Loader) -> Mapping[str, float]:
        assert not model.training
        score = left.pop(0)
        return {"score": score, "score_10s": -float(len(left))}

    return evaluate


# ---- it learns


def test_learns_what_people_share_and_nothing_from_shuffled_pairs(
    store: WindowStore, split: Split
) -> None:
    last: dict[str, Mapping[str, float]] = {}
    gain = 0.0
    for pairs in ("matched", "shuffled"):
        config = changed(pairs=pairs, epoch_seconds=20 * BATCH_SECONDS, lag_skin_seconds=0)
        run = Pretraining(config, store, split, seed=0)
        before = _retrieval_on_unseen_clips(run, store, split)
        reports: list[EpochReport] = []
        run.run(reports.append)
        last[pairs] = reports[-1].losses
        if pairs == "matched":
            gain = _retrieval_on_unseen_clips(run, store, split) - before
    chance = 1 / CONFIG.moments
    assert last["matched"]["retrieval"] > 1.8 * chance
    assert last["shuffled"]["retrieval"] < 1.4 * chance
    for term in ("eeg", "cmca", "total"):
        assert last["matched"][term] < 0.85 * last["shuffled"][term], term
    assert gain > 0.1, "what was learned holds for clips that training never saw"


def _retrieval_on_unseen_clips(run: Pretraining, store: WindowStore, split: Split) -> float:
    """Of 32 moments of held-out clips, from one person to another, mean over all pairs of them."""
    table = store.trials
    held = table[table["stimulus"].isin(split.validation.stimuli + split.test.stimuli)]
    people = []
    run.net.eval()
    for _, rows in held.groupby("subject"):
        ids = np.repeat(rows.index.to_numpy(), 8)
        starts = np.tile(np.arange(8) * 500, len(rows))
        x = run.loader.eeg(ids, starts, run.model_config.long_times)
        with torch.no_grad():
            features = run.net.model.encode("eeg", "long", x)
        people.append(features - features.mean(0))
    pairs = [(a, b) for i, a in enumerate(people) for b in people[:i]]
    return float(np.mean([retrieval_accuracy(a, b) for a, b in pairs]))


def test_the_weights_of_the_terms_count(store: WindowStore, split: Split) -> None:
    """Without the EEG and cross-modal terms nothing pulls at the EEG encoder but weight decay."""
    config = changed(w_eeg=0.0, w_cmca=0.0, weight_decay=0.0, epochs=1)
    run = Pretraining(config, store, split, seed=0)
    before = weights(run.net.model)
    after = weights(run.run())
    moved = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"pps"}


@pytest.mark.parametrize(
    "off",
    [
        {},
        {"w_tcl_long": 0.0},
        {"w_tcl_short": 0.0},
        {"w_cmca": 0.0},
        {"w_cmca": 0.0, "w_tcl_short": 0.0},
        {"w_tcl_long": 2.0, "w_eeg": 0.0},
    ],
)
def test_the_total_is_the_weighted_sum_of_each_term_of_each_length(
    store: WindowStore, split: Split, off: dict[str, float]
) -> None:
    """Of a first batch, by the slow loops, from what the network projects."""
    quiet = TINY.model_copy(update={"dropout": 0.0})
    config = changed(
        epochs=1, epoch_seconds=BATCH_SECONDS, encoder=quiet, augmentation={"scale_half_width": 0}
    )
    config = PretrainingConfig.model_validate(config.model_dump() | off)
    run = Pretraining(config, store, split, seed=0)
    projected: dict[str, list[Tensor]] = {}
    for kind in (run.net.projectors, run.net.cmca):
        for name, head in kind.items():
            head.register_forward_hook(
                lambda _, __, out, name=name: projected.setdefault(name, []).append(out.detach())
            )
    reports: list[EpochReport] = []
    run.run(reports.append)
    m, expected = config.moments, 0.0
    for length in ("long", "short"):
        factor = config.w_tcl_long if length == "long" else config.w_tcl_short
        for role, weight in (("eeg", config.w_eeg), ("pps", config.w_pps)):
            groups = projected[f"{role}_{length}"][0].unflatten(0, (m, 2, config.group_size))
            pooled = slow_pool(groups[:, 0]), slow_pool(groups[:, 1])
            expected += factor * weight * slow_nt_xent(*pooled, config.temperature)
        eeg, pps = projected[length]
        crossed = slow_nt_xent(pps[:m], eeg[m:], config.temperature)
        crossed += slow_nt_xent(eeg[:m], pps[m:], config.temperature)
        expected += config.w_cmca * crossed / 2
    assert reports[0].losses["total"] == pytest.approx(expected, rel=1e-4)


def test_a_term_has_to_be_left() -> None:
    with pytest.raises(ValueError, match=r"w_tcl_long \+ w_tcl_short must be positive"):
        changed(w_cmca=0.0, w_tcl_long=0.0, w_tcl_short=0.0)


def test_an_epoch_is_seconds_of_signal() -> None:
    assert CONFIG.steps == 4
    assert changed(long_pieces=6).steps == 2
    assert changed(group_size=1, moments=2).steps == 16


# ---- the same again


def test_each_epoch_has_batches_of_its_own(store: WindowStore, split: Split) -> None:
    still = changed(learning_rate=1e-12, weight_decay=0, epochs=2)
    reports: list[EpochReport] = []
    Pretraining(still, store, split, seed=0).run(reports.append)
    assert reports[0].losses["total"] != pytest.approx(reports[1].losses["total"], rel=1e-4)


def test_a_seed_gives_one_result_and_another_seed_another(store: WindowStore, split: Split) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(int.from_bytes(np.random.default_rng().bytes(4), "big"))
        return weights(Pretraining(CONFIG, store, split, seed).run())

    first = trained(3)
    assert_same(first, trained(3))
    assert differ(first, trained(4))


@pytest.mark.parametrize("scores", [(0.9, 0.1, 0.2, 0.3), (0.1, 0.2, 0.9, 0.3)])
def test_a_resumed_run_ends_like_an_undisturbed_one(
    store: WindowStore, split: Split, tmp_path: Path, scores: tuple[float, ...]
) -> None:
    config = changed(epochs=4)
    whole = Pretraining(config, store, split, seed=5, evaluate=scripted(*scores))
    whole.run()

    state = tmp_path / "state.pt"
    begun = Pretraining(config, store, split, seed=5, evaluate=scripted(*scores))
    begun.run_epoch()
    begun.run_epoch()
    begun.save(state)
    torch.rand(17)  # whatever another process did with the global generators
    resumed = Pretraining(config, store, split, seed=5, evaluate=scripted(*scores[2:]))
    resumed.resume(state)
    reports: list[EpochReport] = []
    resumed.run(reports.append)

    assert [report.epoch for report in reports] == [3, 4]
    assert reports[-1].best_scores == tuple(np.maximum.accumulate(scores))
    assert resumed.best_epoch == whole.best_epoch == 1 + int(np.argmax(scores))
    assert_same(dict(resumed.net.state_dict()), dict(whole.net.state_dict()))
    assert_same(weights(resumed.best()), weights(whole.best()))


def test_a_state_of_another_configuration_or_a_damaged_one_is_refused(
    store: WindowStore, split: Split, tmp_path: Path
) -> None:
    state = tmp_path / "state.pt"
    Pretraining(CONFIG, store, split, seed=0).save(state)
    other = changed(temperature=0.2)
    with pytest.raises(ValueError, match=CONFIG.uid()):
        Pretraining(other, store, split, seed=0).resume(state)
    with pytest.raises(ValueError, match="expected a run of seed 1, found 0"):
        Pretraining(CONFIG, store, split, seed=1).resume(state)
    state.write_bytes(state.read_bytes()[:-500])
    run = Pretraining(CONFIG, store, split, seed=0)
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        run.resume(state)
    assert run.epoch == 0


# ---- the best epoch


def test_score_alone_decides_which_epoch_is_kept(store: WindowStore, split: Split) -> None:
    run = Pretraining(changed(epochs=4), store, split, 0, evaluate=scripted(0.1, 0.5, 0.5, 0.3))
    each: list[dict[str, Tensor]] = []
    reports: list[EpochReport] = []

    def keep(report: EpochReport) -> None:
        reports.append(report)
        each.append(weights(run.net.model))

    best = weights(run.run(keep))
    assert_same(best, each[1])
    assert differ(best, each[3])
    assert [report.best_epoch for report in reports] == [1, 2, 2, 2]
    assert reports[-1].best_scores == (0.1, 0.5, 0.5, 0.5)


def test_the_best_weights_are_a_copy(store: WindowStore, split: Split) -> None:
    run = Pretraining(changed(epochs=4), store, split, 0, evaluate=scripted(0.9, 0.1, 0.1, 0.1))
    run.run_epoch()
    model = run.best()
    before = weights(model)
    run.run_epoch()
    assert_same(weights(model), before)
    with torch.no_grad():
        for parameter in run.best().parameters():
            parameter.zero_()
    assert_same(weights(run.best()), before)
    assert not model.training


def test_without_an_evaluation_the_last_epoch_is_kept(store: WindowStore, split: Split) -> None:
    run = Pretraining(CONFIG, store, split, seed=0)
    best = run.run()
    assert run.best_epoch == CONFIG.epochs
    assert_same(weights(best), weights(run.net.model))


# ---- no test data


Poisoned = Callable[[str, str], bool]


def _write(folder: Path, poisoned: Poisoned) -> tuple[Path, ...]:
    """Six people; every sample of the poisoned (subject, stimulus) pairs is NaN."""
    paths = []
    for i in range(6):
        recording = made_up_recording(f"s{i + 1:02d}", seconds=20)
        trials = tuple(
            dataclasses.replace(
                trial, signals={m: np.full_like(x, np.nan) for m, x in trial.signals.items()}
            )
            if poisoned(recording.subject, trial.stimulus)
            else trial
            for trial in recording.trials
        )
        recording = dataclasses.replace(recording, trials=trials)
        paths.append(write_shard(recording, folder, PreprocessingConfig()))
    return tuple(paths)


ROWS = pd.DataFrame(
    [(f"s{i + 1:02d}", f"video-{k + 1:02d}") for i in range(6) for k in range(10)],
    columns=["subject", "stimulus"],
)
SPLITS = {
    "stimulus": stimulus_split(ROWS, seed=3),
    "subject": subject_split(ROWS, seed=3),
    "both": both_split(ROWS, seed=3),
}


@pytest.fixture(scope="module")
def shuffled_split() -> Split:
    return SPLITS["stimulus"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return _write(tmp_path_factory.mktemp("clean"), lambda subject, stimulus: False)


def _closed(split: Split) -> Poisoned:
    """Whatever is about people or stimuli of the test part, as the protocol holds out."""

    def poisoned(subject: str, stimulus: str) -> bool:
        of_test = subject in split.test.subjects, stimulus in split.test.stimuli
        return {"stimulus": of_test[1], "subject": of_test[0], "both": any(of_test)}[split.protocol]

    return poisoned


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory, shuffled_split: Split) -> tuple[Path, ...]:
    return _write(tmp_path_factory.mktemp("poisoned"), _closed(shuffled_split))


def _workload(shards: tuple[Path, ...], split: Split, cache: Path) -> Workload:
    return Workload(
        shards=shards,
        pps=("gsr",),
        split=split,
        labels=Labels(),
        probe=ProbeConfig(seconds=6),
        cache=cache,
    )


@pytest.mark.parametrize(
    ("protocol", "config"),
    [
        ("stimulus", CONFIG),
        ("subject", CONFIG),
        ("both", CONFIG),
        ("subject", changed(pairing="recording", group_size=1, gap_seconds=5, epochs=1)),
    ],
)
def test_nothing_of_the_test_part_reaches_an_encoder_or_its_score(
    clean: tuple[Path, ...],
    protocol: str,
    config: PretrainingConfig,
    cache: Path,
    tmp_path: Path,
) -> None:
    split = SPLITS[protocol]
    sick = _write(tmp_path / "shards", _closed(split))
    metrics, models = [], []
    for name, shards in (("clean", clean), ("poisoned", sick)):
        task = FinalistTask(
            workload=_workload(shards, split, cache),
            config=config,
            split=split,
            fold=1,
            seed=2,
            output=tmp_path / name,
        )
        task.run()
        metrics.append(json.loads((task.output / "metrics.json").read_text()))
        models.append(PhysioSync.from_pretrained(task.output))
    numbers = [value for value in metrics[1].values() if isinstance(value, int | float)]
    assert len(numbers) > 8
    assert np.isfinite(numbers).all()
    assert metrics[0] == metrics[1]
    assert_same(weights(models[0]), weights(models[1]))
    assert models[0].config.pairing == config.pairing
    assert f"pretraining: {config.pairing}" in (task.output / "README.md").read_text()


def test_a_finalists_scores_are_those_of_its_weights(
    clean: tuple[Path, ...], shuffled_split: Split, cache: Path, tmp_path: Path
) -> None:
    workload = _workload(clean, shuffled_split, cache)
    for seed in range(10):
        task = FinalistTask(
            workload=workload,
            config=CONFIG,
            split=shuffled_split,
            fold=1,
            seed=seed,
            output=tmp_path / f"{seed}",
        )
        task.run()
        metrics = json.loads((task.output / "metrics.json").read_text())
        if metrics["best_epoch"] < CONFIG.epochs:
            break
    assert metrics["best_epoch"] < CONFIG.epochs, "an epoch before the last is told apart from it"
    run = open_pretraining(workload, CONFIG, split=shuffled_split, seed=seed)
    reports: list[EpochReport] = []
    run.run(reports.append)
    best = reports[metrics["best_epoch"] - 1]
    for name, value in {**best.losses, **best.scores}.items():
        assert metrics[f"validation_{name}"] == pytest.approx(value), name
    assert run.evaluate is not None
    again = run.evaluate(PhysioSync.from_pretrained(task.output), run.loader)
    assert again == pytest.approx(dict(best.scores))
    assert metrics["configuration"] == CONFIG.uid()


def test_the_test_part_is_closed_to_pretraining(
    poisoned: tuple[Path, ...], shuffled_split: Split, cache: Path
) -> None:
    workload = _workload(poisoned, shuffled_split, cache)
    run = open_pretraining(workload, CONFIG, split=shuffled_split, seed=0)
    table = workload.store().trials
    for trial in shuffled_split.trials(table, "test"):
        with pytest.raises(ClosedTrialError):
            run.store.read("eeg", int(trial))
    inside = shuffled_split.trials(table, "train", "validation")
    np.testing.assert_array_equal(run.store.trials.index, inside)


def test_validation_gives_neither_batches_nor_scale(
    clean: tuple[Path, ...], shuffled_split: Split, cache: Path, tmp_path: Path
) -> None:
    open_stimuli = shuffled_split.train.stimuli
    sick = _write(tmp_path, lambda subject, stimulus: stimulus not in open_stimuli)
    trained = [
        weights(
            Pretraining(
                CONFIG, WindowStore.open(shards, ("eeg", "gsr"), cache), shuffled_split, seed=0
            ).run()
        )
        for shards in (clean, sick)
    ]
    assert_same(*trained)


def test_nothing_is_ever_written_to_the_store(store: WindowStore, split: Split) -> None:
    def everything() -> list[np.ndarray]:
        return [store.read(m, int(t)) for m in ("eeg", "gsr") for t in store.trials.index]

    before = everything()
    table = store.trials
    probe = Probe(
        ProbeConfig(seconds=6),
        table,
        split.trials(table, "train"),
        split.trials(table, "validation"),
        Labels(),
    )
    run = Pretraining(changed(epochs=1), store, split, seed=0, evaluate=probe)
    run.run()
    for one, two in zip(before, everything(), strict=True):
        np.testing.assert_array_equal(one, two)
    ids, starts = table.index.to_numpy()[:5], np.arange(5)
    once, again = (run.loader.eeg(ids, starts, 256) for _ in range(2))
    assert torch.equal(once, again)


def test_a_trial_that_lacks_a_modality_is_never_drawn() -> None:
    table = pd.DataFrame(
        {
            "subject": [f"s{s}" for s in range(6) for _ in range(5)],
            "stimulus": [f"v{k}" for _ in range(6) for k in range(5)],
            "n_times": 5000,
            "has_eeg": True,
            "has_gsr": True,
        }
    )
    table.loc[table["subject"] == "s0", "has_gsr"] = False
    sampler = moment_sampler(changed(moments=4), table, 128.0)
    rng = np.random.default_rng(0)
    drawn = np.unique([sampler.draw(rng).trials for _ in range(50)])
    assert set(table.loc[drawn, "subject"]) == {"s1", "s2", "s3", "s4", "s5"}


def test_batches_leave_room_for_the_longest_lag() -> None:
    table = pd.DataFrame(
        {
            "subject": [f"s{s}" for s in range(4)],
            "stimulus": "v0",
            "n_times": round((3 + 1.5) * 128),
            "has_eeg": True,
            "has_gsr": True,
            "has_resp": True,
        }
    )
    fits = {"pps": ("gsr", "resp"), "moments": 2, "gap_seconds": 0, "lag_skin_seconds": 0.5}
    with pytest.raises(SamplingError, match="room for 2 moments"):
        moment_sampler(changed(**fits, lag_body_seconds=1.5), table, 128.0)
    with pytest.raises(SamplingError, match="trials of at least 640 samples"):
        moment_sampler(changed(**fits, lag_body_seconds=2.0), table, 128.0)


# ---- divergence


def test_divergence_is_an_error_and_spares_the_weights(store: WindowStore, split: Split) -> None:
    run = Pretraining(changed(learning_rate=1e30), store, split, seed=0)
    with pytest.raises(DivergedError, match="finite"):
        run.run()
    assert all(torch.isfinite(p).all() for p in run.net.parameters())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda w: (w * float("nan")).sum(), "finite loss, found nan"),
        (lambda w: (w / 0).sum(), "finite loss, found inf"),
        (lambda w: (w - w.detach()).sqrt().sum(), "finite gradient"),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing(
    loss: Callable[[Tensor], Tensor], message: str
) -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimisation = Optimisation([{"params": [w], "lr": 0.1}], weight_decay=0.1, n_steps=10)
    optimisation.step(w.square().sum())
    before = w.detach().clone()
    assert not torch.equal(before, torch.ones(3))
    with pytest.raises(DivergedError, match=message):
        optimisation.step(loss(w))
    assert torch.equal(w.detach(), before)


def test_the_rate_warms_up_then_falls_to_a_tenth() -> None:
    w = torch.nn.Parameter(torch.ones(1))
    optimisation = Optimisation([{"params": [w], "lr": 1.0}], weight_decay=0.0, n_steps=100)
    rates = []
    for _ in range(100):
        rates.append(optimisation.optimiser.param_groups[0]["lr"])
        optimisation.step((w * 1e-3).sum())
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert max(rates) == pytest.approx(1.0)
    assert (np.diff(rates[10:]) <= 0).all()
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
