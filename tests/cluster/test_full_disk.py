"""The disk behind the results fills up, and space is made again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from physiosync.model import PhysioSync
from tests import small_study
from tests.test_study import Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 MiB, enough for the study, as the folder of the results."""
    results = tmp_path / "results"
    results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", str(results)], check=True)
    yield results
    subprocess.run(["umount", "--lazy", str(results)], check=True)


def _fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    try:
        with ballast.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(1 << 16))
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017


@pytest.mark.parametrize("moment", ["search: 1/4 done", "finetune: 1/"])
def test_it_stops_with_a_clear_message_and_goes_on(
    tmp_path: Path, small_disk: Path, moment: str
) -> None:
    small_study.write_recordings(tmp_path / "recordings")
    program = Program(tmp_path)
    program.until(moment)
    ballast = small_disk / "ballast"
    _fill(ballast)
    assert program.end() == 1, program.output
    assert "the same command goes on after space is made" in program.output
    assert "Traceback" not in program.output, program.output

    ballast.unlink()
    again = Program(tmp_path)
    assert again.end() == 0, again.output
    results = small_disk / "small"
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{results / 'study.db'}")
    ended = [t for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(ended) == 4
    assert TrialState.RUNNING not in {trial.state for trial in study.trials}
    PhysioSync.from_pretrained(results / "best" / "rank-1")
    for path in results.rglob("*.parquet"):
        pd.read_parquet(path)
    assert list(results.rglob("*.part")) == []
