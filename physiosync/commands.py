"""`physiosync COMMAND ...`: what needs no study, and a word for each command; no logic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from physiosync.errors import InputError, RecordingError
from physiosync.files import sweep
from physiosync.formats import Prepare


def prepare(
    given: tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[Prepare]],
) -> None:
    """Read recordings, preprocess them, and write one Parquet shard a subject."""
    from physiosync.preparation import prepare as write_shards

    def say(path: Path, done: int, total: int, skipped: bool) -> None:
        print(f"{path.stem} {'is up to date' if skipped else 'written'}, {done}/{total}")

    work = given.work()
    sweep(given.shards)
    write_shards(
        work.sources,
        work.read,
        given.shards,
        work.config,
        workers=given.workers,
        strict=given.strict,
        on_subject=say,
    )


def inspect(
    path: tyro.conf.Positional[Path],
    out: Path | None = None,
    subject: str = "",
    trial: str = "",
    threshold: float = 5.0,
    events: Path | None = None,
    channels: Path | None = None,
    types: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
) -> None:
    """Say what recordings or shards hold, and draw one trial.

    Args:
        path: Shards, DEAP's .dat, DREAMER.mat, BIDS, or what MNE reads; a file or a folder.
        out: HTML page to write, with signals, spectra and electrodes of one trial.
        subject: Only this one.
        trial: Drawn in the page: its stimulus, or its position in the session; else the first.
        threshold: From which a rating counts as high.
        events: Table of events, for a folder of recordings that MNE reads.
        channels: Table of channels with columns name, and type or unit or both.
        types: What channels are, such as ECG=ecg EDA=gsr.
        drop: Channels to leave out.
    """
    from physiosync.inspection import in_words, look_at_all, subjects_in, trial_of
    from physiosync.inspection_figures import write_report
    from physiosync.recordings.channels import described
    from physiosync.recordings.mne_sources import MneOptions
    from physiosync.recordings.synthetic import COHORT_FILE

    options = MneOptions(**described(channels, types), drop=drop)
    read = subjects_in(path, events=events, options=options)
    if subject and subject not in read:
        raise RecordingError(path, "subject", expected=", ".join(read), found=subject)
    wanted = {subject: read[subject]} if subject else read
    found, names, failed = [], [], []
    for name, seen in look_at_all(wanted):
        if isinstance(seen, InputError):
            failed.append(seen)
            print(f"{name} can't be used: {seen}", file=sys.stderr)
        else:
            found.append(seen)
            names.append(name)
    if not found:
        raise failed[0]
    words = in_words(found, threshold=threshold)
    if any((folder / COHORT_FILE).exists() for folder in (path, path.parent)):
        words = f"SYNTHETIC recordings\n{words}"
    print(words)
    if out is not None:
        recording = read[names[0]]()
        write_report(out, recording, trial_of(recording, trial), words)
        print(f"\npictures in {out}")


def compare(
    results: tyro.conf.Positional[tuple[Path, ...]],
    paper: bool = False,
    out: Path | None = None,
) -> None:
    """Set the scores of studies beside each other, and beside the published ones.

    Args:
        results: Folders of studies, such as results/deap.
        paper: Beside the numbers of arXiv 2504.17163, protocol by protocol.
        out: Markdown file to write as well.
    """
    from physiosync.beside_paper import as_markdown, as_text, read_studies
    from physiosync.files import write_text

    studies = read_studies(results)
    print(as_text(studies, paper=paper))
    if out is not None:
        write_text(out, as_markdown(studies, paper=paper))


def clean(cache: Path | None = None) -> None:
    """Remove the memory-mapped windows; they are made again when needed.

    Args:
        cache: Their folder; default ~/.cache/physiosync/windows.
    """
    from physiosync.cache import clean_cache
    from physiosync.wording import in_bytes

    print(f"{in_bytes(clean_cache(cache))} freed")


def pull(url: tyro.conf.Positional[str], folder: tyro.conf.Positional[Path]) -> None:
    """Copy what lies under s3://bucket/prefix, such as a study's best/, into a folder.

    Args:
        url: The prefix, s3://bucket/prefix.
        folder: Where the files go.
    """
    from physiosync.remote import download

    print(f"{download(url, folder)} files in {folder}")


def audit(
    shards: tyro.conf.Positional[Path],
    split: Path,
    checkpoint: Path | None = None,
    json: Path | None = None,
    exclude: tuple[str, ...] = (),
    cache: Path | None = None,
) -> None:
    """Prove a split: what its parts share. Exit status 0 if all checks pass, 1 if one fails.

    Args:
        shards: Folder of the shards, or s3://bucket/prefix.
        split: split.json of a study, or windows as JSON, CSV or Parquet.
        checkpoint: Model folder; was it pretrained on the test part?
        json: Write the verdicts here.
        exclude: Subjects that the split leaves out.
        cache: Folder of the memory-mapped windows; default ~/.cache/physiosync/windows.
    """
    from physiosync.audit.run import audit as prove
    from physiosync.errors import SplitError
    from physiosync.files import write_text
    from physiosync.shard_store import local_shards
    from physiosync.windows import WindowStore

    found = local_shards(shards)
    left_out = {name.lower() for name in exclude}
    if strangers := left_out - {path.stem.lower() for path in found}:
        raise SplitError(f"--exclude: expected subjects of {shards}, found {sorted(strangers)[0]}")
    kept = [path for path in found if path.stem.lower() not in left_out]
    report = prove(
        WindowStore.open(kept, ("eeg",), cache),
        split,
        checkpoint=checkpoint,
        measure_barcodes=True,
    )
    print("\n".join(report.lines()))
    if json is not None:
        write_text(json, report.model_dump_json(indent=1))
    if not report.passed:
        sys.exit(1)


#: Those that need no torch, Ray or Optuna to start.
_LIGHT: Mapping[str, Callable[..., None]] = {
    "prepare": prepare,
    "inspect": inspect,
    "audit": audit,
    "compare": compare,
    "clean": clean,
    "pull": pull,
}


def run_command(words: Sequence[str]) -> None:
    """Run what a command line asks for, without the word `physiosync`."""
    commands: dict[str, Callable[..., Any]] = dict(_LIGHT)
    if not words or words[0] not in _LIGHT:
        from physiosync.stages import stages

        commands |= stages(words)
    tyro.extras.subcommand_cli_from_dict(commands, prog="physiosync", args=words)
