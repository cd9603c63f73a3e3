"""Plugins that would run cells twice or beside each other: refused before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
THEIRS = """
from importlib.util import find_spec

def pytest_addoption(parser):
    if find_spec("xdist") is None:
        parser.addoption("--numprocesses", type=int)
    parser.addoption("--reruns", type=int)
    parser.addoption("--force-reruns", type=int)
    parser.addini("reruns", "in the project's configuration")
    parser.addoption("--count", type=int, default=1)
"""


@pytest.mark.parametrize(
    ("option", "refused"),
    [
        ("--numprocesses=2", "pytest-xdist (-n, --dist) is given; expected one process"),
        ("--numprocesses=2", "or with -n 0: --metrics flops,memory --workers N computes cells beside each other"),
        ("--reruns=1", "--reruns 1 is given, or reruns is set in the project's configuration; expected each cell once"),
        ("--reruns=1", "run with --reruns=0"),
        ("--override-ini=reruns=1", "--reruns 1 is given, or reruns is set in the project's configuration; expected"),
        ("--force-reruns=1", "run with --force-reruns=0"),
        ("--count=2", "--count 2 is given, or count is set in the project's configuration; expected each cell once"),
        ("--numprocesses=0", ""),
        ("--reruns=0", ""),
        ("--count=1", ""),
    ],
)
def test_what_would_measure_a_cell_twice_is_refused(pytester: pytest.Pytester, option: str, refused: str) -> None:
    _run(pytester, option, refused)


def test_a_run_that_a_process_of_xdist_starts_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest-benchmark goes by the variable, which is inherited: nothing would be measured, and the run would pass."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    _run(pytester, "--count=1", "PYTEST_XDIST_WORKER is 'gw0', as in a process of pytest-xdist's")
    _run(pytester, "--benchmark-disable", "")


def _run(pytester: pytest.Pytester, option: str, refused: str) -> None:
    pytester.makepyfile(theirs=THEIRS)
    arguments = ("-p", "theirs", option, "--collect-only", "--methods=head", "--metrics=flops", "--benchmark-quiet")
    pytester.syspathinsert()
    result = pytester.runpytest_inprocess(
        REPOSITORY / "bench", "-c", REPOSITORY / "pyproject.toml", "--rootdir", REPOSITORY, "-p", "no:cacheprovider",
        *arguments,
    )  # fmt: skip
    assert result.ret == (pytest.ExitCode.USAGE_ERROR if refused else pytest.ExitCode.OK)
    assert refused in result.stderr.str()
