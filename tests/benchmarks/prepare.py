"""What `physiosync prepare deap` costs at full size, and whether it survives SIGKILL.

    python -m tests.benchmarks.prepare FOLDER [--subjects 32] [--distinct 4] [--kills 5]

Writes SYNTHETIC recordings of DEAP's size under FOLDER (103 MB each; those beyond `--distinct` are
hard links), and prints ratios. Needs 0.1 GB a distinct recording and 0.2 GB a subject for the
shards of two runs; removes them in the end.

floor     the bytes of a file read, and the finished shard written from memory
ratio     `prepare` against that floor: subject by subject in turn, in one process; and the whole
          command, start of Python and of its workers included, against as many processes that do
          nothing but the floor
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from physiosync.preparation import prepare
from physiosync.preprocessing import PreprocessingConfig, preprocess
from physiosync.recordings.deap import read_deap, write_deap
from physiosync.shards import find_shards, read_info, write_shard
from tests.killing import finish, kill_when, start, whole_shards


def write_recordings(folder: Path, n_subjects: int, n_distinct: int) -> list[Path]:
    """Random walks with ratings: s01.dat, s02.dat, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"s{k + 1:02d}.dat" for k in range(n_subjects)]
    for k, path in enumerate(paths):
        if k >= n_distinct:
            path.unlink(missing_ok=True)
            os.link(paths[k % n_distinct], path)
            continue
        rng = np.random.default_rng(k)
        data = rng.normal(0, 20, (40, 40, 8064))
        data[:, 36] = 3e5 + 1e3 * data[:, 36].cumsum(axis=1) / 90  # skin resistance, Ohm
        write_deap(path, data, rng.uniform(1, 9, (40, 4)))
    return paths


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def ratios(paths: list[Path], folder: Path) -> tuple[list[float], list[float], float]:
    """Seconds of `prepare` and of its floor, for each recording in turn; the floor's processor."""
    config = PreprocessingConfig()
    ours, floor = [], []
    processor = 0.0
    for path in paths:
        finished = preprocess(read_deap(path), config)

        def least(path: Path = path, finished: object = finished) -> None:
            path.read_bytes()
            write_shard(finished, folder / "floor", config)  # type: ignore[arg-type]

        begin = time.process_time()
        floor.append(seconds(least))
        processor += time.process_time() - begin
        del finished
        ours.append(
            seconds(
                lambda path=path: prepare([path], read_deap, folder / "ours", config, workers=1)
            )
        )
    return ours, floor, processor / len(paths)


def least(job: tuple[list[Path], Path, int, Barrier]) -> None:
    """The floor of some recordings; `barrier` is passed when it begins and when it ends."""
    paths, folder, n_distinct, barrier = job
    config = PreprocessingConfig()
    finished = [preprocess(read_deap(path), config) for path in paths[:n_distinct]]
    barrier.wait()
    for k, path in enumerate(paths):
        path.read_bytes()
        mine = replace(finished[k % len(finished)], subject=path.stem)
        write_shard(mine, folder, config)
    barrier.wait()


def floor_of_all(paths: list[Path], folder: Path, n_distinct: int, workers: int) -> float:
    """Wall seconds of `workers` processes that share the floor of all recordings."""
    context = get_context("spawn")
    barrier = context.Barrier(workers + 1)
    shares = [paths[k::workers] for k in range(workers)]
    processes = [
        context.Process(target=least, args=((mine, folder, n_distinct, barrier),))
        for mine in shares
    ]
    for process in processes:
        process.start()
    barrier.wait()
    wall = seconds(barrier.wait)
    for process in processes:
        process.join()
    shutil.rmtree(folder)
    return wall


def undisturbed(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds, and GiB of the largest process of a whole run.

    In a child of its own: the kernel keeps the largest of all children there were.
    """
    script = (
        "import resource, sys; from tests.killing import finish, start;"
        "finish(start(*sys.argv[1:]), 3600);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
    )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    processor, largest = done.stdout.split()
    return time.perf_counter() - begin, float(processor), int(largest) * 1024 / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=int, default=32)
    parser.add_argument("--distinct", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    work = given.folder / "benchmark-prepare"
    try:
        measure(given, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measure(given: argparse.Namespace, work: Path) -> None:
    paths = write_recordings(work / "recordings", given.subjects, given.distinct)
    size = paths[0].stat().st_size
    print(f"{len(paths)} SYNTHETIC recordings of {size / 1e6:.0f} MB, {given.distinct} distinct")
    ours, floor, floor_processor = ratios(paths[: given.distinct], work)
    each = [a / b for a, b in zip(ours, floor, strict=True)]
    print(
        f"one subject: prepare {statistics.median(ours):.2f} s, "
        f"floor {statistics.median(floor):.2f} s, "
        f"ratio {statistics.median(each):.2f} (from {min(each):.2f} to {max(each):.2f})"
    )

    def arguments(name: str) -> list[str]:
        folders = [str(work / "recordings"), str(work / name)]
        return [
            "-m",
            "physiosync.cli",
            "prepare",
            "deap",
            *folders,
            "--workers",
            str(given.workers),
        ]

    of_all = floor_of_all(paths, work / "floor-of-all", given.distinct, given.workers)
    wall, processor, largest = undisturbed(arguments("right"))
    print(
        f"{len(paths)} subjects, {given.workers} workers: {wall:.0f} s, {processor:.0f} s of "
        f"processor, so {processor / len(paths) / floor_processor:.2f} floors a subject; "
        f"{wall / of_all:.2f} times the {of_all:.0f} s that {given.workers} processes need for the "
        f"floor of all; "
        f"largest process {largest:.2f} GiB",
        flush=True,
    )
    right = contents(work / "right")
    whole = whole_shards(work / "right")
    rng = random.Random(given.seed)
    for n_left in sorted(rng.sample(range(1, given.subjects), given.kills)):
        delay = rng.uniform(0, wall * given.workers / given.subjects)
        due = partial(enough, work / "killed", n_left, delay)
        killed = kill_when(start(*arguments("killed")), due)
        left = whole_shards(work / "killed")
        assert killed
        assert left.items() <= whole.items()
        print(f"killed: {len(left)} whole shards, all with the right bytes", flush=True)
    finish(start(*arguments("killed")), 3600)
    same = contents(work / "killed") == right
    same_bytes = whole_shards(work / "killed") == whole
    print(f"after {given.kills} kills: same contents {same}, same bytes {same_bytes}")


def enough(folder: Path, n_left: int, delay: float) -> bool:
    """Whether there are so many shards, and for so long."""
    written = sorted(p.stat().st_mtime for p in folder.glob("s*.parquet"))
    return len(written) >= n_left and time.time() - written[n_left - 1] > delay


def contents(folder: Path) -> list[object]:
    """What the shards' footers say, digests of all samples among it."""
    return [read_info(path) for path in find_shards(folder)]


if __name__ == "__main__":
    main()
