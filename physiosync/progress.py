"""What a user sees while a study runs: the stage, the counts, the best so far, the time left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from physiosync.errors import RemoteError
from physiosync.files import disk_is_full

log = logging.getLogger("physiosync")

#: Status lines between events come at most this often, in seconds.
_PAUSE = 10.0


class _FileHandler(logging.FileHandler):
    """Says nothing where the disk is full: the terminal has the line, and the study will say it."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if error is None or not disk_is_full(error):
            super().handleError(record)


def log_to(path: Path) -> None:
    """Send the study's log to the terminal, and with times to `path`."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.setLevel(logging.INFO)
    log.propagate = False
    path.parent.mkdir(parents=True, exist_ok=True)
    on_disk = _FileHandler(path, encoding="utf-8")
    on_disk.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal = logging.StreamHandler()
    terminal.setFormatter(logging.Formatter("%(message)s"))
    for handler in (on_disk, terminal):
        log.addHandler(handler)


def readable(seconds: float) -> str:
    """A duration in words: "40 s", "3 min", "5.2 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class StageProgress:
    """Counts trials or jobs of one stage and writes a status line now and then.

    Parameters
    ----------
    stage : as the user knows it
    total : trials or jobs in all
    done : how many ended in earlier runs
    epochs : epochs of a full trial; 0 for jobs that report none
    best : highest objective of earlier runs
    """

    def __init__(
        self, stage: str, *, total: int, done: int = 0, epochs: int = 0, best: float | None = None
    ) -> None:
        self._stage, self._total, self._done, self._epochs = stage, total, done, epochs
        self._best = best
        self._running: dict[str, int] = {}
        self._stopped = self._failed = self._ended_now = 0
        self._began = self._last = time.monotonic()

    def started(self, name: str) -> None:
        """A trial or job runs."""
        self._running.setdefault(name, 0)

    def reported(self, name: str, metrics: Mapping[str, Any]) -> None:
        """A trial ended an epoch."""
        if "epoch" not in metrics:
            return
        self._running[name] = int(metrics["epoch"])
        value = metrics.get("objective")
        if value is not None and value == value and (self._best is None or value > self._best):
            self._best = value
        if time.monotonic() - self._last > _PAUSE:
            self.show()

    def ended(self, name: str, *, failed: bool) -> None:
        """A trial or job is over."""
        epochs = self._running.pop(name, 0)
        self._done += 1
        self._ended_now += 1
        self._failed += failed
        self._stopped += bool(not failed and self._epochs and epochs < self._epochs)
        self.show()

    def show(self) -> None:
        """Write the status line."""
        self._last = time.monotonic()
        parts = [f"{self._stage}: {self._done}/{self._total} done"]
        if self._stopped:
            parts.append(f"{self._stopped} stopped early")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._running:
            parts.append(f"{len(self._running)} running")
        if self._best is not None:
            parts.append(f"best so far {self._best:.3f} (0 chance, 1 perfect)")
        left = self._total - self._done
        if left and self._ended_now:
            pace = (self._last - self._began) / self._ended_now
            parts.append(f"about {readable(pace * left)} left")
        log.info("  %s", ", ".join(parts))


class Uploading(StageProgress):
    """The same, and after each trial or job what the driver wrote is uploaded.

    An error here would be taken for the trial's, so a store that is away gets it after the next
    one; at the end of the stage it is waited for.

    Parameters
    ----------
    upload : brings an object store up to date, without waiting for an outage
    stage, counts : as in `StageProgress`
    """

    def __init__(self, upload: Callable[[], None], stage: str, **counts: Any) -> None:
        super().__init__(stage, **counts)
        self._upload = upload

    def ended(self, name: str, *, failed: bool) -> None:
        """A trial or job is over."""
        super().ended(name, failed=failed)
        try:
            self._upload()
        except RemoteError as error:
            log.info("  not uploaded yet: %s", error)
