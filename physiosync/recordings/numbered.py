"""Folders that hold one numbered file a subject: s01.dat, s02.dat, ..., s01.bdf, s02.bdf, ..."""

from __future__ import annotations

import re
from pathlib import Path

from physiosync.errors import RecordingError


def find_numbered(folder: Path, ending: str) -> list[Path]:
    """The files s<number><ending> of a folder, in the order of their numbers.

    Parameters
    ----------
    ending : such as ".dat"; upper and lower case are one. Other files are ignored

    Raises
    ------
    RecordingError
        if there is no such folder, no such file in it, or two files of one subject
    """
    pattern = re.compile(rf"s([0-9]+){re.escape(ending)}", re.IGNORECASE)
    if not folder.is_dir():
        expected, found = "a folder of DEAP files", "a file" if folder.exists() else "nothing"
        raise RecordingError(folder, "", expected=expected, found=found)
    numbered: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        if not match or not path.is_file():
            continue
        number = int(match[1])
        if number in numbered:
            found = f"{numbered[number].name} and {path.name}"
            raise RecordingError(folder, "", expected="one file per subject", found=found)
        numbered[number] = path
    if not numbered:
        expected = f"files s01{ending}, s02{ending}, ..."
        raise RecordingError(folder, "", expected=expected, found=_what_else(folder, pattern))
    return [numbered[number] for number in sorted(numbered)]


def number_of(path: Path) -> int:
    """The number in a name that `find_numbered` gave.

    Raises
    ------
    RecordingError
        for another name
    """
    match = re.fullmatch(r"s([0-9]+)", path.stem, re.IGNORECASE)
    if not match:
        raise RecordingError(path, "name", expected="s01, s02, ...", found=path.stem)
    return int(match[1])


def instead_of_data(path: Path) -> str:
    """A guess at what a file is that is too short to be data; begins with a comma."""
    with path.open("rb") as stream:
        start = stream.read(1024)
    if start.startswith(b"version https://git-lfs"):
        return ", a git-lfs pointer to the data (`git lfs pull` fetches it)"
    return ", perhaps a pointer to the data" if len(start) < 1024 else ", a truncated file"


def _what_else(folder: Path, pattern: re.Pattern[str]) -> str:
    """What lies in a folder without such files, with a hint if they lie one folder down."""
    below = {p.parent.name for p in folder.glob("*/*") if pattern.fullmatch(p.name)}
    if below:
        return f"none, but some in its folder {min(below)}"
    others = sorted(p.name for p in folder.iterdir())
    return f"none among {len(others)} others ({', '.join(others[:3])})" if others else "no files"
