"""What keeps a study whole: its ledger, its signals, its files, its identity, its status lines."""

from __future__ import annotations

import ast
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import ClassVar

import pytest
from pydantic import Field, ValidationError

import physiosync
from physiosync import files, progress
from physiosync.config import Config
from physiosync.encoders import EncoderConfig
from physiosync.errors import StudyError
from physiosync.interruption import Interrupted, Interruption
from physiosync.ledger import Ledger
from physiosync.options import StudyOptions
from physiosync.pretraining import PretrainingConfig
from physiosync.progress import StageProgress, readable

# ---- the ledger


def test_a_study_is_bound_to_what_changes_results(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    options = StudyOptions(name="mine", pps=("gsr", "resp"), trials=8)
    ledger.bind(options.identity() | {"data": "abc"}, options.model_dump(mode="json"))
    created = ledger.read()["created"]

    more = options.model_copy(
        update={"trials": 64, "gpus_per_trial": 0.5, "cpus_per_trial": 4.0, "storage": "x://y"}
    )
    ledger.bind(more.identity() | {"data": "abc"}, more.model_dump(mode="json"))
    content = ledger.read()
    assert content["options"]["trials"] == 64
    assert content["created"] == created
    assert content["versions"]["physiosync"] == physiosync.__version__

    other = options.model_copy(update={"threshold": 6.0, "pps": ("gsr",)})
    with pytest.raises(StudyError) as caught:
        ledger.bind(other.identity() | {"data": "abd"}, other.model_dump(mode="json"))
    lines = str(caught.value).splitlines()
    assert str(tmp_path) in lines[0]
    assert lines[1:-1] == [
        "  pps: was ['gsr', 'resp'], is ['gsr']",
        "  threshold: was 5.0, is 6.0",
        "  data: other samples, channels, names or ratings",
    ]
    assert "--name" in lines[-1]
    assert ledger.read() == content, "a refused configuration changes nothing"


def test_what_only_digests_tell_comes_last_and_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.bind({"fixed": {"probe": "ab12", "finetuning": "cd"}, "preset": "small"}, {})
    with pytest.raises(StudyError) as caught:
        ledger.bind({"fixed": {"probe": "ef34", "finetuning": "cd"}, "preset": "paper"}, {})
    assert str(caught.value).splitlines()[1:-1] == [
        "  preset: was 'small', is 'paper'",
        "  fixed by the code: another probe",
    ]


def test_a_tuple_is_the_list_that_it_is_stored_as(tmp_path: Path) -> None:
    for _ in range(2):
        Ledger(tmp_path).bind({"pps": ("gsr", "resp")}, {})


def test_a_field_that_came_or_went_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.bind({"seed": 0, "old": 1}, {})
    with pytest.raises(StudyError, match=r"new: was None, is 2\n  old: was 1, is None"):
        ledger.bind({"seed": 0, "new": 2}, {})


def test_every_opening_of_the_test_part_is_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.bind({"seed": 0}, {})
    assert ledger.opened_test("pretrained, scratch", trials=4) == 1
    ledger.bind({"seed": 0}, {})
    assert Ledger(tmp_path).opened_test("majority", trials=6) == 2
    openings = ledger.read()["test_openings"]
    assert [opening["what"] for opening in openings] == ["pretrained, scratch", "majority"]
    assert all(opening["when"] for opening in openings)


def test_a_new_study_has_an_empty_ledger_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.read() == {}
    (tmp_path / "study.json").write_text('{"identity": ')
    with pytest.raises(StudyError, match=r"study\.json: expected JSON"):
        ledger.read()
    with pytest.raises(StudyError, match=r"study\.json: expected JSON"):
        ledger.bind({"seed": 0}, {})


# ---- signals


def _unhandled(signum: int, _frame: FrameType | None) -> None:
    raise RuntimeError(f"signal {signum} reached the process")


@pytest.fixture
def handlers() -> Iterator[tuple[object, object]]:
    """SIGINT's and SIGTERM's before the study; a signal that gets through must not end pytest."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, _unhandled) for number in numbers]
    yield (_unhandled, _unhandled)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def _deferring(interruption: Interruption, *block: Callable[[], object]) -> None:
    """A block in which each of these is called, one after the other."""
    with interruption.installed(), interruption.deferred():
        for step in block:
            step()


def _send(number: signal.Signals) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_waits_for_the_block(
    number: signal.Signals, handlers: tuple[object, object]
) -> None:
    interruption = Interruption()
    seen: list[bool] = []

    def look() -> None:
        seen.append(interruption.requested)

    with pytest.raises(Interrupted, match=number.name) as caught:
        _deferring(interruption, look, _send(number), look, look)
    assert seen == [False, True, True], "the block went on to its end"
    assert caught.value.exit_code == 128 + number
    assert isinstance(caught.value, KeyboardInterrupt), "no `except Exception` may swallow it"
    with pytest.raises(Interrupted):
        interruption.check()


def test_a_second_signal_does_not_wait(handlers: tuple[object, object]) -> None:
    seen: list[int] = []
    with pytest.raises(Interrupted, match="SIGTERM"):
        _deferring(
            Interruption(),
            _send(signal.SIGINT),
            lambda: seen.append(1),
            _send(signal.SIGTERM),
            lambda: seen.append(2),
        )
    assert seen == [1]


def test_outside_a_deferred_block_the_first_does_not_wait(
    handlers: tuple[object, object],
) -> None:
    interruption = Interruption()
    with interruption.installed():
        with interruption.deferred():
            pass
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)


def test_handlers_come_back(handlers: tuple[object, object]) -> None:
    def installed() -> tuple[object, object]:
        return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    interruption = Interruption()
    with interruption.installed():
        assert not set(installed()) & set(handlers)
    assert installed() == handlers
    with pytest.raises(Interrupted):
        _deferring(interruption, _send(signal.SIGTERM))
    assert installed() == handlers


def test_an_error_in_the_block_is_not_hidden_by_a_signal(
    handlers: tuple[object, object],
) -> None:
    interruption = Interruption()
    with pytest.raises(ZeroDivisionError):
        _deferring(interruption, _send(signal.SIGINT), lambda: 1 / 0)
    with pytest.raises(Interrupted):
        interruption.check()


# ---- files


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _fail_in(temporary: AbstractContextManager[Path], write: Callable[[Path], object]) -> None:
    with temporary as part:
        write(part)
        raise RuntimeError("disk full")


def test_a_file_changes_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "study.json"
    files.write_text(path, "old")
    assert path.read_text() == "old"
    with pytest.raises(RuntimeError, match="disk full"):
        _fail_in(files.atomic_path(path), lambda part: part.write_text("half"))
    assert path.read_text() == "old"
    assert _names(path.parent) == ["study.json"]
    files.write_text(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert _names(path.parent) == ["study.json"]
    assert path.stat().st_mode & 0o777 == 0o644, "others may read results"


def test_a_folder_changes_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rank-1"
    with files.atomic_folder(path) as part:
        (part / "a").write_text("old")
    with pytest.raises(RuntimeError, match="disk full"):
        _fail_in(files.atomic_folder(path), lambda part: (part / "a").write_text("half"))
    assert (path / "a").read_text() == "old"
    assert _names(path.parent) == ["rank-1"]
    with files.atomic_folder(path) as part:
        (part / "b").write_text("new")
    assert _names(path) == ["b"], "nothing of the old folder is mixed in"
    assert _names(path.parent) == ["rank-1"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "best"
    files.write_text(folder / "study.json", "whole")
    for name in (".a.parquet.x1.part", ".b.parquet.x2.part"):
        (folder / name).write_text("half")
    (folder / ".rank-1.x3.part").mkdir()
    (folder / ".rank-1.x3.part" / "weights").write_text("half")
    long_ago = time.time() - 7200
    for name in (".a.parquet.x1.part", ".rank-1.x3.part", "study.json"):
        os.utime(folder / name, (long_ago, long_ago))
    files.sweep(tmp_path / "results")
    assert _names(folder) == [".b.parquet.x2.part", "study.json"], "young ones may be in use"
    files.sweep(tmp_path / "absent")


# ---- configurations


class Inner(Config):
    not_identity: ClassVar[frozenset[str]] = frozenset({"workers"})

    depth: int = 3
    workers: int = 1


class Outer(Config):
    not_identity: ClassVar[frozenset[str]] = frozenset({"device"})

    rate: float = Field(default=0.1, gt=0)
    device: str = "cpu"
    inner: Inner = Inner()


def test_uid_follows_results_and_nothing_else() -> None:
    base = Outer()
    assert Outer().uid() == base.uid()
    assert len(base.uid()) == 10
    assert int(base.uid(), 16) >= 0
    assert Outer(device="cuda").uid() == base.uid()
    assert Outer(inner=Inner(workers=8)).uid() == base.uid()
    assert Outer(rate=0.2).uid() != base.uid()
    assert Outer(inner=Inner(depth=4)).uid() != base.uid()
    assert Outer.model_validate_json(base.model_dump_json()).uid() == base.uid()
    assert base.identity() == {"rate": 0.1, "inner": {"depth": 3}}


@pytest.mark.parametrize(
    ("update", "same"),
    [
        ({"trials": 500}, True),
        ({"results": Path("/elsewhere")}, True),
        ({"name": "another"}, True),
        ({"cpus_per_trial": 4.0, "gpus_per_trial": 1.0}, True),
        ({"storage": "postgresql://host/db"}, True),
        ({"cache": Path("/tmp/x")}, True),
        ({"finalists": 9, "promote": 3}, True),
        ({"seed": 1}, False),
        ({"threshold": 4.5}, False),
        ({"pps": ("resp", "gsr")}, False),
        ({"exclude": ("s28",)}, False),
        ({"max_epochs": 9}, False),
        ({"epoch_seconds": 1.0}, False),
        ({"preset": "paper"}, False),
        ({"test_share": 0.3}, False),
        ({"validation_share": 0.3}, False),
        ({"finetune_epochs": 3}, False),
        ({"folds": 3}, False),
        ({"folds": 3, "reuse_search": True}, False),
    ],
)
def test_what_makes_it_another_study(update: dict[str, object], same: bool) -> None:
    base = StudyOptions()
    other = StudyOptions.model_validate(base.model_dump() | update)
    assert (other.identity() == base.identity()) is same


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Outer(devise="cpu"), "devise"),  # type: ignore[call-arg]
        (lambda: Outer.model_validate({"inner": {"dept": 2}}), "dept"),
        (lambda: Outer(rate=float("nan")), "rate"),
        (lambda: Outer(rate=-1), "rate"),
        (lambda: Outer(rate=float("inf")), "rate"),
        (lambda: PretrainingConfig(temprature=0.1), "temprature"),  # type: ignore[call-arg]
        (lambda: PretrainingConfig(w_eeg=0, w_pps=0, w_cmca=0), "must be positive"),
        (lambda: EncoderConfig(width=10, heads=4), "multiple of heads"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(make: Callable[[], Config], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()


def test_configurations_are_frozen() -> None:
    config = PretrainingConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.temperature = 0.5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.encoder.depth = 1  # type: ignore[misc]


# ---- status lines


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The study's log, whatever an earlier study in this process did to its handlers."""
    logger = logging.getLogger("physiosync")
    kept = logger.handlers[:], logger.propagate, logger.level
    logger.propagate = True
    with caplog.at_level(logging.INFO, logger="physiosync"):
        yield caplog
    logger.handlers[:], logger.propagate, logger.level = kept


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_search_counts_what_runs_stops_and_fails(
    log: pytest.LogCaptureFixture, clock: Clock
) -> None:
    stage = StageProgress("search", total=10, done=2, epochs=9, best=0.15)
    for name in ("a", "b", "c", "d"):
        stage.started(name)
    stage.reported("a", {"epoch": 9, "objective": 0.25})
    stage.reported("b", {"epoch": 1, "objective": 0.05})
    stage.reported("c", {"epoch": 1, "objective": float("nan")})
    clock.now += 60
    stage.ended("a", failed=False)
    clock.now += 60
    stage.ended("b", failed=False)
    stage.ended("c", failed=True)
    assert log.messages == [
        "  search: 3/10 done, 3 running, best so far 0.250 (0 chance, 1 perfect), about 7 min left",
        "  search: 4/10 done, 1 stopped early, 2 running, "
        "best so far 0.250 (0 chance, 1 perfect), about 6 min left",
        "  search: 5/10 done, 1 stopped early, 1 failed, 1 running, "
        "best so far 0.250 (0 chance, 1 perfect), about 3 min left",
    ]


def test_jobs_without_epochs_are_never_called_stopped(
    log: pytest.LogCaptureFixture, clock: Clock
) -> None:
    stage = StageProgress("finetune", total=2)
    stage.started("s01")
    stage.reported("s01", {"done": True})
    stage.ended("s01", failed=False)
    stage.ended("s02", failed=False)
    assert log.messages == [
        "  finetune: 1/2 done, about 0 s left",
        "  finetune: 2/2 done",
    ]


def test_lines_between_events_are_rare(log: pytest.LogCaptureFixture, clock: Clock) -> None:
    stage = StageProgress("search", total=4, epochs=9)
    stage.started("a")
    stage.reported("a", {"epoch": 0, "objective": float("nan")})
    for epoch in range(1, 8):
        clock.now += 4
        stage.reported("a", {"epoch": epoch, "objective": 0.01 * epoch})
    assert log.messages == [
        "  search: 0/4 done, 1 running, best so far 0.030 (0 chance, 1 perfect)",
        "  search: 0/4 done, 1 running, best so far 0.060 (0 chance, 1 perfect)",
    ]


def test_durations_in_words() -> None:
    assert [readable(s) for s in (0, 40, 89, 91, 600, 5399, 5401, 18_720)] == [
        "0 s", "40 s", "89 s", "2 min", "10 min", "90 min", "1.5 h", "5.2 h",
    ]  # fmt: skip


def test_the_log_goes_to_a_file_once(
    tmp_path: Path, log: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep" / "study.log"
    progress.log_to(path)
    progress.log_to(path)
    progress.log.info("search: %d trials", 3)
    for handler in progress.log.handlers:
        handler.close()
    lines = path.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("INFO search: 3 trials")
    assert lines[0][:2] == "20", "a line on disk has its time"


# ---- imports


def _imports() -> dict[str, set[str]]:
    """Module -> what it imports, anywhere in it: modules of the package and top-level others."""
    root = Path(physiosync.__file__).parent
    modules = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in root.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                given = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: a relative import"
                given = [
                    whole if (whole := f"{node.module}.{alias.name}") in modules else node.module
                    for alias in node.names
                    if node.module is not None
                ]
            else:
                continue
            found[name] |= set(given) - {name}
    return found


def _reach(imports: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in imports.get(waiting.pop(), set()) - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def test_imports_run_one_way() -> None:
    imports = _imports()
    assert len(imports) > 40
    circles = [name for name in imports if name in _reach(imports, name)]
    assert not circles


def _users(imports: dict[str, set[str]], library: str) -> set[str]:
    return {
        name.removeprefix("physiosync.")
        for name, given in imports.items()
        if any(g == library or g.startswith(f"{library}.") for g in given)
    }


def test_only_the_distributed_part_knows_ray() -> None:
    imports = _imports()
    assert _users(imports, "ray") <= {"search", "searcher", "jobs", "tuner", "nodes"}
    for name in ("pretraining", "finetuning", "probing", "tasks", "baselines", "report", "leakage"):
        reached = _reach(imports, f"physiosync.{name}")
        assert not {r for r in reached if r == "ray" or r.startswith("ray.")}, name


def test_finetuning_takes_a_checkpoint_and_knows_no_pretraining() -> None:
    imports = _imports()
    reached = _reach(imports, "physiosync.finetuning") | _reach(imports, "physiosync.baselines")
    assert not reached & {"physiosync.pretraining", "physiosync.search", "physiosync.losses"}
    assert "physiosync.report" not in _reach(imports, "physiosync.tasks")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_a_log_that_finds_no_room_prints_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    progress.log_to(Path("/dev/full"))
    progress.log.info("one more line")
    for handler in list(progress.log.handlers):
        progress.log.removeHandler(handler)
    said = capsys.readouterr().err
    assert "one more line" in said
    assert "Logging error" not in said
