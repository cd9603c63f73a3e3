"""The progress line: which cell runs, and how many are left."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from peft_update_bench.bench.session import Session


class Progress:
    """Starts a line for every cell; pytest's own letter for the outcome ends it.

    Silent under ``-v``, where pytest names every test itself, and under ``-q``.
    """

    def __init__(self, reporter: pytest.TerminalReporter | None, session: Session) -> None:
        self._reporter = reporter
        self._session = session
        self._started = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, None, None]:
        # After the reporter, which writes the file's name before its first test.
        yield
        tests = self._session.tests
        if self._reporter is None or self._reporter.verbosity != 0 or nodeid not in tests:
            return
        self._started += 1
        left = len(tests) - self._started
        self._reporter.write(f"\n[{self._started}/{len(tests)}] {tests[nodeid]}, {left} left ", flush=True)
