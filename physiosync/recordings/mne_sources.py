"""The subjects of a table of events: which files, rows and channels each recording is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, JsonValue

from physiosync.errors import RecordingError
from physiosync.files import sha256
from physiosync.recordings.channels import named
from physiosync.recordings.events import Event, Events, read_events
from physiosync.recordings.raw_file import ReadingOptions, open_raw

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
    """

    subject: str
    path: Path
    folder: Path
    events: tuple[Event, ...]
    codes: Mapping[str, Mapping[str, int]]
    layout: Mapping[str, tuple[str, ...]]
    options: MneOptions
    files: tuple[Path, ...]

    def provenance(self) -> dict[str, JsonValue]:
        """Everything but the samples that the recording comes from, as plain JSON values."""
        plain: dict[str, JsonValue] = json.loads(
            json.dumps(
                {
                    "reader": _READER,
                    "options": self.options.identity(),
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


def sources_of(folder: Path, events: Events, options: MneOptions) -> list[MneSource]:
    layout: dict[str, tuple[str, ...]] = {}
    whose: dict[str, str] = {}
    files: dict[str, tuple[Path, ...]] = {}
    seen: dict[str, None] = {}
    unread = False
    for event in events.rows:
        if event.file in files:
            continue
        path = folder / event.file
        try:
            opened = open_raw(path, options.model_copy(update={"highpass": None, "lowpass": None}))
        except RecordingError:
            files[event.file] = (path,)
            unread = True
            continue
        files[event.file] = opened.files
        seen |= dict.fromkeys(opened.names)
        for modality, channels in opened.channels.items():
            names = tuple(channel.name for channel in channels)
            first = layout.setdefault(modality, names)
            common = tuple(name for name in first if name in names)
            if len(common) < max(len(names), len(first)) and not options.common_channels:
                lacking = [name for name in first if name not in names] or ["nothing"]
                more = [name for name in names if name not in first] or ["nothing"]
                raise RecordingError(
                    path,
                    f"{modality} channels",
                    expected=f"those of {whose[modality]} (take only what all files have with "
                    "--common-channels, or --drop some)",
                    found=f"{' '.join(lacking)} lacking and {' '.join(more)} more",
                )
            layout[modality] = common
            whose.setdefault(modality, event.file)
    empty = [modality for modality, names in layout.items() if not names]
    if empty:
        raise RecordingError(
            folder, f"{empty[0]} channels", expected="some that all files have", found="none"
        )
    for wanted in (*options.types, *options.units, *options.drop):
        if not unread and not any(named((wanted,), raw_name) for raw_name in seen):
            raise RecordingError(
                folder, f"channel {wanted}", expected=f"one of {', '.join(seen)}", found="none"
            )
    sources = []
    for subject in events.subjects:
        rows = events.of(subject)
        mine = dict.fromkeys(path for row in rows for path in files[row.file])
        sources.append(
            MneSource(
                subject=subject,
                path=folder / rows[0].file,
                folder=folder,
                events=rows,
                codes=events.codes,
                layout=layout,
                options=options,
                files=tuple(mine),
            )
        )
    return sources
