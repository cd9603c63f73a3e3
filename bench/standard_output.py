"""Where a command prints what it has found: a terminal with few characters, a pipe that is closed, a full disk."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable

from peft_update_bench.bench.command_error import CommandError

CLOSED = 128 + signal.SIGPIPE
"""The exit status where whoever reads has closed the pipe: what a shell makes of the signal."""


def printing(run: Callable[[], int]) -> int:
    """Return what `run` returns, once all that it has printed is written. Raises CommandError where that cannot be."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An arrow that an encoding lacks must not end the command; stderr and pytest write it the same way.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return run()
        finally:  # argparse, for one, prints its help and exits
            sys.stdout.flush()
    except OSError as error:
        if not _is_of_stdout(error):
            raise
        # Python flushes once more when it ends, and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return CLOSED
        raise CommandError(f"what it found cannot be printed: {error.strerror}") from None


def open_closed_streams() -> None:
    """Open what was closed before the start (``>&-``), so that output is refused and not lost.

    Python has None in its place: ``print(..., file=None)`` is standard output, so that progress would be among the
    figures, and the next file opened would have its number. In order, because a file gets the lowest number.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.stdout is None:
        # Not writable: as with a full disk, whatever is printed fails.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def _is_of_stdout(error: OSError) -> bool:
    """Whether it was printing that failed: then an empty line fails in the same way."""
    try:
        print(flush=True)
    except OSError as again:
        return again.errno == error.errno
    return False
