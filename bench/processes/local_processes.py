"""Tasks done beside each other by processes of this machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from peft_update_bench.bench.processes.cell_process import CellProcess
from peft_update_bench.bench.processes.child_process import LostError
from peft_update_bench.bench.processes.executor import Done, Task, Wall, do

T = TypeVar("T")
_Call = tuple[Callable[[CellProcess], Any], Future[Done[Any]]]


@dataclass
class _Worker:
    """A process, and what is left of the neighbours that it has begun."""

    process: CellProcess
    begun: deque[_Call] = field(default_factory=deque)


class LocalProcesses:
    """An executor of `number` processes, each with a thread that waits for it.

    Neighbours are submitted together, because what is remembered of one task another need not compute again: one
    process does them in turn. Where nothing else is left, another does the last of them meanwhile. A task that fails,
    or ends its process, fails alone.

    Every process is started at once and from the calling thread: a fork beside threads has their locks without them.
    One that has to be replaced is forked beside threads that do nothing but wait.

    Raises MeasurementError where no process can be started.
    """

    def __init__(self, number: int, wall: Wall) -> None:
        self._workers = [_Worker(wall.process()) for _ in range(number)]
        self._idle = deque(self._workers)
        self._waiting: deque[deque[_Call]] = deque()
        self._choosing = Lock()
        self._is_closed = False
        try:
            for worker in self._workers:
                worker.process.begin()
                worker.process.call(_nothing)
        except BaseException:
            for worker in self._workers:
                worker.process.close()
            raise
        self._threads = ThreadPoolExecutor(number, "local-processes")
        self._open: set[Future[Any]] = set()

    def submit(self, *tasks: Task[T]) -> list[Future[Done[T]]]:
        return self.steer(*(partial(do, task.function, task.args, task.retries, task.users_code) for task in tasks))

    def steer(self, *calls: Callable[[CellProcess], T]) -> list[Future[Done[T]]]:
        """As `submit`, of calls that a thread of this process does with a process to steer: for what takes several of
        them, such as a fresh one."""
        futures: list[Future[Done[T]]] = [Future() for _ in calls]
        self._open.update(futures)
        if calls:
            with self._choosing:
                self._waiting.append(deque(zip(calls, futures, strict=True)))
        try:
            for _ in calls:
                self._threads.submit(self._do_next)
        except RuntimeError:  # closed meanwhile, by another thread
            self._end_open()
        return futures

    def share(self, name: str, content: bytes) -> None:
        """All processes see the folder in which the file was made."""

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        self._is_closed = True
        for worker in self._workers:
            worker.process.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.process.close()
        self._end_open()

    def _end_open(self) -> None:
        for future in list(self._open):
            if not future.done():
                future.set_exception(LostError("the run ended before its turn"))
        self._open.clear()

    def _do_next(self) -> None:
        worker = self._idle.pop()
        call, future = self._next_for(worker)
        if self._is_closed:
            return
        try:
            done = Done(call(worker.process))
        except BaseException as error:  # it is raised where the result is asked for
            future.set_exception(error)
        else:
            future.set_result(done)
        self._open.discard(future)
        self._idle.append(worker)

    def _next_for(self, worker: _Worker) -> _Call:
        """Of its own neighbours the first; else of others that nobody has begun; else the last of the most."""
        with self._choosing:
            if not worker.begun and not self._waiting:
                return max((other.begun for other in self._workers), key=len).pop()
            if not worker.begun:
                worker.begun = self._waiting.popleft()
            return worker.begun.popleft()


def _nothing() -> None:
    """What a process is started with."""
