"""Plugins of pytest that a run of update benchmarks, or a test of it, cannot share: refused before it is measured."""

from __future__ import annotations

import os
from typing import Any

import pytest
from peft_update_bench.bench.options import OptionError
from peft_update_bench.bench.plugin import PROCESS

_WORKER = "PYTEST_XDIST_WORKER"

_TIMES = {"reruns": 0, "force_reruns": 0, "count": 1}
"""What makes a test run more often, of pytest-rerunfailures and pytest-repeat, and what leaves it at once."""


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
    for option, once in _TIMES.items():
        times = _setting(config, option)
        if times is not None and int(times) > once:
            flag = f"--{option.replace('_', '-')}"
            raise OptionError(
                f"{flag} {times} is given, or {option} is set in the project's configuration; expected each cell once, "
                "because a baseline holds it once; a suspected slowdown is measured again anyway; run with "
                f"{flag}={once}"
            )


def explain_another_process(config: pytest.Config) -> str:
    """Why a test in a process forked from pytest's cannot be measured; empty where this process is pytest's."""
    if os.getpid() == config.stash[PROCESS]:
        return ""
    return (
        "runs in a process forked from pytest's, with which its record would be lost, as by --forked of pytest-forked "
        "or its marker; expected it in pytest's own: what is measured has a process of its own anyway"
    )


def _setting(config: pytest.Config, name: str) -> Any:
    """What an option was given, or else a project's configuration has for it; None where neither has it."""
    value = config.getoption(name, None)
    try:
        return config.getini(name) or None if value is None else value
    except ValueError:
        return None  # no such setting
