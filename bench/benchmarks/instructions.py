"""Instructions of one update step of every cell, counted under valgrind: the same figure on every machine.

A benchmark of its own, because it needs no quiet machine: all cells are counted beside each other, in as many processes
as the machine has cores, while the tests wait for their own. Its baseline is a folder of its own, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from peft_update_bench.bench.benchmarks.base import Benchmark, Visibly
from peft_update_bench.bench.options.values import OptionError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from peft_update_bench.bench.cells import Cell
    from peft_update_bench.bench.gate.gate import Gate, Result
    from peft_update_bench.bench.options import RunOptions
    from peft_update_bench.bench.processes.cell_process import Process
    from peft_update_bench.fixtures.instruments.instructions import Instructions, Workers
    from peft_update_bench.fixtures.workload import Workload

SLOWER = 10
"""How many times longer than `--cell-seconds` says a cell may take under valgrind."""


class InstructionsBenchmark(Benchmark):
    name = "instructions"
    folder = "instructions"

    def __init__(self) -> None:
        self._workers: Workers | None = None
        self._process: Process | None = None
        self._counted: dict[Cell, Future[Instructions]] = {}

    @classmethod
    def read(cls, given: Mapping[str, str | None], workload: Workload) -> tuple[Self, Workload]:
        from peft_update_bench.fixtures.instruments.instructions import InstructionsError, conditions

        if (workload.device, workload.threads) != ("cpu", 1):
            raise OptionError(
                "--metrics instructions counts on the CPU with one thread; "
                f"given --device {workload.device} --threads {workload.threads}"
            )
        try:
            conditions()
        except InstructionsError as error:
            raise OptionError(f"--metrics instructions: {error}") from None
        return cls(), workload

    @property
    def repeat(self) -> list[str]:
        return [f"--metrics {self.name}"]

    def prepare(self, run: RunOptions, cells: Sequence[Cell], visibly: Visibly) -> None:
        from peft_update_bench.fixtures.instruments.instructions import Workers

        if not cells:
            return
        self._workers = Workers(len(cells))
        for cell in cells:
            # What a test builds is known when the test runs.
            if not cell.is_tests:
                self._submit(cell, run)

    def _submit(self, cell: Cell, run: RunOptions) -> None:
        from peft_update_bench.fixtures import own_steps
        from peft_update_bench.fixtures.instruments.instructions import InstructionsError
        from peft_update_bench.fixtures.update_step import build_update_step

        assert self._workers is not None, "a run prepares a benchmark before it measures"
        limit_s = SLOWER * run.cell_seconds or 24 * 3600
        if not cell.is_step:
            given = (cell.architecture, cell.method, cell.rank, run.workload)
            self._counted[cell] = self._workers.submit(build_update_step, *given, limit_s=limit_s)
            return
        name = own_steps.importable_name(cell.architecture)
        if not name:
            raise InstructionsError(
                "instructions are counted in a process under valgrind, which must import what builds the step; "
                "expected a function at the top of a module on Python's path, not one within a test or a lambda"
            )
        seed = run.workload.seed
        self._counted[cell] = self._workers.submit(own_steps.build, name, cell.method, cell.rank, seed, limit_s=limit_s)

    def measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Result:
        from peft_update_bench.bench.measurement import described, record_of

        workload, parts = described(cell, run, self._process_of(run), gate.check_step)
        if cell not in self._counted:
            self._submit(cell, run)
        benchmark.group = f"{cell.architecture} (time spent waiting; cells are counted beside each other)"
        counted = benchmark.pedantic(self._counted[cell].result)
        return gate.judge(record_of(cell, workload, {**parts, "instructions": counted.as_record()}))

    def _process_of(self, run: RunOptions) -> Process:
        """Where a user's own step is tried."""
        if self._process is None:
            from peft_update_bench.bench.processes.cell_process import CellProcess, ThisProcess

            self._process = CellProcess(run.cell_seconds, self.failures()) if run.cell_seconds else ThisProcess()
        return self._process

    @classmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        from peft_update_bench.bench.gate.baseline import BaselineError
        from peft_update_bench.bench.measurement import FAILURES
        from peft_update_bench.fixtures.instruments.instructions import InstructionsError

        return (InstructionsError, BaselineError, *FAILURES)

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None
        if self._workers is not None:
            self._workers.close()
            self._workers = None
