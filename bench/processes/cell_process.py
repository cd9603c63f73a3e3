"""A process for what a run measures itself, so that no cell can take the run with it.

A method may raise, exhaust the memory, hang within a kernel or end its process. Only the last two need a wall, and only
a process is one: a thread cannot end a kernel that does not return. One process serves all cells, because what one has
computed another need not compute again; it is replaced when it has died or was late. It is forked, so that it has the
packages and the methods that this process has; only CUDA, which does not survive a fork, has it started afresh.
"""

from __future__ import annotations

import faulthandler
import math
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from peft_update_bench.bench.processes.child_process import MeasurementError

T = TypeVar("T")

_ALMOST = 0.9
"""The fraction of a cell's time after which the process notes where it is, in case that it hangs."""

_ORPHAN_S = 10
"""How much longer than a cell's limit a process may live whose parent is no longer there to end it, in seconds."""


class Process(Protocol):
    """Where a cell is measured."""

    def begin(self) -> None:
        """A new cell: its time starts."""

    def left_s(self) -> float:
        """What the cell has left of its time, in seconds."""

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return ``function(*args)``. Raises MeasurementError where that fails."""

    def close(self) -> None:
        """End whatever runs."""


class ThisProcess:
    """No wall and no limit, for debuggers: what raises shows its traceback, what hangs can be interrupted."""

    def begin(self) -> None:
        pass

    def left_s(self) -> float:
        return 24 * 3600.0

    def call(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    def close(self) -> None:
        pass


@dataclass
class CellProcess:
    """A process of its own, whose work on one cell takes at most `limit_s` seconds.

    Functions, arguments and results are pickled; an exception comes back as MeasurementError. Those of `plain` are
    sentences already, others are told by their type, first line and place.
    """

    limit_s: float
    plain: tuple[type[Exception], ...] = ()
    device: str = "cpu"
    _process: BaseProcess | None = None
    _pipe: Connection | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _end: float = field(default=math.inf)

    def begin(self) -> None:
        self._end = time.monotonic() + self.limit_s

    def left_s(self) -> float:
        return max(1.0, self._end - time.monotonic())

    def call(self, function: Callable[..., T], *args: Any) -> T:
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._pipe is not None
        left = self.left_s()
        try:
            self._pipe.send((function, args, left))
            if not wait([self._pipe, self._process.sentinel], left):
                said = self._last_words()
                self.close()
                raise MeasurementError(f"took longer than --cell-seconds {self.limit_s:g} and was ended{said}")
            failure, result = self._pipe.recv()
        except (EOFError, OSError):
            raise MeasurementError(self._obituary()) from None
        if failure is not None:
            raise MeasurementError(failure)
        answer: T = result
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing, and all that it started."""
        if self._process is not None:
            assert self._process.pid is not None
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _start(self) -> None:
        context: Any = multiprocessing.get_context("forkserver" if self.device == "cuda" else "fork")
        self._folder = tempfile.TemporaryDirectory()
        self._pipe, theirs = context.Pipe()
        forked = None if self.device == "cuda" else self._pipe
        process = context.Process(target=_serve, args=(theirs, forked, self._output(), self.plain), daemon=False)
        with warnings.catch_warnings():
            # From Python 3.12 on, of any fork beside threads: OpenBLAS has some, idle, and looks after itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        self._process = process

    def _obituary(self) -> str:
        assert self._process is not None
        self._process.join(_ORPHAN_S)
        code, said = self._process.exitcode, self._last_words()
        self.close()
        if code is None or code >= 0:
            return f"ended its process with exit code {code}{said}"
        name = signal.Signals(-code).name
        hint = ", as happens when memory runs out" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}{said}"

    def _output(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "output"

    def _last_words(self) -> str:
        """Where it was when it crashed or was about to be late, if that is known, and the last line that it printed."""
        output = self._output()
        stack = _FRAME.search(_text(output.with_name(_STACK)))
        where = f" in {stack['function']} ({Path(stack['path']).name}:{stack['line']})" if stack else ""
        lines = _text(output).strip().splitlines()
        return where + (f"; the last line it printed: {lines[-1].strip()}" if lines else "")


_STACK = "stack"
"""The file for faulthandler, which knows the line even where a kernel crashed or holds the interpreter."""

_FRAME = re.compile(r'File "(?P<path>.+)", line (?P<line>\d+) in (?P<function>.+)')


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _serve(pipe: Connection, parents_end: Connection | None, output: Path, plain: tuple[type[Exception], ...]) -> None:
    # A group of its own: what a cell starts can be ended with it, and an interrupt is the parent's to handle.
    os.setpgrp()
    if parents_end is not None:
        parents_end.close()  # or the parent's death would not read as the end of the stream
    with output.open("w", buffering=1) as file, output.with_name(_STACK).open("w") as stack:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        faulthandler.enable(stack)
        while True:
            try:
                function, args, left_s = pipe.recv()
            except (EOFError, OSError):
                return
            # Ends this process even while a kernel runs, where nobody is left to do so.
            signal.alarm(math.ceil(left_s) + _ORPHAN_S)
            faulthandler.dump_traceback_later(_ALMOST * left_s, file=stack)
            answer = _answer(function, args, plain)
            faulthandler.cancel_dump_traceback_later()
            stack.truncate(0)
            signal.alarm(0)
            _send(pipe, answer)


def _send(pipe: Connection, answer: tuple[str | None, Any]) -> None:
    try:
        pipe.send(answer)
    except BrokenPipeError:  # nobody is left to hear it; the next request says so
        pass
    except Exception as error:  # what cannot be pickled has not been sent in part
        pipe.send((_sentence(error), None))


def _answer(function: Callable[..., Any], args: Any, plain: tuple[type[Exception], ...]) -> tuple[str | None, Any]:
    try:
        return None, function(*args)
    except plain as error:
        return str(error), None
    except Exception as error:  # whatever it is, it must cross the process boundary as text
        return _sentence(error), None


def _sentence(error: Exception) -> str:
    """Type, first line and place: the innermost source line outside torch."""
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    torch_itself = Path(torch.__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if torch_itself not in path.parents and frame.line:
            return f"{said} (at `{frame.line}`, {path.name}:{frame.lineno})"
    return said
