"""What a study works on: its recordings, its shards wherever they lie, and their windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from physiosync.errors import StudyError
from physiosync.mirror import Copies
from physiosync.options import StudyOptions
from physiosync.preparation import Source, subject_of
from physiosync.remote import is_remote, url_of
from physiosync.shard_store import ShardStore
from physiosync.shards import find_shards, read_info
from physiosync.windows import WindowStore


class StudyData:
    """The data of one study.

    Parameters
    ----------
    options : where they lie, and who is left out
    find : lists the recordings in a folder
    """

    def __init__(self, options: StudyOptions, find: Callable[[Path], Sequence[Source]]) -> None:
        self._options, self.find = options, find

    def sources(self) -> list[Source]:
        """The recordings of all who take part.

        Raises
        ------
        StudyError
            If no folder is named, or one is to be excluded who is not there.
        """
        o = self._options
        if o.recordings is None:
            raise StudyError(
                f"expected --recordings DIR, or shards in {url_of(o.shards_folder)}, found none"
            )
        found = self.find(o.recordings)
        self._check_exclude(subject_of(source) for source in found)
        return [source for source in found if subject_of(source) not in o.exclude]

    def _check_exclude(self, subjects: Iterable[str]) -> None:
        if strangers := set(self._options.exclude) - set(subjects):
            raise StudyError(
                f"--exclude: expected subjects of this study, found {', '.join(sorted(strangers))}"
            )

    def has_shards(self) -> bool:
        """Whether there are any yet."""
        place = self._options.shards_folder
        if is_remote(place):
            return bool(ShardStore(place).listed())
        return place.is_dir() and any(place.glob("*.parquet"))

    @property
    def shards_url(self) -> str | None:
        """Where the shards lie, if that is an object store."""
        place = self._options.shards_folder
        return url_of(place) if is_remote(place) else None

    @cached_property
    def recorded(self) -> WindowStore:
        """The windows of all subjects who take part, in trials as they were recorded."""
        o = self._options
        return WindowStore.open(self.shards, ("eeg", *o.pps), o.cache)

    @cached_property
    def store(self) -> WindowStore:
        """The same, in stretches where the protocol deals out stretches."""
        seconds = self._options.stretch_seconds
        return self.recorded if seconds is None else self.recorded.in_stretches(seconds)

    def check_preset(self) -> None:
        """Refuse shards that were prepared for another preset; they need no recordings to be used.

        Raises
        ------
        StudyError
            If what is subtracted as baseline, or the scale of skin conductance, is another.
        """
        wanted = self._options.preprocessing.model_dump(include={"baseline", "skin_conductance"})
        for path in self.shards:
            config = read_info(path).config
            for name, expected in wanted.items():
                if config.get(name) != expected:
                    raise StudyError(
                        f"{path}: expected {name} {expected!r}, as preset "
                        f"{self._options.preset!r} has it, found {config.get(name)!r}; prepare the "
                        "shards with --preset, or choose the preset that they were made for"
                    )

    @cached_property
    def shards(self) -> tuple[Path, ...]:
        """Files on this machine, fetched if need be."""
        o = self._options
        if self.copies is not None:
            self.copies.fetch()
            return tuple(path.resolve() for path in self.copies.paths)
        found = find_shards(o.shards_folder)
        if (
            o.recordings is None
        ):  # Else `sources` has checked it; no shard is made of who is excluded.
            self._check_exclude(path.stem.lower() for path in found)
        return tuple(path.resolve() for path in found if path.stem.lower() not in o.exclude)

    @cached_property
    def copies(self) -> Copies | None:
        """This machine's copies of the shards, if they lie in an object store."""
        o = self._options
        if self.shards_url is None:
            return None
        copies = ShardStore(o.shards_folder).copies()
        if o.recordings is None:
            self._check_exclude(path.stem.lower() for path in copies.paths)
        return copies.without(p.name for p in copies.paths if p.stem.lower() in o.exclude)
