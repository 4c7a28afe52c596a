"""The subjects of a table of events: which files, rows and channels each recording is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, JsonValue

from physiosync.errors import RecordingError
from physiosync.files import sha256
from physiosync.filtering import Band
from physiosync.recordings.channels import named
from physiosync.recordings.events import Event, Events, read_events
from physiosync.recordings.raw_file import RawFile, ReadingOptions, open_raw

#: Part of every fingerprint: shards of another way of reading are made again.
_READER = 1


class MneOptions(ReadingOptions):
    """How recordings and their table are read; part of a shard's fingerprint."""

    ratings: tuple[str, ...] = ()
    """Columns of the table to take; all that have no other meaning if empty."""
    baseline_seconds: float = Field(default=0.0, ge=0)
    """Before each onset, where the table names no baseline. 0: none."""
    common_channels: bool = False
    """Take the channels that all files have, where they differ. False: that is an error."""
    dataset: str = "mne"
    """Name of the data set, kept in the shards."""


@dataclass(frozen=True)
class MneSource:
    """What one subject's recording is made of: rows of the table, files, options.

    Parameters
    ----------
    subject : as the table names it
    path : of the subject's first file
    folder : that the table's files lie in
    layout : modality -> names of the channels to take, the same for every subject
    files : everything the recording lies in
    reading : file, as rows name it -> how it is read, where files differ in that
    notes : one sentence for each thing that was skipped before anything was read
    """

    subject: str
    path: Path
    folder: Path
    events: tuple[Event, ...]
    codes: Mapping[str, Mapping[str, int]]
    layout: Mapping[str, tuple[str, ...]]
    options: MneOptions
    files: tuple[Path, ...]
    reading: Mapping[str, ReadingOptions] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def open(self, file: str) -> RawFile:
        """One of the files, as rows name it."""
        return open_raw(self.folder / file, self.reading.get(file, self.options))

    def provenance(self) -> dict[str, JsonValue]:
        """Everything but the samples that the recording comes from, as plain JSON values."""
        plain: dict[str, JsonValue] = json.loads(
            json.dumps(
                {
                    "reader": _READER,
                    "options": self.options.identity(),
                    "reading": {file: its.identity() for file, its in self.reading.items()},
                    "notes": self.notes,
                    "events": [vars(event) for event in self.events],
                    "codes": self.codes,
                    "layout": self.layout,
                }
            )
        )
        return plain

    def fingerprint(self) -> str:
        """SHA-256 of the bytes of all files, the rows of the table and the options.

        Raises
        ------
        RecordingError
            If a file is missing.
        """
        digests = []
        for file in self.files:
            if not file.is_file():
                raise RecordingError(file, "", expected="a recording", found="nothing")
            digests.append([file.name, sha256(file)])
        text = json.dumps({"files": digests, **self.provenance()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def find_mne(folder: Path, *, events: Path, options: MneOptions | None = None) -> list[MneSource]:
    """The subjects of a table, as `preparation.prepare` takes them.

    Only headers are read. A file that can't be opened is none of this function's business: reading
    its subject says so, and the others go on.

    Parameters
    ----------
    folder : that the table's files lie in
    events : the table, see `recordings.events`

    Raises
    ------
    RecordingError
        If the table can't be used, or the channels of two subjects differ.
    """
    options = options or MneOptions()
    return sources_of(folder, read_events(events, ratings=options.ratings), options)


def sources_of(
    folder: Path,
    events: Events,
    options: MneOptions,
    *,
    reading: Mapping[str, ReadingOptions] | None = None,
    notes: Mapping[str, tuple[str, ...]] | None = None,
) -> list[MneSource]:
    """A source for each subject of a table that was read.

    Parameters
    ----------
    reading : file -> how it is read, instead of `options`
    notes : subject -> what was skipped

    Raises
    ------
    RecordingError
        If the channels of two files differ, or an option names a channel that no file has.
    """
    reading, notes = reading or {}, notes or {}
    opened: dict[str, RawFile] = {}
    unread: set[str] = set()
    for name in dict.fromkeys(event.file for event in events.rows):
        its = reading.get(name, options).model_copy(update={"band": Band()})
        try:
            opened[name] = open_raw(folder / name, its)
        except RecordingError:
            unread.add(name)
    layout = _layout(folder, opened, common=options.common_channels)
    seen = dict.fromkeys(raw_name for file in opened.values() for raw_name in file.names)
    for wanted in (*options.types, *options.units, *options.drop):
        if not unread and not any(named((wanted,), raw_name) for raw_name in seen):
            raise RecordingError(
                folder, f"channel {wanted}", expected=f"one of {', '.join(seen)}", found="none"
            )
    sources = []
    for subject in events.subjects:
        rows = events.of(subject)
        mine = dict.fromkeys(row.file for row in rows)
        parts = [opened[name].files if name in opened else (folder / name,) for name in mine]
        sources.append(
            MneSource(
                subject=subject,
                path=folder / rows[0].file,
                folder=folder,
                events=rows,
                codes=events.codes,
                layout=layout,
                options=options,
                files=tuple(dict.fromkeys(path for paths in parts for path in paths)),
                reading={name: reading[name] for name in mine if name in reading},
                notes=notes.get(subject, ()),
            )
        )
    return sources


def _layout(
    folder: Path, opened: Mapping[str, RawFile], *, common: bool
) -> dict[str, tuple[str, ...]]:
    """Modality -> the channels that all files with it have, in the order of the first."""
    layout: dict[str, tuple[str, ...]] = {}
    whose: dict[str, str] = {}
    for file_name, file in opened.items():
        for modality, channels in file.channels.items():
            names = tuple(channel.name for channel in channels)
            first = layout.setdefault(modality, names)
            other = whose.setdefault(modality, file_name)
            shared = tuple(name for name in first if name in names)
            if len(shared) < max(len(names), len(first)) and not common:
                lacking = [name for name in first if name not in names] or ["nothing"]
                more = [name for name in names if name not in first] or ["nothing"]
                raise RecordingError(
                    file.path,
                    f"{modality} channels",
                    expected=f"those of {other} (take only what all files have with "
                    "--common-channels, or --drop some)",
                    found=f"{' '.join(lacking)} lacking and {' '.join(more)} more",
                )
            layout[modality] = shared
    for modality, names in layout.items():
        if not names:
            raise RecordingError(
                folder, f"{modality} channels", expected="some that all files have", found="none"
            )
    return layout
