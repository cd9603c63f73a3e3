"""An interrupt that comes while packages are imported."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupt_waits() -> Iterator[None]:
    """Within it the first interrupt waits for the end, whatever that is; a second comes at once.

    For imports of large packages: interrupted there, some go on as if nothing had been, and others say that a package
    is missing. Does nothing in another thread than the main one, which alone is interrupted, or where interrupts are
    ignored.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    come: list[FrameType | None] = []

    def wait(number: int, frame: FrameType | None) -> None:
        come.append(frame)
        if len(come) > 1:
            handler(number, frame)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if len(come) == 1:
            handler(signal.SIGINT, come[0])
