"""The audit: every planted fault is caught, and a clean split passes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from physiosync import cli
from physiosync.audit.run import audit, audit_encoders, audit_once, demand_passed, kept_audit
from physiosync.audit.verdict import AuditReport, Verdict
from physiosync.errors import CheckpointError, SplitError, StudyError
from physiosync.preprocessing import PreprocessingConfig, preprocess
from physiosync.provenance import FILE, Seen
from physiosync.recordings.base import Recording, Trial
from physiosync.shards import write_shard
from physiosync.splits import Split, both_split, stimulus_split, subject_folds, subject_split
from physiosync.windows import WindowStore
from tests.conftest import SFREQ, made_up_recording

SUBJECTS = ("s01", "s02", "s03")
BASE = round(SFREQ / 2)
#: Of `made_up_recording`, in the test part of `split_file`.
TEST_STIMULI = {"video-03", "video-05"}


def recordings(seconds: float = 12.0) -> dict[str, Recording]:
    return {name: made_up_recording(name, n_stimuli=8, seconds=seconds) for name in SUBJECTS}


def eeg(people: dict[str, Recording], subject: str, stimulus: str) -> np.ndarray:
    """Samples of one trial, to be changed in place."""
    (trial,) = (t for t in people[subject].trials if t.stimulus == stimulus)
    return trial.signals["eeg"]


def opened(people: dict[str, Recording], folder: Path, cache: Path) -> WindowStore:
    for recording in people.values():
        write_shard(recording, folder, PreprocessingConfig())
    return WindowStore.open(folder, ("eeg",), cache)


def product(protocol: str = "stimulus", **changes: dict[str, list[str]]) -> dict:
    """A split.json by stimulus, clips 3 and 5 for the test."""
    everyone = list(SUBJECTS)

    def part(*clips: int) -> dict[str, list[str]]:
        return {"subjects": everyone, "stimuli": [f"video-{c:02d}" for c in clips]}

    parts = {"train": part(1, 2, 4, 6), "validation": part(7, 8), "test": part(3, 5)}
    return {"protocol": protocol, "seed": 0, **parts, **changes}


def saved(folder: Path, content: object, name: str = "split.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def verdicts(report: AuditReport) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in report.verdicts}


def failed(report: AuditReport) -> set[str]:
    return {verdict.check for verdict in report.verdicts if verdict.status == "failed"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> WindowStore:
    return opened(recordings(), tmp_path_factory.mktemp("clean"), cache)


# ---- clean splits


def test_a_clean_split_passes(clean: WindowStore, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    stimulus_split(clean.trials, seed=1).save(path)
    report = audit(clean, path)
    assert report.passed
    assert not report.leaky
    found = verdicts(report)
    assert found["subjects"].status == "not applicable"
    assert found["subjects"].number == 3, "the same people, by design"
    for check in ("stimuli", "trials", "windows", "neighbours", "exact copies", "near copies"):
        assert (found[check].status, found[check].number) == ("passed", 0), check
    assert found["trial barcodes"].status == "passed"
    assert found["pretraining"].status == "not applicable"
    assert max(map(len, report.lines())) <= 100


def test_a_clean_split_by_subject_and_by_both_passes(clean: WindowStore, tmp_path: Path) -> None:
    clips = [f"video-{c:02d}" for c in range(1, 9)]
    by_subject = product(
        "subject",
        train={"subjects": ["s01"], "stimuli": clips},
        validation={"subjects": ["s02"], "stimuli": clips},
        test={"subjects": ["s03"], "stimuli": clips},
    )
    report = audit(clean, saved(tmp_path, by_subject))
    assert report.passed
    assert verdicts(report)["stimuli"].status == "not applicable"
    both = product(
        "both",
        train={"subjects": ["s01"], "stimuli": clips[:4]},
        validation={"subjects": ["s02"], "stimuli": clips[4:6]},
        test={"subjects": ["s03"], "stimuli": clips[6:]},
    )
    assert audit(clean, saved(tmp_path, both)).passed


@pytest.fixture(scope="module")
def unshared(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> WindowStore:
    """Twelve people, twenty clips each that nobody else met."""
    people = {}
    for name in (f"s{k:02d}" for k in range(1, 13)):
        one = made_up_recording(name, n_stimuli=20, seconds=2.0)
        own = tuple(replace(t, stimulus=f"{name}-{t.stimulus}") for t in one.trials)
        people[name] = replace(one, trials=own)
    return opened(people, tmp_path_factory.mktemp("unshared"), cache)


@pytest.mark.parametrize("make", [subject_split, both_split])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_clean_split_of_people_who_share_no_clip_passes(
    make: Callable[..., Split], seed: int, unshared: WindowStore, tmp_path: Path
) -> None:
    """Some held-out clips were met by nobody of their part, and are in none, by design."""
    path = tmp_path / "split.json"
    make(unshared.trials, seed=seed).save(path)
    report = audit(unshared, path)
    assert report.passed, report.lines()
    assert verdicts(report)["calibration"].status == "passed"


def test_a_trial_that_the_file_never_names_is_missed(unshared: WindowStore, tmp_path: Path) -> None:
    split = subject_split(unshared.trials, seed=0)
    content = json.loads(split.model_dump_json())
    clip = next(c for c in split.calibration if c.startswith(split.test.subjects[0]))
    for names in (content["calibration"], content["train"]["stimuli"]):
        names.remove(clip)
    with pytest.raises(SplitError, match=f"1 of 240 in none.*{clip}"):
        audit(unshared, saved(tmp_path, content))


def test_folds_that_choose_nothing_have_no_validation(clean: WindowStore, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    subject_folds(clean.trials, 3, calibration=["video-01"])[0].save(path)
    report = audit(clean, path)
    assert report.passed, report.lines()
    half = json.loads(path.read_text())
    half["validation"] = {"subjects": ["s02"], "stimuli": []}
    with pytest.raises(SplitError, match="one alone"):
        audit(clean, saved(tmp_path, half))


# ---- planted faults


@pytest.mark.parametrize("protocol", ["subject", "both"])
def test_calibration_on_clips_that_are_tested(
    protocol: str, clean: WindowStore, tmp_path: Path
) -> None:
    clips = [f"video-{c:02d}" for c in range(1, 9)]
    parts = (
        (clips[:4], clips[4:6], clips[6:]) if protocol == "both" else (clips, clips[2:], clips[2:])
    )
    content = product(protocol) | {
        name: {"subjects": [subject], "stimuli": stimuli}
        for name, subject, stimuli in zip(
            ("train", "validation", "test"), SUBJECTS, parts, strict=True
        )
    }
    content["calibration"] = clips[:2]
    report = audit(clean, saved(tmp_path, content))
    assert report.passed, report.lines()
    assert verdicts(report)["calibration"].number == 0
    content["calibration"] = ["video-01", "video-07"]
    report = audit(clean, saved(tmp_path, content))
    assert "calibration" in failed(report)
    assert verdicts(report)["calibration"].number == 1
    assert "video-07" in verdicts(report)["calibration"].said
    content["calibration"] = ["video-77"]
    with pytest.raises(SplitError, match=r"calibration: .*video-77"):
        audit(clean, saved(tmp_path, content))


def test_a_test_trial_copied_into_a_calibration_trial(tmp_path: Path, cache: Path) -> None:
    """Who is held out has calibration trials in no part; they are looked through all the same."""
    people = recordings()
    eeg(people, "s03", "video-01")[:, :BASE] = eeg(people, "s03", "video-07")[:, :BASE]
    store = opened(people, tmp_path / "shards", cache)
    clips = [f"video-{c:02d}" for c in range(1, 9)]
    content = product(
        "subject",
        train={"subjects": ["s01"], "stimuli": clips},
        validation={"subjects": ["s02"], "stimuli": clips[2:]},
        test={"subjects": ["s03"], "stimuli": clips[2:]},
    ) | {"calibration": clips[:2]}
    report = audit(store, saved(tmp_path, content))
    assert failed(report) == {"exact copies"}
    assert verdicts(report)["exact copies"].number == 1


@pytest.mark.parametrize(("noise", "check"), [(0.0, "exact copies"), (0.01, "near copies")])
def test_a_copied_window(noise: float, check: str, tmp_path: Path, cache: Path) -> None:
    """One base window of a training trial, in a test trial of somebody else, three times as big."""
    people = recordings()
    window = eeg(people, "s01", "video-01")[:, 5 * BASE : 6 * BASE]
    rng = np.random.default_rng(0)
    scale = 3.0 if noise else 1.0
    copy = scale * (window + noise * window.std() * rng.standard_normal(window.shape))
    eeg(people, "s02", "video-03")[:, 9 * BASE : 10 * BASE] = copy
    store = opened(people, tmp_path / "shards", cache)
    report = audit(store, saved(tmp_path, product()))
    assert failed(report) == {check}
    assert verdicts(report)[check].number == 1
    assert "s02/video-03" in verdicts(report)[check].said


@pytest.mark.parametrize(("source", "n"), [("s02", 1), ("s01", 0)])
def test_a_near_copy_is_another_trials(source: str, n: int, tmp_path: Path, cache: Path) -> None:
    """Where one trial is in two parts, its own windows that resemble each other are none."""
    people = recordings()
    window = eeg(people, source, "video-01")[:, 2 * BASE : 3 * BASE]
    noise = np.random.default_rng(0).standard_normal(window.shape)
    eeg(people, "s01", "video-01")[:, 12 * BASE : 13 * BASE] = window + 0.01 * window.std() * noise
    store = opened(people, tmp_path / "shards", cache)
    content = window_list([["s01", "video-01", 0, 5]], [["s01", "video-01", 5.5, 8]])
    report = audit(store, saved(tmp_path, content))
    assert {"trials", "neighbours"} <= failed(report)
    assert verdicts(report)["near copies"].number == n
    if n:
        with pytest.raises(StudyError, match="near copies: 1 of"):
            demand_passed(report, tmp_path / "split.json")
    else:
        demand_passed(report, tmp_path / "split.json")


def test_what_is_trained_on_at_the_end_is_searched_for_copies_too(
    tmp_path: Path, cache: Path
) -> None:
    """Under "both" training people with validation clips are in no part, and trained on last."""
    people, clips = recordings(), [f"video-{c:02d}" for c in range(1, 9)]
    split = product(
        "both",
        train={"subjects": ["s01"], "stimuli": clips[:4]},
        validation={"subjects": ["s02"], "stimuli": clips[4:6]},
        test={"subjects": ["s03"], "stimuli": clips[6:]},
    )
    eeg(people, "s03", clips[6])[:, :BASE] = eeg(people, "s01", clips[4])[:, BASE : 2 * BASE]
    store = opened(people, tmp_path / "shards", cache)
    path = saved(tmp_path, split)
    known = store.trials.loc[Split.load(path).known(store.trials)]
    assert ((known["subject"] == "s01") & (known["stimulus"] == clips[4])).any()
    report = audit(store, path)
    assert failed(report) == {"exact copies"}
    assert "s03/video-07" in verdicts(report)["exact copies"].said


def test_flat_windows_are_no_copies(tmp_path: Path, cache: Path) -> None:
    people = recordings()
    for subject, stimulus in (("s01", "video-01"), ("s02", "video-03"), ("s03", "video-07")):
        eeg(people, subject, stimulus)[:, : 6 * BASE] = 7.5
    store = opened(people, tmp_path / "shards", cache)
    assert audit(store, saved(tmp_path, product())).passed


def window_list(train: list, test: list) -> dict:
    """The other trials whole, so that nothing is left out."""
    rest = [
        [subject, f"video-{c:02d}", 0, 12]
        for subject in SUBJECTS
        for c in range(1, 9)
        if (subject, c) != ("s01", 1)
    ]
    return {"protocol": "window", "parts": {"train": [*rest[:-3], *train],
                                            "test": [*rest[-3:], *test]}}  # fmt: skip


def test_a_neighbouring_window(clean: WindowStore, tmp_path: Path) -> None:
    """Half a second apart, and by construction no sample shared."""
    content = window_list([["s01", "video-01", 0, 5]], [["s01", "video-01", 5.5, 6.5]])
    report = audit(clean, saved(tmp_path, content))
    assert {"neighbours", "trials"} <= failed(report)
    found = verdicts(report)
    assert (found["neighbours"].number, found["windows"].number) == (1, 0)
    assert report.leaky
    assert "leaky" in report.lines()[0]
    apart = window_list([["s01", "video-01", 0, 1]], [["s01", "video-01", 11, 12]])
    assert verdicts(audit(clean, saved(tmp_path, apart)))["neighbours"].number == 0


def test_a_window_in_two_parts(clean: WindowStore, tmp_path: Path) -> None:
    content = window_list([["s01", "video-01", 0, 5]], [["s01", "video-01", 4, 6]])
    report = audit(clean, saved(tmp_path, content))
    assert verdicts(report)["windows"].number == 1
    assert "windows" in failed(report)


def test_a_shared_stimulus(clean: WindowStore, tmp_path: Path) -> None:
    test = {"subjects": list(SUBJECTS), "stimuli": ["video-03", "video-05", "video-02"]}
    report = audit(clean, saved(tmp_path, product(test=test)))
    assert {"stimuli", "trials", "windows"} <= failed(report)
    assert verdicts(report)["stimuli"].number == 1
    assert "video-02" in verdicts(report)["stimuli"].said
    # Of three people, in 12 s of the clip: each is its own copy by name, and counted as such above.
    assert "(72 that two parts name aside)" in verdicts(report)["exact copies"].said


def test_a_stimulus_shared_by_different_people(clean: WindowStore, tmp_path: Path) -> None:
    """No trial in two parts, and still not new clips."""
    content = window_list([["s01", "video-01", 0, 12]], [])
    content["protocol"] = "stimulus"
    content["parts"]["test"] = [["s03", f"video-{c:02d}", 0, 12] for c in (6, 7, 8)]
    report = audit(clean, saved(tmp_path, content))
    assert failed(report) == {"stimuli"}
    assert verdicts(report)["stimuli"].number == 3


def test_a_shared_subject(clean: WindowStore, tmp_path: Path) -> None:
    clips = [f"video-{c:02d}" for c in range(1, 9)]
    content = product(
        "subject",
        train={"subjects": ["s01"], "stimuli": clips},
        validation={"subjects": ["s02"], "stimuli": clips},
        test={"subjects": ["s03", "s01"], "stimuli": clips},
    )
    report = audit(clean, saved(tmp_path, content))
    assert {"subjects", "trials"} <= failed(report)
    assert "s01" in verdicts(report)["subjects"].said


def checkpoint(folder: Path, store: WindowStore, stimuli: set[str]) -> Path:
    """A folder with the record of an encoder that saw these clips."""
    table = store.trials
    seen = Seen.of(store, table.index[table["stimulus"].isin(stimuli)].to_numpy())
    folder.mkdir()
    (folder / FILE).write_text(seen.model_dump_json())
    return folder


def test_a_checkpoint_pretrained_on_test_trials(clean: WindowStore, tmp_path: Path) -> None:
    path = saved(tmp_path, product())
    good = checkpoint(tmp_path / "good", clean, {"video-01", "video-07"})
    assert audit(clean, path, checkpoint=good).passed
    bad = checkpoint(tmp_path / "bad", clean, {"video-01", "video-03"})
    report = audit(clean, path, checkpoint=bad)
    assert failed(report) == {"pretraining"}
    assert verdicts(report)["pretraining"].number == 3
    (tmp_path / "none").mkdir()
    unknown = verdicts(audit(clean, path, checkpoint=tmp_path / "none"))["pretraining"]
    assert unknown.status == "failed"
    assert FILE in unknown.said
    (bad / FILE).write_text("{")
    with pytest.raises(CheckpointError, match=FILE):
        audit(clean, path, checkpoint=bad)
    with pytest.raises(CheckpointError, match="no such folder"):
        audit(clean, path, checkpoint=tmp_path / "nowhere")


def test_a_checkpoint_pretrained_on_test_samples_under_other_names(
    clean: WindowStore, tmp_path: Path, cache: Path
) -> None:
    people = {
        name: replace(
            recording,
            subject=f"x{name}",
            trials=tuple(replace(t, stimulus=f"clip-{t.order}") for t in recording.trials),
        )
        for name, recording in recordings().items()
    }
    renamed = opened(people, tmp_path / "renamed", cache)
    seen = checkpoint(tmp_path / "seen", renamed, {"clip-3"})
    found = verdicts(audit(clean, saved(tmp_path, product()), checkpoint=seen))["pretraining"]
    assert found.status == "failed"
    assert "0 test trials by name, 3 by their samples" in found.said


# ---- trial barcodes


def windows_by_chance(path: Path, store: WindowStore) -> Path:
    """The legacy protocol: every base window of every trial, shuffled."""
    rng = np.random.default_rng(0)
    rows = [
        (row["subject"], row["stimulus"], index, "test" if rng.random() < 0.2 else "train")
        for _, row in store.trials.iterrows()
        for index in range(row["n_times"] // BASE)
    ]
    pd.DataFrame(rows, columns=["subject", "stimulus", "index", "part"]).to_csv(path, index=False)
    return path


def noise_with_baseline(recording: Recording) -> Recording:
    """Nothing in it tells one trial from another."""
    rng = np.random.default_rng([*recording.subject.encode()])

    def noise(trial: Trial, seconds: float) -> dict[str, np.ndarray]:
        return {
            m: rng.standard_normal((len(x), round(seconds * SFREQ))).astype(np.float32)
            for m, x in trial.signals.items()
        }

    trials = [replace(t, signals=noise(t, 30), baseline=noise(t, 3)) for t in recording.trials]
    return replace(recording, trials=tuple(trials))


def test_the_papers_template_is_a_barcode(tmp_path: Path, cache: Path) -> None:
    """Random labels are read off shuffled windows with the template, and not without it."""
    people = {name: noise_with_baseline(r) for name, r in recordings(seconds=30.0).items()}
    found = {}
    for kind in ("none", "template"):
        config = PreprocessingConfig(baseline=kind, skin_conductance="raw")  # type: ignore[arg-type]
        store = opened(
            {n: preprocess(r, config) for n, r in people.items()}, tmp_path / kind, cache
        )
        report = audit(store, windows_by_chance(tmp_path / f"{kind}.csv", store))
        assert {"trials", "neighbours"} <= failed(report), "shuffled windows never pass"
        found[kind] = verdicts(report)["trial barcodes"]
        # A split by stimulus is safe from it, and the shards' mark is told all the same.
        by_stimulus = saved(tmp_path, product())
        measured = verdicts(audit(store, by_stimulus, measure_barcodes=True))["trial barcodes"]
        assert measured.status == "passed"
        assert "by construction" in measured.said
        assert ("mark their trial" in measured.said) == (kind == "template")
    assert found["template"].status == "failed"
    assert found["template"].number is not None
    assert found["template"].number > 0.8
    assert found["none"].status == "passed"
    assert found["none"].number == pytest.approx(0.5, abs=0.1)


# ---- files that are no split of these shards


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (product(test={"subjects": ["s99"], "stimuli": ["video-03"]}), "s99"),
        (product(test={"subjects": ["s01"], "stimuli": ["video-77"]}), "video-77"),
        (
            product(test={"subjects": list(SUBJECTS), "stimuli": ["video-03"]}),
            "3 of 24 in none .such as subject s01, stimulus video-05",
        ),
        (product(protocol="hope"), "hope"),
        ({"seed": 1}, "split"),
        ([1, 2], "split"),
        (window_list([["s01", "video-01", 0, 13]], []), "within 1536 samples"),
        (window_list([["s01", "video-01", 0, 5], ["s01", "video-01", 0, 5]], []), "twice in train"),
        (window_list([["s77", "video-01", 0, 5]], []), "s77"),
        (window_list([["s01", "video-01", 0]], []), "start, stop"),
        ({"parts": {"train": [["s01", "video-01", 0, 12]]}}, "in test, found none"),
        ({"parts": {"all": [["s01", "video-01", 0, 12]]}}, "'all'"),
        (window_list([], []), "1 of 24 in none"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    content: object, message: str, clean: WindowStore, tmp_path: Path
) -> None:
    with pytest.raises(SplitError, match=message) as caught:
        audit(clean, saved(tmp_path, content))
    assert "split.json" in str(caught.value)


def test_a_table_of_windows_may_be_parquet(clean: WindowStore, tmp_path: Path) -> None:
    table = clean.trials.assign(
        start=0.0,
        stop=12.0,
        part=np.where(clean.trials["stimulus"].isin(TEST_STIMULI), "test", "train"),
    )
    path = tmp_path / "windows.parquet"
    table[["subject", "stimulus", "start", "stop", "part"]].to_parquet(path)
    report = audit(clean, path)
    assert report.protocol == "window"
    assert not report.leaky, "whole trials, whatever the file calls itself"
    table[["subject", "part"]].to_parquet(path)
    with pytest.raises(SplitError, match="columns"):
        audit(clean, path)
    with pytest.raises(SplitError, match=r"nowhere\.csv"):
        audit(clean, tmp_path / "nowhere.csv")


# ---- as a command, and inside a study


def run_command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["physiosync", "audit", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_says_it_by_its_exit_status(
    clean: WindowStore,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shards = clean.paths[0].parent
    good = saved(tmp_path, product())
    common = ["--cache", cache, "--json", tmp_path / "audit.json"]
    assert run_command(monkeypatch, shards, "--split", good, *common) == 0
    said = capsys.readouterr().out
    assert "protocol stimulus: passed" in said
    assert AuditReport.model_validate_json((tmp_path / "audit.json").read_text()).passed
    test = {"subjects": list(SUBJECTS), "stimuli": ["video-03", "video-05", "video-02"]}
    bad = saved(tmp_path, product(test=test), "bad.json")
    assert run_command(monkeypatch, shards, "--split", bad, *common) == 1
    assert "FAILED" in capsys.readouterr().out
    two = product()
    for part in ("train", "validation", "test"):
        two[part] = two[part] | {"subjects": ["s01", "s02"]}
    without = saved(tmp_path, two, "two.json")
    assert run_command(monkeypatch, shards, "--split", without, *common) == 1
    assert "8 of 24 in none" in capsys.readouterr().err
    assert run_command(
        monkeypatch, shards, "--split", without, *common, "--exclude", "S03"
    ) == 0  # fmt: skip


def test_a_study_audits_its_split_once(clean: WindowStore, tmp_path: Path) -> None:
    split, path = tmp_path / "split.json", tmp_path / "audit.json"
    stimulus_split(clean.trials, seed=1).save(split)
    assert kept_audit(path) is None
    first = audit_once(clean, split, path)
    before = path.stat().st_mtime_ns
    assert audit_once(clean, split, path) == first == kept_audit(path)
    assert path.stat().st_mtime_ns == before, "the same split of the same data"
    one = Split.load(split)
    both = (*one.test.stimuli, one.train.stimuli[0])
    one.model_copy(update={"test": one.test.model_copy(update={"stimuli": both})}).save(split)
    assert not audit_once(clean, split, path).passed, "another split is audited anew"
    path.write_text("{")
    with pytest.raises(StudyError, match=r"audit\.json"):
        kept_audit(path)


def test_a_study_keeps_what_its_encoders_saw(clean: WindowStore, tmp_path: Path) -> None:
    split, path = saved(tmp_path, product()), tmp_path / "audit.json"
    good = checkpoint(tmp_path / "rank-1", clean, {"video-01", "video-07"})
    bad = checkpoint(tmp_path / "rank-2", clean, {"video-03"})
    report = audit_encoders(clean, split, path, [good])
    demand_passed(report, split)
    assert verdicts(report)["pretraining"].said.startswith("rank-1: saw 0 test trials")
    report = audit_encoders(clean, split, path, [good, bad])
    assert [v.status for v in report.verdicts if v.check == "pretraining"] == ["passed", "failed"]
    assert audit_once(clean, split, path) == report == kept_audit(path)
    with pytest.raises(StudyError, match=r"split\.json: .*1 of its.*pretraining: rank-2: saw 3"):
        demand_passed(report, split)
