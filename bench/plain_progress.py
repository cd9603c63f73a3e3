"""Progress where there is no terminal to draw a bar on: a line now and then, as a CI's log shows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta

import humanize

EVERY = 10
"""So many are done from one line to the next."""


class PlainProgress:
    """Says on stderr how many of `total` are done of what `words` name, where that is no terminal.

    `clock` gives seconds.
    """

    def __init__(self, words: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._words = words
        self._total = total
        self._clock = clock
        self._begun = clock()
        self._said = 0
        if not sys.stderr.isatty():
            self._say(0, "")

    def update(self, done: int) -> None:
        """Write a line where ten more are `done` than at the one before, and some are left."""
        if sys.stderr.isatty() or done >= self._total or done < self._said + EVERY:
            return
        self._said = done
        self._say(done, time_left(self._clock() - self._begun, done, self._total - done))

    def _say(self, done: int, when: str) -> None:
        print(f"[{done}/{self._total}] {self._words}, {self._total - done} left{when}", file=sys.stderr, flush=True)


def time_left(seconds: float, done: int, left: int) -> str:
    """Until the last ends, were the others like those `done` in so many `seconds`, as the end of a line."""
    return f", about {in_words(seconds / done * left)}"


def in_words(seconds: float) -> str:
    """A duration: "a moment", "45 seconds", "3 minutes", "1 hour and 5 minutes"."""
    if seconds < 59.5:
        return humanize.naturaldelta(timedelta(seconds=round(seconds)))
    # In whole minutes: more would be a precision that the estimate has not.
    return humanize.precisedelta(timedelta(minutes=round(seconds / 60)), minimum_unit="minutes", format="%d")
