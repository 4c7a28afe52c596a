"""From scratch, pooled: what the network sees before it is fine-tuned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from physiosync.further_tasks import PooledTask
from physiosync.model import PhysioSync
from physiosync.provenance import Seen
from physiosync.splits import Split, stimulus_split, subject_split
from tests.test_finetuning_and_baselines import CONFIG, MODEL, Signals, fresh, written
from tests.test_new_people import PEOPLE, _workload

#: Trials of 10 s in windows of 3 s, four an epoch.
SECONDS = 300.0


def trained(folder: Path, split: Split, seconds: float = SECONDS) -> PhysioSync:
    task = PooledTask(
        workload=_workload(folder, split),
        config=CONFIG,
        network=MODEL,
        epochs=3,
        epoch_seconds=seconds / 3,
        seed=0,
        output=folder / "pooled",
    )
    task.run()
    return PhysioSync.from_pretrained(task.output)


def differs(a: PhysioSync, b: PhysioSync) -> bool:
    weights = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return any(not torch.equal(x, y) for x, y in weights)


@pytest.mark.parametrize("protocol", ["stimulus", "subject"])
def test_it_sees_training_and_validation_trials_and_no_others(
    tmp_path: Path, protocol: str
) -> None:
    make = {"stimulus": stimulus_split, "subject": subject_split}[protocol]
    people = PEOPLE[:5]
    split = make(written(tmp_path / "plain", subjects=people).trials, seed=3)
    plain = trained(tmp_path / "plain", split)
    assert differs(plain, fresh())

    def shouting(part: str) -> PhysioSync:
        inside = getattr(split, part)

        def change(subject: str, k: int, signals: Signals) -> Signals:
            if subject not in inside.subjects or f"v{k}" not in inside.stimuli:
                return signals
            rng = np.random.default_rng(k)
            return {m: rng.permuted(x, axis=1) * 3 for m, x in signals.items()}

        written(tmp_path / part, subjects=people, change=change)
        return trained(tmp_path / part, split)

    assert not differs(shouting("test"), plain)
    assert differs(shouting("train"), plain)


def test_the_audit_knows_what_it_saw(tmp_path: Path) -> None:
    store = written(tmp_path, subjects=PEOPLE[:3])
    split = stimulus_split(store.trials, seed=3)
    seen = trained(tmp_path, split).seen
    known = split.trials(store.trials, "train", "validation")
    assert seen == Seen.of(store, known)


def test_its_budget_is_seconds_of_signal_and_its_best_epoch_is_kept(tmp_path: Path) -> None:
    store = written(tmp_path, subjects=PEOPLE[:3])
    trained(tmp_path, stimulus_split(store.trials, seed=3), 3000.0)
    metrics = json.loads((tmp_path / "pooled" / "metrics.json").read_text())
    # Passes over the 12 training trials are whole, so the budget is met to half of one.
    assert metrics["seconds"] == pytest.approx(3000, abs=12 * 4 * 3 / 2)
    assert 1 <= metrics["best_epoch"] <= 3
    assert metrics["validation_score"] == 1.0, "levels that differ by 8 standard deviations"
    assert not metrics["diverged"]
