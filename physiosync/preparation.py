"""Recordings -> shards, several subjects at a time; what is already there and current is kept."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, suppress
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

from physiosync.errors import RecordingError, ShardError
from physiosync.files import sha256
from physiosync.preprocessing import PreprocessingConfig, preprocess
from physiosync.recordings.base import Recording, Session
from physiosync.remote import is_remote
from physiosync.shard_store import ShardStore
from physiosync.shards import is_current, natural_key, read_info, shard_path, write_shard

#: A file that holds one subject, a file and the subject that is wanted of it, or whatever knows
#: what its recording is made of.
Source: TypeAlias = Path | tuple[Path, str] | Session
_Outcome: TypeAlias = tuple[Path, bool] | RecordingError


def file_of(source: Source) -> Path:
    """The file that a source lies in."""
    if isinstance(source, Path):
        return source
    return source[0] if isinstance(source, tuple) else source.path


def subject_of(source: Source) -> str:
    """The subject of a source, as shards name it."""
    if isinstance(source, Path):
        return source.stem.lower()
    return source[1].lower() if isinstance(source, tuple) else source.subject


def prepare(
    sources: Sequence[Source],
    read: Callable[..., Recording],
    folder: Path,
    config: PreprocessingConfig,
    *,
    workers: int = 0,
    strict: bool = False,
    on_subject: Callable[[Path, int, int, bool], None] | None = None,
) -> list[Path]:
    """Read, preprocess and write one shard a subject.

    A shard that was made from the same bytes with the same configuration is kept, without reading
    its recording again. Each shard appears whole or not at all, so an interrupted run is continued
    by repeating it.

    Parameters
    ----------
    sources : files, one subject each; pairs (file, subject) where one file holds many; or sessions
    read : called as `read(file)`, `read(file, subject)` or `read(session)`; has to be picklable for
        several workers
    folder : of the shards; or s3://bucket/prefix as a path, which gets each once it is whole
    workers : processes; 0 for one a CPU, 1 for this one alone
    strict : nothing may be left out: a recording of which the shard would lack something can't be
        used, and its shard is not written. One that is there already stays
    on_subject : called as (shard, done, total, skipped) after each subject, in this process

    Returns
    -------
    shards : those of `sources`, in numeric order of subjects

    Raises
    ------
    RecordingError
        If a recording can't be used, or two hold one subject. All others are written first; the
        error is that of the first such source, with the number of all.
    """
    if is_remote(folder):
        return _prepare_remotely(sources, read, folder, config, workers, strict, on_subject)
    found: list[Path] = []
    failed: list[tuple[int, RecordingError]] = []
    with tempfile.TemporaryDirectory(prefix="physiosync-") as claims:
        job = partial(
            _prepare_one,
            read=read,
            folder=folder,
            config=config,
            strict=strict,
            claims=Path(claims),
        )
        kept = _kept(sources, folder, config)
        # Closing, so that an error in `on_subject` ends the workers before their claims go.
        with closing(_outcomes(job, sources, kept, workers)) as outcomes:
            for k, outcome in outcomes:
                if isinstance(outcome, RecordingError):
                    failed.append((k, outcome))
                    continue
                path, skipped = outcome
                found.append(path)
                if on_subject is not None:
                    on_subject(path, len(found) + len(failed), len(sources), skipped)
    if failed:
        first = min(failed, key=lambda pair: pair[0])[1]
        if len(failed) == 1:
            raise first
        count = f"{len(failed)} of {len(sources)} recordings can't be used, this is the first"
        raise RecordingError(
            first.path, first.field, expected=first.expected, found=f"{first.found} ({count})"
        ) from first
    return sorted(found, key=lambda path: natural_key(path.stem))


def _prepare_remotely(
    sources: Sequence[Source],
    read: Callable[..., Recording],
    place: Path,
    config: PreprocessingConfig,
    workers: int,
    strict: bool,
    on_subject: Callable[[Path, int, int, bool], None] | None,
) -> list[Path]:
    """`prepare` in this machine's copies of an object store's shards."""
    store = ShardStore(place)
    store.fetch()

    def upload(path: Path, done: int, total: int, skipped: bool) -> None:
        store.add(path)
        if on_subject is not None:
            on_subject(path, done, total, skipped)

    return prepare(
        sources, read, store.folder, config, workers=workers, strict=strict, on_subject=upload
    )


def _kept(sources: Sequence[Source], folder: Path, config: PreprocessingConfig) -> dict[int, Path]:
    """Position in `sources` -> its shard, where that is current."""
    known: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            info = read_info(path)
        except ShardError:
            continue
        if info.config_uid == config.uid() and path.stem == info.subject:
            known.setdefault((info.source, info.fingerprint), []).append(path)
    fingerprint = cache(sha256)  # Many subjects may lie in one file.
    kept = {}
    for k, source in enumerate(sources):
        if not isinstance(source, (Path, tuple)):
            path = shard_path(folder, source.subject)
            with suppress(RecordingError):  # Reading will meet it again, and say so.
                if path.is_file() and is_current(path, config.uid(), source.fingerprint()):
                    kept[k] = path
            continue
        file, subject = (source, None) if isinstance(source, Path) else source
        if known and file.is_file():
            shards = known.get((file.name, fingerprint(file)), [])
            if subject is not None:
                shards = [path for path in shards if path.stem == subject]
            if len(shards) == 1:
                kept[k] = shards[0]
    return kept


def _outcomes(
    job: Callable[[Source, Path | None], _Outcome],
    sources: Sequence[Source],
    kept: dict[int, Path],
    workers: int,
) -> Generator[tuple[int, _Outcome], None, None]:
    """Position in `sources` and what became of it: the kept ones first, then as they finish."""
    for k, path in kept.items():
        yield k, job(sources[k], path)
    pending = [k for k in range(len(sources)) if k not in kept]
    workers = min(workers or os.cpu_count() or 1, len(pending))
    if workers <= 1:
        for k in pending:
            yield k, job(sources[k], None)
        return
    # A fork would inherit the locks of whatever threads run here.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        running = {pool.submit(job, sources[k], None): k for k in pending}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_one(
    source: Source,
    kept: Path | None,
    *,
    read: Callable[..., Recording],
    folder: Path,
    config: PreprocessingConfig,
    strict: bool,
    claims: Path,
) -> _Outcome:
    """The shard of one source, and whether it was there already; an error is returned."""
    file = file_of(source)
    try:
        if kept is not None:
            _claim(kept.stem, file, claims)
            _allow(read_info(kept).left_out, file, strict)
            return kept, True
        recording = read(*source) if isinstance(source, tuple) else read(source)
        _claim(recording.subject, file, claims)
        path = shard_path(folder, recording.subject)
        if is_current(path, config.uid(), recording.fingerprint):
            _allow(read_info(path).left_out, file, strict)
            return path, True
        _refuse_another_source(path, recording)
        done = preprocess(recording, config)
        _allow(done.left_out, file, strict)
        return write_shard(done, folder, config), False
    except RecordingError as error:
        return error


def _allow(left_out: Sequence[str], file: Path, strict: bool) -> None:
    """Raise RecordingError if something is left out of a recording where nothing may be."""
    if strict and left_out:
        raise RecordingError(
            file, "left out", expected="nothing (--strict)", found="; ".join(left_out)
        )


def _refuse_another_source(path: Path, recording: Recording) -> None:
    """Data sets share names of subjects, and a shard may be all that is left of a recording."""
    try:
        other = read_info(path).source if path.is_file() else recording.source.name
    except ShardError:
        return  # Damaged, or of an older version: nothing to be lost.
    if other != recording.source.name:
        raise RecordingError(
            recording.source,
            f"shard {path}",
            expected="none, or one that was made from this recording",
            found=f"one made from {other}; write to another folder, or remove it",
        )


def _claim(subject: str, file: Path, claims: Path) -> None:
    """Be the only source of a subject, among all processes of a run."""
    claim = claims / subject.encode().hex()
    try:
        with claim.open("x", encoding="utf-8") as stream:
            stream.write(str(file))
    except FileExistsError:
        other = claim.read_text(encoding="utf-8") or "another recording"
        raise RecordingError(
            file, "subject", expected="one recording a subject", found=f"{subject}, as in {other}"
        ) from None
