"""Files of an object store, a study's mirror in it, and shards with their digests."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from physiosync.errors import RemoteError, ShardError, StudyError
from physiosync.ledger import Ledger
from physiosync.mirror import Copies, Mirror
from physiosync.nodes import _compare, _look, _versions
from physiosync.options import StudyOptions
from physiosync.remote import PatientS3, Remote, download, is_remote, outage_in, url_of
from physiosync.search import _states
from physiosync.shard_store import ShardStore, local_shards
from physiosync.stages import _as_begun
from physiosync.tuner import run_place
from tests.conftest import write_made_up
from tests.object_store import SECRET, ObjectStore, damaged_copy


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    running = ObjectStore()
    yield running
    running.stop()


@pytest.fixture
def store(
    server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PHYSIOSYNC_WORK", str(tmp_path / "work"))
    yield server
    server.empty()


def _write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# ---- one object


def test_a_file_goes_there_and_back(store: ObjectStore, tmp_path: Path) -> None:
    remote = Remote("s3://lab/a/b/")
    remote.check()
    assert store.files() == {}, "the check leaves nothing"
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 100_000)
    remote.put(big, "c/big")
    (tmp_path / "empty").touch()
    remote.put(tmp_path / "empty", "empty")
    assert remote.sizes() == {"c/big": 25_600_000, "empty": 0}
    assert remote.folders("") == {"c"}
    remote.fetch("c/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    remote.remove("c/big")
    assert remote.sizes() == {"empty": 0}
    with pytest.raises(RemoteError, match=r"s3://lab/a/b/c/big: expected an object, found none"):
        remote.fetch("c/big", tmp_path / "not")
    assert not (tmp_path / "not").exists()


def test_pulling_a_folder(store: ObjectStore, tmp_path: Path) -> None:
    Remote("s3://lab/x").write_text("best/rank-1/config.json", "{}")
    assert download("s3://lab/x/best", tmp_path / "mine") == 1
    assert (tmp_path / "mine/rank-1/config.json").read_text() == "{}"
    with pytest.raises(RemoteError, match="s3://lab/y: expected files under it, found none"):
        download("s3://lab/y", tmp_path / "mine")


def test_a_missing_bucket_is_named(store: ObjectStore) -> None:
    with pytest.raises(RemoteError, match=r"s3://nobody/x.*expected a bucket of this name"):
        Remote("s3://nobody/x", patient=False).check()


def test_refused_credentials_are_said_and_not_shown(store: ObjectStore) -> None:
    store.demand_credentials(True)
    try:
        with pytest.raises(RemoteError, match=r"s3://lab/x.*found them refused") as caught:
            Remote("s3://lab/x", patient=False).check()
    finally:
        store.demand_credentials(False)
    assert SECRET not in str(caught.value)


def test_a_server_that_is_down_is_named(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match=r"s3://lab/x.*answer of http://127.0.0.1:9, found no"):
        Remote("s3://lab/x", patient=False).check()


def test_an_outage_is_waited_for(store: ObjectStore) -> None:
    Remote("s3://lab").write_text("x", "text")
    store.stop()
    script = "from physiosync.remote import Remote; print(Remote('s3://lab').read_text('x'))"
    reader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        reader.wait(4)
    store.start()
    assert reader.communicate(timeout=60)[0] == "text\n"


def test_an_outage_is_told_from_other_errors_of_a_library() -> None:
    outage = OSError("When listing: AWS Error NETWORK_CONNECTION during ListObjectsV2 operation")
    wrapped = RuntimeError("the run failed")
    wrapped.__cause__ = outage
    assert "found no connection; what is done is kept" in str(outage_in(wrapped))
    assert outage_in(OSError("No space left on device")) is None


@pytest.mark.parametrize("url", ["s3://KEY:hunter2@lab/x", "s3://lab/x?secret_key=hunter2", "s3:"])
def test_a_key_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(RemoteError, match="credentials come from the environment") as caught:
        Remote(url)
    assert "hunter2" not in str(caught.value)


def test_pickled_it_holds_no_credentials(store: ObjectStore) -> None:
    sent = pickle.dumps(PatientS3())
    assert SECRET.encode() not in sent
    pickle.loads(sent)


def test_a_trial_goes_on_from_its_newest_state(store: ObjectStore) -> None:
    for run in ("search/trial-1", "search-2/trial-1"):
        for k in range(2):
            remote = Remote(f"s3://lab/results/deap/tune/{run}")
            remote.write_text(f"checkpoint_00000{k}/state.pt", f"{run} {k}")
            remote.write_text("result.json", "{}")
    folders = [f"s3://lab/results/deap/tune/{run}/trial-1" for run in ("search", "search-2", "x")]
    found = [path.read_text() for path in _states(folders)]
    assert found == [f"{run}/trial-1 {k}" for run in ("search-2", "search") for k in (1, 0)]


def test_runs_of_tune_have_names_of_their_own(store: ObjectStore, tmp_path: Path) -> None:
    mirror = Mirror(folder=tmp_path, url="s3://lab/results/deap")
    assert run_place(tmp_path, "search", mirror)["name"] == "search"
    Remote(mirror.url or "").write_text("tune/search/trial-1/result.json", "{}")
    place = run_place(tmp_path, "search", mirror)
    assert (place["name"], place["storage_path"]) == ("search-2", "lab/results/deap/tune")


def test_a_node_gets_its_shards_when_it_is_asked(store: ObjectStore, tmp_path: Path) -> None:
    copies = _upload(tmp_path).copies()
    results = Remote("s3://lab/results/deap")
    results.write_text(".probe", "token")
    probe, url = str(tmp_path / "results/.probe"), results.url
    seen = _look(probe, {}, str(tmp_path / "cache"), url, copies)
    assert _compare(tmp_path / "results", "token", _versions(), seen) == []
    damaged_copy(copies.paths[1])
    assert _look(probe, {}, str(tmp_path / "cache"), url, copies)["mended"] == ["s02.parquet"]
    assert list(results.sizes()) == [".probe"]
    store.damage("lab/shards/s01.parquet")
    copies.paths[0].unlink()
    seen = _look(probe, {}, str(tmp_path / "cache"), "s3://nobody/x", copies)
    problems = _compare(tmp_path / "results", "token", _versions(), seen)
    assert any("s3://lab/shards/s01.parquet: expected SHA-256" in line for line in problems)
    assert any("s3://nobody/x/.probe: expected a" in line for line in problems)


# ---- a study's folder


def test_a_folder_is_made_anew_from_the_store(store: ObjectStore, tmp_path: Path) -> None:
    first = Mirror(folder=tmp_path / "first", url="s3://lab/results/deap")
    first.pull()
    _write(first.folder, study_json="1", best__rank__metrics_json="a", driver_json="here")
    _write(first.folder, tune__search__state="big", tune__encoders__e__metrics_json="m")
    first.push()
    assert sorted(store.files("lab/results/deap")) == [
        "best/rank/metrics.json", "study.json", "tune/encoders/e/metrics.json",
    ]  # fmt: skip
    second = Mirror(folder=tmp_path / "second", url=first.url)
    _write(second.folder, split_json="of a study that was removed", driver_json="there")
    second.pull()
    assert (second.folder / "study.json").read_text() == "1"
    assert not (second.folder / "split.json").exists()
    assert (second.folder / "driver.json").read_text() == "there"
    _write(second.folder, study_json="2")
    (second.folder / "best/rank/metrics.json").unlink()
    second.push()
    first.pull()
    assert (first.folder / "study.json").read_text() == "2"
    assert not (first.folder / "best").exists()


def test_what_a_job_wrote_elsewhere_is_fetched(store: ObjectStore, tmp_path: Path) -> None:
    driver = Mirror(folder=tmp_path / "driver", url="s3://lab/results/deap")
    driver.pull()
    worker = Mirror(folder=tmp_path / "worker", url=driver.url)
    _write(worker.folder, finetune__e__s01="scores", tune__encoders__e__metrics_json="m")
    _write(worker.folder, tune__encoders__e__weights="w", tune__encoders__lost__weights="w")
    for name in ("finetune/e/s01", "tune/encoders/e", "tune/encoders/lost"):
        worker.put(worker.folder / name)
    driver.fetch_missing()
    assert (driver.folder / "finetune/e/s01").read_text() == "scores"
    assert (driver.folder / "tune/encoders/e/weights").read_text() == "w"
    assert not (driver.folder / "tune/encoders/lost").exists(), "it was never whole"


def test_a_fold_s_folder_has_a_mirror_of_its_own(store: ObjectStore, tmp_path: Path) -> None:
    whole = Mirror(folder=tmp_path / "mine", url="s3://lab/results/deap")
    fold = Mirror(folder=whole.folder / "fold-1", url=f"{whole.url}/fold-1")
    _write(whole.folder, study_json="w", fold_1="a file that only looks like a fold")
    _write(fold.folder, study_json="f", tune__search__state="big", best__rank__metrics_json="a")
    whole.push()
    assert sorted(store.files("lab/results/deap")) == ["fold_1", "study.json"]
    fold.push()
    elsewhere = Mirror(folder=tmp_path / "other", url=whole.url)
    there = Mirror(folder=elsewhere.folder / "fold-1", url=fold.url)
    _write(there.folder, split_json="of a fold that was removed")
    for mirror in (elsewhere, there):
        mirror.pull()
    files = sorted(
        path.relative_to(elsewhere.folder).as_posix()
        for path in elsewhere.folder.rglob("*")
        if path.is_file()
    )
    assert files == ["fold-1/best/rank/metrics.json", "fold-1/study.json", "fold_1", "study.json"]
    elsewhere.push()
    assert (there.folder / "study.json").read_text() == "f"
    assert "fold-1/study.json" in store.files("lab/results/deap"), "the whole's leaves it alone"


def test_on_a_disk_nothing_is_mirrored(tmp_path: Path) -> None:
    mirror = Mirror(folder=tmp_path)
    _write(tmp_path, study_json="1")
    for act in (mirror.pull, mirror.push, mirror.fetch_missing):
        act()
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
    assert mirror.url_of(tmp_path / "best") == str(tmp_path / "best")


# ---- shards


def _upload(tmp_path: Path, n: int = 2) -> ShardStore:
    shards = ShardStore(Path("s3://lab/shards"))
    for path in write_made_up(tmp_path / "made", n, n_stimuli=2, seconds=4.0):
        shards.add(path)
    return shards


def test_damaged_and_missing_copies_are_fetched_again(store: ObjectStore, tmp_path: Path) -> None:
    copies = _upload(tmp_path).copies()
    assert copies.fetch() == []
    assert [path.name for path in copies.paths] == ["s01.parquet", "s02.parquet"]
    whole = [path.read_bytes() for path in copies.paths]
    damaged_copy(copies.paths[0])
    copies.paths[1].unlink()
    assert copies.fetch() == ["s01.parquet"]
    assert [path.read_bytes() for path in copies.paths] == whole
    assert Copies.model_validate_json(copies.model_dump_json()) == copies


def test_a_damaged_object_is_named_and_not_taken(store: ObjectStore, tmp_path: Path) -> None:
    copies = _upload(tmp_path).copies()
    store.damage("lab/shards/s02.parquet")
    with pytest.raises(RemoteError, match=r"s3://lab/shards/s02\.parquet: expected SHA-256"):
        copies.fetch()
    assert not copies.paths[1].exists()


def test_a_shard_is_uploaded_once(store: ObjectStore, tmp_path: Path) -> None:
    shards = _upload(tmp_path)
    before = shards.copies()
    store.damage("lab/shards/s01.parquet")
    shards.add(tmp_path / "made/s01.parquet")
    assert store.files("lab/shards")["s01.parquet"] == b"damaged", "the list says it is there"
    (path,) = write_made_up(tmp_path / "other", 1, n_stimuli=3, seconds=4.0)
    shards.add(path)
    assert store.files("lab/shards")["s01.parquet"] == path.read_bytes()
    assert shards.copies() != before


def test_no_list_of_shards(store: ObjectStore) -> None:
    with pytest.raises(ShardError, match=r"shards\.json: expected a list of shards"):
        ShardStore(Path("s3://lab/none")).copies()


# ---- options


def test_urls_are_paths_until_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHYSIOSYNC_WORK", str(tmp_path))
    monkeypatch.setenv("PHYSIOSYNC_RESULTS", "s3://lab/results")
    monkeypatch.setenv("PHYSIOSYNC_SHARDS", "s3://lab/shards")
    options = StudyOptions(name="deap", storage="postgresql://me@db/studies")
    assert options.results_url == "s3://lab/results/deap"
    assert options.folder.is_relative_to(tmp_path)
    assert options.folder.name == "deap"
    assert url_of(options.shards_folder) == "s3://lab/shards/deap"
    assert options.storage_url == "postgresql://me@db/studies"
    assert options.without_secrets()["results"] == "s3://lab/results"
    assert not is_remote(Path("/s3:/lab"))


@pytest.mark.parametrize("storage", [None, "sqlite:////tmp/x.db", "mysql://me:hunter2@db/x"])
def test_results_in_an_object_store_want_a_server(storage: str | None) -> None:
    options = StudyOptions(results=Path("s3://lab/results"), storage=storage)
    with pytest.raises(StudyError, match=r"s3://lab/results/deap: expected --storage") as caught:
        _ = options.storage_url
    assert "hunter2" not in str(caught.value)


def test_a_stage_asks_the_store_what_its_study_was_begun_with(
    store: ObjectStore, tmp_path: Path
) -> None:
    """Another machine, or an emptied working folder, has no study.json yet."""
    options = StudyOptions(name="far", results=Path("s3://lab/results"), pps=("gsr",), trials=7)
    Ledger(tmp_path).bind({"seed": 0}, options.without_secrets())
    Mirror(folder=tmp_path, url="s3://lab/results/far").push()
    begun = _as_begun(["search", "--name", "far", "--results", "s3://lab/results"])
    assert (begun.pps, begun.trials) == (("gsr",), 7)
    assert _as_begun(["search", "--name", "none", "--results", "s3://lab/results"]).trials != 7


def test_shards_are_found_wherever_they_lie(store: ObjectStore, tmp_path: Path) -> None:
    shards = _upload(tmp_path)
    near, far = tmp_path / "made", Path("s3://lab/shards")
    assert [p.name for p in local_shards(far)] == [p.name for p in local_shards(near)]
    assert all(path.is_relative_to(shards.folder) for path in local_shards(far))
    with pytest.raises(ShardError, match=r"s3://lab/nowhere.*physiosync prepare"):
        local_shards(Path("s3://lab/nowhere"))
