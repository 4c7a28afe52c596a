"""A shard gives back exactly what was written, or an error that names it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import physiosync
from physiosync.errors import RecordingError, ShardError
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Channels
from physiosync.shards import find_shards, is_current, read_info, read_trials, write_shard
from tests.recording_builder import CHANNELS, noise, recording, trial

CONFIG = PreprocessingConfig()
ALL = ("eeg", "gsr", "ecg")


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_shard(noise(), tmp_path, CONFIG)


def test_samples_and_metadata_come_back_exactly(shard: Path) -> None:
    written = noise()
    assert shard.name == "s01.parquet"
    for (info, signals), original in zip(read_trials(shard, ALL), written.trials, strict=True):
        n_times = original.signals["eeg"].shape[1] // 64 * 64
        assert (info.stimulus, info.order) == (original.stimulus, original.order)
        assert info.n_times == n_times
        assert info.ratings == original.ratings
        assert signals.keys() == original.signals.keys()
        for modality, x in signals.items():
            assert x.dtype == np.float32
            np.testing.assert_array_equal(x, original.signals[modality][:, :n_times])
            x[:] = 0  # The reader's own copy.

    info = read_info(shard)
    assert (info.dataset, info.subject, info.sfreq) == ("made-up", "s01", 128.0)
    assert info.channels == CHANNELS
    assert (info.config_uid, info.config) == (CONFIG.uid(), CONFIG.identity())
    assert (info.source, info.fingerprint) == ("s01.npy", "f" * 64)
    assert info.left_out == ("trial 9 (v9): not in the file",)
    assert info.version == physiosync.__version__


def test_only_the_columns_asked_for_are_read(shard: Path) -> None:
    got = [sorted(signals) for _, signals in read_trials(shard, ["gsr"])]
    assert got == [["gsr"], [], ["gsr"]]


def test_a_modality_that_no_trial_has_is_an_error_that_lists_those_there_are(shard: Path) -> None:
    with pytest.raises(ShardError, match=r"s01.parquet: .*expected resp, found eeg, gsr, ecg"):
        read_trials(shard, ["resp"])


def test_pandas_reads_a_row_a_base_window(shard: Path) -> None:
    table = pd.read_parquet(shard)
    written = noise()
    assert list(table) == [
        "subject", "stimulus", "trial", "index", "eeg", "gsr", "ecg",
        "rating_arousal", "rating_valence",
    ]  # fmt: skip
    assert table["stimulus"].tolist() == ["v1"] * 10 + ["v2"] * 5 + ["v3"] * 6
    assert table["index"].tolist() == [*range(10), *range(5), *range(6)]
    window = table["eeg"][3].reshape(3, 64)
    np.testing.assert_array_equal(window, written.trials[0].signals["eeg"][:, 192:256])
    assert table["gsr"].isna().tolist() == [False] * 10 + [True] * 5 + [False] * 6
    assert table["rating_valence"][0] == written.trials[0].ratings["valence"]
    assert table["rating_arousal"].isna().tolist() == [False] * 15 + [True] * 6


def test_layout_on_disk(shard: Path) -> None:
    metadata = pq.read_metadata(shard)
    assert metadata.num_row_groups == 3
    column = metadata.row_group(0).column(4)
    assert column.path_in_schema == "eeg.list.element"
    assert not column.has_dictionary_page
    tensor = pq.read_schema(shard).field("eeg").type
    assert tensor == pa.fixed_shape_tensor(pa.float32(), [3, 64], dim_names=["channel", "time"])


def same_content(path: Path, expected: list[dict[str, np.ndarray]], info: object) -> bool:
    """Whether a shard reads as it was; if not, a ShardError must have told."""
    try:
        assert read_info(path) == info
        got = list(read_trials(path, ALL))
    except ShardError as error:
        if path.name not in str(error):
            raise
        return False
    for (_, signals), original in zip(got, expected, strict=True):
        assert signals.keys() == original.keys()
        for modality, x in signals.items():
            np.testing.assert_array_equal(x, original[modality])
    return True


def test_damage_anywhere_is_an_error_or_harmless(shard: Path, tmp_path: Path) -> None:
    whole = shard.read_bytes()
    expected = [signals for _, signals in read_trials(shard, ALL)]
    info = read_info(shard)
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.parquet"
    noticed = 0
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    offsets = [*rng.integers(footer, size=100), *rng.integers(footer, len(whole), size=200)]
    for offset in offsets:
        content = bytearray(whole)
        content[offset] ^= 1 << rng.integers(8)
        damaged.write_bytes(content)
        noticed += not same_content(damaged, expected, info)
    # The rest hit what `read_trials` does not use: statistics, Arrow's copy of the schema.
    assert noticed > len(offsets) / 2


@pytest.mark.parametrize("keep", [0, 1, 3, 100, 0.5, 0.99, -1])
def test_a_truncated_file_is_an_error(shard: Path, keep: float) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(ShardError, match=r"s01\.parquet"):
        read_info(shard)
    assert not is_current(shard, CONFIG.uid(), "f" * 64)


def test_foreign_files_are_errors(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.parquet"
    pd.DataFrame({"eeg": [1.0]}).to_parquet(foreign)
    with pytest.raises(ShardError, match=r"foreign\.parquet.*without our metadata"):
        read_info(foreign)
    with pytest.raises(ShardError, match=r"missing\.parquet"):
        read_info(tmp_path / "missing.parquet")


def test_another_format_version_is_an_error(shard: Path) -> None:
    table = pq.read_table(shard)
    text = json.loads(table.schema.metadata[b"physiosync"]) | {"format": 999}
    content = json.dumps(text).encode()
    digest = hashlib.sha256(content).hexdigest().encode()
    metadata = {b"physiosync": content, b"physiosync_sha256": digest}
    # As many row groups as before, so that nothing but the version is wrong.
    with pq.ParquetWriter(shard, table.schema.with_metadata(metadata)) as writer:
        for n_rows in (10, 5, 6):
            writer.write_table(table[:n_rows].replace_schema_metadata(metadata))
            table = table[n_rows:]
    with pytest.raises(ShardError, match="format 999 and 3 row groups"):
        read_info(shard)


def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_shard(noise(), tmp_path, CONFIG)
    assert list(tmp_path.iterdir()) == []

    shard = write_shard(noise(), tmp_path, CONFIG)
    before = shard.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_shard(noise(seed=1), tmp_path, CONFIG)
    assert list(tmp_path.iterdir()) == [shard]
    assert shard.read_bytes() == before


def test_is_current_compares_configuration_and_source(shard: Path, tmp_path: Path) -> None:
    uid = CONFIG.uid()
    assert is_current(shard, uid, "f" * 64)
    assert not is_current(shard, PreprocessingConfig.paper().uid(), "f" * 64)
    assert not is_current(shard, uid, "0" * 64)
    assert not is_current(tmp_path / "missing.parquet", uid, "f" * 64)


def test_find_shards_in_numeric_order(tmp_path: Path) -> None:
    for name in ("s10.parquet", "s2.parquet", "s1.parquet", ".s3.parquet.x.part", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_shards(tmp_path)] == ["s1.parquet", "s2.parquet", "s10.parquet"]


@pytest.mark.parametrize(("folder", "found"), [("", "none in it"), ("no", "no such folder")])
def test_no_shards_is_an_error_that_says_what_to_do(
    tmp_path: Path, folder: str, found: str
) -> None:
    with pytest.raises(ShardError, match=f"physiosync prepare.*{found}"):
        find_shards(tmp_path / folder)


X = np.ones((3, 128), dtype=np.float32)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (recording(trial(1, {"eeg": X}), subject="../s01"), "subject: expected a name"),
        (recording(trial(1, {"eeg": X}), trial(1, {"eeg": X})), "no stimulus twice"),
        (recording(), "found no modality"),
        (recording(trial(1, {"eeg": X[:, :63]})), "at least 64 samples"),
        (recording(trial(1, {"eeg": X[:2]})), "trial 1 .v1.: .*'eeg': 3.*'eeg': 2"),
        (
            recording(
                trial(1, {"eeg": X, "ecg": X[:2]}),
                channels=CHANNELS | {"ecg": Channels(("I", "II"), "uV", 256.0)},
            ),
            "eeg 128 Hz, ecg 256 Hz",
        ),
        (
            recording(trial(1, {"eeg": X}), channels={"eeg": Channels(("a", "b", "c"), "uV", 125)}),
            "whole samples in 0.5 s",
        ),
    ],
)
def test_what_can_not_be_a_shard(tmp_path: Path, bad: object, message: str) -> None:
    assert dataclasses.is_dataclass(bad)
    with pytest.raises(RecordingError, match=message):
        write_shard(bad, tmp_path / "shards", CONFIG)  # type: ignore[arg-type]
    assert not (tmp_path / "shards").exists() or not list((tmp_path / "shards").iterdir())
