"""SIGKILL of a preparation and its workers: whole shards only, and the same in the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.mne_raw import find_mne, read_mne
from tests.killing import kill_when, start, whole_shards
from tests.recordings.edf_builder import session, write_edf, write_events

N_SUBJECTS = 6
#: Without the command line, whose imports take longer than the work.
PREPARE = """
import sys
from pathlib import Path
from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.mne_raw import find_mne, read_mne
recordings, shards = map(Path, sys.argv[1:])
sources = find_mne(recordings, events=recordings / "events.csv")
prepare(sources, read_mne, shards, PreprocessingConfig(), workers=2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_killed_and_started_again_gives_the_same_shards(tmp_path: Path) -> None:
    rows = []
    for k in range(N_SUBJECTS):
        write_edf(tmp_path / f"s{k}.edf", session(240, seed=k))
        rows += [f"s{k}.edf,s{k},{30 * i},30,clip-{i},{i},1" for i in range(8)]
    write_events(tmp_path / "events.csv", rows)
    sources = find_mne(tmp_path, events=tmp_path / "events.csv")
    prepare(sources, read_mne, tmp_path / "right", PreprocessingConfig(), workers=1)
    right, killed = whole_shards(tmp_path / "right"), tmp_path / "killed"
    assert len(right) == N_SUBJECTS

    # While the first shard is being written, and again when some are there.
    for due in (
        lambda: any(killed.glob(".*.part")),
        lambda: len(whole_shards(killed)) >= 2,
    ):
        assert kill_when(start("-c", PREPARE, str(tmp_path), str(killed)), due)
        left = whole_shards(killed)
        assert len(left) < N_SUBJECTS
        assert left.items() <= right.items()
    before = {name: (killed / name).stat().st_mtime_ns for name in left}
    prepare(sources, read_mne, killed, PreprocessingConfig(), workers=1)

    assert whole_shards(killed) == right
    assert {name: (killed / name).stat().st_mtime_ns for name in left} == before
