"""One update step of every cell: FLOPs, memory, latency."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from peft_update_bench.bench.benchmarks.base import Benchmark, Visibly
from peft_update_bench.bench.metrics import METRICS, load
from peft_update_bench.bench.options.cluster import CLUSTER, ON, ClusterOptions, read_cluster
from peft_update_bench.bench.options.values import OptionError, one_of, typed_or, workers_asked
from peft_update_bench.bench.processes.interrupt import interrupt_waits
from peft_update_bench.bench.units import count

if TYPE_CHECKING:
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.gate.gate import Gate, Result
    from peft_update_bench.bench.measuring.measured import Measurement
    from peft_update_bench.bench.measuring.neighbours import Neighbours
    from peft_update_bench.bench.measuring.remembered import Remembered
    from peft_update_bench.bench.options import RunOptions
    from peft_update_bench.bench.processes.cell_process import Process
    from peft_update_bench.fixtures.workload import Workload


MOST_BY_DEFAULT = 8
"""Workers that nobody asked for: a cell that is executed holds a whole update in memory."""


class UpdateBenchmark(Benchmark):
    name = "update"
    options = {  # noqa: RUF012 - as the base class has it
        "workers": "processes that measure cells beside each other, all but their latency; default: one a core, at "
        "most 8",
        "remember": "yes (default) or no: whether computed cells are taken from an earlier run of the same code",
        "cluster": CLUSTER,
        "on": ON,
    }

    def __init__(
        self, workers: int | None = None, cluster: ClusterOptions | None = None, *, remembers: bool = False
    ) -> None:
        self.workers = workers
        """As asked for; None where it is left to the run."""
        self.cluster = cluster
        self._remembers = remembers
        self._memory: Remembered | None = None
        self._known: dict[Cell, Measurement] = {}
        self._process: Process | None = None
        self._beside: Neighbours | None = None
        self._measures_memory_here = False

    @classmethod
    def read(cls, given: Mapping[str, str | None], workload: Workload) -> tuple[Self, Workload]:
        remembers = one_of("remember", typed_or(given, "remember", "yes"), ("yes", "no")) == "yes"
        return cls(workers_asked(given), read_cluster(given), remembers=remembers), workload

    def check_run(self, run: RunOptions) -> None:
        if self.cluster is not None and self.cluster.label is None and run.needs_machine:
            raise OptionError(
                f"--cluster is {self.cluster.address!r} and --metrics {','.join(run.metrics)}; expected --on LABEL, "
                "the node that is timed, or metrics that are computed, such as --metrics flops,memory"
            )
        if (self.workers or 1) == 1:
            return
        if added := _from_elsewhere(run):
            raise OptionError(
                f"--workers is {self.workers} and --metrics {','.join(added)}, which your own code measures; expected "
                "one worker, or other metrics, because nobody knows whether cells beside each other would spoil it"
            )
        if run.metrics == ("latency",):
            raise OptionError(
                f"--workers is {self.workers} and --metrics latency; expected one worker, or other metrics beside it, "
                "because cells beside each other would spoil what is timed"
            )
        if not run.cell_seconds:
            raise OptionError(
                f"--workers is {self.workers} beside --cell-seconds 0, with which cells are measured in pytest's own "
                "process; expected one of the two"
            )

    @property
    def notice(self) -> str:
        if not self._known:
            return ""
        return (
            f"{count(len(self._known), 'cell')} computed by an earlier run of the same code; --remember no computes "
            "anew"
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
            from peft_update_bench.bench.processes.child_process import MeasurementError, start_server

            # While the first cell is computed: its imports take seconds. Where it cannot be started, cells say so.
            with suppress(MeasurementError):
                start_server()
        # What a test builds is known when the test runs.
        matrix = self._unknown(run, [cell for cell in cells if not cell.is_tests])
        if matrix and run.cell_seconds and self._place is None:
            _import_what_measures(run.metrics, for_users=any(cell.is_users for cell in cells))
            self._measure_beside_each_other(run, matrix, visibly)

    def _unknown(self, run: RunOptions, cells: Sequence[Cell]) -> list[Cell]:
        """Those of `cells` that no earlier run has computed by the same code; the others are then known."""
        if self._remembers and self.cluster is None:
            from peft_update_bench.bench.measuring.remembered import Remembered

            self._memory = Remembered.of(run, cells)
        if self._memory is None:
            return [*cells]
        from peft_update_bench.bench.measuring.measured import Measurement

        found = {cell: self._memory.find(cell) for cell in cells}
        self._known = {cell: Measurement(record) for cell, record in found.items() if record is not None}
        return [cell for cell in cells if cell not in self._known]

    def _measure_beside_each_other(self, run: RunOptions, cells: Sequence[Cell], visibly: Visibly) -> None:
        """All but latency; where that is asked for, to the end: it is timed beside nothing."""
        from peft_update_bench.bench.measuring import neighbours

        if self._connection is not None:
            self._beside = neighbours.on_cluster(cells, run, self.cluster_executor(run, alike=False))
            return
        untimed = replace(run, metrics=tuple(name for name in run.metrics if name != "latency"))
        workers = min(len(cells), self.workers or _workers(run))
        if workers < 2 or not untimed.metrics or _from_elsewhere(run):
            return
        from peft_update_bench.bench.processes.child_process import MeasurementError
        from peft_update_bench.bench.processes.local_processes import LocalProcesses

        # Where no process can be started, every cell says so for itself.
        with suppress(MeasurementError):
            processes = LocalProcesses(workers, self.wall(run))
            self._beside = neighbours.on_this_machine(cells, untimed, processes, workers)
        if self._beside is not None and "latency" in run.metrics:
            with visibly():
                self._beside.wait("all but latency")
            self._beside.close()

    def measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Result:
        if "latency" not in run.metrics:
            return gate.judge(self._measure(cell, run, gate, benchmark).record)
        from peft_update_bench.bench.measuring.timing import measure_latency_again

        process = self._where(run)
        measured = self._named(self._time(cell, run, process, gate, benchmark))
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
        from peft_update_bench.bench.measuring.measurement import FAILURES

        return (*FAILURES, BaselineError)

    def close(self) -> None:
        if self._beside is not None:
            self._beside.close()
            self._beside = None
        if self._process is not None:
            self._process.close()
            self._process = None
        if self._memory is not None:
            self._memory.close()
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

    def _measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Measurement:
        """Measure a cell of which nothing is timed. pytest-benchmark's one round is what the measurement took, in a
        group of its own so that nobody reads it as an update's."""
        measured: Measurement
        if cell in self._known:
            benchmark.group = f"{cell.subject} (the time to read what an earlier run computed)"
            measured = benchmark.pedantic(self._known.__getitem__, args=(cell,))
            return measured
        if self._beside is not None and cell in self._beside:
            benchmark.group = f"{cell.subject} (time spent waiting; cells are measured beside each other)"
            measured = _accepted(benchmark.pedantic(self._beside.result, args=(cell,)), gate)
        else:
            from peft_update_bench.bench.measuring.measurement import measure

            group = "update_benchmark" if cell.is_tests else cell.subject
            benchmark.group = f"{group} (the measurement's own time; no update was timed)"
            measured = benchmark.pedantic(measure, args=(cell, run, self._where(run), gate.check_step))
        if self._memory is not None:
            self._memory.keep(measured.record)
        return self._named(measured)

    def _time(self, cell: Cell, run: RunOptions, process: Process, gate: Gate, benchmark: Any) -> Measurement:
        """Measure a cell, its latency too. pytest-benchmark's rounds are the updates that were timed in pairs, and
        nothing else."""
        from peft_update_bench.bench.measuring.measurement import measure
        from peft_update_bench.bench.measuring.timing import measure_latency_of

        benchmark.group = cell.subject
        if self._beside is not None and cell in self._beside:
            measured = measure_latency_of(_accepted(self._beside.result(cell), gate), run, process, gate.decision(cell))
        else:
            measured = measure(cell, run, process, gate.check_step, gate.decision(cell))
        # The plugin opens its statistics by timing a call. One more update would run under other conditions than those
        # that were timed, so it gets an empty call, and the rounds take that one's place.
        benchmark.pedantic(lambda: None)
        if benchmark.stats is not None:  # None under --benchmark-disable
            benchmark.stats.stats.data[:] = measured.step_seconds
        return measured


def _accepted(measured: Measurement, gate: Gate) -> Measurement:
    """What was measured before it was known what the baseline says of it. Raises BaselineError."""
    from peft_update_bench.bench.record import StepWorkload

    record = measured.record
    if isinstance(record.workload, StepWorkload):
        gate.check_step(record.cell, record.workload)
    return measured


def _from_elsewhere(run: RunOptions) -> list[str]:
    """The metrics of the run that a user's own code measures, in this process: beside nothing, as what is timed."""
    return [name for name in run.metrics if METRICS[name].is_from_elsewhere]


def _workers(run: RunOptions) -> int:
    """How many, where it was left to the run: a core for each thread. A GPU's memory is one cell's at a time."""
    if run.workload.device != "cpu":
        return 1
    return min(max(1, (os.cpu_count() or 1) // run.workload.threads), MOST_BY_DEFAULT)


def _import_what_measures(names: Sequence[str], *, for_users: bool) -> None:
    """Import the functions of the metrics named, and all packages, before processes are forked from this one.

    Each would import them for itself, and this one at the end. bitsandbytes, which peft imports where it is installed,
    takes as long as the rest of peft, and is needed where a user's own network has its layers. It would use a GPU when
    it is imported, after which no process could be forked that does. SciPy, which transformers imports where it is
    installed, is for losses of its own.
    """
    from peft_update_bench.bench.record import installed_versions
    from peft_update_bench.fixtures import gpus
    from peft_update_bench.fixtures.hidden_package import hidden
    from peft_update_bench.fixtures.instruments.steady import no_garbage_collection

    with interrupt_waits(), warnings.catch_warnings():
        # What packages warn of while they are imported is no cell's.
        warnings.simplefilter("ignore")
        # Of what is imported nothing is garbage, and the collector would look at all of it time and again.
        with gpus.hidden(), no_garbage_collection(collect_first=False):
            with ExitStack() as unneeded:
                for package in () if for_users else ("bitsandbytes", "scipy"):
                    unneeded.enter_context(hidden(package))
                # Asked now, it remembers that there is none; else it would look for it when it makes its first layer.
                import_module("peft.import_utils").is_bnb_available()
            for name in names:
                load(METRICS[name].measure)
            installed_versions()
