"""What a cell's code may do to the process that it runs in."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn


class NeedsTwoError(Exception):
    """One that cannot be unpickled, as many cannot: it keeps fewer arguments than it takes."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name} has {number}")


class CannotBeRead:
    """A result that is sent whole and raises where it is read."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return raise_odd_error, (1,)


def raise_odd_error(number: int) -> NoReturn:
    raise NeedsTwoError("layer4", number)


def fail(error: BaseException) -> None:
    raise error


def hang_in_a_kernel() -> None:
    """Sleep without giving the interpreter back, as a kernel that does not end."""
    ctypes.PyDLL(None).sleep(600)


def print_and_end(number: int) -> None:
    """End with the exit code `number`, or by the signal where it is negative."""
    print("about to die")
    if number >= 0:
        os._exit(number)
    os.kill(os.getpid(), -number)


def start_a_child() -> int:
    return subprocess.Popen(["sleep", "600"]).pid


def fork_a_child() -> int:
    """A process that has all that this one has: its connections too."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    return pid


def fork_and_end(path: Path, number: int) -> None:
    path.write_text(str(fork_a_child()))
    os._exit(number)


def close_every_connection() -> None:
    os.closerange(3, 256)
    time.sleep(600)


def many_bytes(size: int) -> bytes:
    return b"x" * size


def print_everywhere() -> None:
    print("from Python")
    print("an error", file=sys.stderr)
    os.system("echo from a command; echo an error >&2")
