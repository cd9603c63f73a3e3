"""Cells measured beside each other, by processes of this machine or on a cluster: all of a run but what is timed.

Nothing that a neighbour spoils is asked for here. What is computed is the same everywhere, and memory is that of a
process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring.measured import Measurement
from peft_update_bench.bench.measuring.measurement import measure
from peft_update_bench.bench.options import RunOptions, import_modules
from peft_update_bench.bench.plain_progress import PlainProgress
from peft_update_bench.bench.processes.cell_process import CellProcess, ThisProcess
from peft_update_bench.bench.processes.executor import Done, Executor, Task
from peft_update_bench.bench.processes.local_processes import LocalProcesses
from peft_update_bench.bench.record import read_record
from tqdm import tqdm

_Record = Mapping[str, Any]
"""As it is written."""


class Neighbours:
    """The cells of a run, each measured once. Close it, and what is not done fails."""

    def __init__(self, executor: Executor, futures: Mapping[Cell, Future[Done[_Record]]]) -> None:
        self._executor = executor
        self._futures = futures

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._futures

    def result(self, cell: Cell) -> Measurement:
        """What was found of `cell`; waits for it. Raises what measuring it raised."""
        done = self._futures[cell].result()
        where = {} if done.made_on is None else {"made_on": [done.made_on.model_dump()]}
        return Measurement(read_record({**done.result, **where}))

    def wait(self, words: str) -> None:
        """Until all are done, whatever came of them, under a progress bar that says `words`, on stderr;
        where that is no terminal, with a line now and then."""
        futures = list(self._futures.values())
        lines = PlainProgress(words, len(futures))
        with tqdm(desc=words, total=len(futures), unit="cell", leave=False, disable=None) as bar:
            pending = set(futures)
            while pending:
                pending = wait(pending, timeout=0.5).not_done
                done = len(futures) - len(pending)
                bar.update(done - bar.n)
                lines.update(done)

    def close(self) -> None:
        self._executor.close()


def on_cluster(cells: Sequence[Cell], run: RunOptions, executor: Executor) -> Neighbours:
    """Computed cells, an architecture's on one node."""
    futures: dict[Cell, Future[Done[_Record]]] = {}
    for part in divided(cells, 1):
        submitted = executor.submit(
            *(Task(compute, (cell, _as_asked(run)), users_code=cell.users_code) for cell in part)
        )
        futures.update(zip(part, submitted, strict=True))
    return Neighbours(executor, futures)


def on_this_machine(cells: Sequence[Cell], run: RunOptions, processes: LocalProcesses, number: int) -> Neighbours:
    """All that `run` asks of `cells`, by `number` processes."""
    futures: dict[Cell, Future[Done[_Record]]] = {}
    for part in divided(cells, number, evenly=run.needs_machine):
        steered = processes.steer(*(partial(_measure, cell, _as_asked(run)) for cell in part))
        futures.update(zip(part, steered, strict=True))
    return Neighbours(processes, futures)


def compute(cell: Cell, run: RunOptions) -> _Record:
    """The function of a cell's task on a cluster."""
    import_modules(run.modules)
    return measure(cell, run, ThisProcess()).record.as_extra_info()


def _measure(cell: Cell, run: RunOptions, process: CellProcess) -> _Record:
    return measure(cell, run, process).record.as_extra_info()


def _as_asked(run: RunOptions) -> RunOptions:
    """The run as it was asked for: what its benchmark has begun since stays here."""
    return replace(run, benchmark=type(run.benchmark)())


def divided(cells: Sequence[Cell], parts: int, *, evenly: bool = False) -> list[list[Cell]]:
    """Cells that share most, for one process each: what is remembered of one cell another need not compute again.

    Those of one architecture. Of one method where there are fewer architectures than `parts`, or where what they share
    is little beside what they take, and no process should be left with many.
    """
    by_architecture = [list(found) for _, found in groupby(cells, key=lambda cell: cell.architecture)]
    if len(by_architecture) >= parts and not evenly:
        return by_architecture
    return [list(found) for _, found in groupby(cells, key=lambda cell: (cell.architecture, cell.method))]
