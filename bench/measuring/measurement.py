"""One cell measured: every instrument that was asked for, put together into a record.

What a metric's row names as its function is in ``computing.py``, ``executing.py`` or ``timing.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, chdir
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.slowdown import Decision
from peft_update_bench.bench.gate.tolerances import asked_by
from peft_update_bench.bench.measuring.measured import Measurement
from peft_update_bench.bench.metrics import METRICS, is_from_elsewhere, load, rows
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.processes.cell_process import Process
from peft_update_bench.bench.processes.child_process import MeasurementError
from peft_update_bench.bench.record import (
    SCHEMA,
    Record,
    RecordError,
    StepWorkload,
    installed_versions,
    read_record,
)
from peft_update_bench.fixtures import global_state, own_steps
from peft_update_bench.fixtures.architectures import UnsupportedNetworkError
from peft_update_bench.fixtures.imported import ImportedNameError, may_warn, told
from peft_update_bench.fixtures.instruments import cuda
from peft_update_bench.fixtures.instruments.computed import Computed
from peft_update_bench.fixtures.instruments.computed.result import ResultError
from peft_update_bench.fixtures.instruments.latency.clock import LatencyError
from peft_update_bench.fixtures.instruments.steady import fixed_threads
from peft_update_bench.fixtures.instruments.tracing.trace import NotComputableError
from peft_update_bench.fixtures.step_trial import try_out
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.whole_step import OwnStepError, Step
from peft_update_bench.fixtures.workload import Workload


class NotTrainingError(Exception):
    """An update that does not train: its loss is not finite, or what it should train stays where it is."""


class LeakError(Exception):
    """An update that keeps more memory at every step."""


class NotRepeatableError(Exception):
    """An update that is another one each time, from the same seed."""


FAILURES = (
    NotTrainingError,
    LeakError,
    NotRepeatableError,
    ResultError,
    NotComputableError,
    UnsupportedNetworkError,
    ImportedNameError,
    OwnStepError,
    MeasurementError,
    LatencyError,
    RecordError,
)
"""What one cell may fail with, each a sentence for the user; the other cells still run."""


@dataclass
class Measuring:
    """A cell while it is measured: what every metric's function is given, and what those before it found.

    `sections` become the record's. `decision` is what the latency is to tell. `process` is where anything heavy is
    called; its functions, arguments and results must be picklable.
    """

    cell: Cell
    run: RunOptions
    process: Process
    decision: Decision | None = None
    sections: dict[str, object] = field(default_factory=dict)
    computed: Computed | None = None
    step_seconds: tuple[float, ...] = ()

    def add_remarks(self, remarks: Sequence[str]) -> None:
        """Keep what a reader of the record should know, each a sentence."""
        if remarks:
            before = self.sections.get("remarks", [])
            assert isinstance(before, list)
            self.sections["remarks"] = [*dict.fromkeys((*before, *remarks))]

    def builder(self, device: str) -> Callable[[], Step]:
        """Builds the cell's step on `device`; picklable."""
        return partial(build_step, self.cell, self.run.workload, device)


Accept = Callable[[Cell, StepWorkload], None]
"""Refuses the workload of a user's own step by what it raises."""


def measure(
    cell: Cell,
    run: RunOptions,
    process: Process,
    accept: Accept | None = None,
    decision: Decision | None = None,
) -> Measurement:
    """Measure `cell` by every metric that `run` names, none of them in this process but where `process` says so.

    `accept` may refuse the workload of a user's own step, which is not known before the step was built and tried. A
    `decision` that can be made early ends the timing.

    Raises one of FAILURES, and what `accept` raises.
    """
    run = run.of(cell)
    workload, parts = described(cell, run, process, accept)
    measuring = Measuring(cell, run, process, decision, parts)
    for function in dict.fromkeys(METRICS[name].measure for name in run.metrics):
        _call(function, measuring)
    _must_have_measured(measuring)
    if cell.is_users and not cell.is_step:
        workload = process.call(_as_run, cell, run.workload)
    if run.needs_machine:
        device = workload.device if isinstance(workload, Workload) else str(workload["device"])
        measuring.sections.update(gpu_of(device, process))
    record = record_of(cell, workload, measuring.sections)
    _must_be_told(record, run.metrics)
    return Measurement(record, measuring.step_seconds)


def _call(function: str, measuring: Measuring) -> None:
    """Let a metric's function measure. What one from elsewhere sets for this process is set back, and what it raises is
    its cell's failure."""
    if not is_from_elsewhere(function):
        load(function)(measuring)
        return
    with global_state.restored(), chdir(Path.cwd()):
        try:
            load(function)(measuring)
        except (*FAILURES, KeyboardInterrupt):
            raise
        except BaseException as error:  # what ends a test or a run, as pytest.skip and sys.exit, would end this one
            raise MeasurementError(f"{function} raises {told(error)}") from error


def _must_have_measured(measuring: Measuring) -> None:
    """Raise MeasurementError where a metric has no section: nothing would judge it, and the cell would pass."""
    for name in measuring.run.metrics:
        if METRICS[name].is_always_known and name not in (measuring.sections or ()):
            raise MeasurementError(
                f"{METRICS[name].measure} leaves no measuring.sections[{name!r}]; expected what it measured"
            )


def _must_be_told(record: Record, names: tuple[str, ...]) -> None:
    """Raise MeasurementError where a column or the conditions of a metric from elsewhere raise: a table that ends in a
    traceback would take all cells' figures with it."""
    for row in rows(names):
        metric, section = row.metric, row.metric.of(record)
        if not is_from_elsewhere(metric.section):
            continue
        try:
            for column in filter(None, (row.figure.column, row.figure.brief)):
                row.entry(record, column)
            if metric.conditions is not None and section is not None:
                metric.conditions(section, section)
        except Exception as error:  # a user's code may raise anything
            raise MeasurementError(f"{row} cannot be told: {told(error)}") from error


def gpu_of(device: str, process: Process) -> dict[str, str]:
    """The `gpu` of a record of figures that were measured on `device`, if it is one."""
    return {"gpu": process.call(cuda.gpu_name)} if device.startswith("cuda") else {}


def described(
    cell: Cell, run: RunOptions, process: Process, accept: Accept | None
) -> tuple[Workload | Mapping[str, Any], dict[str, object]]:
    """Begin a cell: its workload, and the sections of its record that are known before it is measured.

    A user's own step is built and tried for that.
    """
    process.begin(cell.users_code, anew=cell.is_tests)
    if not cell.is_step:
        return run.of(cell).workload, {}
    trial = process.call(try_out, cell.architecture, cell.method, cell.rank, run.workload.seed, run.workload.threads)
    if accept is not None:
        accept(cell, StepWorkload(**trial.workload))
    parts: dict[str, object] = {}
    if trial.remarks:
        parts["remarks"] = trial.remarks
    if asked := asked_by(run.tolerances, str(cell)):
        parts["tolerances"] = asked
    return trial.workload, parts


def _as_run(cell: Cell, workload: Workload) -> Workload:
    """`workload` with the optimizer and the dtype that a user's own method and network really have."""
    with users_warnings(cell):
        return as_run(build_update_step(cell.architecture, cell.method, cell.rank, workload, "meta"), workload)


def as_run(step: UpdateStep, workload: Workload) -> Workload:
    """`workload` with the optimizer and the dtype of `step`, unless it asked for others than usual."""
    optimizer = step.optimizer_name if workload.optimizer == Workload.optimizer else workload.optimizer
    dtype = step.dtype if workload.dtype == Workload.dtype else workload.dtype
    return replace(workload, optimizer=optimizer, dtype=dtype)


def build_step(cell: Cell, workload: Workload, device: str) -> Step:
    """A cell's step; a user's own says itself which device it is on."""
    if cell.is_step:
        return own_steps.build(cell.architecture, cell.method, cell.rank, workload.seed)
    return build_update_step(cell.architecture, cell.method, cell.rank, workload, device=device)


def update_once(cell: Cell, workload: Workload) -> None:
    """Build a cell's step and do it. Raises what it raises."""
    with users_warnings(cell), fixed_threads(workload.threads):
        build_step(cell, workload, workload.device)()


def users_warnings(cell: Cell) -> AbstractContextManager[object]:
    """Where warnings are errors, as in this suite's own runs, a user's own network or method may still warn."""
    return may_warn() if cell.is_users else warnings.catch_warnings()


def record_of(cell: Cell, workload: Workload | Mapping[str, Any], parts: Mapping[str, object]) -> Record:
    """The record of `cell` under `workload`; `parts` are its sections, and versions where these are more than usual."""
    identity: dict[str, object] = {"architecture": cell.architecture, "method": cell.method}
    if cell.rank is not None:
        identity["rank"] = cell.rank
    if cell.batch_size is not None:
        identity["batch_size"] = cell.batch_size
    held_for = workload.as_record() if isinstance(workload, Workload) else dict(workload)
    versions = installed_versions(cell.method)
    return read_record({"schema": SCHEMA, **identity, "workload": held_for, "versions": versions, **parts})
