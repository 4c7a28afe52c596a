"""What a check says."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Literal

from physiosync.config import Config

Status = Literal["passed", "failed", "not applicable"]


class Verdict(Config):
    """One check's."""

    check: str
    status: Status
    number: float | None
    """Of what is counted or measured; None where nothing is."""
    said: str
    """In words, with the number's meaning."""


class AuditReport(Config):
    """All checks of one split."""

    protocol: str
    leaky: bool
    """Windows of one trial lie on both sides, so scores say nothing of new trials."""
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(verdict.status != "failed" for verdict in self.verdicts)

    def lines(self) -> list[str]:
        """For a terminal of 100 columns, one line a check or more."""
        words = "passed" if self.passed else "FAILED"
        if self.protocol == "window" and not self.passed:
            words += ", because the protocol is leaky"
        note = " (leaky)" if self.leaky else ""
        lines = [f"audit of the split, protocol {self.protocol}{note}: {words}"]
        for v in self.verdicts:
            lines += wrap(
                v.said,
                width=100,
                initial_indent=f"  {v.status:<14} {v.check:<15} ",
                subsequent_indent=" " * 33,
            )
        return lines


def from_count(
    check: str, n: int, said: str, *, demanded: bool = True, examples: Sequence[str] = ()
) -> Verdict:
    """Passed if nothing was counted; not applicable if the protocol does not demand it.

    Parameters
    ----------
    said : what was counted, in words that follow the number
    """
    status: Status = "not applicable"
    if demanded:
        status = "failed" if n else "passed"
    more = ", ..." if n > 3 else ""
    some = f" ({', '.join(examples[:3])}{more})" if n and examples else ""
    return Verdict(check=check, status=status, number=n, said=f"{n} {said}{some}")
