"""`physiosync STAGE ...`: one subcommand a stage, no logic."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from physiosync import progress
from physiosync.errors import InputError, PhysioSyncError, RecordingError, StudyError
from physiosync.files import causes, disk_is_full, sweep
from physiosync.formats import Prepare
from physiosync.interruption import Interrupted
from physiosync.ledger import Ledger
from physiosync.options import StudyOptions


def guarded(run: Callable[[], None]) -> None:
    """Run, and leave as a shell expects: 0, 1 with one clear line, or 128 + signal.

    A second run of the same command goes on after any of these.
    """
    try:
        run()
    except Interrupted as stop:
        print(f"{stop}; run the same command again to go on", file=sys.stderr)
        sys.exit(stop.exit_code)
    except PhysioSyncError as error:
        progress.log.debug("stopped", exc_info=error)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if not disk_is_full(error):
            raise
        *_, cause = causes(error)
        print(
            f"error: expected room on the disk, found it full ({cause}); what is done is kept, and "
            "the same command goes on after space is made",
            file=sys.stderr,
        )
        sys.exit(1)


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


def _stage(name: str, default: StudyOptions) -> Callable[..., None]:
    def run(options: tyro.conf.OmitArgPrefixes[StudyOptions] = default) -> None:
        from physiosync.recordings.deap import find_deap, read_deap
        from physiosync.study import Study

        study = Study(options, find=find_deap, read=read_deap)
        if name == "study":
            study.run()
        else:
            study.run_stage(name)

    return run


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
    print(words)
    if out is not None:
        recording = read[names[0]]()
        write_report(out, recording, trial_of(recording, trial), words)
        print(f"\npictures in {out}")


def clean(cache: Path | None = None) -> None:
    """Remove the memory-mapped windows; they are made again when needed."""
    from physiosync.cache import clean_cache

    print(f"{clean_cache(cache) / 2**30:.2f} GiB freed")


def pull(url: tyro.conf.Positional[str], folder: tyro.conf.Positional[Path]) -> None:
    """Copy what lies under s3://bucket/prefix, such as a study's best/, into a folder."""
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

    Parameters
    ----------
    shards : Folder of the shards.
    split : split.json of a study, or windows as JSON, CSV or Parquet.
    checkpoint : Model folder; was it pretrained on the test part?
    json : Write the verdicts here.
    exclude : Subjects that the split leaves out.
    cache : Folder of the memory-mapped windows.
    """
    from physiosync.audit.run import audit as prove
    from physiosync.errors import SplitError
    from physiosync.files import write_text
    from physiosync.shards import find_shards
    from physiosync.windows import WindowStore

    found = find_shards(shards)
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


def main() -> None:
    """Entry point of the `physiosync` command."""
    guarded(lambda: _main(sys.argv[1:]))


def _main(words: Sequence[str]) -> None:
    commands: dict[str, Any] = {"prepare": prepare}
    default = _as_begun(words)
    for name, doc in (
        ("study", "All stages, on shards that `prepare` made (or on DEAP's .dat files)."),
        ("search", "Pretraining trials until --trials have ended."),
        ("finalists", "The best configurations again, over folds and seeds."),
        ("promote", "Rank the finalists; the best encoders go to best/."),
        ("controls", "The best configuration again: within-subject SimCLR, shuffled pairs."),
        ("finetune", "Fine-tuning and baselines; opens the test part."),
        ("report", "report.html and the main table."),
    ):
        # Recordings that the machine's set-up names are for recipes: this command takes shards.
        shards_alone = default.model_copy(update={"recordings": None})
        commands[name] = _stage(name, shards_alone if name == "study" else default)
        commands[name].__doc__ = doc
    commands["inspect"] = inspect
    commands["audit"] = audit
    commands["clean"] = clean
    commands["pull"] = pull
    tyro.extras.subcommand_cli_from_dict(commands, prog="physiosync", args=words)


def _as_begun(words: Sequence[str]) -> StudyOptions:
    """The options that a study was begun with, if the command line names one; else the defaults.

    So that a stage needs no more than --name, and can be given --trials or --cpus-per-trial.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--name", default=StudyOptions().name)
    parser.add_argument("--results", type=Path, default=StudyOptions().results)
    given, _ = parser.parse_known_args(list(words))
    folder = StudyOptions(name=given.name, results=given.results).folder
    begun = Ledger(folder).read().get("options", {})
    if ":***@" in (begun.get("storage") or ""):
        del begun["storage"]  # No file has its password; it has to be given again.
    try:
        return StudyOptions(**begun)
    except ValueError as error:
        raise StudyError(f"{folder}/study.json: {error}") from error


if __name__ == "__main__":
    main()
