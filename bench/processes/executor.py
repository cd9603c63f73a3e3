"""One way to have many tasks done beside each other, wherever: by processes of this machine, or on a cluster.

    executor = LocalProcesses(2, Wall())          # or Cluster("auto").executor(Wall(), alike=…)
    futures = executor.submit(Task(update, (…)), Task(update, (…)))
    futures[0].result()                           # Done(result, made_on), or MeasurementError, a sentence
    executor.close()

A task is done behind a wall in both: in a process of its own (``cell_process.py``), by :func:`do`.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from peft_update_bench.bench.processes.cell_process import CellProcess
from peft_update_bench.bench.processes.child_process import ProcessEndedError
from peft_update_bench.bench.record.made_on import MadeOn

T = TypeVar("T")


@dataclass(frozen=True)
class Task(Generic[T]):
    """The call ``function(*args)``; function, arguments and result are picklable.

    Where its process is ended from outside, as when memory runs out, it is begun anew up to `retries` times. `files`
    are the names of those that it reads in `folder`, each shared before (:meth:`Executor.share`); None is the folder
    for trained networks of whatever machine it is done on. A process that does it has had no other user's code than
    `users_code`, by its names.
    """

    function: Callable[..., T]
    args: tuple[Any, ...] = ()
    retries: int = 0
    files: tuple[str, ...] = ()
    folder: Path | None = None
    users_code: tuple[str, ...] = ()

    def packed(self) -> bytes:
        """The call, which only the process that does it need understand."""
        return pickle.dumps((self.function, self.args))


@dataclass(frozen=True)
class Wall:
    """What a task is done behind: a process as :class:`CellProcess` describes it."""

    limit_s: float = math.inf
    plain: tuple[type[Exception] | str, ...] = ()
    device: str = "cpu"
    threads: int = 1

    def process(self, *, forked: bool = True) -> CellProcess:
        """One; not `forked` where this process has threads that a fork would lack."""
        return CellProcess(self.limit_s, self.plain, self.device, self.threads, forked=forked)


@dataclass(frozen=True)
class Done(Generic[T]):
    """What a task returned, and the machine of the cluster that did it; None is this one."""

    result: T
    made_on: MadeOn | None = field(default=None, compare=False)


class Executor(Protocol):
    """Does tasks beside each other."""

    def submit(self, *tasks: Task[T]) -> list[Future[Done[T]]]:
        """Have `tasks` done, beside those submitted before; one process does them in turn where that is of use.

        A future raises MeasurementError where its task failed, was late, or where whatever did it is gone.
        """

    def share(self, name: str, content: bytes) -> None:
        """Let tasks read a file of this name, which goes to each machine once."""

    def close(self) -> None:
        """End what runs; futures that are not done raise MeasurementError."""


def do(
    call: Callable[..., T],
    args: tuple[Any, ...],
    retries: int,
    users_code: tuple[str, ...],
    process: CellProcess,
) -> T:
    """``call(*args)`` in `process`. Raises MeasurementError."""
    for left in range(retries, -1, -1):
        process.begin(users_code)
        try:
            return process.call(call, *args)
        except ProcessEndedError:
            if not left:
                raise
    raise AssertionError("retries is at least 0")


def unpack(packed: bytes) -> bytes:
    """Do a packed call, and pack what it returns."""
    function, args = pickle.loads(packed)
    return pickle.dumps(function(*args))
