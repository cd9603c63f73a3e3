"""What a run of update benchmarks adds to pytest: its options, tests for its cells, the gate and the summary."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks import test_names
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.failures import Failures
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.annotations import is_wanted, workflow_commands
from peft_update_bench.bench.other_plugins import refuse_other_plugins
from peft_update_bench.bench.plugin import PACKAGE
from peft_update_bench.bench.progress import Progress
from peft_update_bench.bench.pytest_benchmark_session import DEFAULT_STORAGE, PytestBenchmarkSession
from peft_update_bench.bench.session import Session

_FOLDER = Path(__file__).resolve().parent
SESSION = pytest.StashKey[Session]()

_CPU = ("arch", "brand_raw", "family", "model", "stepping", "count")

MARKERS = {
    "instrument_cost": "what a computed metric costs",
    "decoder": "the transformer reference, computed only",
    "claims": "the published study's statements on cost, re-measured",
}
"""What is in this folder and is run only where ``-m`` names it."""


def import_project_modules(config: pytest.Config) -> None:
    """Import what the project's pyproject.toml names. Raises UsageError where that cannot be done."""
    # Users' own networks and methods are found as the commands find them, in the current folder too.
    sys.path.insert(0, str(Path.cwd()))
    try:
        options.read_project(config.rootpath).import_modules()
    except options.OptionError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Each option has a short name, unless a conftest or another plugin has taken it, and one that nobody else has."""
    group = parser.getgroup("update benchmark")
    groups = [parser._anonymous, *parser._groups]
    taken = {name for other in groups for option in other.options for name in option.names()}

    def add(name: str, **details: Any) -> None:
        words = name.replace("_", "-")
        names = [flag for flag in (f"--{words}", f"--update-{words}") if flag not in taken]
        group.addoption(*names, dest=f"update_{name}", **details)

    for name, text in options.all_options().items():
        add(name, metavar=name.upper(), help=text)
    add("tolerance", action="append", default=[], metavar="NAME=FRACTION", help="override pyproject.toml's")
    add("markdown", metavar="PATH", type=Path, help="write the verdict table to this file, as Markdown")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options and read the baseline before anything runs: both fail in one sentence."""
    for name, text in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}; run with -m {name}")
    theirs = PytestBenchmarkSession(config)
    compare = theirs.take_compare_option()
    try:
        refuse_other_plugins(config)
        project = options.read_project(config.rootpath)
        given = {name: config.getoption(f"update_{name}") for name in options.all_options()}
        tolerances = options.tolerances(project.tolerances, config.getoption("update_tolerance"))
        # Elsewhere than in this repository the tests are found by their package's name, and baselines where it is told.
        elsewhere = [] if config.rootpath == _FOLDER.parent else [f"--pyargs {PACKAGE}.bench"]
        if config.option.benchmark_storage == DEFAULT_STORAGE:
            config.option.benchmark_storage = f"file://{project.storage_folder}"
        elif elsewhere:
            elsewhere.append(f"--benchmark-storage={config.option.benchmark_storage}")
        command = " ".join(["pytest", *elsewhere])
        run = options.read(given, tolerances, records_baseline=theirs.is_saving, command=command)
        session = Session.of(run)
        if compare:
            storage = run.baseline_folder(options.storage_folder(config.option.benchmark_storage))
            # A machine's own baseline matters where something is measured; to know the machine takes a second.
            machine = (lambda: baseline.read_machine(theirs.machine_info)) if run.needs_machine else None
            path = baseline.find(storage, None if compare is True else compare, theirs.machine_id, machine)
            session.compare_with(baseline.read(path))
    except (options.OptionError, baseline.BaselineError) as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[SESSION] = session


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the progress line, put our storage in pytest-benchmark's place, and show it the baseline for its table."""
    ours, theirs = session.config.stash[SESSION], PytestBenchmarkSession(session.config)
    plugins = session.config.pluginmanager
    reporter = plugins.get_plugin("terminalreporter")
    plugins.register(Progress(reporter, ours), "update-benchmark-progress")
    plugins.register(Failures(reporter, ours), Failures.NAME)
    theirs.store_in(ours.run.baseline_folder(options.storage_folder(session.config.option.benchmark_storage)))
    if "latency" not in ours.run.metrics and theirs.show_no_times():
        ours.remarks.append("--benchmark-compare-fail judged nothing: no update was timed.")
    if ours.gate.baseline is None:
        return
    ours.gate.machine = baseline.read_machine(theirs.machine_info)
    if "latency" in ours.run.metrics:
        theirs.show_beside(ours.gate.baseline.path)


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash[SESSION].header


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every benchmark of cells those that the run's filters leave it."""
    cells = metafunc.config.stash[SESSION].cells_of(metafunc.module)
    if cells is not None:
        names = [name for name in ("architecture", "method", "rank", "task") if name in metafunc.fixturenames]
        metafunc.parametrize(names, [[getattr(cell, name) for name in names] for cell in cells], ids=map(str, cells))


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """A benchmark that has no cell in this run has no test in it, rather than a skipped one."""
    if callable(obj) and name.startswith("test_") and collector.config.stash[SESSION].cells_of(collector.obj) == []:
        return []
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unasked = {name for name in MARKERS if name not in config.option.markexpr}
    left_out = [item for item in items if any(mark.name in unasked for mark in item.iter_markers())]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the benchmark which cells will be measured: what it needs can start meanwhile."""
    ours = session.config.stash[SESSION]
    ours.tests = {
        item.nodeid: Cell(**cast(dict[str, Any], item.callspec.params))
        for item in session.items
        if isinstance(item, pytest.Function) and "benchmark_cell" in item.fixturenames
    }
    if not session.config.option.collectonly:
        # pytest takes what a test writes; a progress bar is for who waits.
        capture = session.config.pluginmanager.get_plugin("capturemanager")
        ours.prepare(capture.global_and_fixture_disabled if capture else nullcontext)


@pytest.fixture
def benchmark_cell(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., None]:
    """Measures a cell of the run's benchmark, records it, and fails the test where it does not hold its baseline.

    Called with the cell's architecture, method, rank and, where the benchmark has tasks, task.
    """

    def measure(*cell: Any) -> None:
        ours = request.config.stash[SESSION]
        failure = ours.run_cell(Cell(*cell), benchmark)
        request.node.user_properties += ours.properties(Cell(*cell))
        if failure:
            pytest.fail(failure, pytrace=False)

    return measure


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep what tells machines apart, not what names one: a baseline is committed for everyone to read."""
    for key in ("node", "release", "python_build", "python_compiler", "processor"):
        machine_info.pop(key, None)
    cpu = machine_info.get("cpu", {})
    machine_info["cpu"] = {key: cpu[key] for key in _CPU if key in cpu}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    output_json["suite"] = config.stash[SESSION].suite_entry
    ours = {f"{name}.py" for name in test_names()}
    for entry in output_json["benchmarks"]:
        path, _, test = entry["fullname"].partition("::")
        # Seen from another repository the file lies in the installed package, wherever that is.
        if (file := Path(path).name) in ours:
            entry["fullname"] = f"bench/{file}::{test}"


@pytest.fixture(scope="session", autouse=True)
def headline_for_junit(
    request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]
) -> Generator[None, None, None]:
    """What the run came to, as a property of JUnit's test suite."""
    yield
    ours = request.config.stash[SESSION]
    if ours.results:
        record_testsuite_property("update_benchmark", ours.summary.headline)


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

    A file that cannot be written is a failure of the run too, although every test has passed.
    """
    ours = session.config.stash[SESSION]
    ours.run.benchmark.close()
    # Counted too, because pytest calls a run OK whose interrupt it failed to handle.
    whole = ours.finished == session.testscollected
    if (exitstatus != pytest.ExitCode.OK or not whole) and PytestBenchmarkSession(session.config).cancel_saving():
        ours.unsaved = "the run did not pass"
    with warnings.catch_warnings():
        # With warnings as errors it would end the run without a word on the cells that failed.
        warnings.filterwarnings("ignore", "Not saving anything")
        result = yield
    if session.exitstatus == pytest.ExitCode.OK and ours.unwritten:
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
    for line in (*summary.paragraphs, summary.terminal, *summary.notes, summary.headline):
        terminalreporter.write_line(line)
    for line in workflow_commands(summary) if is_wanted(os.environ) else ():
        terminalreporter.write_line(line)
    path: Path | None = config.getoption("update_markdown")
    if path is not None:
        try:
            path.write_text(summary.markdown, encoding="utf-8")
        except OSError as error:
            ours.unwritten.append(f"--markdown {path}")
            terminalreporter.write_line(f"--markdown {path} cannot be written ({error.strerror})", red=True)
