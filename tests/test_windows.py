"""The window store: exact windows, only copies, only open trials, one good cache."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physiosync.cache import default_cache
from physiosync.errors import PhysioSyncError, ShardError
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Channels, Recording
from physiosync.shards import write_shard
from physiosync.windows import ClosedTrialError, WindowStore, clean_cache
from tests.recording_builder import noise

CONFIG = PreprocessingConfig()
SUBJECTS = ("s1", "s2", "s10")


def without_gsr(recording: Recording) -> Recording:
    trials = [
        dataclasses.replace(t, signals={m: x for m, x in t.signals.items() if m != "gsr"})
        for t in recording.trials
    ]
    channels = {m: c for m, c in recording.modalities.items() if m != "gsr"}
    return dataclasses.replace(recording, trials=tuple(trials), modalities=channels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of s1, s2 (without GSR) and s10."""
    folder = tmp_path_factory.mktemp("three")
    for subject in SUBJECTS:
        made = noise(subject)
        write_shard(without_gsr(made) if subject == "s2" else made, folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def three(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> WindowStore:
    return WindowStore.open(folder, ("eeg", "gsr"), tmp_path_factory.mktemp("three-cache"))


def original(trial: int, modality: str) -> np.ndarray:
    """What was written of a trial, (n_times, n_chans)."""
    return noise(SUBJECTS[trial // 3]).trials[trial % 3].signals[modality].T


def test_trials_in_numeric_order_of_subjects(three: WindowStore) -> None:
    table = three.trials
    assert table.index.tolist() == list(range(9))
    assert table["subject"].tolist() == ["s1"] * 3 + ["s2"] * 3 + ["s10"] * 3
    assert table["stimulus"].tolist() == ["v1", "v2", "v3"] * 3
    assert table["order"].tolist() == [1, 2, 3] * 3
    assert table["n_times"].tolist() == [640, 320, 384] * 3
    assert table["has_eeg"].all()
    assert table["has_gsr"].tolist() == [True, False, True, *[False] * 3, True, False, True]
    assert table["arousal"].isna().tolist() == [False, False, True] * 3
    assert table["valence"][6] == noise("s10").trials[0].ratings["valence"]
    assert "has_ecg" not in table
    assert three.subjects == ["s1", "s2", "s10"]
    assert three.stimuli == ["v1", "v2", "v3"]
    assert three.sfreq == 128.0
    assert list(three.channels) == ["eeg", "gsr"]
    assert three.channels["eeg"].ch_names == ("Fp1", "Fp2", "Cz")
    assert three.left_out == [f"{s}: trial 9 (v9): not in the file" for s in SUBJECTS]
    assert [path.stem for path in three.paths] == ["s1", "s2", "s10"]


@given(data=st.data(), n_times=st.integers(0, 320), modality=st.sampled_from(["eeg", "gsr"]))
@settings(max_examples=60, deadline=None)
def test_gather_equals_slicing(
    three: WindowStore, data: st.DataObject, n_times: int, modality: str
) -> None:
    table = three.trials
    ids = table.index[table[f"has_{modality}"]].tolist()
    trials = data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=8))
    starts = [data.draw(st.integers(0, int(table["n_times"][t]) - n_times)) for t in trials]
    x = three.gather(modality, np.array(trials), np.array(starts), n_times)
    assert x.dtype == np.float32
    assert x.shape == (len(trials), n_times, 3 if modality == "eeg" else 1)
    for window, trial, start in zip(x, trials, starts, strict=True):
        expected = original(trial, modality)[start : start + n_times]
        np.testing.assert_array_equal(window, expected)
        np.testing.assert_array_equal(three.read(modality, trial, start, start + n_times), expected)


def test_read_gives_the_whole_trial_by_default(three: WindowStore) -> None:
    np.testing.assert_array_equal(three.read("eeg", 8), original(8, "eeg")[:384])
    np.testing.assert_array_equal(three.read("eeg", 8, 380), original(8, "eeg")[380:384])


@pytest.mark.parametrize(
    ("modality", "trial", "start", "n_times", "error", "message"),
    [
        ("eeg", 0, -1, 10, IndexError, "trial 0: .*its 640 samples, found -1 to 9"),
        ("eeg", 1, 311, 10, IndexError, "trial 1: .*its 320 samples, found 311 to 321"),
        ("eeg", 1, 10, -1, IndexError, "found 0 to -1|found 10 to 9"),
        ("eeg", 9, 0, 10, IndexError, "trial ids from 0 to 8, found 9"),
        ("eeg", -1, 0, 10, IndexError, "found -1"),
        ("gsr", 4, 0, 10, ValueError, "trial 4 has no gsr"),
        ("ecg", 0, 0, 10, ValueError, "those opened .eeg, gsr., got 'ecg'"),
    ],
)
def test_what_is_not_there_is_refused(
    three: WindowStore,
    modality: str,
    trial: int,
    start: int,
    n_times: int,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        three.gather(modality, np.array([0, trial]), np.array([0, start]), n_times)
    with pytest.raises(error, match=message):
        three.read(modality, trial, start, start + n_times)


def test_writing_into_what_was_read_changes_nothing(three: WindowStore) -> None:
    for x in (three.gather("eeg", np.array([0]), np.array([0]), 640), three.read("eeg", 0)):
        x[:] = 7
    table = three.trials
    table.loc[:, "n_times"] = 10**6
    three.channels.clear()
    three.subjects.clear()
    np.testing.assert_array_equal(three.read("eeg", 0), original(0, "eeg"))
    assert three.trials["n_times"][0] == 640
    assert list(three.channels) == ["eeg", "gsr"]


def test_a_restricted_store_refuses_every_other_trial(three: WindowStore) -> None:
    three.read("eeg", 1)  # What the whole store has read stays closed to the restricted one.
    part = three.restrict([8, 0])
    assert isinstance(part, WindowStore)
    for view in (part, pickle.loads(pickle.dumps(part)), part.restrict([0, 8])):
        assert view.trials.index.tolist() == [0, 8]
        assert view.subjects == ["s1", "s10"]
        assert view.stimuli == ["v1", "v3"]
        np.testing.assert_array_equal(view.read("eeg", 8), original(8, "eeg")[:384])
        with pytest.raises(ClosedTrialError, match=r"trial 1 .s1, v2. is closed"):
            view.read("eeg", 1)
        with pytest.raises(PermissionError):
            view.gather("eeg", np.array([0, 7]), np.array([0, 0]), 10)
        with pytest.raises(PhysioSyncError):
            view.restrict([0, 1])
    assert len(three.trials) == 9
    assert three.restrict([]).trials.empty


def test_identity_follows_what_is_held(three: WindowStore, folder: Path, tmp_path: Path) -> None:
    again = WindowStore.open(sorted(folder.iterdir()), ("eeg", "gsr"), tmp_path / "a")
    assert again.identity == three.identity
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in folder.glob("*.parquet"):
        (moved / path.name).write_bytes(path.read_bytes())
    assert WindowStore.open(moved, ("eeg", "gsr"), tmp_path / "a").identity == three.identity

    others = [WindowStore.open(folder, ("eeg",), tmp_path / "a"), three.restrict([0, 1])]
    write_shard(noise("s1", seed=1), moved, CONFIG)
    others.append(WindowStore.open(moved, ("eeg", "gsr"), tmp_path / "a"))
    rated = [dataclasses.replace(t, ratings={"valence": 1.0}) for t in noise("s1").trials]
    write_shard(dataclasses.replace(noise("s1"), trials=tuple(rated)), moved, CONFIG)
    others.append(WindowStore.open(moved, ("eeg", "gsr"), tmp_path / "a"))
    assert len({three.identity, *(other.identity for other in others)}) == 5


def test_pickling_carries_no_samples_and_checks_the_shards(tmp_path: Path) -> None:
    shard = write_shard(noise(), tmp_path, CONFIG)
    store = WindowStore.open(shard, ("eeg",), tmp_path / "cache")
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    np.testing.assert_array_equal(pickle.loads(packed).read("eeg", 0), store.read("eeg", 0))
    clean_cache(tmp_path / "cache")
    np.testing.assert_array_equal(pickle.loads(packed).read("eeg", 0), store.read("eeg", 0))
    write_shard(noise(seed=1), tmp_path, CONFIG)
    with pytest.raises(ShardError, match="shards of the sender"):
        pickle.loads(packed)


def _sums(store: WindowStore, results: object) -> None:
    results.put(float(store.read("eeg", 0).sum()))  # type: ignore[attr-defined]


def test_a_forked_process_reads_too(three: WindowStore) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_sums, args=(three, results))
    process.start()
    assert results.get(timeout=20) == float(three.read("eeg", 0).sum())
    process.join()


OPEN = """
import sys
from pathlib import Path
from physiosync.windows import WindowStore
store = WindowStore.open(Path(sys.argv[1]), ("eeg", "ecg"), Path(sys.argv[2]))
print(store.identity, sum(float(store.read("ecg", t).sum()) for t in range(9)))
"""


def test_processes_that_open_at_once_make_one_good_cache(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", OPEN, str(folder), str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(said) == 1
    assert len(list(cache.glob("*.arrow"))) == 6
    assert not list(cache.glob(".*"))


def test_another_modality_reuses_what_is_decoded(folder: Path, tmp_path: Path) -> None:
    WindowStore.open(folder, ("eeg",), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.arrow")}
    WindowStore.open(folder, ("eeg", "ecg"), tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.arrow")}
    assert len(before) == 3
    assert len(after) == 6
    assert after.items() >= before.items()


def test_a_changed_shard_is_decoded_anew(tmp_path: Path) -> None:
    shard = write_shard(noise(), tmp_path, CONFIG)
    WindowStore.open(shard, ("eeg",), tmp_path / "cache")
    write_shard(noise(seed=1), tmp_path, CONFIG)
    store = WindowStore.open(shard, ("eeg",), tmp_path / "cache")
    np.testing.assert_array_equal(store.read("eeg", 0), noise(seed=1).trials[0].signals["eeg"].T)


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    shard = write_shard(noise(), tmp_path, CONFIG)
    cache = tmp_path / "cache"
    WindowStore.open(shard, ("eeg",), cache)
    (decoded,) = cache.glob("*.arrow")
    whole = decoded.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:n] for n in (0, 10, len(whole) // 2, len(whole) - 1)]
    for offset in rng.integers(len(whole), size=200):
        content = bytearray(whole)
        content[offset] ^= 1 << rng.integers(8)
        damaged.append(bytes(content))
    for content in damaged:
        # A new file: the old one may still be mapped, and then stays as it is.
        decoded.unlink()
        decoded.write_bytes(content)
        store = WindowStore.open(shard, ("eeg",), cache)
        for trial, expected in enumerate(noise().trials):
            n_times = store.trials["n_times"][trial]
            x = store.read("eeg", trial)
            np.testing.assert_array_equal(x, expected.signals["eeg"].T[:n_times])


def test_a_damaged_cache_of_a_damaged_shard_is_an_error(tmp_path: Path) -> None:
    shard = write_shard(noise(), tmp_path, CONFIG)
    cache = tmp_path / "cache"
    WindowStore.open(shard, ("eeg",), cache)
    (decoded,) = cache.glob("*.arrow")
    for path in (decoded, shard):
        content = bytearray(path.read_bytes())
        for offset in range(len(content) // 4, len(content) // 2, 97):
            content[offset] ^= 1
        path.unlink()
        path.write_bytes(content)
    store = WindowStore.open(shard, ("eeg",), cache)
    trials = np.arange(len(store))
    with pytest.raises(ShardError, match=r"s01\.parquet: trial \d+ \("):
        store.gather("eeg", trials, np.zeros_like(trials), 1)


def test_clean_cache_removes_only_its_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    store = WindowStore.open(folder, ("eeg",), tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.glob("*.arrow"))
    assert clean_cache(tmp_path) == size
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    np.testing.assert_array_equal(store.read("eeg", 0), original(0, "eeg"))
    assert clean_cache(tmp_path / "missing") == 0


def test_default_cache_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHYSIOSYNC_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("PHYSIOSYNC_CACHE")
    assert default_cache().parts[-3:] == (".cache", "physiosync", "windows")


def test_a_damaged_shard_is_an_error_and_leaves_no_cache(tmp_path: Path) -> None:
    shard = write_shard(noise(), tmp_path, CONFIG)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ShardError, match=r"s01\.parquet"):
        WindowStore.open(shard, ("eeg", "gsr", "ecg"), tmp_path / "cache").read("eeg", 0)


def _channels(recording: Recording, **changes: Channels) -> Recording:
    return dataclasses.replace(recording, modalities={**recording.modalities, **changes})


def test_shards_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    one = write_shard(noise("s1"), tmp_path / "a", CONFIG)
    faster = noise("s2")
    faster = _channels(
        faster, **{m: dataclasses.replace(c, sfreq=64.0) for m, c in faster.modalities.items()}
    )
    renamed = _channels(noise("s2"), eeg=Channels(("Fp1", "Fp2", "Pz"), "uV", 128.0))
    other = PreprocessingConfig.paper()
    for name, recording, config, message in [
        ("rate", faster, CONFIG, "sampling rate: expected 128.0 .*, found 64.0"),
        ("names", renamed, CONFIG, "channels of eeg: .*Cz.*Pz"),
        ("config", noise("s2"), other, f"preprocessing: expected {CONFIG.uid()}"),
    ]:
        two = write_shard(recording, tmp_path / name, config)
        with pytest.raises(ShardError, match=message) as raised:
            WindowStore.open([one, two], ("eeg",), tmp_path / "cache")
        assert str(one) in str(raised.value)
        assert str(two) in str(raised.value)
    with pytest.raises(ShardError, match="subject: expected another than in"):
        WindowStore.open([one, write_shard(noise("s1"), tmp_path / "b", CONFIG)], ("eeg",))


def test_units_may_differ_and_are_all_named(tmp_path: Path) -> None:
    relative = _channels(noise("s2"), gsr=Channels(("GSR",), "Ohm (relative, inverted)", 128.0))
    shards = [write_shard(r, tmp_path, CONFIG) for r in (noise("s1"), relative)]
    store = WindowStore.open(shards, ("gsr",), tmp_path / "cache")
    assert store.channels["gsr"].unit == "Ohm or Ohm (relative, inverted)"


def test_missing_everywhere_lists_what_is_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="expected resp, found eeg, gsr, ecg"):
        WindowStore.open(folder, ("eeg", "resp"), tmp_path)
    with pytest.raises(ShardError, match="physiosync prepare"):
        WindowStore.open(tmp_path / "missing", ("eeg",), tmp_path)
