"""Made-up data that several test files use, and one Ray for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from physiosync.preprocessing import PreprocessingConfig
from physiosync.recordings.base import Channels, Recording, Trial
from physiosync.shards import write_shard
from physiosync.windows import WindowStore

torch.set_num_threads(1)
os.environ["TQDM_DISABLE"] = "1"

SFREQ = 128.0

#: Files whose tests take longest; begun first, so that no process is left with one at the end.
_LONG = (
    "test_study.py", "test_new_people.py", "test_folds.py", "test_search.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: k for k, name in enumerate(_LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(_LONG)))


def made_up_recording(
    subject: str,
    *,
    n_stimuli: int = 10,
    seconds: float = 40.0,
    n_eeg: int = 4,
    seed: int = 0,
) -> Recording:
    """Noise, with what was shown added to everyone's EEG and GSR alike, and ratings about it."""
    n_times = round(seconds * SFREQ)
    own = np.random.default_rng([seed, *subject.encode()])
    trials = []
    for k in range(n_stimuli):
        shared = np.random.default_rng([seed, k])
        common = shared.standard_normal((1, n_times))
        affect = shared.uniform(-1, 1, size=2)
        signals = {
            "eeg": own.standard_normal((n_eeg, n_times)) + common * (1 + 0.5 * affect[0]),
            "gsr": own.standard_normal((1, n_times)) + common,
        }
        valence, arousal = np.clip(5 + 3 * affect + own.standard_normal(2), 1, 9)
        trials.append(
            Trial(
                stimulus=f"video-{k + 1:02d}",
                order=k + 1,
                signals={name: x.astype(np.float32) for name, x in signals.items()},
                baseline={},
                ratings={"valence": float(valence), "arousal": float(arousal)},
            )
        )
    return Recording(
        dataset="made-up",
        subject=subject,
        modalities={
            "eeg": Channels(tuple(f"E{c}" for c in range(n_eeg)), "uV", SFREQ),
            "gsr": Channels(("GSR",), "log10(uS)", SFREQ),
        },
        trials=tuple(trials),
        source=Path(f"{subject}.made-up"),
        fingerprint=f"{subject}-{seed}-{n_stimuli}-{seconds}",
    )


def write_made_up(folder: Path, n_subjects: int = 6, **options: float) -> list[Path]:
    """Shards of made-up subjects s01, s02, ..."""
    return [
        write_shard(
            made_up_recording(f"s{i + 1:02d}", **options),  # type: ignore[arg-type]
            folder,
            PreprocessingConfig(),
        )
        for i in range(n_subjects)
    ]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six made-up subjects, ten stimuli of 40 s."""
    return write_made_up(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="session")
def store(shards: list[Path], cache: Path) -> WindowStore:
    return WindowStore.open(shards, ("eeg", "gsr"), cache)


@pytest.fixture(scope="session")
def ray_running() -> Iterator[None]:
    """Ray takes seconds to start: one instance for all tests."""
    from physiosync.tuner import ray_session, start_ray

    with ray_session():
        start_ray()
        yield
