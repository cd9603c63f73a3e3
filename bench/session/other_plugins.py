"""Plugins of pytest that a run of update benchmarks cannot share: refused before anything is measured."""

from __future__ import annotations

import os

import pytest
from peft_update_bench.bench.options import OptionError

_WORKER = "PYTEST_XDIST_WORKER"


def refuse_other_plugins(config: pytest.Config) -> None:
    """Raise OptionError where another plugin would run cells beside each other, or some of them twice."""
    if config.getoption("numprocesses", None) or config.getoption("dist", "no") != "no":
        raise OptionError(
            "pytest-xdist (-n, --dist) is given; expected one process, because cells beside each other would spoil "
            "what is timed, and each process would save a part of the baseline; run without it, or with -n 0: --metrics"
            " flops,memory --workers N computes cells beside each other, --metrics adaptation --workers N adapts them"
        )
    worker = os.environ.get(_WORKER)
    if worker and not config.getoption("benchmark_disable", False):
        raise OptionError(
            f"{_WORKER} is {worker!r}, as in a process of pytest-xdist's, and pytest-benchmark then measures nothing; "
            "expected it unset, also where a test starts this run"
        )
    for option, flag in (("reruns", "--reruns"), ("count", "--count")):
        times = config.getoption(option, None)
        if times and int(times) > (option == "count"):
            raise OptionError(
                f"{flag} {times} is given; expected each cell once, because a baseline holds it once; a suspected "
                "slowdown is measured again anyway"
            )
