"""The progress line: which cell runs, how many are left, and for about how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import pytest
from peft_update_bench.bench.plain_progress import time_left
from peft_update_bench.bench.session.session import Session


class Progress:
    """Starts a line for every cell; pytest's own letter for the outcome ends it.

    Silent under ``-v``, where pytest names every test itself, and under ``-q``. `clock` gives seconds.
    """

    def __init__(
        self,
        reporter: pytest.TerminalReporter | None,
        session: Session,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reporter = reporter
        self._session = session
        self._clock = clock
        self._begun = 0.0
        self._started: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, None, None]:
        # After the reporter, which writes the file's name before its first test.
        yield
        tests = self._session.tests
        if self._reporter is None or self._reporter.verbosity != 0 or nodeid not in tests:
            return
        if not self._started:
            self._begun = self._clock()
        # One that is run again, as by a marker of pytest-rerunfailures, is the one that it was.
        ended = len(self._started - {nodeid})
        self._started.add(nodeid)
        number, left = ended + 1, len(tests) - ended - 1
        time_left = self._time_left(ended)
        self._reporter.write(f"\n[{number}/{len(tests)}] {tests[nodeid]}, {left} left{time_left} ", flush=True)

    def _time_left(self, ended: int) -> str:
        """Until the last cell ends, were the others like those that have `ended` in the mean; empty before the first
        has."""
        if not ended:
            return ""
        return time_left(self._clock() - self._begun, ended, len(self._session.tests) - ended)
