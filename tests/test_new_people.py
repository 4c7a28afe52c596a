"""Studies of people who are held out, and of encoders that are paired by recording."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray

from physiosync.evaluation import pooled_tasks, tasks_on_test_part
from physiosync.further_tasks import AnalysisTask
from physiosync.labels import Labels
from physiosync.model import PhysioSync
from physiosync.pretraining import PretrainingConfig
from physiosync.probing import ProbeConfig
from physiosync.recordings.deap import find_deap, read_deap
from physiosync.sampling import Pairing
from physiosync.splits import Split, both_split, subject_split
from physiosync.study import Study
from physiosync.tasks import BaselineTask, FinetuneTask, Workload
from tests import small_study
from tests.test_finetuning_and_baselines import CONFIG, MODEL, Signals, fresh, written

PEOPLE = tuple(f"s{k}" for k in range(1, 7))


def _study(folder: Path, recordings: Path) -> Study:
    """Of four trials that every search begins with and one that the sampler draws."""
    options = small_study.options(
        folder,
        recordings=recordings,
        protocol="subject",
        pairing="recording",
        calibration=("video-02",),
        trials=5,
        max_epochs=1,
        epoch_seconds=160,
        finalists=1,
        # All that Ray has: one trial at a time.
        cpus_per_trial=ray.cluster_resources()["CPU"],
    )
    shape = (6, 40, 384 + 40 * 128)
    if not recordings.exists():
        small_study.write_recordings(recordings, 6, shape)
    study = Study(options, find=find_deap, read=partial(read_deap, shape=shape), synthetic=True)
    study.run()
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_running: None) -> Study:
    folder = tmp_path_factory.mktemp("study")
    return _study(folder, folder / "recordings")


def test_a_study_of_new_people_tests_them_alone(finished: Study) -> None:
    folder = finished.folder
    split = json.loads((folder / "split.json").read_text())
    assert split["protocol"] == "subject"
    assert split["calibration"] == ["video-02"]
    assert set(split["sites"].values()) == {"Twente"}, "DEAP's s01 to s22"
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert set(predictions["subject"]) == set(split["test"]["subjects"])
    assert not set(split["test"]["subjects"]) & {
        *split["train"]["subjects"],
        *split["validation"]["subjects"],
    }
    assert set(predictions["stimulus"]) == {f"video-0{k}" for k in (1, 3, 4, 5, 6)}
    assert np.isfinite(predictions["p0"]).all()
    trials = predictions.groupby("method")["trial"].unique().map(set)
    assert (trials == trials["pretrained"]).all(), "all methods answer for the same trials"
    assert "clip_consensus" in trials.index, "all saw the same clips, however encoders are paired"


def test_what_was_paired_is_named_wherever_it_counts(finished: Study) -> None:
    best = finished.folder / "best" / "rank-1"
    assert PhysioSync.from_pretrained(best).config.pairing == "recording"
    assert json.loads((best / "metrics.json").read_text())["pretraining"]["pairing"] == "recording"
    assert "recording" in (best / "README.md").read_text()
    report = (finished.folder / "report.html").read_text()
    assert "subject: new people, known clips" in report
    assert "<dt>pairing</dt><dd>recording</dd>" in report
    text = (finished.folder / "study.log").read_text()
    assert "protocol subject: new people, known clips" in text
    assert 'pairing="recording"' in text


def test_a_control_for_which_trials_are_too_short_is_left_out_and_said(finished: Study) -> None:
    """Shuffled pairs of one recording need a trial that holds another time, far enough away."""
    methods = set(pd.read_parquet(finished.folder / "predictions.parquet")["method"])
    assert "simclr_probe" in methods
    assert "shuffled_probe" not in methods
    for name in ("report.html", "study.log"):
        said = (finished.folder / name).read_text()
        assert "no control encoder for shuffled_probe: expected trials of at least" in said, name


@pytest.mark.slow
def test_the_same_seed_gives_identical_tables_one_trial_at_a_time(
    finished: Study, tmp_path: Path
) -> None:
    assert finished.options.recordings is not None
    again = _study(tmp_path, finished.options.recordings)
    one, other = (_searched(study) for study in (finished, again))
    assert len(one) == 5
    assert one == other
    for name in ("predictions", "finetune", "baselines", "kshot", "analyses"):
        tables = [pd.read_parquet(s.folder / f"{name}.parquet") for s in (finished, again)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    printed = _printed(finished)
    assert any("pretrained, fine-tuned" in line for line in printed)
    assert printed == _printed(again)
    for path in sorted((finished.folder / "best").glob("rank-*/model.safetensors")):
        twin = again.folder / path.relative_to(finished.folder)
        assert path.read_bytes() == twin.read_bytes(), path


def _searched(study: Study) -> list[tuple[object, ...]]:
    return [(t.number, t.state, t.params, t.intermediate_values) for t in study.database.trials]


def _printed(study: Study) -> list[str]:
    """The report in the log, without the paths that stand under its tables."""
    lines = (study.folder / "study.log").read_text().splitlines()
    first = next(k for k, line in enumerate(lines) if "balanced accuracy of test trials" in line)
    table = [line for line in lines[first:] if str(study.folder) not in line]
    return [table[0].partition("INFO")[2], *(x for x in table[1:] if " INFO " not in x)]


# ---- one classifier for people whom it does not know


def _workload(folder: Path, split: Split) -> Workload:
    return Workload(
        shards=tuple(sorted((folder / "shards").glob("*.parquet"))),
        pps=("gsr",),
        split=split,
        labels=Labels(),
        probe=ProbeConfig(),
        cache=folder / "cache",
    )


def _predicted(folder: Path, split: Split) -> pd.DataFrame:
    """By all methods, with an encoder that was never trained."""
    budget = PretrainingConfig(epochs=1, epoch_seconds=100).model_dump(mode="json")
    metrics = {"configuration": "c", "pretraining": budget}
    fresh().save_pretrained(folder / "best" / "rank-1", metrics=metrics)
    workload = _workload(folder, split)
    tasks = tasks_on_test_part(folder, workload, CONFIG, seed=0)
    for task in (*pooled_tasks(folder, workload, CONFIG, seed=0), *tasks):
        task.run()
    assert [task.method for task in tasks if isinstance(task, FinetuneTask)] == [
        "pretrained", "scratch", "scratch_pooled",
    ]  # fmt: skip
    scored = [task.output for task in tasks if not isinstance(task, AnalysisTask)]
    return pd.concat([pd.read_parquet(path) for path in scored], ignore_index=True)


def test_new_people_are_scaled_on_their_calibration_trials_and_nothing_else(
    tmp_path: Path,
) -> None:
    made = pd.DataFrame(
        [(s, f"v{k}") for s in PEOPLE for k in range(8)], columns=["subject", "stimulus"]
    )
    split = subject_split(made, seed=1, calibration=("v2", "v3"))
    (stranger,) = split.test.subjects

    def louder(subject: str, k: int, signals: Signals) -> Signals:
        if subject != stranger:
            return signals
        return {name: 30 * x for name, x in signals.items()}

    def shouting_once(subject: str, k: int, signals: Signals) -> Signals:
        if subject != stranger or k != 7:
            return signals
        return {name: 30 * x for name, x in signals.items()}

    tables = {}
    for name, change in (("plain", None), ("louder", louder), ("once", shouting_once)):
        options = {"change": change} if change else {}
        written(tmp_path / name, subjects=PEOPLE, **options)  # type: ignore[arg-type]
        tables[name] = _predicted(tmp_path / name, split)
    plain = tables["plain"]
    assert set(plain["subject"]) == {stranger}
    assert set(plain["stimulus"]) == {"v0", "v1", "v4", "v5", "v6", "v7"}
    # A gain of the amplifier is what calibration takes away; band power has one more than a mean.
    same = plain["method"] != "band_power"
    np.testing.assert_allclose(tables["louder"].loc[same, "p0"], plain.loc[same, "p0"], atol=1e-3)
    others = plain["stimulus"] != "v7"
    pd.testing.assert_frame_equal(tables["once"][others], plain[others])
    networks = plain["method"].isin(["pretrained", "scratch", "pretrained_probe"]) & ~others
    assert not np.allclose(tables["once"].loc[networks, "p0"], plain.loc[networks, "p0"])


@pytest.mark.parametrize("pairing", ["stimulus", "recording"])
def test_a_consensus_needs_clips_that_others_were_trained_on(
    tmp_path: Path, pairing: Pairing
) -> None:
    store = written(tmp_path, subjects=PEOPLE)
    network = MODEL.model_copy(update={"pairing": pairing})
    fresh(network).save_pretrained(tmp_path / "best" / "rank-1", metrics={"configuration": "c"})
    shared = subject_split(store.trials, calibration=("v2", "v3"))
    trained = {
        name: getattr(shared, name).model_copy(update={"stimuli": ("v2", "v3")})
        for name in ("train", "validation")
    }
    for split, expected in ((shared, True), (shared.model_copy(update=trained), False)):
        tasks = tasks_on_test_part(tmp_path, _workload(tmp_path, split), CONFIG, seed=0)
        assert ("clip_consensus" in [task.method for task in tasks]) is expected


def test_new_people_and_new_clips_leave_nothing_to_a_consensus(tmp_path: Path) -> None:
    store = written(tmp_path, subjects=PEOPLE)
    fresh().save_pretrained(tmp_path / "best" / "rank-1", metrics={"configuration": "c"})
    methods = {}
    for name, split in (
        ("subject", subject_split(store.trials)),
        ("both", both_split(store.trials)),
    ):
        tasks = tasks_on_test_part(tmp_path, _workload(tmp_path, split), CONFIG, seed=0)
        methods[name] = {task.method: task for task in tasks}
    assert "clip_consensus" in methods["subject"]
    assert "clip_consensus" not in methods["both"]
    consensus = methods["subject"]["clip_consensus"]
    assert isinstance(consensus, BaselineTask)
    consensus.run()
    rows = pd.read_parquet(consensus.output)
    # The made-up people agree about every clip, so their consensus is always right.
    columns = ["p0", "p1", "p2", "p3"]
    assert (rows[columns].fillna(0).to_numpy().argmax(axis=1) == rows["truth"]).all()
