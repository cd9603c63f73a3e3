"""One update step of every cell: FLOPs, memory, latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_update_bench.bench.benchmarks.base import Benchmark, Visibly

if TYPE_CHECKING:
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.gate.gate import Gate, Result
    from peft_update_bench.bench.measurement import Measurement
    from peft_update_bench.bench.options import RunOptions
    from peft_update_bench.bench.processes.cell_process import Process


class UpdateBenchmark(Benchmark):
    name = "update"

    def __init__(self) -> None:
        self._process: Process | None = None
        self._measures_memory_here = False

    @property
    def remarks(self) -> list[str]:
        if not self._measures_memory_here:
            return []
        return [
            "Memory was measured in pytest's own process (--cell-seconds 0): what that process had free is left out of "
            "it, what it imported meanwhile is not. It is no figure to compare or to record."
        ]

    def prepare(self, run: RunOptions, cells: Sequence[Cell], visibly: Visibly) -> None:
        measures_memory = bool(cells) and "measured_memory" in run.metrics
        self._measures_memory_here = measures_memory and not run.cell_seconds
        if measures_memory and run.cell_seconds:
            from peft_update_bench.bench.processes.child_process import start_server

            # While the first cell is computed: its imports take seconds.
            start_server()

    def measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Result:
        from peft_update_bench.bench.timing import measure_latency_again

        process = self._where(run)
        measured = self._measure(cell, run, process, gate, benchmark)
        result = gate.judge(measured.record, measured.median_seconds)
        if result.is_unstable and not result.suspects_slowdown:
            measured = measure_latency_again(measured, run, process)
            result = gate.judge(measured.record, measured.median_seconds)
        if result.suspects_slowdown:
            # A slowdown fails only if a measurement that was not chosen for being slow shows it too.
            measured = measure_latency_again(measured, run, process, gate.decision(cell))
            result = gate.judge(measured.record, measured.median_seconds, confirming=True)
        return result

    @classmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        from peft_update_bench.bench.gate.baseline import BaselineError
        from peft_update_bench.bench.measurement import FAILURES

        return (*FAILURES, BaselineError)

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def _where(self, run: RunOptions) -> Process:
        """Where cells are measured."""
        if self._process is None:
            from peft_update_bench.bench.processes.cell_process import CellProcess, ThisProcess

            limited = CellProcess(run.cell_seconds, self.failures(), run.workload.device, run.workload.threads)
            self._process = limited if run.cell_seconds else ThisProcess()
        return self._process

    def _measure(self, cell: Cell, run: RunOptions, process: Process, gate: Gate, benchmark: Any) -> Measurement:
        """Measure a cell and give pytest-benchmark its rounds.

        With latency these are the updates that were timed in pairs, and nothing else. Without, nothing was updated: the
        one round is what the measurement took, in a group of its own so that nobody reads it as an update's.
        """
        from peft_update_bench.bench.measurement import measure

        if "latency" not in run.metrics:
            group = "update_benchmark" if cell.is_tests else cell.architecture
            benchmark.group = f"{group} (the measurement's own time; no update was timed)"
            measurement: Measurement = benchmark.pedantic(measure, args=(cell, run, process, gate.check_step))
            return measurement
        benchmark.group = cell.architecture
        measurement = measure(cell, run, process, gate.check_step)
        # The plugin opens its statistics by timing a call. One more update would run under other conditions than those
        # that were timed, so it gets an empty call, and the rounds take that one's place.
        benchmark.pedantic(lambda: None)
        if benchmark.stats is not None:  # None under --benchmark-disable
            benchmark.stats.stats.data[:] = measurement.step_seconds
        return measurement
