"""Entry point of the `physiosync` command, and how a program of ours ends.

The commands themselves are in `physiosync.commands`, which is imported late: processes that
`prepare` starts import this module again, and have no use for torch, Ray and Optuna.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from physiosync import progress
from physiosync.errors import PhysioSyncError
from physiosync.files import causes, disk_is_full
from physiosync.interruption import Interrupted


def guarded(run: Callable[[], None]) -> None:
    """Run, and leave as a shell expects: 0, 1 with one clear line, or 128 + signal.

    A second run of the same command goes on after any of these.
    """
    try:
        try:
            run()
        finally:
            sys.stdout.flush()  # Not left to Python's end, which would complain of a closed pipe.
    except Interrupted as stop:
        print(f"{stop}; run the same command again to go on", file=sys.stderr)
        sys.exit(stop.exit_code)
    except PhysioSyncError as error:
        progress.log.debug("stopped", exc_info=error)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever reads what is printed has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not disk_is_full(error):
            raise
        *_, cause = causes(error)
        print(
            f"error: expected room on the disk, found it full ({cause}); what is done is kept, and "
            "the same command goes on after space is made",
            file=sys.stderr,
        )
        sys.exit(1)


def main() -> None:
    """Entry point of the `physiosync` command."""
    from physiosync.commands import run_command

    guarded(lambda: run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
