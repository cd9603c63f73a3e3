"""What a run with cells adds to pytest once it is known what they are: the gate's end, the summary, what is saved."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench import terminal
from peft_update_bench.bench.benchmarks import test_names
from peft_update_bench.bench.failures import Failures
from peft_update_bench.bench.gate.annotations import is_wanted, workflow_commands
from peft_update_bench.bench.pytest_benchmark_session import PytestBenchmarkSession
from peft_update_bench.bench.session import SESSION

_CPU = ("arch", "brand_raw", "family", "model", "stepping", "count")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Keep what tells machines apart, not what names one: a baseline is committed for everyone to read. The machine is
    the one that measures."""
    session = config.stash.get(SESSION, None)
    if session is not None and (elsewhere := session.run.benchmark.machine_info):
        machine_info.clear()
        machine_info.update(elsewhere)
    for key in ("node", "release", "python_build", "python_compiler", "processor"):
        machine_info.pop(key, None)
    cpu = machine_info.get("cpu", {})
    machine_info["cpu"] = {key: cpu[key] for key in _CPU if key in cpu}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    session = config.stash[SESSION]
    output_json["suite"] = session.suite_entry
    ours = {f"{name}.py" for name in test_names()}
    for entry in output_json["benchmarks"]:
        path, _, test = entry["fullname"].partition("::")
        # Seen from another repository the file lies in the installed package, wherever that is.
        if (file := Path(path).name) in ours and entry["fullname"] in session.matrix_tests:
            entry["fullname"] = f"bench/{file}::{test}"
            if entry["params"].get("batch_size", 0) is None:
                # A cell that has none is written as it was before there were any.
                del entry["params"]["batch_size"]


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Metric and change come first in the short summary, where a line ends at the terminal's edge."""
    if report.when == "call" and report.failed and (brief := config.stash[SESSION].in_brief(report.nodeid)):
        return "failed", "F", f"FAILED {brief}"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    item.config.stash[SESSION].finished += 1
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """A run with a failure is no baseline: pytest-benchmark saves in this hook, so it is told before.

    A file that cannot be written is a failure of the run too, and so is a test that the baseline has and the run has no
    longer, although every test has passed.
    """
    ours = session.config.stash[SESSION]
    ours.run.benchmark.close()
    # Counted too, because pytest calls a run OK whose interrupt it failed to handle.
    whole = ours.finished == session.testscollected
    if (exitstatus != pytest.ExitCode.OK or not whole or ours.lost_tests) and PytestBenchmarkSession(
        session.config
    ).cancel_saving():
        ours.unsaved = "the run did not pass"
    with warnings.catch_warnings():
        # With warnings as errors it would end the run without a word on the cells that failed.
        warnings.filterwarnings("ignore", "Not saving anything")
        result = yield
    if not (ours.unwritten or PytestBenchmarkSession(session.config).saving_failure):
        ours.run.benchmark.forget()
    if session.exitstatus == pytest.ExitCode.OK and (ours.unwritten or ours.lost_tests):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return result


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ours = config.stash[SESSION]
    if failure := PytestBenchmarkSession(config).saving_failure:
        ours.unsaved = failure
        ours.unwritten.append(failure)
    if not ours.results and not ours.unsaved:
        return
    summary = ours.summary
    failures = config.pluginmanager.get_plugin(Failures.NAME)
    assert failures is not None
    failures.restore()
    terminalreporter.section("update benchmark")
    for line in summary.lines(terminal.width(bool(terminalreporter.isatty))):
        terminalreporter.write_line(line)
    for line in workflow_commands(summary) if is_wanted(os.environ) else ():
        terminalreporter.write_line(line)
    path: Path | None = config.getoption("update_markdown", None)
    if path is not None:
        try:
            path.write_text(summary.markdown, encoding="utf-8")
        except OSError as error:
            ours.unwritten.append(f"--markdown {path}")
            terminalreporter.write_line(f"--markdown {path} cannot be written ({error.strerror})", red=True)
