"""Tasks done beside each other here: each once, neighbours by one process, and one that dies takes no other with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring.neighbours import divided
from peft_update_bench.bench.processes.cell_process import CellProcess
from peft_update_bench.bench.processes.child_process import MeasurementError, ProcessEndedError
from peft_update_bench.bench.processes.executor import Done, Task, Wall
from peft_update_bench.bench.processes.local_processes import LocalProcesses

from tests.helpers.alive import gone
from tests.helpers.misbehaviour import fail, hang_in_a_kernel, print_and_end

pytestmark = pytest.mark.slow

PID: Task[int] = Task(os.getpid)


def here(workers: int = 2, limit_s: float = 60) -> closing[LocalProcesses]:
    return closing(LocalProcesses(workers, Wall(limit_s, (KeyError,))))


def result(future: Future[Done[Any]]) -> Any:
    return future.result(60).result


@dataclass(frozen=True)
class Gate:
    """What tasks wait at until it lets them by. Processes started after it know it."""

    read: int
    write: int

    @property
    def wait(self) -> Task[Any]:
        return Task(os.read, (self.read, 1))

    def let_by(self, number: int) -> None:
        os.write(self.write, b"x" * number)


@pytest.fixture
def gates() -> Iterator[tuple[Gate, Gate]]:
    found = Gate(*os.pipe()), Gate(*os.pipe())
    yield found
    for gate in found:
        os.close(gate.read)
        os.close(gate.write)


def test_what_is_submitted_together_one_process_does_while_others_have_work(gates: tuple[Gate, Gate]) -> None:
    first, last = gates
    with here() as executor:
        for _ in range(2):
            executor.submit(first.wait)
        groups = [executor.submit(PID, PID, last.wait) for _ in range(2)]
        first.let_by(2)
        (one, again), (two, again_two) = ([result(future) for future in group[:2]] for group in groups)
        last.let_by(2)
    assert (one, two) == (again, again_two)
    assert len({one, two, os.getpid()}) == 3


def test_a_process_without_work_does_the_last_of_anothers(gates: tuple[Gate, Gate]) -> None:
    gate, _ = gates
    with here() as executor:
        waits, *others = executor.submit(gate.wait, PID, PID)
        one, two = (result(future) for future in others)
        assert not waits.done()
        gate.let_by(1)
    assert one == two


def test_what_is_done_here_has_no_other_machine() -> None:
    with here() as executor:
        assert executor.submit(PID)[0].result(60).made_on is None


def test_all_processes_work_at_once() -> None:
    """A task that ends only when the other process has begun: one after the other would never end."""
    read, write = os.pipe()
    with here() as executor:
        (reading,) = executor.submit(Task(os.read, (read, 1)))
        (writing,) = executor.submit(Task(os.write, (write, b"x")))
        assert (result(reading), result(writing)) == (b"x", 1)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("number", [3, -9])
def test_a_task_that_ends_its_process_fails_alone(number: int) -> None:
    with here() as executor:
        dying: Task[Any] = Task(print_and_end, (number,))
        dead, well = executor.submit(dying, PID)
        with pytest.raises(ProcessEndedError, match="about to die"):
            dead.result(60)
        assert result(well) > 0


def end_twice(path: Path) -> int:
    """Ends its process as the kernel does where memory runs out, in its first two calls."""
    calls = len(path.read_text()) if path.exists() else 0
    path.write_text("x" * (calls + 1))
    if calls < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return calls


@pytest.mark.parametrize(("retries", "is_done"), [(1, False), (2, True), (3, True)])
def test_a_task_whose_process_is_killed_is_begun_anew(retries: int, is_done: bool, tmp_path: Path) -> None:
    with here(1) as executor:
        (future,) = executor.submit(Task(end_twice, (tmp_path / "calls",), retries))
        if is_done:
            assert result(future) == 2
        else:
            with pytest.raises(ProcessEndedError, match="killed by SIGKILL, as happens when memory runs out"):
                future.result(60)


def test_what_a_task_raises_is_a_sentence() -> None:
    with here(1) as executor:
        plain, told = executor.submit(Task(fail, (KeyError("as it is"),)), Task(fail, (ValueError("told"),)))
        with pytest.raises(MeasurementError, match=r"^'as it is'$"):
            plain.result(60)
        with pytest.raises(MeasurementError, match=r"^ValueError: told \(at"):
            told.result(60)


@pytest.fixture
def hanging() -> Iterator[tuple[LocalProcesses, list[Future[Done[Any]]], list[int]]]:
    """Two processes, whose ids are known, that are in a kernel that does not end, and a task that waits."""
    executor = LocalProcesses(2, Wall(60))
    pids = [result(future) for future in (*executor.submit(PID), *executor.submit(PID))]
    hang: Task[Any] = Task(hang_in_a_kernel, retries=2)
    futures: list[Future[Done[Any]]] = [*executor.submit(hang, PID), *executor.submit(hang)]
    yield executor, futures, pids
    executor.close()


def test_closing_ends_what_hangs_and_begins_nothing_more(
    hanging: tuple[LocalProcesses, list[Future[Done[Any]]], list[int]],
) -> None:
    executor, futures, pids = hanging
    executor.close()
    assert all(map(gone, pids))
    for future in futures:
        with pytest.raises(MeasurementError):
            future.result(10)


def test_cells_of_an_architecture_stay_together() -> None:
    cells = [Cell(name, method) for name in ("resnet18", "mobilenet_v2") for method in ("fft", "head")]
    assert divided(cells, 2) == [cells[:2], cells[2:]]


def test_with_fewer_architectures_than_processes_methods_are_divided() -> None:
    cells = [Cell("resnet18", "fft"), Cell("resnet18", "lora", 1), Cell("resnet18", "lora", 4)]
    assert divided(cells, 2) == [cells[:1], cells[1:]]
    assert divided(cells, 1) == [cells]


def test_where_cells_take_long_methods_are_divided_whatever_there_is_of_architectures() -> None:
    cells = [Cell(name, method) for name in ("resnet18", "mobilenet_v2") for method in ("fft", "head")]
    assert divided(cells, 2, evenly=True) == [[cell] for cell in cells]


def test_a_steered_call_has_its_process_and_a_fresh_one() -> None:
    """Each thread steers its own, and fresh ones are started beside each other."""
    with here() as executor:
        futures = [executor.steer(ask_for_processes)[0] for _ in range(4)]
        found = [result(future) for future in futures]
    assert len({fresh for _, fresh in found}) == 4
    assert len({own for own, _ in found}) <= 2
    assert not {os.getpid(), *(own for own, _ in found)} & {fresh for _, fresh in found}


def ask_for_processes(process: CellProcess) -> tuple[int, int]:
    process.begin()
    return process.call(os.getpid), process.call_fresh(os.getpid)


def test_what_a_steered_call_raises_stays_what_it_is() -> None:
    with here(1) as executor, pytest.raises(LookupError, match="as it is"):
        executor.steer(raise_lookup_error)[0].result(60)


def raise_lookup_error(_: CellProcess) -> None:
    raise LookupError("as it is")
