"""Where a cell is measured: behind a wall, so that no cell can take the run with it, or here, for debuggers.

A method may raise, exhaust the memory, hang within a kernel or end its process. Only the last two need a wall, and only
a process is one: a thread cannot end a kernel that does not return.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from peft_update_bench.bench.processes.child_process import (
    ChildProcess,
    LostError,
    MeasurementError,
    call_once,
    start_server,
)

T = TypeVar("T")

_PROBE_S = 5.0
"""How long to wait for an addition; it takes under a millisecond, and a loaded machine has time for it too."""

_PARALLEL_GRAIN = 32768
"""From how many elements on torch gives a thread work of its own (at::internal::GRAIN_SIZE)."""


class Process(Protocol):
    """Where a cell is measured."""

    def begin(self, users_code: tuple[str, ...] = (), *, anew: bool = False) -> None:
        """A new cell: its time starts, in a process that has had no other user's code than `users_code`, by its names;
        `anew` in one that has what this one has now."""

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return ``function(*args)``. Raises MeasurementError where that fails."""

    def call_fresh(self, function: Callable[..., T], *args: Any) -> T:
        """As `call`, in a process that has held nothing before."""

    def call_forked(self, function: Callable[..., T], *args: Any) -> T:
        """As `call_fresh`, with all that this process has: for what a fresh one cannot import."""

    def close(self) -> None:
        """End whatever runs."""


class ThisProcess:
    """No wall and no limit, for debuggers: what raises shows its traceback, what hangs can be interrupted."""

    def begin(self, users_code: tuple[str, ...] = (), *, anew: bool = False) -> None:
        pass

    def call(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    call_fresh = call_forked = call

    def close(self) -> None:
        pass


def _what_hangs(child: ChildProcess, threads: int) -> str:
    """Have `child`, a fork, use `threads` threads from now on, and say what of it never ends, if anything. Then it is
    closed.

    What has threads in this process a fork has without them. GNU's OpenMP, which a network that was called when its
    module was imported has used, or a test before, then waits for them for ever; with one thread nothing waits. Tensors
    of torch.distributed do so before the fork has come to its first line.
    """
    begun = False
    try:
        child.call(os.getpid, limit_s=_PROBE_S)
        begun = True
        child.call(_use_threads, threads, limit_s=_PROBE_S if threads > 1 else math.inf)
    except MeasurementError:
        child.close()
        return f"operators with {threads} threads do not end" if begun else "nothing begins"
    return ""


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    if threads > 1:
        torch.ones(threads * _PARALLEL_GRAIN).add(1)


@dataclass
class CellProcess:
    """Processes of their own, whose work on one cell takes at most `limit_s` seconds together.

    One process serves many cells, because what one has computed another need not compute again; it is replaced when it
    has died or was late, and between a user's code and any other, because a network may change torch for all that come
    after it. It is forked, so that it has the packages and the methods that this process has. CUDA does not survive a
    fork, nor do threads that this process has had: where it waits for these it is started afresh. So it is where it is
    not to be `forked`, because this process has threads of others.

    Functions, arguments and results are pickled; an exception comes back as MeasurementError. Those of `plain` are
    sentences already, others are told by their type, first line and place.
    """

    limit_s: float
    plain: tuple[type[Exception] | str, ...] = ()
    device: str = "cpu"
    threads: int = 1
    forked: bool = True
    _child: ChildProcess | None = None
    _end: float = field(default=math.inf)
    _is_killed: bool = False
    _users_code: tuple[str, ...] = ()

    def begin(self, users_code: tuple[str, ...] = (), *, anew: bool = False) -> None:
        if anew or users_code != self._users_code:
            self.close()
        self._users_code = users_code
        self._end = time.monotonic() + self.limit_s

    def call(self, function: Callable[..., T], *args: Any) -> T:
        if self._is_killed:
            raise LostError("the run ended before its turn")
        if self._child is None or not self._child.is_alive:
            self.close()
            self._child = self._start()
        return self._child.call(function, *args, limit_s=self._left_s(), limit=self._limit)

    def call_fresh(self, function: Callable[..., T], *args: Any) -> T:
        return call_once(function, *args, limit_s=self._left_s(), limit=self._limit, plain=self.plain)

    def call_forked(self, function: Callable[..., T], *args: Any) -> T:
        with closing(ChildProcess("fork" if self.forked else "forkserver", self.plain)) as child:
            if hangs := _what_hangs(child, self.threads):
                fewer = "--threads 1, or " if self.threads > 1 else ""
                raise MeasurementError(
                    f"{hangs} in a process forked from pytest's own, in which earlier tests used threads; expected "
                    f"{fewer}a builder that can be imported by its name"
                )
            return child.call(function, *args, limit_s=self._left_s(), limit=self._limit)

    def close(self) -> None:
        """End the process, whatever it is doing, and all that it started."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def kill(self) -> None:
        """End the process at once, for good; a call that waits for it in another thread fails."""
        self._is_killed = True
        if self._child is not None:
            self._child.kill()

    def _start(self) -> ChildProcess:
        if self.device == "cpu" and self.forked:
            child = ChildProcess("fork", self.plain)
            if not _what_hangs(child, self.threads):
                return child
        start_server()
        return ChildProcess("forkserver", self.plain)

    def _left_s(self) -> float:
        return max(1.0, self._end - time.monotonic())

    @property
    def _limit(self) -> str:
        return f"--cell-seconds {self.limit_s:g}"
