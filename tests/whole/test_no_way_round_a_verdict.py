"""A user's test does not get round the verdict of its baseline: by another try, or by an entry without figures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.own_repository import BESIDE, COMPARE, SAVE, STEP, Repository

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm_operators", "few_further_calls")]

AGAIN_WHERE_IT_FAILS = """
import step
import step_of_the_second_try
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if any(report.failed for report in reports):
        step.build = step_of_the_second_try.build
        item._initrequest()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
"""As pytest-rerunfailures by its marker flaky."""

NO_ANSWER = """
def build(network=None):
    raise ConnectionError("no answer")
"""


def test_a_regression_is_not_tried_until_it_passes(repository: Repository) -> None:
    repository.run(SAVE).assert_outcomes(passed=4)
    repository.write("conftest.py", AGAIN_WHERE_IT_FAILS)
    repository.write("step_of_the_second_try.py", STEP.format(channels=8))
    repository.widen(9)
    tried = repository.run("test_a.py::test_update", COMPARE, "-v")
    tried.assert_outcomes(failed=1)
    assert tried.ret == 1
    tried.stdout.fnmatch_lines(
        ["*flops.forward regressed: *", "This is the verdict of the first try: it is not measured in another, as of *"]
    )
    repository.widen(8)
    held = repository.run(COMPARE)
    held.assert_outcomes(passed=4)
    assert held.ret == 0


def test_what_came_to_no_figures_may_be_tried_again(repository: Repository) -> None:
    """A download that failed says nothing of the update."""
    repository.run(SAVE).assert_outcomes(passed=4)
    repository.write("conftest.py", AGAIN_WHERE_IT_FAILS)
    repository.write("step_of_the_second_try.py", STEP.format(channels=8))
    repository.write("step.py", NO_ANSWER)
    tried = repository.run("test_a.py::test_update", COMPARE)
    tried.assert_outcomes(passed=1)
    tried.stdout.fnmatch_lines(["1 cell, against 0001_baseline.json: 1 ok"])


@pytest.mark.parametrize("emptied", [{}, {"schema": 3}, None])
def test_an_entry_that_was_emptied_is_not_taken_for_a_test_that_is_new(repository: Repository, emptied: Any) -> None:
    repository.run(SAVE).assert_outcomes(passed=4)
    content = repository.saved()
    entries = content["benchmarks"]
    assert isinstance(entries, list)
    entries[0]["extra_info"] = emptied
    repository.write("baselines/0001_baseline.json", json.dumps(content))
    failed = repository.run(COMPARE)
    failed.assert_outcomes(failed=1, passed=3)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(
        [
            f"the entry of {entries[0]['fullname']} in baselines/0001_baseline.json holds no record of an update, as "
            "where it was emptied by hand or is of a plain benchmark; restore the file from version control, or record "
            "a new baseline: pytest --benchmark-save=baseline"
        ]
    )


def test_an_entry_of_another_benchmark_is_passed_over(repository: Repository) -> None:
    repository.write("test_beside.py", BESIDE)
    repository.run(SAVE).assert_outcomes(passed=5)
    assert repository.run(COMPARE).ret == 0
