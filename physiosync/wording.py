"""Words around numbers."""

from __future__ import annotations


def counted(number: float, what: str, many: str = "") -> str:
    """A whole number of things: "1 fold", "3 folds", "2 stimuli".

    Parameters
    ----------
    what, many : one of them; several, by default with an "s"
    """
    return f"{number:.0f} {what if number == 1 else many or f'{what}s'}"


def all_done(number: int) -> str:
    """What is said of so many trials or jobs that an earlier run has ended."""
    return "it is done" if number == 1 else f"all {number} are done"


def in_bytes(size: float) -> str:
    """A number of bytes as people say it: 1.5 GiB, 12 MiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
