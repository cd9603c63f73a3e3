"""What a child process does: it answers one call after another, an exception with a sentence."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from peft_update_bench.bench.processes.lifeline import end_with_parent
from peft_update_bench.fixtures import gpus

WHERE = signal.SIGUSR1
"""Asks a process that is late where it is; one that has not begun yet it ends, which is next anyway."""

STACK = "stack"
"""The file for faulthandler, which knows the line even where a kernel crashed or holds the interpreter."""

_PARENT = "peft_update_bench.bench.processes.child_process"


@dataclass(frozen=True)
class Failure:
    """An exception as text, because not every exception can be sent: its types, message and full sentence."""

    types: tuple[str, ...]
    message: str
    sentence: str


def serve(pipe: Connection, parents_end: Connection | None, output: Path) -> None:
    """Answer what comes through `pipe` until it is closed; what is printed goes to the file `output`.

    A forked process has the `parents_end` of it too.
    """
    end_with_parent()
    # Its own children are then in its group, and need not import everything again in a server of their own.
    multiprocessing.set_start_method("fork", force=True)
    if parents_end is not None:
        parents_end.close()
        gpus.give_up_where_lost()
        # Forked, it has all objects of its parent, which no collection of its own need look at.
        gc.freeze()
    # Both stay open: the interpreter's last words come when this function has ended.
    # Whatever a step prints can be, as where pytest captures it, also where the terminal's encoding lacks it.
    file = output.open("w", buffering=1, encoding="utf-8", errors="backslashreplace")
    stack = output.with_name(STACK).open("a")
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file
    faulthandler.enable(stack)
    # Of the thread that answers: of all of them, one that only waits may come first.
    faulthandler.register(WHERE, stack, all_threads=False)
    while True:
        try:
            request = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        pipe.send_bytes(_answer(request))


def _answer(request: bytes) -> bytes:
    try:
        function, args = pickle.loads(request)
        return pickle.dumps((None, function(*args)))
    except Exception as error:  # whatever it is, it must cross the process boundary as text
        types = tuple(map(_name, type(error).__mro__))
        return pickle.dumps((Failure(types, str(error), sentence(error)), None))


def names_of(kinds: tuple[type[Exception] | str, ...]) -> tuple[str, ...]:
    """The full names of types of exceptions."""
    return tuple(kind if isinstance(kind, str) else _name(kind) for kind in kinds)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def sentence(error: Exception) -> str:
    """Type, first line and place: the innermost source line outside torch and what carries the call."""
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    places = zip(modules, traceback.extract_tb(error.__traceback__), strict=True)
    for module, place in reversed(list(places)):
        if module not in {__name__, _PARENT} and module.partition(".")[0] != "torch" and place.line:
            return f"{said} (at `{place.line}`, {Path(place.filename).name}:{place.lineno})"
    return said
