"""What the control encoders are pretrained with, and what becomes of those that fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from physiosync.augmentation import AugmentationConfig
from physiosync.controls import control_configs, control_tasks, trained
from physiosync.encoders import EncoderConfig
from physiosync.errors import StudyError
from physiosync.labels import Labels
from physiosync.model import PhysioSync
from physiosync.pretraining import PretrainingConfig
from physiosync.probing import ProbeConfig
from physiosync.splits import folds, stimulus_split
from physiosync.tasks import Workload
from physiosync.windows import WindowStore

WINNER = PretrainingConfig(
    pps=("gsr",),
    temperature=0.17,
    long_pieces=3,
    group_size=2,
    moments=4,
    gap_seconds=4.0,
    w_pps=0.0,
    epochs=1,
    epoch_seconds=96.0,
    encoder=EncoderConfig(width=16, depth=1, heads=2, projector=(16, 8), cmca=8),
    augmentation=AugmentationConfig(scale_half_width=0.0),
)


def test_shuffled_pairs_differ_from_the_winner_in_their_pairs_alone() -> None:
    found = control_configs(WINNER)["shuffled_probe"]
    assert found == WINNER.model_copy(update={"pairs": "shuffled"})


def test_simclr_knows_no_other_person_and_no_other_modality() -> None:
    found = control_configs(WINNER)["simclr_probe"]
    assert (found.pairs, found.group_size, found.w_cmca) == ("self", 1, 0.0)
    assert min(found.w_eeg, found.w_pps) > 0, "both encoders are trained"
    assert found.augmentation.recipe == "paper", "two views of one window have to differ"
    changed = {"pairs", "group_size", "w_eeg", "w_pps", "w_cmca", "augmentation"}
    assert found.model_dump(exclude=changed) == WINNER.model_dump(exclude=changed)
    signal = [c.steps * c.moments * 2 * c.group_size * c.long_seconds for c in (found, WINNER)]
    assert signal[0] == pytest.approx(signal[1], rel=0.2)


def _workload(store: WindowStore, cache: Path) -> Workload:
    return Workload(
        shards=tuple(store.paths),
        pps=("gsr",),
        split=stimulus_split(store.trials, validation=0.2, test=0.2, seed=0),
        labels=Labels(targets={"arousal": 2}),
        probe=ProbeConfig(),
        cache=cache,
    )


def _promoted(folder: Path, config: PretrainingConfig) -> None:
    best = folder / "best" / "rank-1"
    best.mkdir(parents=True, exist_ok=True)
    metrics = {"pretraining": config.model_dump(mode="json"), "fold": 2, "seed": 5}
    (best / "metrics.json").write_text(json.dumps(metrics))


def test_controls_run_on_the_fold_and_seed_of_the_winner(
    store: WindowStore, cache: Path, tmp_path: Path
) -> None:
    workload = _workload(store, cache)
    with pytest.raises(StudyError, match="run 'promote' first"):
        control_tasks(tmp_path, workload, seed=3)
    _promoted(tmp_path, WINNER)
    tasks, said = control_tasks(tmp_path, workload, seed=3)
    assert not said
    assert list(tasks) == ["shuffled_probe", "simclr_probe"]
    for task in tasks.values():
        assert (task.fold, task.seed) == (2, 5)
        assert task.split == folds(workload.split, seed=3)[2]
        task.run()
    encoders, said = trained(tasks, ())
    assert not said
    for method, path in encoders.items():
        seen = PhysioSync.from_pretrained(path).seen
        assert seen is not None
        known = task.split.trials(store.trials, "train", "validation")
        assert len(seen.names) == len(known), method
    _promoted(tmp_path, WINNER.model_copy(update={"temperature": 0.2}))
    others, _ = control_tasks(tmp_path, workload, seed=3)
    assert not {t.output for t in others.values()} & {t.output for t in tasks.values()}


def test_a_control_that_diverged_or_was_not_run_has_no_row_and_is_said(
    store: WindowStore, cache: Path, tmp_path: Path
) -> None:
    _promoted(tmp_path, WINNER)
    tasks, _ = control_tasks(tmp_path, _workload(store, cache), seed=3)
    not_run = {f"no control encoder for {m}: the stage 'controls' was not run" for m in tasks}
    assert trained(tasks, ()) == ({}, sorted(not_run))
    shuffled, simclr = tasks.values()
    for best_epoch in (0, 1):
        for task, diverged in ((shuffled, True), (simclr, False)):
            task.output.mkdir(parents=True, exist_ok=True)
            metrics = {"best_epoch": best_epoch if diverged else 2, "diverged": diverged}
            (task.output / "metrics.json").write_text(json.dumps(metrics))
        encoders, said = trained(tasks, ["before"])
        assert list(encoders) == ["simclr_probe"], "what saw less is no control"
        assert said == [
            "before",
            "no control encoder for shuffled_probe: its loss did not stay finite",
        ]


def test_controls_for_which_people_are_too_few_are_said(
    store: WindowStore, cache: Path, tmp_path: Path
) -> None:
    _promoted(tmp_path, WINNER.model_copy(update={"group_size": 4}))
    tasks, said = control_tasks(tmp_path, _workload(store, cache), seed=3)
    assert list(tasks) == ["simclr_probe"], "which needs no second group"
    (sentence,) = said
    assert sentence.startswith("no control encoder for shuffled_probe: expected at least 8 subj")
