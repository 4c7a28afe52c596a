"""The ablation: what varies, what judges it, and what its table says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from physiosync.ablation import DEFAULT, VARIANTS, AblationTask, Variant, chosen, infeasible
from physiosync.ablation_report import draw, markdown, summary
from physiosync.encoders import EncoderConfig
from physiosync.errors import StudyError
from physiosync.labels import Labels
from physiosync.pretraining import PretrainingConfig
from physiosync.probing import ProbeConfig
from physiosync.splits import folds, stimulus_split
from physiosync.tasks import Workload
from physiosync.windows import WindowStore

BASE = PretrainingConfig(
    pps=("gsr",),
    moments=4,
    gap_seconds=5,
    epochs=1,
    epoch_seconds=200,
    encoder=EncoderConfig(width=16, depth=1, heads=2, projector=(16, 8), cmca=8),
)


def named(name: str) -> Variant:
    return next(variant for variant in VARIANTS if variant.name == name)


# ---- what varies


def test_each_variant_changes_one_thing() -> None:
    default = BASE.model_dump()
    for variant in VARIANTS:
        config = variant.config(BASE).model_dump()
        changed = {name for name in default if config[name] != default[name]}
        assert changed <= set(variant.changes), variant.name
        assert changed or variant.name in (DEFAULT, "untrained")
        assert config["epoch_seconds"] * config["epochs"] == 200, "the same signal for all"
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


@pytest.mark.parametrize(
    ("name", "long", "short"),
    [
        (DEFAULT, (0.5, 0.5, 1.0), (0.5, 0.5, 1.0)),
        ("no-tcl-long", (0.0, 0.0, 1.0), (0.5, 0.5, 1.0)),
        ("no-tcl-short", (0.5, 0.5, 1.0), (0.0, 0.0, 1.0)),
        ("no-tcl", (0.0, 0.0, 1.0), (0.0, 0.0, 1.0)),
        ("no-cmca", (0.5, 0.5, 0.0), (0.5, 0.5, 0.0)),
        ("eeg-only", (0.5, 0.0, 0.0), (0.5, 0.0, 0.0)),
        ("pps-only", (0.0, 0.5, 0.0), (0.0, 0.5, 0.0)),
    ],
)
def test_terms_are_turned_off(name: str, long: tuple[float, ...], short: tuple[float, ...]) -> None:
    config = named(name).config(BASE)
    assert config.weights("long") == long
    assert config.weights("short") == short


def test_a_choice_always_has_the_default_to_compare_with() -> None:
    assert [v.name for v in chosen(["no-cmca"])] == [DEFAULT, "no-cmca"]
    assert chosen([]) == VARIANTS
    with pytest.raises(StudyError, match=r"expected some of default, .*, found no-cmcaa"):
        chosen(["no-cmcaa"])


def test_what_the_people_cannot_fill_is_told(store: WindowStore) -> None:
    splits = [stimulus_split(store.trials)]
    reason = infeasible(named("groups-4"), BASE, store, splits)
    assert reason is not None
    assert "at least 8 subjects" in reason
    assert infeasible(named("groups-2"), BASE, store, splits) is None


# ---- how it is judged


def task(store: WindowStore, shards: list[Path], cache: Path, out: Path, name: str) -> AblationTask:
    split = stimulus_split(store.trials)
    variant = named(name)
    return AblationTask(
        workload=Workload(
            shards=tuple(shards),
            pps=("gsr",),
            split=split,
            labels=Labels(targets={"arousal": 2, "valence": 2}),
            probe=ProbeConfig(),
            cache=cache,
        ),
        data="made up",
        variant=name,
        config=variant.config(BASE),
        roles=variant.roles,
        trained=variant.trained,
        split=folds(split)[1],
        fold=1,
        repeat=0,
        seed=3,
        output=out / f"{name}.parquet",
    )


def test_a_run_predicts_the_held_out_clips_and_only_them(
    store: WindowStore, shards: list[Path], cache: Path, tmp_path: Path
) -> None:
    rows = {}
    for name in (DEFAULT, "untrained", "eeg-only"):
        job = task(store, shards, cache, tmp_path, name)
        job.run()
        rows[name] = pd.read_parquet(job.output)
        held = job.split.validation
        assert set(rows[name]["stimulus"]) == set(held.stimuli)
        assert set(rows[name]["subject"]) == set(held.subjects)
        assert set(rows[name]["method"]) == {name}
        assert not rows[name]["diverged"].any()
    for name in ("untrained", "eeg-only"):
        assert not np.allclose(rows[DEFAULT]["p1"], rows[name]["p1"]), name
    again = task(store, shards, cache, tmp_path / "again", DEFAULT)
    again.run()
    pd.testing.assert_frame_equal(rows[DEFAULT], pd.read_parquet(again.output))


def test_a_runs_identity_is_what_it_computes(
    store: WindowStore, shards: list[Path], cache: Path, tmp_path: Path
) -> None:
    one = task(store, shards, cache, tmp_path, DEFAULT)
    moved = one.model_copy(update={"output": tmp_path / "elsewhere.parquet"})
    assert one.uid() == moved.uid()
    for update in ({"seed": 4}, {"trained": False}, {"roles": ("eeg",)}, {"data": "other"}):
        assert one.uid() != one.model_copy(update=update).uid()
    assert one.uid() != task(store, shards, cache, tmp_path, "no-cmca").uid()


# ---- the table


def answers(method: str, wrong: set[tuple[str, str, str]], fold: int = 0) -> pd.DataFrame:
    """Right everywhere but for some (subject, stimulus, target)."""
    rows = [
        {
            "subject": subject,
            "stimulus": f"{fold}-{clip}",
            "trial": 100 * fold + 10 * s + c,
            "start_seconds": 0.0,
            "target": target,
            "truth": (c + s) % 2,
            "method": method,
            "seed": 0,
            "fold": fold,
            "diverged": False,
        }
        for s, subject in enumerate(("s1", "s2"))
        for c, clip in enumerate("abcd")
        for target in ("arousal", "valence")
    ]
    table = pd.DataFrame(rows)
    keys = zip(table["subject"], table["stimulus"].str[2:], table["target"], strict=True)
    right = np.array([key not in wrong for key in keys])
    high = np.where(right, table["truth"], 1 - table["truth"])
    return table.assign(p0=1.0 - high, p1=high.astype(float))


def test_the_summary_is_the_mean_over_targets_and_people_of_what_folds_together_got_right() -> None:
    wrong = {("s1", "a", "arousal"), ("s2", "b", "valence")}
    predictions = pd.concat(
        [
            answers(DEFAULT, set(), 0),
            answers(DEFAULT, set(), 1),
            answers("no-cmca", wrong, 0),
            answers("no-cmca", set(), 1),
        ],
        ignore_index=True,
    )
    table = summary(predictions).set_index("variant")
    assert table.loc[DEFAULT, "score"] == 1.0
    # In fold 0 each person has one of four recalls halved; over both folds it is a quarter less.
    assert table.loc["no-cmca", "score"] == pytest.approx(1 - 0.25 / 4)
    assert table.loc["no-cmca", "difference"] == pytest.approx(-0.25 / 4)
    assert table.loc["no-cmca", "runs"] == pytest.approx((-0.5 / 4, 0.0))
    assert table.loc["no-cmca", "low"] <= -0.25 / 4 <= table.loc["no-cmca", "high"] <= 0


def test_table_and_figure_say_what_they_show(tmp_path: Path) -> None:
    predictions = pd.concat(
        [answers(DEFAULT, set()), answers("no-cmca", {("s1", "a", "arousal")})], ignore_index=True
    )
    predictions.loc[predictions["method"] == "no-cmca", "diverged"] = True
    table = summary(predictions)
    text = markdown(table, "SYNTHETIC cohort")
    assert text.startswith("SYNTHETIC cohort\n\n| variant |")
    assert "| without CM-CA (LS-TCL alone) (1 run diverged) | 0.938 | -0.062 [" in text
    draw(table, tmp_path / "ablation.png", "SYNTHETIC cohort")
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
