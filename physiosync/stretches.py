"""Names of stretches: pieces of trials that protocol "window" shuffles as if each were a clip."""

from __future__ import annotations


def stretch_name(stimulus: str, second: int) -> str:
    """ "v07" from second 5 on -> "v07@005"."""
    return f"{stimulus}@{second:03d}"


def clip_of(stretch: str) -> str:
    """ "v07@005" -> "v07"; only for names that `stretch_name` made."""
    return stretch.rpartition("@")[0]
