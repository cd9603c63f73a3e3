"""Tests of a user's own that ask for ``update_benchmark``: their part of a run, and what the fixture does."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NoReturn

import pytest
from peft_update_bench.bench import options
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate import baseline, baseline_file
from peft_update_bench.bench.gate.machine import read_machine
from peft_update_bench.bench.gate.tolerances import Tolerances
from peft_update_bench.bench.options import OptionError, RunOptions
from peft_update_bench.bench.pytest_benchmark_session import (
    DEFAULT_STORAGE,
    PytestBenchmarkSession,
    is_theirs,
    load_without_a_warning,
    mark_used,
    was_used,
)
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.session import end, lost_tests, option_hooks, start
from peft_update_bench.bench.session.distributed import Distributed
from peft_update_bench.bench.session.other_plugins import explain_another_process, refuse_other_plugins
from peft_update_bench.bench.session.session import SESSION, Session
from peft_update_bench.fixtures.files import no_temporary_folder
from peft_update_bench.fixtures.methods import METHODS, takes_rank
from peft_update_bench.fixtures.methods.names import AS_IT_IS

MARKER = "update_tolerance"

_DISABLED = "update benchmark: disabled (--benchmark-disable); each step is tried, none is measured or judged"


def choose_storage(config: pytest.Config) -> None:
    """Keep baselines where the project's table says, unless the command line names another place. Raises UsageError."""
    if config.getoption("benchmark_storage", None) is not None:
        load_without_a_warning()
        try:
            option_hooks.choose_storage(config, options.read_project(config.rootpath))
        except OptionError as error:
            raise pytest.UsageError(str(error)) from None


def begin(session: pytest.Session, tests: Sequence[pytest.Item]) -> None:
    """Make `tests` part of the run. Raises UsageError, in one sentence, before anything runs."""
    config = session.config
    is_first = SESSION not in config.stash
    try:
        if is_first:
            _start(config)
        ours = config.stash[SESSION]
        # One that the baseline has may ask for the fixture while it runs, or no longer.
        recorded = {*ours.users.recorded_names}
        PytestBenchmarkSession(config).skip_none_of(item for item in session.items if item.nodeid in recorded)
        wanted = {*(item.nodeid for item in tests), *recorded}
        ours.users.add(item.nodeid for item in session.items if item.nodeid in wanted)
        assert isinstance(ours.run.tolerances, Tolerances)
        ours.run.tolerances.asked.update((item.nodeid, asked) for item in session.items if (asked := _asked(item)))
        if is_first:
            _refuse_another_root(ours, config, tests)
    except (OptionError, baseline.BaselineError) as error:
        _refuse(config, error)
    ours.users.are_narrowed = lost_tests.is_narrowed(config)
    ours.users.lose(lost_tests.was_collected(session))
    if is_first:
        is_disabled = PytestBenchmarkSession(config).is_disabled
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(_DISABLED if is_disabled else ours.header)
        if ours.tests and not is_disabled:
            start.prepare(config, ours)


def _refuse(config: pytest.Config, error: Exception) -> NoReturn:
    """Raise UsageError. With warnings as errors pytest-benchmark's, of nothing to save, would stand in its place."""
    PytestBenchmarkSession(config).write_nothing()
    raise pytest.UsageError(options.as_typed(str(error), option_hooks.taken(config))) from None


def _refuse_another_root(ours: Session, config: pytest.Config, tests: Sequence[pytest.Item]) -> None:
    """Raises BaselineError where the baseline's tests are this run's, by ids that count from another folder."""
    judge = ours.gate.baseline
    if judge and (found := lost_tests.counted_from(ours.users.recorded_names, tests)):
        was, test, root = found
        raise baseline.BaselineError(
            f"{judge.path}: holds {was}, which is {test.nodeid} in this run, whose root folder is {config.rootpath}; "
            f"expected that of the recording, --rootdir={os.path.relpath(root)}, or where the file was moved a new "
            f"baseline: {ours.run.record_command}"
        )


def begin_without_tests(session: pytest.Session) -> None:
    """Where no test asks for the fixture: a run that should have collected some that the baseline has fails for them.

    Any other run is none of ours, whatever it is compared with. Raises UsageError for a baseline that cannot be read.
    """
    try:
        recorded = _recorded(session.config)
    except baseline.BaselineError as error:
        _refuse(session.config, error)
    is_there = {item.nodeid for item in session.items}.__contains__
    was_collected = lost_tests.was_collected(session)
    if any(is_there(test) or was_collected(test) for test in recorded):
        begin(session, [])
    else:
        PytestBenchmarkSession(session.config).warn_of_nothing_loaded()


def begin_distributed(session: pytest.Session) -> None:
    """Where processes of pytest-xdist's run the tests: hold the run to the baseline, if it has any of users' tests.

    Raises UsageError for a baseline that cannot be read.
    """
    try:
        if _recorded(session.config):
            _start(session.config, refuses_others=False)
            session.config.pluginmanager.register(Distributed(session))
    except (OptionError, baseline.BaselineError) as error:
        _refuse(session.config, error)


def _recorded(config: pytest.Config) -> list[str]:
    """The ids of the tests in the baseline that was named; none where there is none of ours.

    Raises BaselineError where one that may be ours cannot be read, or which one is meant cannot be told.
    """
    theirs = PytestBenchmarkSession(config)
    if theirs.is_disabled or theirs.compare_option is False:
        return []
    try:
        run = _read_run(config)
        storage = run.baseline_folder(options.storage_folder(config.option.benchmark_storage))
    except OptionError:
        return []
    try:
        path = start.baseline_path(run, theirs, storage, theirs.compare_option)
    except baseline.BaselineError:
        if baseline_file.has_steps(storage):
            raise
        return []
    try:
        return [cell.architecture for cell in baseline.read(path).records if cell.is_tests]
    except baseline.ForeignFileError:
        return []


def _start(config: pytest.Config, *, refuses_others: bool = True) -> None:
    """A session of its own, in a run that has no cells of the matrix. Raises OptionError and BaselineError."""
    theirs = PytestBenchmarkSession(config)
    if refuses_others:
        refuse_other_plugins(config)
    if complaint := no_temporary_folder() or theirs.explain_unasked(judges_disabled=False):
        raise OptionError(complaint)
    run, location = _read_run(config), config.option.benchmark_storage
    ours = Session.of(run)
    storage = run.baseline_folder(options.storage_folder(location))
    if not theirs.is_disabled:
        start.find_baseline(ours, theirs, storage, theirs.compare_option)
    start.refuse_unwritable(config, ours, storage)
    config.stash[SESSION] = ours
    config.pluginmanager.register(end, "peft-update-bench-hooks-session")
    start.register_reports(config, ours)
    # Where no place was named, pytest-benchmark's own stays, with a folder for each machine.
    if location != DEFAULT_STORAGE or run.benchmark.folder:
        theirs.store_in(storage)
    ours.gate.machine = read_machine(theirs.machine_info)


def _read_run(config: pytest.Config) -> RunOptions:
    """What the run was asked for. Raises OptionError."""
    project = options.read_project(config.rootpath)
    location = config.option.benchmark_storage
    # What records a baseline runs all tests of a folder, not the one that was looked at.
    folder = config.invocation_params.dir
    words = ["pytest", *(word for word in config.option.file_or_dir if (folder / word).is_dir())]
    if location not in {DEFAULT_STORAGE, f"file://{project.storage_folder}"}:
        words.append(f"--benchmark-storage={location}")
    run = options.read_for(
        project,
        option_hooks.typed(config),
        options.tolerances(project.tolerances, option_hooks.value(config, "tolerance") or []),
        records_baseline=PytestBenchmarkSession(config).is_saving,
        command=shlex.join(words),
        is_of_tests=True,
        taken=option_hooks.taken(config),
    )
    if run.benchmark.name not in {"update", "instructions"}:
        complaint = f"names {run.benchmark.name}, which measures networks of the matrix; expected metrics of a step"
        raise project.located(OptionError(f"--metrics {complaint}"), option_hooks.typed(config))
    return run


def _asked(item: pytest.Item) -> dict[str, float]:
    """The tolerances in the markers of a test; the closest counts. Raises OptionError."""
    found: dict[str, float] = {}
    for mark in reversed(list(item.iter_markers(MARKER))):
        if mark.args:
            raise OptionError(
                f"{item.nodeid}: its marker {MARKER} holds {mark.args[0]!r}; "
                "expected NAME=FRACTION, such as rss_peak=0.1"
            )
        found |= options.read_tolerances(f"in the marker of {item.nodeid}", mark.kwargs)
    return found


class OwnTest:
    """The fixture in one test."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._request = request
        self._benchmark = benchmark
        self._name: str = request.node.nodeid
        self._was_called = False
        # Of one that is run again, as by a marker of pytest-rerunfailures, it says that it has.
        request.node.stash[end.HAS_ENDED] = False
        if SESSION in request.config.stash:
            request.config.stash[SESSION].users.begin(self._name)

    def measure(
        self, build_step: Callable[..., object], *, method: str = AS_IT_IS, rank: int | None = None
    ) -> Record | None:
        """Measure, record and judge the step. Returns its record; None where benchmarks are disabled, and the step is
        only tried."""
        from peft_update_bench.fixtures import own_steps
        from peft_update_bench.fixtures.imported import ImportedNameError

        self._refuse(method, rank)
        ours = self._request.config.stash[SESSION]
        cell = Cell(self._name, method, rank, is_step=True)
        ours.users.tests[self._name] = cell
        refusal = ""
        try:
            own_steps.register(self._name, build_step)
        except ImportedNameError as error:
            refusal = str(error)
        if refusal:  # not where it is handled, or pytest tells both
            self._fail(refusal)
        if self._benchmark.disabled:
            self._try(cell, ours)
            return None
        failure = ours.run_cell(cell, self._benchmark)
        # Of what has measured an update pytest-benchmark then says so where the test uses it once more.
        mark_used(self._benchmark)
        self._request.node.user_properties += ours.properties(cell)
        if failure:
            ours.users.failures[self._name] = failure
            pytest.fail(failure, pytrace=False)
        result = ours.results[cell]
        return result.record

    def close(self) -> None:
        if self._was_called:
            from peft_update_bench.fixtures import own_steps

            own_steps.forget(self._name)
            mark_used(self._benchmark)

    def _try(self, cell: Cell, ours: Session) -> None:
        """Build the step and do it, as before a measurement, and fail the test where that cannot be done."""
        from peft_update_bench.bench.measuring.measurement import described

        failure = ""
        with closing(ours.run.benchmark.wall(ours.run).process()) as process:
            try:
                described(cell, ours.run, process, None)
            except ours.run.benchmark.failures() as error:
                failure = str(error)
        if failure:
            self._fail(failure)

    def _refuse(self, method: str, rank: int | None) -> None:
        """Fail the test, in a sentence, where it cannot be measured as asked."""
        config = self._request.config
        was_called, self._was_called = self._was_called, True
        if hasattr(config, "workerinput"):
            self._fail("pytest-xdist runs it beside others, which would spoil what is measured; run it with -n 0")
        if not is_theirs(self._benchmark):
            what = type(self._benchmark)
            self._fail(
                f"the fixture benchmark gives a {what.__module__}.{what.__qualname__}; expected pytest-benchmark's, "
                "which no conftest replaces by one of that name, and no other plugin, as pytest-codspeed by --codspeed"
            )
        if not self._benchmark.disabled and (complaint := explain_another_process(config)):
            self._fail(complaint)
        if was_called:
            self._fail("update_benchmark is called twice; expected once a test, because the record has the test's id")
        if self._request.node.stash.get(end.HAS_ENDED, False):
            self._fail(
                "update_benchmark is called after the test, as in a fixture behind its yield; expected a call in the "
                "test or before it, because the test passes or fails by what is measured"
            )
        if was_used(self._benchmark):
            self._fail(
                "the test has used its fixture benchmark before, which measures once; expected a test for each, one "
                "with benchmark and one with update_benchmark"
            )
        if SESSION not in config.stash:
            session = self._request.session
            begin(session, [self._request.node])
            # The session's hooks count from the next test on.
            config.stash[SESSION].finished = session.items.index(self._request.node) + 1
        if method == AS_IT_IS:
            if rank is not None:
                self._fail(f"rank is {rank} without a method; expected both or neither")
        elif ":" not in method and method not in METHODS:
            self._fail(f"method is {method!r}; expected one of {', '.join(METHODS)}, or MODULE:NAME for one's own")
        elif takes_rank(method) and (not isinstance(rank, int) or rank < 1):
            self._fail(f"rank is {rank!r}; {method} needs a whole number of at least 1")
        elif rank is not None and not takes_rank(method):
            self._fail(f"rank is {rank}; {method} takes none")

    def _fail(self, message: str) -> NoReturn:
        """Without the test's id, which pytest puts before it, and which would leave no room for the message."""
        if SESSION in self._request.config.stash:
            self._request.config.stash[SESSION].users.refused[self._name] = message
        pytest.fail(message, pytrace=False)
