"""Whether processes live, as the operating system says."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pid: int, seconds: float = 10.0) -> bool:
    return all_gone([pid], seconds)


def all_gone(pids: Iterable[int], seconds: float = 10.0) -> bool:
    """Whether all processes end within `seconds`."""
    pids = list(pids)
    end = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(map(is_alive, pids))
