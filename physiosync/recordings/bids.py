"""A BIDS folder [1]_ as `prepare mne` takes it: mne-bids finds what belongs together.

Every recording of EEG needs an events.tsv. A row of some duration is a trial; its stimulus is the
column `stimulus`, else `stim_file`, else `trial_type`, and every other column of it is a rating or
a class label, but for those that BIDS gives a meaning. Rows without duration are markers. A
channels.tsv tells the types of channels, and their units where the recording itself does not.

.. [1] Pernet et al. (2019). EEG-BIDS, an extension to the brain imaging data structure for
   electroencephalography. Scientific Data 6, 103. https://doi.org/10.1038/s41597-019-0104-8
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mne_bids

from physiosync.errors import RecordingError
from physiosync.recordings.channels import named
from physiosync.recordings.events import REQUIRED, events_of, is_missing
from physiosync.recordings.mne_sources import MneOptions, MneSource, find_mne, sources_of
from physiosync.recordings.raw_file import ReadingOptions, mne_errors
from physiosync.recordings.tables import Row, read_table

#: Formats of EEG that BIDS allows.
_EXTENSIONS = (".edf", ".bdf", ".vhdr", ".set")
#: What BIDS's types of channels are to us; all others are left out.
_TYPES = {
    "EEG": "eeg",
    "ECG": "ecg",
    "EOG": "eog",
    "HEOG": "eog",
    "VEOG": "eog",
    "EMG": "emg",
    "GSR": "gsr",
    "RESP": "resp",
    "PPG": "ppg",
    "TEMP": "temp",
}
_STIMULUS = ("stimulus", "stim_file", "trial_type")
#: Columns of an events.tsv that are no ratings.
_MEANINGS = ("onset", "duration", "sample", "value", "response_time", "hed", "stim_file")


def find_recordings(
    folder: Path,
    *,
    events: Path | None = None,
    options: MneOptions | None = None,
    task: str = "",
    stimulus: str = "",
) -> list[MneSource]:
    """The subjects of a folder: by a table of events, or as BIDS has them where none is given.

    Raises
    ------
    RecordingError
        As `find_mne` and `find_bids` do, and for a folder that is no BIDS dataset without a table.
    """
    if events is not None:
        return find_mne(folder, events=events, options=options)
    if not (folder / "dataset_description.json").is_file():
        raise RecordingError(
            folder,
            "",
            expected="--events TABLE, or a BIDS folder with dataset_description.json",
            found="neither",
        )
    return find_bids(folder, options=options, task=task, stimulus=stimulus)


def find_bids(
    root: Path, *, options: MneOptions | None = None, task: str = "", stimulus: str = ""
) -> list[MneSource]:
    """The subjects of a BIDS dataset, as `preparation.prepare` takes them.

    Parameters
    ----------
    root : the folder of dataset_description.json
    task : only recordings of it; all if empty
    stimulus : column of events.tsv that names the stimulus; see above if empty

    Returns
    -------
    sources : "sub-01", ...; trials in order of sessions, runs and onsets. A recording without
        events.tsv is skipped, and told of

    Raises
    ------
    RecordingError
        If there is no recording with events, a table can't be used, or the channels of two subjects
        differ.
    """
    options = options or MneOptions()
    description = _description(root)
    with mne_errors(root, "BIDS"):
        paths = mne_bids.find_matching_paths(
            root,
            tasks=task or None,
            datatypes="eeg",
            suffixes="eeg",
            extensions=list(_EXTENSIONS),
        )
    rows: list[Row] = []
    reading: dict[str, ReadingOptions] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for path in paths:
        name = path.fpath.relative_to(root).as_posix()
        subject = f"sub-{path.subject}"
        its_rows, said = _rows(path, name, subject, stimulus)
        rows += its_rows
        reading[name] = _reading(path, options)
        notes[subject] = (*notes.get(subject, ()), *said)
    if not rows:
        tasks = sorted({path.task for path in paths if path.task}) or ["none"]
        raise RecordingError(
            root,
            f"task {task}" if task else "recordings",
            expected="EEG with an events.tsv that has rows of some duration",
            found=f"{len(paths)} recordings of tasks {', '.join(tasks)}: "
            f"{'; '.join(note for said in notes.values() for note in said) or 'no rows'}",
        )
    columns = list(dict.fromkeys(name for row in rows for name in row.cells))
    # Not every table has every column.
    rows = [row._replace(cells={name: row.cells.get(name, "") for name in columns}) for row in rows]
    lacking = [name for name in options.ratings if name not in columns]
    if lacking:
        raise RecordingError(
            root, "events.tsv", expected=f"columns {', '.join(lacking)}", found=", ".join(columns)
        )
    wanted = [name for name in columns if not options.ratings or name in options.ratings]
    if options.dataset == "mne" and description.get("Name"):
        options = options.model_copy(update={"dataset": str(description["Name"])})
    events = events_of(root, rows, wanted, ordered="order" in columns)
    return sources_of(root, events, options, reading=reading, notes=notes)


def _description(root: Path) -> Mapping[str, Any]:
    path = root / "dataset_description.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise RecordingError(path, "", expected="JSON of BIDS", found=str(error)) from error
    if not isinstance(found, dict):
        raise RecordingError(path, "", expected="an object", found=type(found).__name__)
    return found


def _rows(path: Any, name: str, subject: str, stimulus: str) -> tuple[list[Row], list[str]]:
    """Trials of one recording as rows of an events table, and what was skipped."""
    table = _sidecar(path, "events")
    if table is None:
        return [], [f"{name}: no events.tsv; left out"]
    header, lines = read_table(table)
    column = stimulus or next((name for name in _STIMULUS if name in header), "")
    lacking = [name for name in ("onset", "duration", column or _STIMULUS[0]) if name not in header]
    if lacking:
        raise RecordingError(
            table,
            "header",
            expected=f"onset, duration and a stimulus ({', '.join(_STIMULUS)} or --stimulus)",
            found=", ".join(header),
        )
    ratings = [one for one in header if one not in (*_MEANINGS, *REQUIRED, column)]
    rows, markers = [], 0
    for line in lines:
        cells = line.cells
        if is_missing(cells["duration"]) or cells["duration"].strip("0.") == "":
            markers += 1
            continue
        told = {one: cells[one] for one in ratings}
        own = {"file": name, "subject": subject, "stimulus": cells[column]}
        span = {"onset": cells["onset"], "duration": cells["duration"]}
        rows.append(Row(line.path, line.line, {**told, **own, **span}))
    said = [f"{name}: {markers} events without a duration; left out"] if markers else []
    return rows, said


def _reading(path: Any, options: MneOptions) -> MneOptions:
    """How a recording is read: its channels.tsv, and what the user says, which counts more."""
    table = _sidecar(path, "channels")
    if table is None:
        return options
    header, lines = read_table(table)
    if "name" not in header or "type" not in header:
        raise RecordingError(table, "header", expected="name and type", found=", ".join(header))
    types = {
        line.cells["name"]: _TYPES.get(line.cells["type"].upper(), "drop")
        for line in lines
        if named(options.types, line.cells["name"]) is None
    }
    units = {line.cells["name"]: line.cells.get("units", "") for line in lines}
    units = {name: unit for name, unit in units.items() if not is_missing(unit)}
    return options.model_copy(
        update={"types": types | options.types, "likely_units": units | options.likely_units}
    )


def _sidecar(path: Any, suffix: str) -> Path | None:
    """The table that belongs to a recording, beside it or further up."""
    with mne_errors(path.fpath, f"{suffix}.tsv"):
        found = path.find_matching_sidecar(suffix=suffix, extension=".tsv", on_error="ignore")
    return None if found is None else Path(getattr(found, "fpath", found))
