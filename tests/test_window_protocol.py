"""Protocol "window", the papers' shuffle: it does what they do, and says that it leaks."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from physiosync.audit.run import audit, demand_passed
from physiosync.audit.verdict import Verdict
from physiosync.errors import SplitError, StudyError
from physiosync.evaluation import tasks_on_test_part
from physiosync.evidence import protocol_in_words
from physiosync.model import PhysioSync
from physiosync.options import StudyOptions
from physiosync.outcome import tables_of
from physiosync.planning import new_split, search_space
from physiosync.preprocessing import PreprocessingConfig
from physiosync.provenance import Seen
from physiosync.report import render_text
from physiosync.shards import write_shard
from physiosync.space import first_points, to_config
from physiosync.splits import Split, folds, stimulus_split
from physiosync.stretch_splits import by_stretch, window_split
from physiosync.stretches import clip_of
from physiosync.study import Study
from physiosync.tables import main_table
from physiosync.tasks import FinalistTask, FinetuneTask
from physiosync.windows import ClosedTrialError, WindowStore
from tests import small_study
from tests.conftest import SFREQ, made_up_recording
from tests.test_finetuning_and_baselines import CONFIG as FINETUNING
from tests.test_finetuning_and_baselines import fresh, written
from tests.test_new_people import _workload as workload_of
from tests.test_pretraining import _workload, assert_same, changed, weights
from tests.test_report import HEADER, page, predictions

SECONDS = 5
LENGTH = round(SECONDS * SFREQ)
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def cut(store: WindowStore) -> WindowStore:
    """Six people, ten clips of 40 s, in stretches of 5 s."""
    return store.in_stretches(SECONDS)


@pytest.fixture(scope="module")
def split(cut: WindowStore) -> Split:
    return window_split(cut.trials, stretch_seconds=SECONDS, seed=1)


# ---- stretches


def test_a_stretch_is_a_slice_of_its_trial(store: WindowStore, cut: WindowStore) -> None:
    assert len(cut) == 8 * len(store)
    whole, table = store.trials.reset_index().set_index(["subject", "stimulus"]), cut.trials
    assert set(table["n_times"]) == {LENGTH}
    for trial in (0, 1, 7, 8, 300, len(cut) - 1):
        row = table.loc[trial]
        clip, _, second = row["stimulus"].rpartition("@")
        recorded = whole.loc[(row["subject"], clip)]
        assert row["valence"] == recorded["valence"]
        start = round(int(second) * SFREQ)
        for modality in ("eeg", "gsr"):
            expected = store.read(modality, int(recorded["trial"]), start, start + LENGTH)
            np.testing.assert_array_equal(cut.read(modality, trial), expected)
            one = np.array([trial])
            part = cut.gather(modality, one, np.array([100]), 28)
            np.testing.assert_array_equal(part[0], expected[100:128])
        with pytest.raises(IndexError):
            cut.read("eeg", trial, 0, LENGTH + 1)
    assert table["stimulus"][:9].tolist() == [
        *(f"video-01@{second:03d}" for second in range(0, 40, 5)), "video-02@000",
    ]  # fmt: skip


def test_what_is_too_short_for_a_stretch_is_closed(store: WindowStore) -> None:
    cut = store.in_stretches(15)
    assert set(cut.trials["stimulus"].str[-3:]) == {"000", "015"}
    with pytest.raises(ValueError, match="at most those of the longest trial"):
        store.in_stretches(41)
    with pytest.raises(ValueError, match="expected whole trials"):
        cut.in_stretches(5)
    with pytest.raises(ClosedTrialError):
        store.restrict([0]).in_stretches(5)


def test_stretches_can_be_closed_sent_and_told_apart(store: WindowStore, cut: WindowStore) -> None:
    few = cut.restrict([3, 70])
    with pytest.raises(ClosedTrialError, match="video-01@020"):
        few.read("eeg", 4)
    sent = pickle.loads(pickle.dumps(few))
    assert sent.identity == few.identity
    assert sent.trials.equals(few.trials)
    np.testing.assert_array_equal(sent.read("gsr", 70), cut.read("gsr", 70))
    identities = {s.identity for s in (store, cut, few, cut.restrict([3, 71]))}
    assert len(identities | {store.in_stretches(4).identity}) == 5


def test_other_ratings_are_seen_by_all_that_ask_and_travel(store: WindowStore) -> None:
    other = store.trials[["valence"]] + 1
    changed = store.with_ratings(other)
    assert changed.identity != store.identity
    sent = pickle.loads(pickle.dumps(changed.in_stretches(SECONDS)))
    assert (sent.trials["valence"].iloc[::8].to_numpy() == other["valence"].to_numpy()).all()
    assert (sent.trials["arousal"].iloc[::8].to_numpy() == store.trials["arousal"]).all()
    for wrong in (other[1:], other.rename(columns={"valence": "joy"})):
        with pytest.raises(ValueError, match="ratings must"):
            store.with_ratings(wrong)


# ---- the split


def test_stretches_of_a_clip_are_shuffled_and_each_is_in_one_part(
    cut: WindowStore, split: Split
) -> None:
    table = cut.trials
    ids = [split.trials(table, part) for part in PARTS]
    assert sorted(np.concatenate(ids)) == list(table.index), "covered, and none twice"
    stimuli = [set(table["stimulus"].loc[part]) for part in ids]
    assert [len(some) for some in stimuli] == [48, 16, 16]
    assert sum(map(len, stimuli)) == len(set.union(*stimuli)), "for everybody alike"
    shared = set(map(clip_of, stimuli[0])) & set(map(clip_of, stimuli[2]))
    assert len(shared) > 5, "most clips are on both sides"
    again = window_split(table.sample(frac=1), stretch_seconds=SECONDS, seed=1)
    assert again == split
    assert window_split(table, stretch_seconds=SECONDS, seed=2) != split
    for fold in folds(split)[1:]:
        assert fold.test == split.test
        assert not set(fold.validation.stimuli) & {*split.test.stimuli, *fold.train.stimuli}


def test_the_file_says_that_it_is_leaky(split: Split, tmp_path: Path) -> None:
    split.save(tmp_path / "split.json")
    assert "LEAKY" in (tmp_path / "split.json").read_text()
    assert Split.load(tmp_path / "split.json") == split
    assert "LEAKY" in protocol_in_words("window")


def test_whole_clips_told_in_stretches(store: WindowStore, cut: WindowStore) -> None:
    whole = stimulus_split(store.trials, seed=1)
    told = by_stretch(whole, cut.trials, SECONDS)
    for part in PARTS:
        found = cut.trials.loc[told.trials(cut.trials, part), "stimulus"]
        assert {clip_of(name) for name in found} == set(getattr(whole, part).stimuli)
        assert len(found) == 8 * len(whole.trials(store.trials, part))  # type: ignore[arg-type]


# ---- the audit


def test_its_audit_fails_as_it_should(store: WindowStore, split: Split, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    split.save(path)
    report = audit(store, path)
    assert report.leaky
    found = {v.check: v for v in report.verdicts}
    failed = {name for name, v in found.items() if v.status == "failed"}
    assert failed >= {"trials", "neighbours"}
    # Nearly every one of 2 x 16 held-out stretches of six people has another within 10 s.
    assert found["neighbours"].number is not None
    assert found["neighbours"].number > 0.9 * 6 * 32
    assert found["windows"].number == 0, "no second is in two parts"
    assert found["stimuli"].status == "not applicable"
    assert "FAILED, because the protocol is leaky" in report.lines()[0]
    demand_passed(report, path)
    twice = Verdict(check="exact copies", status="failed", number=4, said="4 copies")
    damaged = report.model_copy(update={"verdicts": (*report.verdicts, twice)})
    with pytest.raises(StudyError, match="exact copies: 4 copies"):
        demand_passed(damaged, path)
    with pytest.raises(StudyError, match="neighbours"):
        demand_passed(report.model_copy(update={"protocol": "stimulus"}), path)


def test_whole_clips_in_stretches_pass(
    store: WindowStore, cut: WindowStore, tmp_path: Path
) -> None:
    path = tmp_path / "split.json"
    by_stretch(stimulus_split(store.trials, seed=1), cut.trials, SECONDS).save(path)
    report = audit(store, path)
    assert report.passed, report.lines()


@pytest.mark.parametrize("name", ["video-01", "video-01@", "@005", "video-77@005"])
def test_stretches_that_are_none_are_named(
    store: WindowStore, split: Split, tmp_path: Path, name: str
) -> None:
    content = json.loads(split.model_dump_json())
    content["test"]["stimuli"].append(name)
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(SplitError, match=r"test: .*video-77|expected stretches such as"):
        audit(store, path)


def test_an_encoder_remembers_the_trials_of_its_stretches(
    store: WindowStore, cut: WindowStore, split: Split, tmp_path: Path
) -> None:
    """So a later study of whole clips can't take it for one that never saw them."""
    assert Seen.of(cut, [0, 1, 8]) == Seen.of(store, [0, 1])
    path, folder = tmp_path / "split.json", tmp_path / "encoder"
    split.save(path)
    model = fresh()
    model.seen = Seen.of(cut, split.trials(cut.trials, "train", "validation"))
    model.save_pretrained(folder)
    verdict = {v.check: v for v in audit(store, path, checkpoint=folder).verdicts}["pretraining"]
    assert verdict.status == "failed"
    assert "seconds of them" in verdict.said


# ---- a study


def _options(folder: Path, **changes: object) -> StudyOptions:
    return small_study.options(folder, protocol="window", **changes)


def test_the_study_goes_on_and_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_study.write_recordings(tmp_path / "recordings", shape=(6, 40, 384 + 30 * 128))
    study = Study(
        _options(tmp_path),
        find=small_study.find_deap,
        read=small_study.partial(small_study.read_deap, shape=(6, 40, 384 + 30 * 128)),
    )
    with study.session():
        study.prepare()
    log = (study.folder / "study.log").read_text()
    assert "protocol window: LEAKY" in log.splitlines()[2]
    assert "protocol window (leaky): FAILED, because the protocol is leaky" in log
    assert "failed         neighbours" in log
    assert study.split.protocol == "window"
    assert set(study.store.trials["n_times"]) == {LENGTH}
    space = search_space(study.options, study.store.trials, SFREQ, study.split)
    config = to_config(first_points(study.options.pretraining)[0], study.options.pretraining)
    assert config == study.options.pretraining
    for name in ("short_seconds", "long_pieces", "lag_skin_seconds", "lag_body_seconds"):
        assert space[name].single(), name
    assert config.long_seconds == SECONDS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "subject", "pooled": True}, "--pooled belongs to protocols"),
        ({"protocol": "window", "pairing": "recording"}, "belongs to pairing stimulus"),
    ],
)
def test_what_does_not_go_together(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StudyOptions.model_validate(options)


def test_pooled_is_another_study() -> None:
    assert StudyOptions().identity() != StudyOptions(pooled=True).identity()


def test_pooled_trains_one_classifier_for_everybody(tmp_path: Path) -> None:
    store = written(tmp_path, subjects=("s1", "s2", "s3"))
    fresh().save_pretrained(tmp_path / "best" / "rank-1", metrics={"configuration": "c"})
    cut = store.in_stretches(SECONDS)
    split = new_split(
        StudyOptions(protocol="window", validation_share=0.1, pooled=True), cut.trials
    )
    workload = workload_of(tmp_path, split)
    each = tasks_on_test_part(tmp_path, workload, FINETUNING, seed=0)
    pooled = tasks_on_test_part(tmp_path, workload, FINETUNING, seed=0, pooled=True)
    tuned = ("pretrained", "scratch")
    for tasks, expected in ((each, ["s1", "s2", "s3"] * 2), (pooled, [None, None])):
        found = [t for t in tasks if isinstance(t, FinetuneTask) and t.method in tuned]
        assert [task.subject for task in found] == expected
    tables = []
    for task in pooled:
        if task.method not in (*tuned, "majority", "band_power"):
            continue
        task.run()
        tables.append(pd.read_parquet(task.output))
    tested = {tuple(sorted(set(zip(t["subject"], t["stimulus"], strict=True)))) for t in tables}
    assert len(tested) == 1, "all methods answer for the same stretches"
    assert {s for s, _ in tested.pop()} == {"s1", "s2", "s3"}
    assert {name for table in tables for name in table["stimulus"]} == set(split.test.stimuli)


def test_seconds_of_the_test_part_reach_no_encoder(
    split: Split, shards: list[Path], cache: Path, tmp_path: Path
) -> None:
    """Every sample of the test stretches is NaN; the rest of their trials is not."""
    sick = []
    for i in range(6):
        recording = made_up_recording(f"s{i + 1:02d}")
        for trial in recording.trials:
            for name in split.test.stimuli:
                clip, _, second = name.rpartition("@")
                if clip == trial.stimulus:
                    start = round(int(second) * SFREQ)
                    for x in trial.signals.values():
                        x[:, start : start + LENGTH] = np.nan
        recording = dataclasses.replace(recording, fingerprint=f"{recording.subject}-sick")
        sick.append(write_shard(recording, tmp_path / "shards", PreprocessingConfig()))
    config = changed(epochs=1, lag_skin_seconds=0)
    models, metrics = [], []
    for name, paths in (("clean", shards), ("sick", sick)):
        task = FinalistTask(
            workload=_workload(tuple(paths), split, cache),
            config=config,
            split=split,
            fold=1,
            seed=2,
            output=tmp_path / name,
        )
        task.run()
        models.append(weights(PhysioSync.from_pretrained(task.output)))
        metrics.append(json.loads((task.output / "metrics.json").read_text()))
    assert metrics[0] == metrics[1]
    assert np.isfinite(metrics[1]["validation_score"])
    assert_same(*models)


# ---- the report


def _stretches() -> pd.DataFrame:
    """Four people, six clips of two stretches each; a clip is right or wrong as a whole."""
    rows = [
        (f"s{s}", f"v{c}@{5 * k:03d}", 100 * s + 2 * c + k, c % 2, float((c % 2) ^ (c < 2)))
        for s in range(4)
        for c in range(6)
        for k in range(2)
    ]
    return predictions(rows)


def test_intervals_of_stretches_resample_whole_clips() -> None:
    rows = _stretches()
    one_each = rows[rows["stimulus"].str.endswith("@000")]
    one_each = one_each.assign(stimulus=one_each["stimulus"].map(clip_of))
    many, few = (
        main_table(table, stretches=stretches).iloc[0]
        for table, stretches in ((rows, True), (one_each, False))
    )
    assert many[["low", "high"]].tolist() == few[["low", "high"]].tolist()
    alone = main_table(rows).iloc[0]
    assert alone["high"] - alone["low"] < many["high"] - many["low"]


def test_table_and_page_say_leaky_and_claim_no_p(tmp_path: Path) -> None:
    rows = pd.concat([_stretches(), _stretches().assign(method="scratch")], ignore_index=True)
    protocol = protocol_in_words("window")
    unit = "stretches of 5 s"
    table, none = main_table(rows, stretches=True), pd.DataFrame()
    text = render_text(table, none, title=f"protocol {protocol}", unit=unit)
    assert "LEAKY" in text.splitlines()[0]
    assert " 0.667 (-)  F1" in text
    assert "scored are stretches of 5 s" in text
    assert " p " not in text.replace("no p is", "")
    split = window_split(rows, stretch_seconds=SECONDS)
    told = tables_of(rows, split)
    assert (told[0], len(told[2])) == (unit, 0)
    assert told[1].equals(table)
    assert max(map(len, text.splitlines())) <= 100
    parsed, html = page(
        tmp_path, header=HEADER | {"protocol": protocol}, rows=rows, unit=unit, compared=none
    )
    assert '<p class="loud">LEAKY' in html
    assert all("LEAKY" in caption for caption in parsed.text["caption"] + parsed.text["figcaption"])
    assert "Comparisons" not in html
    assert "Test stretches of 5 s" in parsed.text["h2"]
