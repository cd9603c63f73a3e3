"""Failing cells that the summary tells together are not told one by one before it."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from peft_update_bench.bench.session.session import Session


class Failures:
    """Keeps such cells' messages out of pytest's section of failures, unless ``-v`` asks for each.

    They stay failures: in the exit status, the counts, the short summary, and JUnit's file with their whole message. In
    the short summary a cell is one line, also on CI, where pytest would write a failure's whole message there again.
    """

    NAME = "update-benchmark-failures"

    def __init__(self, reporter: pytest.TerminalReporter | None, session: Session) -> None:
        self._reporter = reporter
        self._session = session
        self._all: list[pytest.TestReport] | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self) -> Generator[None, None, None]:
        """Around the reporter, which shows failures before the other plugins' summaries and its own after them."""
        reporter = self._reporter
        if reporter is not None:
            for report in reporter.stats.get("failed", ()):
                if report.nodeid in self._session.tests:
                    _keep_first_line(report)
        if reporter is not None and reporter.verbosity < 1 and "failed" in reporter.stats:
            together = {result.cell for results in self._session.summary.together for result in results}
            self._all = reporter.stats["failed"]
            told = {test for test, cell in self._session.tests.items() if cell in together}
            reporter.stats["failed"] = [report for report in self._all if report.nodeid not in told]
        try:
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Failures are complete again, for what comes after their section."""
        if self._reporter is not None and self._all is not None:
            self._reporter.stats["failed"] = self._all
            self._all = None


def _keep_first_line(report: pytest.TestReport) -> None:
    """Of the message that the short summary shows; the section of failures shows another copy."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = crash.message.partition("\n")[0].removesuffix(":")
