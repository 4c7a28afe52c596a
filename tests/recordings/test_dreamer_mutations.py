"""Two thousand damaged DREAMER files: each is read exactly or refused, by a child with limits.

What is read is held against what was written. Damage to a file's bytes must never pass: MATLAB's
compressed variables have a checksum. Other content behind a sound checksum is read if it makes
sense, and then as it is.
"""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from physiosync.errors import RecordingError
from physiosync.recordings.dreamer import read_dreamer, write_dreamer
from tests.recordings.dreamer_builder import SCORES, Subject, made_up
from tests.recordings.mutants import assert_all_well, posix_only, print_result, result_of_child

N_MUTANTS = 2000
SEED = 20180101
MEMORY = 2 * 2**30  # bytes
CLIPS = (1.0, 0.75)


# --- damage to the bytes --------------------------------------------------------------------------


def bit_flipped(rng: Generator, content: bytes) -> bytes:
    mutant = bytearray(content)
    mutant[rng.integers(len(mutant))] ^= 1 << rng.integers(8)
    return bytes(mutant)


def header_scrambled(rng: Generator, content: bytes) -> bytes:
    mutant = bytearray(content)
    for at in rng.integers(160, size=rng.integers(1, 6)):
        mutant[at] = rng.integers(256)
    return bytes(mutant)


def truncated(rng: Generator, content: bytes) -> bytes:
    return content[: rng.integers(len(content))]


def chunk_moved(rng: Generator, content: bytes) -> bytes:
    start, to = rng.integers(len(content), size=2)
    chunk = content[start : start + rng.integers(1, 200)]
    gone = content[:start] + content[start + len(chunk) :]
    return [gone, content[:to] + chunk + content[to:], gone[:to] + chunk + gone[to:]][
        rng.integers(3)
    ]


def zeroed(rng: Generator, content: bytes) -> bytes:
    """A hole, as an interrupted download leaves it."""
    start = rng.integers(len(content))
    length = min(int(rng.integers(1, 5000)), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


# --- other content --------------------------------------------------------------------------------


def sample_changed(rng: Generator, subject: Subject) -> None:
    array, at = a_matrix(rng, subject)
    values = [0.0, -1e8, 1e9, 1e10, np.nan, np.inf, 1e-30, 5.5]
    array[at] = values[rng.integers(len(values))]


def rating_changed(rng: Generator, subject: Subject) -> None:
    values = [0, 1, 2.5, 5, 6, np.nan, -1, np.inf]
    subject[SCORES[rng.integers(3)]][rng.integers(len(CLIPS))] = values[rng.integers(len(values))]


def shape_changed(rng: Generator, subject: Subject) -> None:
    name, part, k = ("EEG", "ECG")[rng.integers(2)], "stimuli", rng.integers(len(CLIPS))
    x = subject[name][part][k]
    changes: list[Callable[[], Any]] = [
        lambda: x.T,
        lambda: x[:, :-1],
        lambda: x[: rng.integers(len(x))],
        lambda: np.hstack([x, x[:, :1]]),
        lambda: x[:, :, None],
        lambda: x.ravel(),
        lambda: np.empty((0, 0)),
        lambda: x.astype(np.float32),
        lambda: np.round(x).astype(np.int16),
        lambda: np.full_like(x, 7.0),
    ]
    subject[name][part][k] = changes[rng.integers(len(changes))]()


def field_removed(rng: Generator, subject: Subject) -> None:
    names = [*SCORES, "EEG", "ECG", "stimuli", "baseline", "a clip", "a rating"]
    name = names[rng.integers(len(names))]
    modality = ("EEG", "ECG")[rng.integers(2)]
    if name in subject:
        del subject[name]
    elif name in subject[modality]:
        del subject[modality][name]
    elif name == "a clip":
        subject[modality]["stimuli"].pop()
    else:
        subject[SCORES[0]].pop()


def a_matrix(rng: Generator, subject: Subject) -> tuple[Any, tuple[int, ...]]:
    part = ("stimuli", "baseline")[rng.integers(2)]
    array = subject[("EEG", "ECG")[rng.integers(2)]][part][rng.integers(len(CLIPS))]
    return array, tuple(int(rng.integers(n)) for n in array.shape)


def nothing(rng: Generator, subject: Subject) -> None:
    pass


DAMAGES = (bit_flipped, header_scrambled, truncated, chunk_moved, zeroed)
CHANGES = (sample_changed, rating_changed, shape_changed, field_removed, nothing)


# --- the child that reads them --------------------------------------------------------------------


def outcome(path: Path, subject: Subject) -> str:
    """ "refused", "exact", or what went wrong."""
    try:
        recording = read_dreamer(path, "s01", seconds=60)
    except RecordingError as error:
        return "refused" if str(path) in str(error) else "an error without the file's name"
    for trial in recording.trials:
        k = trial.order - 1
        if list(trial.ratings.values()) != [subject[score][k] for score in SCORES]:
            return f"ratings of {trial.stimulus}"
        for modality, x in trial.signals.items():
            name = modality.upper()
            right = np.asarray(subject[name]["stimuli"][k], dtype=np.float32).T
            if not np.array_equal(x, right[:, : x.shape[1]]):
                return f"{modality} of {trial.stimulus}"
            if x.shape[1] < right.shape[1] and not recording.left_out:
                return f"{modality} of {trial.stimulus} cut, but not told"
            if modality in trial.baseline and not np.array_equal(
                trial.baseline[modality],
                np.asarray(subject[name]["baseline"][k], dtype=np.float32).T,
            ):
                return f"baseline of {modality} of {trial.stimulus}"
    whole = len(recording.trials) == len(CLIPS) and all(
        len(t.signals) == 2 for t in recording.trials
    )
    return "exact" if whole or recording.left_out else "something left out, but not told"


def read_mutants(folder: Path) -> dict[str, int]:
    path, rng = folder / "DREAMER.mat", np.random.default_rng(SEED)
    original = made_up(1, CLIPS)
    write_dreamer(path, [original])
    sound = path.read_bytes()
    counts: Counter[str] = Counter()
    for index in range(N_MUTANTS):
        subject = original
        if index % 2:
            damage = DAMAGES[index // 2 % len(DAMAGES)]
            name = damage.__name__
            path.write_bytes(damage(rng, sound))
        else:
            change = CHANGES[index // 2 % len(CHANGES)]
            name = change.__name__
            subject = copy.deepcopy(original)
            change(rng, subject)
            write_dreamer(path, [subject])
        try:
            result = outcome(path, subject)
        except Exception as error:
            result = f"mutant {index}: {type(error).__name__}: {error}"
        counts[f"{name}: {result}"] += 1
    return counts


def main() -> None:
    print_result(lambda: read_mutants(Path(sys.argv[1])), MEMORY)


@posix_only
def test_mutants_are_read_exactly_or_refused(tmp_path: Path) -> None:
    counts = result_of_child(__file__, str(tmp_path), seconds=180)
    assert_all_well(counts, N_MUTANTS, ("refused", "exact"))
    each = N_MUTANTS // 10
    assert counts["truncated: refused"] == counts["nothing: exact"] == each
    assert counts["bit_flipped: refused"] > 0.9 * each
    for name in ("sample_changed", "rating_changed", "shape_changed"):
        assert counts[f"{name}: refused"] > each / 5
        assert counts[f"{name}: exact"] > each / 10


if __name__ == "__main__":
    main()
