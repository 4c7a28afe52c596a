"""Preparation: every subject once, again only when something changed, whole shards only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from physiosync.errors import RecordingError
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Recording
from physiosync.shards import read_info, read_trials
from tests.recording_builder import read_source, write_source

CONFIG = PreprocessingConfig()


def samples(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, 3, 200)).astype(np.float32)


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Recordings of s10, s2 and s1, in that order."""
    return [write_source(tmp_path / "raw" / f"s{k}.npy", samples(k)) for k in (10, 2, 1)]


def reads(sources: list[Path]) -> list[str]:
    """Subjects whose recordings were read since the last call."""
    log = sources[0].parent / "reads.txt"
    lines = sorted(log.read_text().split()) if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_a_shard_a_subject_in_numeric_order(sources: list[Path], tmp_path: Path) -> None:
    said: list[tuple[str, int, int, bool]] = []
    shards = prepare(
        sources,
        read_source,
        tmp_path / "shards",
        CONFIG,
        workers=1,
        on_subject=lambda path, *rest: said.append((path.stem, *rest)),
    )
    assert shards == [tmp_path / "shards" / f"s{k}.parquet" for k in (1, 2, 10)]
    assert sorted(s[0] for s in said) == ["s1", "s10", "s2"]
    assert [s[1:] for s in said] == [(1, 3, False), (2, 3, False), (3, 3, False)]
    for shard, k in zip(shards, (1, 2, 10), strict=True):
        for (_, signals), x in zip(read_trials(shard, ["eeg"]), samples(k), strict=True):
            np.testing.assert_array_equal(signals["eeg"], x[:, :192])
    assert sorted(p.name for p in (tmp_path / "shards").iterdir()) == [
        "s1.parquet",
        "s10.parquet",
        "s2.parquet",
    ]


def test_what_is_current_is_not_even_read(sources: list[Path], tmp_path: Path) -> None:
    shards = prepare(sources, read_source, tmp_path / "shards", CONFIG, workers=1)
    before = [path.read_bytes() for path in shards]
    reads(sources)
    said: list[bool] = []
    again = prepare(
        sources,
        read_source,
        tmp_path / "shards",
        CONFIG,
        on_subject=lambda *a: said.append(a[3]),
    )
    assert again == shards
    assert reads(sources) == []
    assert said == [True] * 3
    assert [path.read_bytes() for path in shards] == before


def test_another_configuration_or_source_rebuilds(sources: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    prepare(sources, read_source, folder, CONFIG, workers=1)
    reads(sources)

    write_source(sources[1], samples(99))
    prepare(sources, read_source, folder, CONFIG, workers=1)
    assert reads(sources) == ["s2"]
    _, signals = next(read_trials(folder / "s2.parquet", ["eeg"]))
    np.testing.assert_array_equal(signals["eeg"], samples(99)[0, :, :192])

    other = PreprocessingConfig(sfreq=64.0, baseline="none")
    prepare(sources, read_source, folder, other, workers=1)
    assert reads(sources) == ["s1", "s10", "s2"]
    assert read_info(folder / "s1.parquet").config_uid == other.uid()


def test_a_damaged_or_missing_shard_is_written_again(sources: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shards = prepare(sources, read_source, folder, CONFIG, workers=1)
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[:-100])
    shards[1].unlink()
    reads(sources)
    prepare(sources, read_source, folder, CONFIG, workers=1)
    assert reads(sources) == ["s1", "s2"]
    assert shards[0].read_bytes() == whole


def test_equal_files_of_two_subjects_stay_two(tmp_path: Path) -> None:
    sources = [write_source(tmp_path / "raw" / f"s{k}.npy", samples(0)) for k in (1, 2)]
    shards = prepare(sources, read_source, tmp_path / "shards", CONFIG, workers=1)
    assert [read_info(path).subject for path in shards] == ["s1", "s2"]
    reads(sources)
    assert prepare(sources, read_source, tmp_path / "shards", CONFIG, workers=1) == shards
    assert reads(sources) == []


def test_one_file_may_hold_many_subjects(tmp_path: Path) -> None:
    file = write_source(tmp_path / "raw" / "all.npy", samples(0))
    sources = [(file, "p1"), (file, "p2")]
    shards = prepare(sources, read_source, tmp_path / "shards", CONFIG, workers=1)
    assert [path.stem for path in shards] == ["p1", "p2"]
    assert reads([file]) == ["p1", "p2"]
    prepare([*sources, (file, "p3")], read_source, tmp_path / "shards", CONFIG, workers=1)
    assert reads([file]) == ["p3"]


def test_only_shards_of_the_sources_are_returned(sources: list[Path], tmp_path: Path) -> None:
    prepare(sources, read_source, tmp_path / "shards", CONFIG, workers=1)
    shards = prepare(sources[:1], read_source, tmp_path / "shards", CONFIG, workers=1)
    assert [path.stem for path in shards] == ["s10"]


def test_a_source_whose_fingerprint_is_not_its_bytes_is_read_but_kept(
    sources: list[Path], tmp_path: Path
) -> None:
    first = prepare(sources, _other_fingerprint, tmp_path / "shards", CONFIG, workers=1)
    written = [path.stat().st_mtime_ns for path in first]
    reads(sources)
    said: list[bool] = []
    prepare(
        sources,
        _other_fingerprint,
        tmp_path / "shards",
        CONFIG,
        workers=1,
        on_subject=lambda *a: said.append(a[3]),
    )
    assert said == [True] * 3
    assert reads(sources) == ["s1", "s10", "s2"]
    assert [path.stat().st_mtime_ns for path in first] == written


def _other_fingerprint(path: Path) -> Recording:
    made = read_source(path)
    return replace(made, fingerprint=f"both files {made.fingerprint}")


def test_one_bad_recording_does_not_stop_the_others(sources: list[Path], tmp_path: Path) -> None:
    sources[0].write_bytes(b"not an array")
    with pytest.raises(RecordingError, match=r"s10\.npy: eeg: expected an array") as raised:
        prepare(sources, read_source, tmp_path / "shards", CONFIG, workers=2)
    assert "recordings can't be used" not in str(raised.value)
    assert sorted(p.stem for p in (tmp_path / "shards").iterdir()) == ["s1", "s2"]


def test_several_bad_recordings_are_counted(sources: list[Path], tmp_path: Path) -> None:
    bad = samples(1)
    bad[1, 2, 7] = np.nan
    write_source(sources[1], bad)
    sources[2].write_bytes(b"not an array")
    with pytest.raises(
        RecordingError, match=r"s2.npy: trial 2 .v2., channel Cz: .*2 of 3 recordings can't be used"
    ):
        prepare(sources, read_source, tmp_path / "shards", CONFIG, workers=1)
    assert [p.stem for p in (tmp_path / "shards").iterdir()] == ["s10"]


def test_two_sources_of_one_subject_are_an_error(sources: list[Path], tmp_path: Path) -> None:
    twin = write_source(tmp_path / "more" / "s2.npy", samples(5))
    for _ in range(2):  # Also where the first one is kept.
        with pytest.raises(RecordingError, match=r"one recording a subject, found s2") as raised:
            prepare([*sources, twin], read_source, tmp_path / "shards", CONFIG, workers=1)
        assert str(twin) in str(raised.value)
        assert str(sources[1]) in str(raised.value)
    assert len(list((tmp_path / "shards").iterdir())) == 3


def test_an_interrupted_run_leaves_whole_shards_and_goes_on(
    sources: list[Path], tmp_path: Path
) -> None:
    def interrupted(path: Path) -> Recording:
        if path.stem == "s1":
            raise KeyboardInterrupt
        return read_source(path)

    folder = tmp_path / "shards"
    with pytest.raises(KeyboardInterrupt):
        prepare(sources, interrupted, folder, CONFIG, workers=1)
    assert sorted(p.name for p in folder.iterdir()) == ["s10.parquet", "s2.parquet"]
    reads(sources)
    assert len(prepare(sources, read_source, folder, CONFIG, workers=1)) == 3
    assert reads(sources) == ["s1"]


def test_no_sources_give_no_shards(tmp_path: Path) -> None:
    assert prepare([], read_source, tmp_path / "shards", CONFIG) == []


def _left_out(path: Path) -> Recording:
    made = read_source(path)
    return replace(made, left_out=("trial 7 (v7): a reason",) if path.stem == "s2" else ())


@pytest.mark.parametrize("workers", [1, 2])
def test_strict_takes_what_is_left_out_for_an_error(
    sources: list[Path], tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "shards"
    found = r"s2\.npy: left out: expected nothing \(--strict\), found trial 7 \(v7\): a reason"
    with pytest.raises(RecordingError, match=found):
        prepare(sources, _left_out, folder, CONFIG, workers=workers, strict=True)
    assert sorted(p.stem for p in folder.iterdir()) == ["s1", "s10"]
    # Also of a shard that is there already, whether its recording is read again or not.
    prepare(sources, _left_out, folder, CONFIG, workers=workers)
    with pytest.raises(RecordingError, match=found):
        prepare(sources, _left_out, folder, CONFIG, workers=workers, strict=True)
    assert sorted(p.stem for p in folder.iterdir()) == ["s1", "s10", "s2"]


def test_a_shard_of_another_recording_is_not_replaced(tmp_path: Path, sources: list[Path]) -> None:
    """DEAP and DREAMER both have an s01."""
    shards = tmp_path / "shards"
    (kept,) = prepare(sources[:1], read_source, shards, CONFIG, workers=1)
    before = kept.read_bytes()
    other = sources[0].with_name("DREAMER.mat")
    other.write_bytes(b"another")

    def read_other(path: Path) -> Recording:
        return replace(read_source(sources[0]), source=path, fingerprint="another")

    with pytest.raises(RecordingError, match=f"one made from {sources[0].name}"):
        prepare([other], read_other, shards, CONFIG, workers=1)
    assert kept.read_bytes() == before
