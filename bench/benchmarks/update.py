"""One update step of every cell: FLOPs, memory, latency."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from peft_update_bench.bench.benchmarks.base import Benchmark, Visibly
from peft_update_bench.bench.options.cluster import CLUSTER, ON, ClusterOptions, read_cluster
from peft_update_bench.bench.options.values import OptionError, whole_number

if TYPE_CHECKING:
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.gate.gate import Gate, Result
    from peft_update_bench.bench.measurement import Measurement
    from peft_update_bench.bench.options import RunOptions
    from peft_update_bench.bench.processes.cell_process import Process
    from peft_update_bench.bench.processes.neighbours import Neighbours
    from peft_update_bench.fixtures.workload import Workload


MOST_BY_DEFAULT = 8
"""Workers that nobody asked for: users' own cells are executed, and each then holds a whole update in memory."""


class UpdateBenchmark(Benchmark):
    name = "update"
    options = {  # noqa: RUF012 - as the base class has it
        "workers": "processes that compute cells beside each other, where nothing is timed or measured; default: one a "
        "core, at most 8",
        "cluster": CLUSTER,
        "on": ON,
    }

    def __init__(self, workers: int | None = None, cluster: ClusterOptions | None = None) -> None:
        self.workers = workers
        """As asked for; None where it is left to the run."""
        self.cluster = cluster
        self._process: Process | None = None
        self._beside: Neighbours | None = None
        self._measures_memory_here = False

    @classmethod
    def read(cls, given: Mapping[str, str | None], workload: Workload) -> tuple[Self, Workload]:
        workers = given.get("workers")
        return cls(None if workers is None else whole_number("workers", workers), read_cluster(given)), workload

    def check_run(self, run: RunOptions) -> None:
        if self.cluster is not None and self.cluster.label is None and run.needs_machine:
            raise OptionError(
                f"--cluster is {self.cluster.address!r} and --metrics {','.join(run.metrics)}; expected --on LABEL, "
                "the node that is timed, or metrics that are computed, such as --metrics flops,memory"
            )
        if (self.workers or 1) == 1:
            return
        if run.needs_machine:
            raise OptionError(
                f"--workers is {self.workers} and --metrics {','.join(run.metrics)}; expected one worker, or metrics "
                "that are computed, such as --metrics flops,memory, because cells beside each other would spoil what "
                "is timed"
            )
        if not run.cell_seconds:
            raise OptionError(
                f"--workers is {self.workers} beside --cell-seconds 0, with which cells are measured in pytest's own "
                "process; expected one of the two"
            )

    @property
    def remarks(self) -> list[str]:
        if not self._measures_memory_here:
            return super().remarks
        return [
            "Memory was measured in pytest's own process (--cell-seconds 0): what that process had free is left out of "
            "it, what it imported meanwhile is not. It is no figure to compare or to record."
        ]

    def prepare(self, run: RunOptions, cells: Sequence[Cell], visibly: Visibly) -> None:
        measures_memory = bool(cells) and "measured_memory" in run.metrics
        self._measures_memory_here = measures_memory and not run.cell_seconds
        if measures_memory and run.cell_seconds and self.cluster is None:
            from peft_update_bench.bench.processes.child_process import start_server

            # While the first cell is computed: its imports take seconds.
            start_server()
        # What a test builds is known when the test runs.
        matrix = [cell for cell in cells if not cell.is_tests]
        if matrix and run.cell_seconds and self._place is None:
            _import_what_measures(run.metrics, for_users=any(cell.is_users for cell in cells))
        if not run.needs_machine and run.cell_seconds and self._place is None:
            self._compute_beside_each_other(run, matrix)

    def _compute_beside_each_other(self, run: RunOptions, cells: Sequence[Cell]) -> None:
        from peft_update_bench.bench.processes.neighbours import Neighbours

        if self._connection is not None:
            executor = self.cluster_executor(run, alike=False)
            self._beside = Neighbours(cells, run, executor, 1)
            return
        workers = min(len(cells), self.workers or min(os.cpu_count() or 1, MOST_BY_DEFAULT))
        if workers < 2:
            return
        from peft_update_bench.bench.processes.child_process import MeasurementError
        from peft_update_bench.bench.processes.local_processes import LocalProcesses

        # Where no process can be started, every cell says so for itself.
        with suppress(MeasurementError):
            self._beside = Neighbours(cells, run, LocalProcesses(workers, self.wall(run)), workers)

    def measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Result:
        if self._beside is not None and cell in self._beside:
            benchmark.group = f"{cell.subject} (time spent waiting; cells are computed beside each other)"
            computed: Measurement = benchmark.pedantic(self._beside.result, args=(cell,))
            return _judge_computed(computed, gate)
        from peft_update_bench.bench.timing import measure_latency_again

        process = self._where(run)
        measured = self._measure(cell, run, process, gate, benchmark)
        measured = self._named(measured)
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
        if self._beside is not None:
            self._beside.close()
            self._beside = None
        if self._process is not None:
            self._process.close()
            self._process = None
        super().close()

    def _named(self, measured: Measurement) -> Measurement:
        """With the node that it was measured on."""
        if self._place is None:
            return measured
        return replace(measured, record=measured.record.model_copy(update={"made_on": [self._place.made_on]}))

    def _where(self, run: RunOptions) -> Process:
        """Where cells are measured."""
        if self._place is not None:
            return self._place
        if self._process is None:
            from peft_update_bench.bench.processes.cell_process import ThisProcess

            self._process = self.wall(run).process() if run.cell_seconds else ThisProcess()
        return self._process

    def _measure(self, cell: Cell, run: RunOptions, process: Process, gate: Gate, benchmark: Any) -> Measurement:
        """Measure a cell and give pytest-benchmark its rounds.

        With latency these are the updates that were timed in pairs, and nothing else. Without, nothing was updated: the
        one round is what the measurement took, in a group of its own so that nobody reads it as an update's.
        """
        from peft_update_bench.bench.measurement import measure

        if "latency" not in run.metrics:
            group = "update_benchmark" if cell.is_tests else cell.subject
            benchmark.group = f"{group} (the measurement's own time; no update was timed)"
            measurement: Measurement = benchmark.pedantic(measure, args=(cell, run, process, gate.check_step))
            return measurement
        benchmark.group = cell.subject
        measurement = measure(cell, run, process, gate.check_step)
        # The plugin opens its statistics by timing a call. One more update would run under other conditions than those
        # that were timed, so it gets an empty call, and the rounds take that one's place.
        benchmark.pedantic(lambda: None)
        if benchmark.stats is not None:  # None under --benchmark-disable
            benchmark.stats.stats.data[:] = measurement.step_seconds
        return measurement


def _judge_computed(computed: Measurement, gate: Gate) -> Result:
    """Judge what was computed before it was known what the baseline says of it."""
    from peft_update_bench.bench.record import StepWorkload

    record = computed.record
    if isinstance(record.workload, StepWorkload):
        gate.check_step(record.cell, record.workload)
    return gate.judge(record)


def _import_what_measures(names: Sequence[str], *, for_users: bool) -> None:
    """Import the functions of the metrics named, and all packages, before processes are forked from this one.

    Each would import them for itself, and this one at the end. bitsandbytes, which peft imports where it is installed,
    takes as long as the rest of peft, and is needed where a user's own network has its layers.
    """
    from peft_update_bench.bench.metrics import METRICS, load
    from peft_update_bench.bench.record import installed_versions
    from peft_update_bench.fixtures.hidden_package import hidden

    with warnings.catch_warnings(), nullcontext() if for_users else hidden("bitsandbytes"):
        # What packages warn of while they are imported is no cell's.
        warnings.simplefilter("ignore")
        for name in names:
            load(METRICS[name].measure)

        installed_versions()
