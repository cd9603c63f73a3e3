"""What a run of the matrix adds to pytest: tests for its cells, and the baseline that they are held to."""

from __future__ import annotations

import gc
import glob
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.benchmarks import test_names
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.machine import read_machine
from peft_update_bench.bench.pytest_benchmark_session import PytestBenchmarkSession
from peft_update_bench.bench.session import option_hooks, start
from peft_update_bench.bench.session.other_plugins import explain_another_process
from peft_update_bench.bench.session.session import SESSION, Session

_FOLDER = Path(__file__).resolve().parents[1]

MARKERS = {
    "instrument_cost": ("test_instruments.py", "what a computed metric costs"),
    "decoder": ("test_decoders.py", "the transformer reference, computed only"),
    "claims": ("test_claims.py", "the published study's statements on cost, re-measured"),
}
"""What is in this folder and is run only where ``-m`` names it: in which file."""

_PARTS = ("architecture", "method", "rank", "task", "batch_size")
"""Of a cell: what a benchmark's test may be parametrized with."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the baseline before anything runs; what is wrong with it is one sentence."""
    for name, (_, text) in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}; run with -m {name}")
    # A project calls its tests as it likes, and may have none by these names.
    config.addinivalue_line("python_files", f"{glob.escape(str(Path(__file__).parents[1]))}/test_*.py")
    for name in test_names():
        config.addinivalue_line("python_functions", name)
    run, theirs = config.stash[option_hooks.RUN], PytestBenchmarkSession(config)
    compare = theirs.take_compare_option()
    try:
        session = config.stash[SESSION] = Session.of(run)
        config.add_cleanup(run.benchmark.close)
        if not config.option.collectonly:
            run.benchmark.connect(run)
        storage = run.baseline_folder(options.storage_folder(config.option.benchmark_storage))
        start.find_baseline(session, theirs, storage, compare)
        start.refuse_unwritable(config, session, storage)
    except (options.OptionError, baseline.BaselineError) as error:
        raise pytest.UsageError(str(error)) from None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the progress line, put our storage in pytest-benchmark's place, and show it the baseline for its table."""
    ours, theirs = session.config.stash[SESSION], PytestBenchmarkSession(session.config)
    start.register_reports(session.config, ours)
    theirs.store_in(ours.run.baseline_folder(options.storage_folder(session.config.option.benchmark_storage)))
    if "latency" not in ours.run.metrics and theirs.show_no_times():
        ours.remarks.append("--benchmark-compare-fail judged nothing: no update was timed.")
    if ours.gate.baseline is None:
        return
    ours.gate.machine = read_machine(theirs.machine_info)
    if "latency" in ours.run.metrics:
        theirs.show_beside(ours.gate.baseline.path)
        if (untimed := theirs.untimed_before) and (remark := theirs.judge_no_times_of(untimed)):
            ours.remarks.append(remark)


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash[SESSION].header


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every benchmark of cells those that the run's filters leave it."""
    cells = metafunc.config.stash[SESSION].cells_of(metafunc.module)
    if cells is not None:
        names = [name for name in _PARTS if name in metafunc.fixturenames]
        if "batch_size" not in names and any(cell.batch_size for cell in cells):
            raise pytest.UsageError(
                f"--batch-size lists several, and {metafunc.function.__name__} takes none; expected batch_size among "
                "its arguments, and benchmark_cell(…, batch_size=batch_size) in it, or one batch size"
            )
        metafunc.parametrize(names, [[getattr(cell, name) for name in names] for cell in cells], ids=map(str, cells))


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """A benchmark that has no cell in this run has no test in it, rather than a skipped one."""
    if callable(obj) and name.startswith("test_") and collector.config.stash[SESSION].cells_of(collector.obj) == []:
        return []
    return None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that is not asked for is not imported: the packages with which it measures take seconds."""
    files = {MARKERS[name][0] for name in _unasked(config)}
    return True if collection_path.name in files and collection_path.parent.resolve() == _FOLDER else None


def _unasked(config: pytest.Config) -> set[str]:
    return {name for name in MARKERS if name not in config.option.markexpr}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unasked = _unasked(config)
    left_out = [item for item in items if any(mark.name in unasked for mark in item.iter_markers())]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the benchmark which cells will be measured: what it needs can start meanwhile."""
    ours = session.config.stash[SESSION]
    ours.matrix_tests = {
        item.nodeid: ours.cell(**cast(dict[str, Any], item.callspec.params))
        for item in session.items
        if isinstance(item, pytest.Function) and "benchmark_cell" in item.fixturenames
    }
    start.prepare(session.config, ours)


@pytest.fixture
def benchmark_cell(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., None]:
    """Measures a cell of the run's benchmark, records it, and fails the test where it does not hold its baseline.

    Called with the cell's architecture, method, rank and, where the benchmark has them, task and ``batch_size=``.
    """

    def measure(*parts: Any, **named: Any) -> None:
        ours = request.config.stash[SESSION]
        cell = ours.cell(*parts, **named)
        if complaint := explain_another_process(request.config):
            pytest.fail(f"{cell}: {complaint}", pytrace=False)
        failure = ours.run_cell(cell, benchmark)
        request.node.user_properties += ours.properties(cell)
        if failure:
            pytest.fail(failure, pytrace=False)

    return measure


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Spare the collection with which pytest looks for what tests have left: over all that torch and peft have made it
    takes a second, and cells leave it in processes of their own.

    Not before: what is hidden from the collector has no referrers, by which other plugins tell what is still in use.
    Where others hide objects themselves, as this suite's own tests do, nothing is added.
    """
    if gc.get_freeze_count() == 0:
        gc.freeze()
