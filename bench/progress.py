"""The progress line: which cell runs, and how many are left."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from peft_update_bench.bench.gate.baseline import names_a_cell


class Progress:
    """Starts a line for every cell; pytest's own letter for the outcome ends it.

    Silent under ``-v``, where pytest names every test itself, and under ``-q``.
    """

    def __init__(self, reporter: pytest.TerminalReporter | None) -> None:
        self._reporter = reporter
        self._total = 0
        self._started = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._total = sum(names_a_cell(item.nodeid) for item in session.items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, None, None]:
        # After the reporter, which writes the file's name before its first test.
        yield
        if self._reporter is None or self._reporter.verbosity != 0 or not names_a_cell(nodeid):
            return
        self._started += 1
        cell = nodeid.partition("[")[2].removesuffix("]")
        left = self._total - self._started
        self._reporter.write(f"\n[{self._started}/{self._total}] {cell}, {left} left ", flush=True)
