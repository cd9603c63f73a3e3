"""Cells computed beside each other: each once, neighbours by one process, and one that dies takes no other with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.processes.cell_process import CellProcess
from peft_update_bench.bench.processes.child_process import MeasurementError
from peft_update_bench.bench.processes.side_by_side import SideBySide

from tests.helpers.alive import gone
from tests.helpers.misbehaviour import hang_in_a_kernel, print_and_end

pytestmark = pytest.mark.slow

CELLS = [Cell(name, method) for name in ("resnet18", "mobilenet_v2", "squeezenet1_1") for method in ("fft", "head")]


def beside(
    measure: Callable[[Cell, CellProcess], Any], cells: Sequence[Cell] = CELLS, workers: int = 2
) -> closing[SideBySide[Any]]:
    return closing(SideBySide(cells, measure, [CellProcess(60) for _ in range(workers)]))


def process_id(_: Cell, process: CellProcess) -> int:
    process.begin()
    return process.call(os.getpid)


def test_neighbours_are_measured_by_one_process_of_several() -> None:
    with beside(process_id) as measured:
        pids = {cell: measured.result(cell) for cell in CELLS}
        assert all(cell in measured for cell in CELLS)
        assert Cell("resnet18", "lora", 4) not in measured
    assert os.getpid() not in pids.values()
    assert all(pids[one] == pids[other] for one, other in zip(CELLS[::2], CELLS[1::2], strict=True))


def test_with_fewer_architectures_than_processes_methods_are_divided() -> None:
    """Both wait for each other, so that neither process can have done both."""
    cells = [Cell("resnet18", "fft"), Cell("resnet18", "lora", 1), Cell("resnet18", "lora", 4)]
    with beside(process_id, cells) as measured:
        pids = [measured.result(cell) for cell in cells]
    assert pids[1] == pids[2]


def test_all_processes_work_at_once() -> None:
    """A cell that ends only when the other process has begun: one after the other would never end."""
    read, write = os.pipe()

    def meet(cell: Cell, process: CellProcess) -> int:
        process.begin()
        if cell.architecture == "resnet18":
            return len(process.call(os.read, read, 1))
        return process.call(os.write, write, b"x")

    with beside(meet, [CELLS[0], CELLS[2]]) as measured:
        assert (measured.result(CELLS[0]), measured.result(CELLS[2])) == (1, 1)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("number", [3, -9])
def test_a_cell_that_ends_its_process_fails_alone(number: int) -> None:
    def measure(cell: Cell, process: CellProcess) -> int:
        if cell == CELLS[0]:
            process.begin()
            process.call(print_and_end, number)
        return process_id(cell, process)

    with beside(measure) as measured:
        with pytest.raises(MeasurementError, match=r"about to die"):
            measured.result(CELLS[0])
        assert len({measured.result(cell) for cell in CELLS[1:]}) > 1


def test_what_a_measurement_raises_is_raised_for_its_cell() -> None:
    def measure(cell: Cell, _: CellProcess) -> str:
        if cell == CELLS[1]:
            raise ValueError("not this one")
        return str(cell)

    with beside(measure) as measured:
        assert measured.result(CELLS[0]) == "resnet18-fft"
        with pytest.raises(ValueError, match="not this one"):
            measured.result(CELLS[1])


@pytest.fixture
def hanging() -> Iterator[tuple[SideBySide[Any], list[int]]]:
    """Two processes, whose ids are known, that are in a kernel that does not end."""
    pids: list[int] = []

    def hang(_: Cell, process: CellProcess) -> None:
        process.begin()
        pids.append(process.call(os.getpid))
        process.call(hang_in_a_kernel)

    measured = SideBySide(CELLS, hang, [CellProcess(60) for _ in range(2)])
    while len(pids) < 2:
        os.sched_yield()
    yield measured, pids
    measured.close()


def test_closing_ends_what_hangs_and_begins_nothing_more(hanging: tuple[SideBySide[Any], list[int]]) -> None:
    measured, pids = hanging
    measured.close()
    assert len(pids) == 2
    assert all(map(gone, pids))
    with pytest.raises(MeasurementError):
        measured.result(CELLS[0])
