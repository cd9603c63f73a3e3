"""What a run with cells adds to pytest once it is known what they are: the gate's end, the summary, what is saved."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench import terminal
from peft_update_bench.bench.benchmarks import test_names
from peft_update_bench.bench.gate.annotations import is_wanted, workflow_commands
from peft_update_bench.bench.gate.messages import explain_loss
from peft_update_bench.bench.pytest_benchmark_session import (
    PytestBenchmarkSession,
    mark_used,
    save_nothing_without_a_warning,
)
from peft_update_bench.bench.session import option_hooks
from peft_update_bench.bench.session.failures import Failures
from peft_update_bench.bench.session.session import SESSION, Session
from peft_update_bench.fixtures.files import write_named

HAS_ENDED = pytest.StashKey[bool]()
"""Of a test: whether it has come to its end, before what tears it down."""

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
    entries, names = output_json["benchmarks"], session.users.tests
    # A test that was run again, as by a marker of pytest-rerunfailures, is there once, as it ended.
    last = {entry["fullname"]: entry for entry in entries if entry["fullname"] in names}
    entries[:] = [entry for entry in entries if last.get(entry["fullname"], entry) is entry]
    for entry in entries:
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
    ours = config.stash[SESSION]
    if ours.users.are_reported_lost:
        # After the last test's line, which ends at 100 %.
        return "failed", "", ""
    if report.when == "call" and report.failed and (brief := ours.in_brief(report.nodeid)):
        return "failed", "F", f"FAILED {brief}"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    item.config.stash[SESSION].finished += 1
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Keep whether a test has come to its end: a part of it, a subtest, makes a report too, and before it."""
    item.stash[HAS_ENDED] = False
    try:
        return (yield)
    except KeyboardInterrupt:  # of which pytest makes no report
        _warn_of_nothing_unused(item)
        raise
    finally:
        item.stash[HAS_ENDED] = True


def _warn_of_nothing_unused(item: pytest.Item) -> None:
    """Of a test of ours that was ended before it has used pytest-benchmark's fixture. With warnings as errors its own
    would be a traceback in the place of what ended it."""
    benchmark = getattr(item, "funcargs", {}).get("benchmark")
    if benchmark is not None and item.nodeid in item.config.stash[SESSION].tests:
        mark_used(benchmark)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that passes says that its update holds the baseline, which it must have measured: of whatever kind it is,
    unittest's among them, whose report alone says whether it has passed.

    One that fails says why, and need not be warned of too. Around the hook by which xfail changes the outcome.
    """
    ours = item.config.stash[SESSION]
    if call.excinfo is not None:
        _warn_of_nothing_unused(item)
    report = yield
    is_at_end = report.when == "call" and item.stash.get(HAS_ENDED, False)
    if is_at_end and report.passed and (message := ours.users.fail_passed(item.nodeid)):
        # To pytest a failure that was expected is one that was skipped.
        report.outcome = "skipped" if hasattr(report, "wasxfail") else "failed"
        report.longrepr = message
    if report.skipped and hasattr(report, "wasxfail") and item.nodeid in ours.users.tests:
        ours.users.expected_failures.append(item.nodeid)
    return report


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_benchmark_group_stats(
    config: pytest.Config, benchmarks: list[dict[str, Any]]
) -> Generator[None, object, object]:
    """Where no update was timed, no table of how long the measurements of users' tests took, unless they are drawn."""
    ours = config.stash[SESSION]
    if "latency" not in ours.run.metrics and not PytestBenchmarkSession(config).draws_histogram:
        benchmarks[:] = [entry for entry in benchmarks if entry["fullname"] not in ours.users.tests]
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """A run with a failure is no baseline: pytest-benchmark saves in this hook, so it is told before.

    A file that cannot be written is a failure of the run too, and so is a test that the baseline has and the run has no
    longer, although every test has passed.
    """
    ours = session.config.stash[SESSION]
    ours.run.benchmark.close()
    theirs, tests = PytestBenchmarkSession(session.config), ours.users.tests
    theirs.drop_unmeasured()
    untimed = tests.keys() & theirs.untimed_before if "latency" in ours.run.metrics else tests
    if untimed and (remark := theirs.judge_no_times_of(untimed)):
        ours.remarks.append(remark)
    if not session.config.option.collectonly:
        _report_lost(session, ours)
    _tell_junit(session.config, ours)
    # Counted too, because pytest calls a run OK whose interrupt it failed to handle.
    whole = ours.finished == session.testscollected
    if (exitstatus != pytest.ExitCode.OK or not whole or ours.users.lost) and theirs.cancel_saving():
        ours.unsaved = "tests were only collected" if session.config.option.collectonly else "the run did not pass"
    elif theirs.is_saving and not theirs.has_measured:
        ours.unsaved = "benchmarks are disabled" if theirs.is_disabled else "nothing was measured"
    with save_nothing_without_a_warning():
        result = yield
    # Also where there is no terminal whose summary says it.
    is_unwritten = bool(ours.unwritten or theirs.saving_failure or theirs.json_failure)
    if not is_unwritten:
        ours.run.benchmark.forget()
    # Where every test is gone, pytest has collected none.
    passes = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    if passes and (is_unwritten or ours.users.lost):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return result


def _report_lost(session: pytest.Session, ours: Session) -> None:
    """Make each lost test one that failed: in pytest's counts, its short summary, and JUnit's file."""
    ours.users.are_reported_lost = True
    for cell in ours.users.lost:
        assert ours.gate.baseline is not None
        path, _, name = cell.architecture.partition("::")
        message = explain_loss([cell], ours.gate.baseline, ours.run.record_command)
        report = pytest.TestReport(
            cell.architecture, (path, None, name), {}, "failed", message, "call", user_properties=ours.properties(cell)
        )
        session.config.hook.pytest_runtest_logreport(report=report)
    ours.users.are_reported_lost = False


@pytest.hookimpl(specname="pytest_sessionfinish", trylast=True)
def pytest_sessionfinish_after_saving(session: pytest.Session) -> None:
    """Write the table once it is known whether a baseline was saved, and before the terminal's summary, which not every
    run has."""
    ours = session.config.stash[SESSION]
    ours.unsaved = PytestBenchmarkSession(session.config).saving_failure or ours.unsaved
    path: Path | None = option_hooks.value(session.config, "markdown")
    if path is None or not ours.has_something_to_say:
        return
    try:
        write_named(path, ours.summary.markdown.encode())
    except OSError as error:
        ours.unwritten.append(f"--markdown {path} cannot be written ({error.strerror})")


def _tell_junit(config: pytest.Config, ours: Session) -> None:
    """What the run came to, as a property of JUnit's test suite. A fixture would be too late where no test is left."""
    try:
        from _pytest.junitxml import xml_key
    except ImportError:  # it is pytest's own, and has no public name
        return
    file = config.stash.get(xml_key, None)
    if file is not None and ours.results:
        file.add_global_property("update_benchmark", ours.summary.headline)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ours = config.stash[SESSION]
    theirs = PytestBenchmarkSession(config)
    if theirs.json_failure:
        terminalreporter.write_line(theirs.json_failure, red=True)
    if not ours.has_something_to_say:
        return
    summary = ours.summary
    failures = config.pluginmanager.get_plugin(Failures.NAME)
    assert failures is not None
    failures.restore()
    terminalreporter.section("update benchmark")
    # Line by line: of what an encoding lacks a letter of, pytest escapes the line breaks too.
    for line in "\n".join(summary.lines(terminal.width(bool(terminalreporter.isatty)))).split("\n"):
        terminalreporter.write_line(line)
    for line in workflow_commands(summary) if is_wanted(os.environ) else ():
        terminalreporter.write_line(line)
    for line in ours.unwritten:
        terminalreporter.write_line(line, red=True)
