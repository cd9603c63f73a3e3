"""Options and wiring; what they mean is in bench/."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench import adaptation, options
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import baseline, summary
from peft_update_bench.bench.gate.gate import Gate
from peft_update_bench.bench.gate.storage import BaselineStorage
from peft_update_bench.bench.measurement import CellError
from peft_update_bench.bench.processes.cell_process import CellProcess, Process, ThisProcess
from peft_update_bench.bench.processes.update_runs import UpdateRuns
from peft_update_bench.bench.progress import Progress
from peft_update_bench.fixtures.instruments import measured_memory
from pytest_benchmark.utils import get_machine_id

GATE = pytest.StashKey[Gate]()

pytest_plugins = ["pytester"]

OPTIONS = {
    "matrix": "subset, core (default) or full; adaptation's default: subset",
    "architectures": "comma-separated torchvision names, or MODULE:NAME for one's own; default: the matrix's",
    "methods": "comma-separated: fft, head, bn_head, lora, dora, galore, or MODULE:NAME for one's own; default: six",
    "ranks": "comma-separated ranks for lora, dora and galore; default: the matrix's",
    "metrics": "comma-separated names out of flops, memory, measured_memory, latency; default: all; or adaptation",
    "batch_size": "images in a batch; default: 1; adaptation's: 32",
    "image_size": "height and width of an image in pixels; default: 224; adaptation's: 32",
    "threads": "threads within an operator; default: 1",
    "device": "cpu (default) or cuda",
    "cell_seconds": "how long a cell may take before it is ended and fails; default: 300; 0: no limit, for debuggers",
    "unstable": "fail or warn (default) where a latency stayed too noisy to judge",
    "tasks": "adaptation: comma-separated names out of shift, unseen; default: both",
    "seeds": "adaptation: updates of each cell, each with its own seed; default: 2",
    "steps": "adaptation: steps of an update; default: 60",
    "data": "adaptation: mnist_5k (default) or digits, which packages ship; cifar10, cifar10-c or folder",
    "data_root": "adaptation: where cifar10, cifar10-c or folder lies",
    "corruption": "adaptation: what shifts the images, by ImageNet-C's name; default: fog",
    "severity": "adaptation: how strong the shift is, 1 to 5; default: 5",
    "weights": "adaptation: packaged (default), or torchvision for its ImageNet weights, which it downloads",
    "workers": "adaptation: processes, each with one thread; default: one a core",
    "cache_dir": "adaptation: where trained networks are kept; default: the user's cache folder",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("update benchmark")
    for name, text in OPTIONS.items():
        group.addoption(f"--{name.replace('_', '-')}", metavar=name.upper(), help=text)
    group.addoption(
        "--tolerance", action="append", default=[], metavar="NAME=FRACTION", help="override pyproject.toml's"
    )
    group.addoption("--markdown", metavar="PATH", type=Path, help="write the verdict table to this file, as Markdown")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check the options and read the baseline before anything runs: both fail in one sentence."""
    # Users' own networks and methods are found as `python -m bench` finds them, in the current folder too.
    sys.path.insert(0, str(Path.cwd()))
    # The gate finds and reads the baseline itself: the plugin passes over an unreadable one with a warning.
    compare, config.option.benchmark_compare = config.option.benchmark_compare, []
    try:
        saves = bool(config.option.benchmark_save or config.option.benchmark_autosave)
        given = {name: config.getoption(name) for name in OPTIONS}
        run = options.read(given, options.project_tolerances(config.getoption("tolerance")), records_baseline=saves)
        gate = Gate(run)
        if compare:
            storage = run.baseline_folder(options.storage_folder(config.getoption("benchmark_storage")))
            path = baseline.find(storage, None if compare is True else compare, get_machine_id())
            gate.compare_with(baseline.read(path))
    except (options.OptionError, baseline.BaselineError) as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[GATE] = gate


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the progress line, put our storage in pytest-benchmark's place, and show it the baseline for its table."""
    benchmarks = session.config._benchmarksession  # type: ignore[attr-defined]
    gate = session.config.stash[GATE]
    plugins = session.config.pluginmanager
    plugins.register(Progress(plugins.get_plugin("terminalreporter")), "update-benchmark-progress")
    benchmarks.storage = BaselineStorage(gate.run.baseline_folder(benchmarks.storage.path), benchmarks.logger)
    if gate.baseline is None:
        return
    gate.machine = baseline.read_machine(benchmarks.get_machine_info())
    if "latency" in gate.run.metrics:
        benchmarks.compare = str(gate.baseline.path.resolve())
        with warnings.catch_warnings():
            # Another machine is the gate's to judge; the plugin warns of every field that differs.
            warnings.simplefilter("ignore")
            benchmarks.handle_loading()


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash[GATE].header()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every benchmark of cells those that its module selects under the run's filters."""
    if hasattr(metafunc.module, "select_cells"):
        cells: list[Cell] = metafunc.module.select_cells(metafunc.config.stash[GATE])
        names = [name for name in ("architecture", "method", "rank", "task") if name in metafunc.fixturenames]
        metafunc.parametrize(names, [[getattr(cell, name) for name in names] for cell in cells], ids=map(str, cells))


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """A benchmark whose module selects no cell in this run has no test in it, rather than a skipped one."""
    if callable(obj) and name.startswith("test_") and hasattr(collector.obj, "select_cells"):
        return None if collector.obj.select_cells(collector.config.stash[GATE]) else []
    return None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what measures memory while the first cell is computed: its imports take seconds."""
    wanted = "measured_memory" in session.config.stash[GATE].run.metrics and not session.config.option.collectonly
    if wanted and any(baseline.names_a_cell(item.nodeid) for item in session.items):
        measured_memory.start_server()


@pytest.fixture
def run(pytestconfig: pytest.Config) -> options.RunOptions:
    return pytestconfig.stash[GATE].run


@pytest.fixture
def gate(pytestconfig: pytest.Config) -> Gate:
    return pytestconfig.stash[GATE]


@pytest.fixture(scope="session")
def process(pytestconfig: pytest.Config) -> Generator[Process, None, None]:
    """Where cells are measured."""
    run = pytestconfig.stash[GATE].run
    if run.cell_seconds == 0:
        yield ThisProcess()
        return
    with closing(CellProcess(run.cell_seconds, CellError, run.workload.device)) as cell_process:
        yield cell_process


@pytest.fixture(scope="session")
def update_runs(request: pytest.FixtureRequest) -> Generator[UpdateRuns, None, None]:
    """Does the updates of all collected cells, beside each other, as soon as the first is asked for."""
    gate = request.config.stash[GATE]
    given = gate.run.adaptation
    assert given is not None
    cells = [Cell(**item.callspec.params) for item in request.session.items if baseline.names_a_cell(item.nodeid)]
    wanted = [cell for cell in cells if cell not in gate.missing]
    needed = [
        update
        for cell in wanted
        for one in (adaptation.reference(cell), cell)
        for update in adaptation.updates(one, given)
    ]
    # pytest takes what a test writes; the progress bar is for who waits.
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    visibly = capture.global_and_fixture_disabled if capture else nullcontext
    with UpdateRuns(needed, given.plan, given.cache_folder, given.workers, visibly) as runs:
        if runs.kept:
            gate.remarks.append(f"{runs.kept} updates were there from an interrupted run, in {runs.folder}.")
        yield runs


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep what tells machines apart, not what names one: a baseline is committed for everyone to read."""
    for key in ("node", "release", "python_build", "python_compiler", "processor"):
        machine_info.pop(key, None)
    cpu = machine_info.get("cpu", {})
    machine_info["cpu"] = {key: cpu[key] for key in ("arch", "brand_raw", "count") if key in cpu}


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    output_json["suite"] = config.stash[GATE].suite_entry()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    item.config.stash[GATE].finished += 1
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    """A run with a failure is no baseline: pytest-benchmark saves in this hook, so it is told before.

    A file that cannot be written is a failure of the run too, although every test has passed.
    """
    benchmarks = session.config._benchmarksession  # type: ignore[attr-defined]
    gate = session.config.stash[GATE]
    # Counted too, because pytest calls a run OK whose interrupt it failed to handle.
    whole = gate.finished == session.testscollected
    if (exitstatus != pytest.ExitCode.OK or not whole) and (benchmarks.save or benchmarks.autosave):
        benchmarks.save = benchmarks.autosave = None
        gate.unsaved = "the run did not pass"
    result = yield
    if session.exitstatus == pytest.ExitCode.OK and gate.unwritten:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return result


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    gate = config.stash[GATE]
    if failure := config._benchmarksession.storage.failure:  # type: ignore[attr-defined]
        gate.unsaved = failure
        gate.unwritten.append(failure)
    if not gate.results and not gate.unsaved:
        return
    terminalreporter.section("update benchmark")
    for line in (summary.terminal(gate), *summary.notes(gate), summary.headline(gate)):
        terminalreporter.write_line(line)
    if path := config.getoption("markdown"):
        try:
            path.write_text(summary.markdown(gate), encoding="utf-8")
        except OSError as error:
            gate.unwritten.append(f"--markdown {path}")
            terminalreporter.write_line(f"--markdown {path} cannot be written ({error.strerror})", red=True)
