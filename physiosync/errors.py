"""The errors a user can meet. Each names what was expected and what was found."""

from __future__ import annotations

from pathlib import Path


class PhysioSyncError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(PhysioSyncError):
    """Something on disk is not what its format promises.

    Parameters
    ----------
    path : file or folder that was read
    field : which part of it ("data", "labels", "channel 36", ...); may be empty
    expected, found : in words, units included
    """

    def __init__(self, path: Path | str, field: str, *, expected: str, found: str) -> None:
        self.path, self.field, self.expected, self.found = Path(path), field, expected, found
        where = f"{path}: {field}" if field else f"{path}"
        super().__init__(f"{where}: expected {expected}, found {found}")

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling between processes otherwise.
        return (_rebuild, (type(self), self.path, self.field, self.expected, self.found))


def _rebuild(
    kind: type[InputError], path: Path, field: str, expected: str, found: str
) -> InputError:
    return kind(path, field, expected=expected, found=found)


class RecordingError(InputError):
    """A recording, or its table of ratings, can't be used."""


class ShardError(InputError):
    """A Parquet shard is missing, damaged, or not one of ours."""


class CheckpointError(InputError):
    """A model folder is missing, incomplete, or holds other weights than its config says."""


class SplitError(PhysioSyncError):
    """A split can't be made, or does not fit the shards."""


class SamplingError(PhysioSyncError):
    """There are too few subjects, stimuli or seconds for the batch that was asked for."""


class StudyError(PhysioSyncError):
    """A study can't start or go on: other configuration, another driver, failed jobs."""


class RemoteError(StudyError):
    """An object store can't be reached, or does not have or take what it should."""
