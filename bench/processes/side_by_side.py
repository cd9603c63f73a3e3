"""Cells computed beside each other, each process with one cell at a time.

For what is computed: a figure that is timed or measured would be spoiled by a neighbour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import Generic, TypeVar

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.processes.cell_process import CellProcess
from peft_update_bench.bench.processes.child_process import MeasurementError

T = TypeVar("T")


class SideBySide(Generic[T]):
    """Calls ``measure(cell, process)`` for all `cells` in `processes`, each from a thread that waits for its process.

    Neighbours go to one process, because what is remembered of one cell another need not compute again: cells of one
    architecture, or where there are fewer of these than processes, of one method. A cell that fails, or ends its
    process, fails alone.

    Every process is started at once and from the calling thread: a fork beside threads has their locks without them.
    One that has to be replaced is forked beside threads that do nothing but wait.
    """

    def __init__(
        self, cells: Sequence[Cell], measure: Callable[[Cell, CellProcess], T], processes: Sequence[CellProcess]
    ) -> None:
        self._measure = measure
        self._processes = list(processes)
        self._idle = deque(self._processes)
        self._futures: dict[Cell, Future[T]] = {cell: Future() for cell in cells}
        self._is_closed = False
        try:
            for process in self._processes:
                process.begin()
                process.call(_nothing)
        except BaseException:
            for process in self._processes:
                process.close()
            raise
        self._threads = ThreadPoolExecutor(len(self._processes), "side-by-side")
        for neighbours in _divided(list(self._futures), len(self._processes)):
            self._threads.submit(self._measure_in_turn, neighbours)

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._futures

    def result(self, cell: Cell) -> T:
        """What ``measure`` returned for `cell`; waits for it. Raises what it raised."""
        return self._futures[cell].result()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        self._is_closed = True
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()

    def _measure_in_turn(self, cells: Sequence[Cell]) -> None:
        process = self._idle.pop()
        for cell in cells:
            future = self._futures[cell]
            if self._is_closed:
                future.set_exception(MeasurementError("the run ended before its turn"))
                continue
            try:
                future.set_result(self._measure(cell, process))
            except BaseException as error:  # it is raised where the result is asked for
                future.set_exception(error)
        self._idle.append(process)


def _divided(cells: Sequence[Cell], parts: int) -> list[list[Cell]]:
    """Runs of neighbours, as large as gives every process some."""
    by_architecture = [list(found) for _, found in groupby(cells, key=lambda cell: cell.architecture)]
    if len(by_architecture) >= parts:
        return by_architecture
    return [list(found) for _, found in groupby(cells, key=lambda cell: (cell.architecture, cell.method))]


def _nothing() -> None:
    """What a process is started with."""
