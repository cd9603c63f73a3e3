"""Instructions of one update step of every cell, counted under valgrind: the same figure on every machine.

A benchmark of its own, because it needs no quiet machine: all cells are counted beside each other, in as many processes
as the machine has cores, or ``--workers`` says, while the tests wait for their own. What is counted is kept until all
is recorded (``kept_counts.py``). Its baseline is a folder of its own, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from peft_update_bench.bench.benchmarks.base import Benchmark, Visibly
from peft_update_bench.bench.options.cluster import CLUSTER, ON, ClusterOptions, read_cluster
from peft_update_bench.bench.options.values import OptionError, workers_asked
from peft_update_bench.bench.units import count

if TYPE_CHECKING:
    from peft_update_bench.bench.benchmarks.kept_counts import KeptCounts
    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.gate.gate import Gate, Result
    from peft_update_bench.bench.options import RunOptions
    from peft_update_bench.bench.processes.cell_process import Process
    from peft_update_bench.bench.processes.executor import Wall
    from peft_update_bench.fixtures.instruments.instructions import Instructions, Workers
    from peft_update_bench.fixtures.workload import Workload

SLOWER = 10
"""How many times longer than `--cell-seconds` says a cell may take under valgrind."""


class InstructionsBenchmark(Benchmark):
    name = "instructions"
    folder = "instructions"
    options = {  # noqa: RUF012 - as the base class has it
        "workers": "processes that count beside each other; default: one a core, where memory allows that",
        "cluster": CLUSTER,
        "on": ON,
    }

    def __init__(self, workers: int | None = None, cluster: ClusterOptions | None = None) -> None:
        self.workers = workers
        """As asked for; None where it is left to the run."""
        self.cluster = cluster
        self._workers: Workers | None = None
        self._process: Process | None = None
        self._kept: KeptCounts | None = None
        self._counted: dict[Cell, Future[Instructions]] = {}

    @classmethod
    def read(cls, given: Mapping[str, str | None], workload: Workload) -> tuple[Self, Workload]:
        from peft_update_bench.fixtures.instruments.instructions import InstructionsError, conditions

        if (workload.device, workload.threads) != ("cpu", 1):
            raise OptionError(
                "--metrics instructions counts on the CPU with one thread; "
                f"given --device {workload.device} --threads {workload.threads}"
            )
        cluster = read_cluster(given)
        if cluster is not None:
            if cluster.label is None:
                raise OptionError(
                    f"--cluster is {cluster.address!r} and --metrics instructions; expected --on LABEL, the node that "
                    "counts"
                )
            return cls(cluster=cluster), workload
        workers = workers_asked(given)
        try:
            conditions()
        except InstructionsError as error:
            raise OptionError(f"--metrics instructions: {error}") from None
        return cls(workers), workload

    @property
    def repeat(self) -> list[str]:
        return [f"--metrics {self.name}", *super().repeat]

    @property
    def remarks(self) -> list[str]:
        if self._kept is None or not self._kept.found:
            return super().remarks
        number = count(len(self._kept.found), "cell")
        return [*super().remarks, f"{number} counted by a run that did not finish, found in {self._kept.folder}."]

    def prepare(self, run: RunOptions, cells: Sequence[Cell], visibly: Visibly) -> None:
        from peft_update_bench.bench.benchmarks.kept_counts import KeptCounts
        from peft_update_bench.fixtures.instruments.instructions import Workers

        if not cells or self._place is not None:
            return
        self._kept = KeptCounts.of(run, cells)
        found = {} if self._kept is None else self._kept.found
        for cell, counted in found.items():
            self._counted[cell] = Future()
            self._counted[cell].set_result(counted)
        missing = [cell for cell in cells if cell not in found]
        if missing:
            self._workers = Workers(len(missing), self.workers)
        for cell in missing:
            # What a test builds is known when the test runs.
            if not cell.is_tests:
                self._submit(cell, run)

    def wall(self, run: RunOptions) -> Wall:
        usual = super().wall(run)
        return replace(usual, limit_s=SLOWER * usual.limit_s)

    def _submit(self, cell: Cell, run: RunOptions) -> None:
        from peft_update_bench.fixtures import own_steps
        from peft_update_bench.fixtures.instruments.instructions import InstructionsError
        from peft_update_bench.fixtures.update_step import build_update_step

        limit_s = SLOWER * run.cell_seconds or 24 * 3600
        if not cell.is_step:
            given = (cell.architecture, cell.method, cell.rank, run.of(cell).workload)
            self._count(cell, build_update_step, given, limit_s)
            return
        name = own_steps.importable_name(cell.architecture)
        if not name:
            raise InstructionsError(
                "instructions are counted in a process under valgrind, which must import what builds the step; "
                "expected a function at the top of a module on Python's path, not one within a test or a lambda"
            )
        self._count(cell, own_steps.build, (name, cell.method, cell.rank, run.workload.seed), limit_s)

    def _count(self, cell: Cell, build: Callable[..., Any], given: tuple[Any, ...], limit_s: float) -> None:
        """Have a cell counted beside others here, or now by the node that was named."""
        if self._place is None:
            assert self._workers is not None, "a run prepares a benchmark before it measures"
            self._counted[cell] = self._workers.submit(build, *given, limit_s=limit_s)
            if self._kept is not None:
                self._counted[cell].add_done_callback(partial(_keep, self._kept, cell))
            return
        counted: Future[Instructions] = Future()
        counted.set_result(self._place.call(count_here, build, given, limit_s))
        self._counted[cell] = counted

    def measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Result:
        from peft_update_bench.bench.measuring.measurement import described, record_of, update_once

        process = self._process_of(run)
        workload, parts = described(cell, run, process, gate.check_step)
        if cell not in self._counted:
            self._submit(cell, run)
        counting = self._counted[cell]
        if not (cell.is_step or (counting.done() and counting.exception() is None)):
            # What cannot be done at all says so now, and where, not after valgrind's minutes.
            process.call(update_once, cell, run.of(cell).workload)
        benchmark.group = f"{cell.subject} (time spent waiting; cells are counted beside each other)"
        counted = benchmark.pedantic(counting.result)
        if self._kept is not None:
            self._kept.hand_out(cell)
        if self._place is not None:
            parts["made_on"] = [self._place.made_on.model_dump()]
        return gate.judge(record_of(cell, workload, {**parts, "instructions": counted.as_record()}))

    def _process_of(self, run: RunOptions) -> Process:
        """Where a cell is tried."""
        if self._place is not None:
            return self._place
        if self._process is None:
            from peft_update_bench.bench.processes.cell_process import CellProcess, ThisProcess

            self._process = CellProcess(run.cell_seconds, self.failures()) if run.cell_seconds else ThisProcess()
        return self._process

    @classmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        from peft_update_bench.bench.gate.baseline import BaselineError
        from peft_update_bench.bench.measuring.measurement import FAILURES
        from peft_update_bench.fixtures.instruments.instructions import InstructionsError

        return (InstructionsError, BaselineError, *FAILURES)

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
        if self._workers is not None:
            self._workers.close()
            self._workers = None
        super().close()

    def forget(self) -> None:
        if self._kept is not None:
            self._kept.forget()


def _keep(kept: KeptCounts, cell: Cell, counted: Future[Instructions]) -> None:
    if not counted.cancelled() and counted.exception() is None:
        kept.keep(cell, counted.result())


_WORKERS: list[Workers] = []
"""Of a process that counts for another machine: one, which serves all cells."""


def count_here(build: Callable[..., Any], given: tuple[Any, ...], limit_s: float) -> Instructions:
    """Count one step after the other in this process. Raises InstructionsError."""
    from peft_update_bench.fixtures.instruments.instructions import Workers

    if not _WORKERS:
        _WORKERS.append(Workers(1))
    return _WORKERS[0].submit(build, *given, limit_s=limit_s).result()
