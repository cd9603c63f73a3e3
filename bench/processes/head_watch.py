"""Looks whether the head of a cluster is still there.

From a thread of this process: whatever is asked of Ray while its head is gone waits for a minute, and then Ray ends the
process that asked.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from threading import Event, Thread

_EVERY_S = 1.0
_GONE_AFTER_S = 5.0


class HeadWatch:
    """Calls `gone` once, with a sentence, when nobody has answered at `address` for some seconds. From its thread."""

    def __init__(self, address: tuple[str, int], gone: Callable[[str], None]) -> None:
        self._address = address
        self._gone = gone
        self._is_closed = Event()
        self._thread = Thread(target=self._look, name="head-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()

    def _look(self) -> None:
        answered = time.monotonic()
        while not self._is_closed.wait(_EVERY_S):
            silent = silence(*self._address)
            if not silent:
                answered = time.monotonic()
            elif time.monotonic() - answered > _GONE_AFTER_S:
                self._gone(f"its head at {':'.join(map(str, self._address))} does not answer ({silent})")
                return


def split(address: str) -> tuple[str, int]:
    """HOST:PORT in two; an IPv6 host without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def silence(host: str, port: int) -> str:
    """Why nobody answers there; empty where somebody does."""
    try:
        socket.create_connection((host, port), 2).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""
