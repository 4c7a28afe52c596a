"""The report: numbers that can be checked by hand, and a page that says what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from physiosync.audit.verdict import AuditReport, Verdict
from physiosync.evidence import (
    comparisons,
    openings_in_words,
    protocol_in_words,
    validation_beside_test,
)
from physiosync.report import render_text, write_report
from physiosync.tables import main_table, subject_table

NAN = float("nan")
COLUMNS = ["subject", "stimulus", "trial", "truth", "p1"]


def predictions(
    rows: Sequence[tuple[str, str, int, int, float]],
    *,
    method: str = "pretrained",
    seed: int = 0,
    target: str = "arousal",
) -> pd.DataFrame:
    """Windows with the probability of "high"; a row a window."""
    table = pd.DataFrame(list(rows), columns=COLUMNS)
    return table.assign(
        start_seconds=np.arange(len(table), dtype=float),
        target=target,
        p0=1 - table["p1"],
        p2=NAN,
        p3=NAN,
        method=method,
        seed=seed,
    )


#: One low and two high trials of s1, s2 only high ones, s3 one of each.
CASE = [
    # The mean of a trial decides, not the majority of its windows: 0.4, 0.4, 0.9 is high.
    ("s1", "a", 0, 1, 0.4),
    ("s1", "a", 0, 1, 0.4),
    ("s1", "a", 0, 1, 0.9),
    ("s1", "b", 1, 1, 0.2),
    ("s1", "c", 2, 0, 0.1),
    ("s2", "a", 3, 1, 0.9),
    ("s2", "b", 4, 1, 0.8),
    ("s3", "a", 5, 1, 0.7),
    ("s3", "c", 6, 0, 0.7),
]
#: Recalls: s1 has 1 of 2 high and 1 of 1 low, s3 1 of 1 and 0 of 1; s2 is undefined.
S1, S3 = 0.75, 0.5


def flipped(rows: Sequence[tuple[str, str, int, int, float]]) -> list:
    return [(*row[:4], 1 - row[4]) for row in rows]


# ---- the main table


def test_one_method_by_hand() -> None:
    table = main_table(predictions(CASE))
    assert len(table) == 1
    row = table.iloc[0]
    assert row["balanced_accuracy"] == pytest.approx((S1 + S3) / 2)
    assert row["n_subjects"] == 2
    assert row["n_undefined"] == 1
    # Of seven trials s1's second and s3's second are wrong.
    assert row["accuracy"] == pytest.approx(5 / 7)
    # Macro F1 of each person: s1 (2/3 + 2/3) / 2, s3 (0 + 2/3) / 2; s2 has none.
    assert row["f1"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert row["chance"] == 0.5
    assert 0 <= row["low"] <= row["balanced_accuracy"] <= row["high"] <= 1


def test_people_of_one_class_stand_in_no_mean() -> None:
    """However right or wrong the answers for s2 are."""
    wrong = [(*row[:4], 1 - row[4]) if row[0] == "s2" else row for row in CASE]
    one, two = (main_table(predictions(rows)).iloc[0] for rows in (CASE, wrong))
    for column in ("balanced_accuracy", "f1", "low", "high", "n_subjects", "n_undefined"):
        assert one[column] == two[column], column
    assert one["accuracy"] > two["accuracy"]
    alone = main_table(predictions([row for row in CASE if row[0] == "s2"])).iloc[0]
    assert np.isnan(alone[["balanced_accuracy", "low", "high"]].astype(float)).all()
    assert (alone["n_subjects"], alone["n_undefined"]) == (0, 1)


def test_seeds_are_scored_each_and_then_averaged() -> None:
    first, second = predictions(CASE), predictions(flipped(CASE), seed=1)
    both = main_table(pd.concat([first, second], ignore_index=True))
    assert len(both) == 1
    row = both.iloc[0]
    # Flipped, s1's recalls are 1 of 2 and 0 of 1, s3's 0 of 1 and 1 of 1.
    assert row["balanced_accuracy"] == pytest.approx(((S1 + S3) / 2 + (0.25 + 0.5) / 2) / 2)
    assert (row["n_subjects"], row["n_undefined"]) == (2, 1)
    each = [main_table(rows).iloc[0] for rows in (first, second)]
    assert row["low"] == pytest.approx((each[0]["low"] + each[1]["low"]) / 2)
    by_subject = subject_table(pd.concat([first, second])).set_index("subject")["score"]
    assert by_subject["s1"] == pytest.approx((S1 + 0.25) / 2)
    assert np.isnan(by_subject["s2"])


def test_targets_and_methods_keep_apart_and_in_order() -> None:
    parts = [
        predictions(CASE, method="pretrained"),
        predictions(flipped(CASE), method="majority"),
        predictions(CASE, method="zzz of my own"),
        predictions(CASE, method="scratch"),
        predictions(flipped(CASE), method="pretrained", target="valence"),
    ]
    table = main_table(pd.concat(parts, ignore_index=True))
    assert list(zip(table["target"], table["method"], strict=True)) == [
        ("arousal", "majority"),
        ("arousal", "scratch"),
        ("arousal", "pretrained"),
        ("arousal", "zzz of my own"),
        ("valence", "pretrained"),
    ]
    scores = table.set_index(["target", "method"])["balanced_accuracy"]
    assert scores["arousal", "pretrained"] == pytest.approx((S1 + S3) / 2)
    assert scores["arousal", "majority"] == pytest.approx(0.375)
    assert scores["valence", "pretrained"] == pytest.approx(0.375)


def test_quadrants_use_all_four_probabilities() -> None:
    rows = predictions([("s1", str(k), k, k, 0.0) for k in range(4)], target="quadrant")
    rows[["p0", "p1", "p2", "p3"]] = np.eye(4)
    row = main_table(rows).iloc[0]
    assert row["balanced_accuracy"] == 1.0
    assert row["n_classes"] == 4


def guessing_quadrants() -> pd.DataFrame:
    """Ten people with two quadrants each, and an answer that is always the first quadrant."""
    trials = [
        (f"s{s}", f"v{c}", 8 * s + c, (0 if (s + c) % 2 else 1 + s % 3), 0.0)
        for s in range(10)
        for c in range(8)
    ]
    rows = predictions(trials, target="quadrant").assign(p0=1.0, p2=0.0, p3=0.0)
    return pd.concat([rows, rows.assign(method="majority")], ignore_index=True)


def test_quadrants_that_people_do_not_show_make_a_constant_answer_no_better_than_chance(
    tmp_path: Path,
) -> None:
    """Each scores 0.5, far above one in four, and knows nothing."""
    rows = guessing_quadrants()
    table, compared = main_table(rows), comparisons(rows)
    assert (table["balanced_accuracy"] == 0.5).all()
    assert table[["chance", "at_or_below_chance"]].isna().all(axis=None)
    assert subject_table(rows)["chance"].isna().all()
    assert compared["reference"].tolist() == ["majority"]
    text = render_text(table, compared, title="x")
    assert "quadrant (4 classes; 10 subjects)" in text
    assert "chance" not in text
    said = validation_beside_test(table.assign(method="pretrained_probe"), 0.3, ("quadrant",))
    assert "chance" not in said
    parsed, html = page(tmp_path, rows=rows, search=NOTHING, curves=NOTHING)
    cells = parsed.text["td"]
    assert cells[cells.index("pretrained, fine-tuned") + 3] == "-"
    assert "0 of 10" not in cells
    assert "pretrained less chance" not in cells
    assert "stroke-dasharray" not in html, "no line of chance"
    assert "stroke-dasharray" in page(tmp_path, search=NOTHING, curves=NOTHING)[1]


def test_the_order_of_rows_changes_nothing() -> None:
    rows = predictions(CASE)
    mixed = rows.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(main_table(rows), main_table(mixed))


def test_text_names_the_title_the_chance_and_the_undefined() -> None:
    rows = predictions(CASE)
    title = "SYNTHETIC data, protocol stimulus"
    lines = render_text(main_table(rows), comparisons(rows), title=title).splitlines()
    assert lines[0] == "SYNTHETIC data, protocol stimulus"
    assert lines[2] == "arousal (chance 0.50; 2 subjects, 1 more with one class only)"
    assert lines[3].split()[:2] == ["pretrained,", "fine-tuned"]
    assert "0.625  [" in lines[3]
    assert lines[1].split("  ")[-1] == "<= chance"
    assert lines[3].endswith("1 of 2")
    assert "(-)" in lines[3], "no majority is known"
    assert max(map(len, lines)) <= 100


def test_text_has_the_majority_beside_each_accuracy() -> None:
    rows = pd.concat(
        [predictions(CASE), predictions(flipped(CASE), method="majority")], ignore_index=True
    )
    table = main_table(rows)
    lines = render_text(table, comparisons(rows), title="x").splitlines()
    assert "accuracy (majority)" in lines[1]
    for method, line in zip(table["method"], lines[3:5], strict=True):
        accuracy = table.set_index("method")["accuracy"]
        assert f" {accuracy[method]:.3f} ({accuracy['majority']:.3f}) " in line


def test_text_tells_the_p_of_pretrained_against_scratch_and_what_it_is() -> None:
    """Each of eight people and ten clips; scratch is wrong on every third trial."""
    right = [(f"s{s}", f"v{c}", 10 * s + c, (s + c) % 2, float((s + c) % 2))
             for s in range(8) for c in range(10)]  # fmt: skip
    wrong = [(*row[:4], 1 - row[4]) if row[2] % 3 == 0 else row for row in right]
    rows = pd.concat([predictions(right), predictions(wrong, method="scratch")], ignore_index=True)
    compared = comparisons(rows).set_index("reference").loc["scratch"]
    lines = render_text(main_table(rows), comparisons(rows), title="x").splitlines()
    (line,) = (line for line in lines if "less scratch" in line)
    assert f"{compared['difference']:+.3f} [" in line
    assert "p <0.001" in line
    assert "subjects and" in lines[-2], "what the p is stands below"
    assert max(map(len, lines)) <= 100


# ---- the page


class Page(HTMLParser):
    """What a browser would see; fails where a tag isn't closed in its place."""

    VOID = frozenset({"meta", "br", "img", "hr", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "action")]
        assert not [k for k, _ in attrs if k.startswith("on")], "a script in an attribute"
        if tag not in self.VOID:
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text[tag][-1] += data


HEADER = {
    "study": "demo",
    "data": "recordings/deap",
    "protocol": "stimulus: known people, new clips",
    "seed": "0",
}
SEARCH = pd.DataFrame(
    {
        "number": [0, 1, 2],
        "state": ["COMPLETE", "PRUNED", "FAIL"],
        "value": [0.2, 0.1, NAN],
        "temperature": [0.1, 0.2, 0.3],
    }
)
CURVES = pd.DataFrame(
    {
        "number": [0, 0, 1],
        "epoch": [1, 2, 1],
        "objective": [0.1, 0.2, 0.1],
        "state": ["COMPLETE", "COMPLETE", "PRUNED"],
    }
)
FINALISTS = pd.DataFrame(
    {
        "configuration": ["aaa", "aaa", "bbb", "bbb"],
        "settings": ["the default", "the default", "moments 64", "moments 64"],
        "is_default": [True, True, False, False],
        "fold": [1, 2, 1, 2],
        "seed": [0, 0, 0, 0],
        "score": [0.1, 0.3, 0.5, 0.4],
    }
)
NOTHING = pd.DataFrame()


def page(
    folder: Path,
    *,
    header: Mapping[str, str] = HEADER,
    rows: pd.DataFrame | None = None,
    search: pd.DataFrame = SEARCH,
    curves: pd.DataFrame = CURVES,
    finalists: pd.DataFrame = FINALISTS,
    notes: Sequence[str] = (),
    audit: AuditReport | None = None,
    unit: str = "trials",
    compared: pd.DataFrame | None = None,
) -> tuple[Page, str]:
    folder.mkdir(exist_ok=True)
    rows = predictions(CASE) if rows is None else rows
    path = write_report(
        folder,
        header=header,
        predictions=rows,
        table=main_table(rows),
        compared=comparisons(rows) if compared is None else compared,
        search=search,
        curves=curves,
        finalists=finalists,
        notes=notes,
        audit=audit,
        unit=unit,
    )
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    parsed = Page()
    parsed.feed(html)
    parsed.close()
    assert not parsed.open
    return parsed, html


def test_one_file_that_fetches_and_runs_nothing(tmp_path: Path) -> None:
    parsed, _ = page(tmp_path)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(parsed.tags)
    assert all(link.startswith("#") for link in parsed.links)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert parsed.tags.count("svg") == 3
    assert parsed.tags.count("table") == 4
    assert parsed.tags.count("figcaption") == 3


def test_the_table_holds_the_numbers(tmp_path: Path) -> None:
    rows = pd.concat(
        [predictions(CASE), predictions(flipped(CASE), method="majority")], ignore_index=True
    )
    parsed, _ = page(tmp_path, rows=rows)
    cells = parsed.text["td"]
    table = main_table(rows).set_index("method")
    start = cells.index("majority of the training trials") - 1
    assert cells[start : start + 9] == [
        "arousal",
        "majority of the training trials",
        "0.375",
        f"{table['low']['majority']:.3f} to {table['high']['majority']:.3f}",
        "0.50",
        "0.286",
        "0.286",
        f"{table['f1']['majority']:.3f}",
        "2 (1)",
    ]
    mine = cells[start + 9 : start + 18]
    assert mine[1:3] == ["pretrained, fine-tuned", "0.625"]
    assert mine[5:7] == ["0.714", "0.286"], "each accuracy stands beside the majority's"
    compared = cells.index("pretrained less majority") - 1
    assert cells[compared + 2] == "+0.250"
    surest = cells.index("1 of 2")
    assert cells[surest - 1] == "pretrained, fine-tuned"
    # Finalists, best first: mean, standard error of two runs, runs.
    assert cells[-8:] == [
        "moments 64", "0.450", "0.050", "2",
        "the default (control)", "0.200", "0.100", "2",
    ]  # fmt: skip


def test_synthetic_data_are_announced_and_named_in_every_caption(tmp_path: Path) -> None:
    real, _ = page(tmp_path)
    assert "synthetic" not in "".join(real.text["body"]).lower()
    made_up, html = page(tmp_path, header=HEADER | {"data": "Synthetic cohort"})
    assert '<p class="loud">The data of this study are synthetic.</p>' in html
    captions = made_up.text["caption"] + made_up.text["figcaption"]
    assert len(captions) == 7
    for caption in captions:
        assert "Synthetic cohort; protocol stimulus: known people, new clips" in caption


def test_the_audit_is_told(tmp_path: Path) -> None:
    verdict = Verdict(check="stimuli", status="failed", number=1, said="1 stimulus in two parts")
    report = AuditReport(protocol="window", leaky=True, verdicts=(verdict,))
    parsed, _ = page(tmp_path, audit=report)
    assert "The split failed. Scores of this protocol are leaky." in parsed.text["p"]
    assert "1 stimulus in two parts" in parsed.text["td"]
    assert not [p for p in page(tmp_path)[0].text["p"] if "split" in p]


def test_openings_after_which_the_search_went_on_are_exploratory() -> None:
    opening = {"when": "today", "what": "pretrained", "trials": 4}
    assert openings_in_words([opening, opening], trials=4) == "2"
    assert openings_in_words([opening, opening | {"trials": 6}], trials=6).startswith(
        "2; EXPLORATORY: 2 search trials"
    )


def test_validation_stands_beside_test_in_one_measure() -> None:
    table = main_table(predictions(CASE, method="pretrained_probe"))
    said = validation_beside_test(table, 0.4, ("arousal", "valence"))
    assert "0.400, on test trials 0.250" in said


def test_a_window_protocol_is_called_leaky() -> None:
    assert "LEAKY" in protocol_in_words("window")
    assert protocol_in_words("stimulus") == "stimulus: known people, new clips"


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>&<b>'
    rows = pd.concat(
        [predictions(CASE), predictions(CASE, method=evil)], ignore_index=True
    ).replace({"s1": evil})
    parsed, html = page(
        tmp_path,
        header={"study": evil, "data": evil, "protocol": evil, evil: evil},
        rows=rows,
        finalists=FINALISTS.replace({"moments 64": evil}),
        notes=[f"{evil}: trial 3 is too short"],
    )
    assert "<script" not in html
    assert not {"script", "b"} & set(parsed.tags)
    assert evil in parsed.text["h1"][0]
    assert evil in parsed.text["title"][0]
    assert parsed.text["li"] == [f"{evil}: trial 3 is too short"]
    assert parsed.text["td"].count(evil) >= 3
    assert all(evil in caption for caption in parsed.text["figcaption"])
    assert evil in parsed.text["dt"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    parsed, _ = page(tmp_path, search=NOTHING, curves=NOTHING, finalists=NOTHING)
    said = parsed.text["p"]
    for sentence in (
        "No search trials.",
        "No learning curves.",
        "No finalists.",
        "Nothing was left out.",
    ):
        assert sentence in said
    assert parsed.tags.count("svg") == 1


def test_a_search_in_which_all_trials_failed_has_its_figures(tmp_path: Path) -> None:
    failed = SEARCH.assign(state="FAIL", value=NAN)
    parsed, _ = page(tmp_path, search=failed)
    assert parsed.tags.count("svg") == 3


def test_people_without_a_score_are_no_obstacle(tmp_path: Path) -> None:
    parsed, _ = page(tmp_path, rows=predictions([row for row in CASE if row[0] == "s2"]))
    assert "nan" not in parsed.text["td"]
    assert parsed.text["td"][2:4] == ["-", "-"]
    assert "0 (1)" in parsed.text["td"]


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    _, one = page(tmp_path / "one", notes=["s28: left out"])
    _, two = page(tmp_path / "two", notes=["s28: left out"])
    assert one == two
