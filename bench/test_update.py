"""The benchmark: one update step of every cell, measured, recorded and judged against the baseline."""

from __future__ import annotations

from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.gate import Gate
from peft_update_bench.bench.measurement import CellError, Measurement, measure, measure_latency_again
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.processes.cell_process import Process


def select_cells(gate: Gate) -> list[Cell]:
    """The run's cells, none where it asks for adaptation. One that the baseline has and the run no longer has is a test
    too: one that fails."""
    if gate.run.adaptation is not None:
        return []
    return [*gate.cells, *sorted(gate.missing, key=str)]


def test_update(
    architecture: str, method: str, rank: int | None, run: RunOptions, gate: Gate, process: Process, benchmark: Any
) -> None:
    """Measure one cell; fail if it does not train, cannot be measured, or does not hold its baseline."""
    cell = Cell(architecture, method, rank)
    if cell in gate.missing:
        pytest.fail(gate.lose(cell), pytrace=False)
    try:
        failure = _judged(benchmark, cell, run, gate, process)
    except CellError as error:
        failure = gate.fail(cell, str(error))
    if failure:
        pytest.fail(failure, pytrace=False)


def _judged(benchmark: Any, cell: Cell, run: RunOptions, gate: Gate, process: Process) -> str:
    """Measure and judge one cell; returns the failure's message, empty if it holds its baseline."""
    measurement = _timed(benchmark, cell, run, process)
    result = gate.judge(measurement.record, measurement.median_seconds)
    if gate.finds_unstable(result) and not gate.suspects_slowdown(result):
        measurement = measure_latency_again(measurement, run, process)
        result = gate.judge(measurement.record, measurement.median_seconds)
    if gate.suspects_slowdown(result):
        # A slowdown fails only if a measurement that was not chosen for being slow shows it too.
        measurement = measure_latency_again(measurement, run, process, gate.decision(cell))
        result = gate.judge(measurement.record, measurement.median_seconds, confirming=True)
    benchmark.extra_info.update(measurement.record.as_extra_info())
    return gate.failure(result)


def _timed(benchmark: Any, cell: Cell, run: RunOptions, process: Process) -> Measurement:
    """Measure a cell and give pytest-benchmark its rounds.

    With latency these are the updates that were timed in pairs, and nothing else. Without, nothing was updated: the one
    round is what the measurement took, in a group of its own so that nobody reads it as an update's.
    """
    if "latency" not in run.metrics:
        benchmark.group = f"{cell.architecture} (the measurement's own time; no update was timed)"
        measurement: Measurement = benchmark.pedantic(measure, args=(cell, run, process))
        return measurement
    benchmark.group = cell.architecture
    measurement = measure(cell, run, process)
    # The plugin opens its statistics by timing a call. One more update would run under other conditions than those that
    # were timed, so it gets an empty call, and the rounds take that one's place.
    benchmark.pedantic(_nothing)
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.stats.stats.data[:] = measurement.step_seconds
    return measurement


def _nothing() -> None:
    pass
