"""`physiosync compare`: a user's numbers beside the published ones, which stand as published."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from physiosync import cli
from physiosync.ledger import Ledger
from physiosync.options import StudyOptions

#: method.md, section 3: dataset and protocol -> target -> "accuracy +- sd / F1", "-" as printed.
PUBLISHED = {
    "DEAP, published 'within'": {
        "arousal": ["98.35 +- 0.41", "98.61"],
        "valence": ["98.17 +- 0.59", "98.40"],
        "quadrant": ["97.99 +- 0.49", "97.99"],
    },
    "DREAMER, published 'within'": {
        "arousal": ["97.01 +- 0.31", "97.55"],
        "valence": ["96.11 +- 0.32", "96.89"],
        "quadrant": ["94.70 +- 0.25", "94.69"],
    },
    "DEAP, published 'cross-subject'": {
        "arousal": ["65.46 +- 8.15", "64.33"],
        "valence": ["64.79 +- 7.24", "64.10"],
    },
    "DREAMER, published 'cross-subject'": {
        "arousal": ["64.88 +- 8.06", "65.89"],
        "valence": ["63.24 +- 8.56", "62.57"],
    },
}
RERUNS = {"SimCLR": {"arousal": "92.25", "valence": "91.39"},
          "SGMC": {"arousal": "95.01", "valence": "94.56"}}  # fmt: skip


def _study(folder: Path, **identity: object) -> Path:
    """The folder of a study that predicted arousal: four people, six clips, two windows each."""
    rng = np.random.default_rng(3)
    rows = [
        {"subject": f"s{s}", "stimulus": f"v{k}", "trial": 6 * s + k, "start_seconds": w * 5.0}
        | {"target": "arousal", "truth": int((s + k) % 3 > 0), "method": method, "seed": 0}
        | {"p1": 0.9 if method == "majority" else rng.random()}
        for method in ("majority", "pretrained", "scratch")
        for s in range(4)
        for k in range(6)
        for w in range(2)
    ]
    table = pd.DataFrame(rows)
    table.assign(p0=1 - table["p1"]).to_parquet(_made(folder) / "predictions.parquet")
    options = StudyOptions(name=folder.name)
    known = {"synthetic": False, "dataset": "deap", "data": "abc"} | identity
    Ledger(folder).bind(options.identity() | known, options.without_secrets())
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> str:
    monkeypatch.setattr(sys, "argv", ["physiosync", "compare", *map(str, words)])
    cli.main()
    return capsys.readouterr().out


def _sections(text: str) -> dict[str, list[str]]:
    """Heading -> its lines, of the printed text."""
    found: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        heading, *lines = block.splitlines()
        found[heading] = lines
    return found


def _one_space(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("protocol", ["stimulus", "subject", "both", "window"])
def test_the_published_rows_stand_as_published_whatever_is_beside_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
) -> None:
    text = _said(monkeypatch, capsys, _study(tmp_path / "mine", protocol=protocol), "--paper")
    sections = _sections(text)
    for heading, rows in PUBLISHED.items():
        lines = [_one_space(line) for line in sections[heading]]
        word = "cross-subject" if "cross" in heading else "within (leaky)"
        for target, (accuracy, f1) in rows.items():
            assert f"{target} published: PhysioSync {word} {accuracy} {f1} - -" in lines
        published = [line for line in lines if "published: " in line]
        extra = 4 if heading == "DEAP, published 'within'" else 0
        assert len(published) == len(rows) + extra, "and no other"
    lines = [_one_space(line) for line in sections["DEAP, published 'within'"]]
    for method, scores in RERUNS.items():
        for target, accuracy in scores.items():
            row = f"{target} published: {method} (rerun) within (leaky) {accuracy} - - -"
            assert row in lines
    assert (
        "deep models reach 53 to 57 % on DEAP's arousal, the trivial baseline 59 %"
        in _one_space(text)
    )
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize(
    ("protocol", "heading", "word"),
    [
        ("window", "DEAP, published 'within'", "window (leaky)"),
        ("subject", "DEAP, published 'cross-subject'", "subject"),
        ("stimulus", "Yours, without a published counterpart", "stimulus"),
        ("both", "Yours, without a published counterpart", "both"),
    ],
)
def test_a_study_stands_with_the_protocol_that_asks_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
    heading: str,
    word: str,
) -> None:
    folder = _study(tmp_path / "mine", protocol=protocol)
    sections = _sections(_said(monkeypatch, capsys, folder, "--paper"))
    where = {title for title, lines in sections.items() if any("mine, " in at for at in lines)}
    assert where == {heading}
    lines = [_one_space(line) for line in sections[heading]]
    windows = pd.read_parquet(folder / "predictions.parquet").query("method == 'pretrained'")
    trials = windows.groupby(["subject", "trial"])[["truth", "p1"]].mean().reset_index()
    levels = [("window", windows), ("trial", trials)]
    for level, table in levels[: 1 if protocol == "window" else 2]:
        table = table.assign(predicted=(table["p1"] > 0.5).astype(int))
        people = [mine for _, mine in table.groupby("subject")]
        f1 = np.mean([f1_score(p["truth"], p["predicted"], average="macro") for p in people])
        balanced = np.mean([balanced_accuracy_score(p["truth"], p["predicted"]) for p in people])
        numbers = [(table["truth"] == table["predicted"]).mean(), f1, balanced,
                   table["truth"].mean()]  # fmt: skip
        said = " ".join(f"{100 * number:.2f}" for number in numbers)
        assert f"arousal mine, {level}s {word} {said}" in lines


def test_what_has_no_counterpart_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [
        _study(tmp_path / "clips", protocol="stimulus"),
        _study(tmp_path / "made-up", protocol="subject", synthetic=True),
        _study(tmp_path / "other", protocol="subject", dataset="eegmat"),
    ]
    text = _one_space(_said(monkeypatch, capsys, *folders, "--paper"))
    assert (
        "clips: no counterpart, nothing is published for protocol stimulus: known people, new clips"
    ) in text
    assert "made-up: no counterpart, its data are SYNTHETIC" in text
    assert "SYNTHETIC made-up, trials" in text
    assert "other: no counterpart, nothing is published for its data (eegmat)" in text
    assert text.count("None of your studies is its counterpart (--protocol subject)") == 2


def test_how_a_study_differs_from_its_counterpart_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = _study(tmp_path / "mine", protocol="window", threshold=4.5, folds=5)
    text = _one_space(_said(monkeypatch, capsys, mine, "--paper"))
    assert "mine: ratings from 4.5 on are high, the paper's from 5 on" in text
    assert "mine: its network is preset 'small', not the published one" in text
    assert "mine: a classifier a person, the paper's is one for all" in text
    assert "mine: 5 folds: the majority is of each fold's training part" in text


def test_studies_side_by_side_and_as_markdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    twins = [_study(tmp_path / place / "mine", protocol="both") for place in ("a", "b")]
    text = _said(monkeypatch, capsys, *twins, "--out", tmp_path / "out.md")
    assert "published" not in text.replace("Published: mean", "")
    page = (tmp_path / "out.md").read_text()
    for twin in twins:
        assert f"{twin}, trials" in text, "two of one name are told apart"
        assert f"| arousal | {twin}, trials | both |" in page


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "expected the folder of a study, with study.json, found studies in it: mine"),
        ("nowhere", "nowhere: expected the folder of a study, with study.json, found none"),
        ("begun", "begun: expected predictions.parquet, found a study not yet finished"),
    ],
)
def test_a_wrong_folder_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    message: str,
) -> None:
    _study(tmp_path / "mine", protocol="both")
    if name == "begun":
        (_study(tmp_path / name, protocol="both") / "predictions.parquet").unlink()
    with pytest.raises(SystemExit):
        _said(monkeypatch, capsys, tmp_path / name, "--paper")
    assert message in capsys.readouterr().err
