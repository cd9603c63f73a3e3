"""A run of users' own tests in processes of pytest-xdist's: they measure nothing, and the one that started them holds
the run to what the baseline has."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
from peft_update_bench.bench.plugin import DESELECTED, OF_WORKER
from peft_update_bench.bench.session import lost_tests
from peft_update_bench.bench.session.session import SESSION


class Distributed:
    """Hears from the processes which tests they have collected, and what became of them.

    Each test that asks for the fixture fails there. What is lost, or passes without asking, fails here.
    """

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._users = session.config.stash[SESSION].users
        self._left_out: set[str] = session.config.stash.setdefault(DESELECTED, set())
        self._was_collected: Callable[[str], bool] | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._users.add({*ids} & {*self._users.recorded_names})
        # Before any test has failed: what has failed by now is a file that cannot be imported.
        self._was_collected = self._was_collected or lost_tests.was_collected(self._session)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A process that crashed says nothing, and fails the run."""
        self._left_out.update(getattr(node, "workeroutput", {}).get(OF_WORKER, ()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed and (message := self._users.fail_passed(report.nodeid)):
            report.outcome = "skipped" if hasattr(report, "wasxfail") else "failed"
            report.longrepr = message

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Before the session's own end, which tells of the lost ones; what was left out is known by now."""
        if self._was_collected is not None:
            self._users.lose(self._was_collected)
        return (yield)
