"""Ctrl-C, SIGTERM, a lost terminal: finish what must be, then stop; the same command goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The user or the machine asked us to stop; nothing that was finished is lost."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class Interruption:
    """Remembers a first signal while `deferred`, raises at once otherwise and at a second."""

    def __init__(self) -> None:
        self._signum: int | None = None
        self._deferring = False

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self._signum is not None

    @contextmanager
    def installed(self) -> Iterator[Interruption]:
        """Handle the signals inside the block (in the main thread; elsewhere do nothing)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._handle) for number in signals}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block end by itself (it should look at `requested`), then raise.

        Raises
        ------
        Interrupted
            After the block, if a signal came.
        """
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        self.check()

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self._signum is not None:
            raise Interrupted(self._signum)

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        first = self._signum is None
        self._signum = signum
        if not (self._deferring and first):
            raise Interrupted(signum)
        # Not by the log: a signal may come while its lock is held. Workers take seconds to end.
        os.write(2, b"stopping; what runs goes on from its last checkpoint next time\n")
