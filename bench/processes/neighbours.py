"""Cells computed beside each other by an executor.

For what is computed: a figure that is timed or measured would be spoiled by a neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import groupby
from typing import Any

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measurement import Measurement, measure
from peft_update_bench.bench.options import RunOptions, import_modules
from peft_update_bench.bench.processes.cell_process import ThisProcess
from peft_update_bench.bench.processes.executor import Done, Executor, Task
from peft_update_bench.bench.record import read_record


class Neighbours:
    """All `cells` of a run, each computed once by `executor`, beside `number` others.

    Those that share most go to one process, because what is remembered of one cell another need not compute again:
    cells of one architecture, or where there are fewer of these than processes, of one method.
    """

    def __init__(self, cells: Sequence[Cell], run: RunOptions, executor: Executor, number: int) -> None:
        self._executor = executor
        self._futures: dict[Cell, Future[Done[Mapping[str, Any]]]] = {}
        # The run as it was asked for: what its benchmark has begun since stays here.
        asked = replace(run, benchmark=type(run.benchmark)())
        for part in divided(cells, number):
            futures = executor.submit(*(Task(compute, (cell, asked)) for cell in part))
            self._futures.update(zip(part, futures, strict=True))

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._futures

    def result(self, cell: Cell) -> Measurement:
        """What was computed of `cell`; waits for it. Raises MeasurementError."""
        done = self._futures[cell].result()
        where = {} if done.made_on is None else {"made_on": [done.made_on.model_dump()]}
        return Measurement(read_record({**done.result, **where}))

    def close(self) -> None:
        self._executor.close()


def compute(cell: Cell, run: RunOptions) -> Mapping[str, Any]:
    """The function of a cell's task: its record, as it is written."""
    import_modules(run.modules)
    return measure(cell, run, ThisProcess()).record.as_extra_info()


def divided(cells: Sequence[Cell], parts: int) -> list[list[Cell]]:
    """Runs of neighbours, as large as gives every process some."""
    by_architecture = [list(found) for _, found in groupby(cells, key=lambda cell: cell.architecture)]
    if len(by_architecture) >= parts:
        return by_architecture
    return [list(found) for _, found in groupby(cells, key=lambda cell: (cell.architecture, cell.method))]
