"""Steps that valgrind counts in a second: they need neither torch nor a network."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def _machine() -> dict[str, Any]:
    """What a package asks of the machine that it is imported on."""
    stat = Path("/proc/stat")
    return {
        "file": __file__,
        "process": os.getpid(),
        "processors": [os.cpu_count(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None],
        "name": platform.node(),
        "stat": stat.read_text().splitlines()[0] if stat.exists() else "",
        "numbers": Path("/proc/self/smaps").exists(),
        "in order": [entry.name for entry in os.scandir(Path(__file__).parent)],
    }


SEEN_WHEN_IMPORTED = _machine()


@dataclass
class Periodic:
    """Work that a step does when it is due."""

    due: bool = False

    def schedule(self) -> None:
        self.due = True


class PlainStep:
    """An update step of plain Python, whose phases take as many turns of a loop as they are given."""

    def __init__(self, turns: int, periodic_turns: int = 0) -> None:
        self.turns = turns
        self.periodic_turns = periodic_turns
        self.periodic_work = Periodic() if periodic_turns else None

    def forward(self) -> int:
        return _turn(self.turns)

    def backward(self, loss: int) -> None:
        _turn(2 * self.turns)

    def optimizer_step(self) -> None:
        _turn(self.turns)
        if self.periodic_work is not None and self.periodic_work.due:
            self.periodic_work.due = False
            _turn(self.periodic_turns)

    def zero_grad(self) -> None:
        """Nothing to do."""

    def __call__(self) -> None:
        self.backward(self.forward())
        self.optimizer_step()
        self.zero_grad()


def _turn(turns: int) -> int:
    total = 0
    for number in range(turns):
        total += number & 1
    return total


def build(turns: int, periodic_turns: int = 0) -> Any:
    return PlainStep(turns, periodic_turns)


def build_by_address(ballast: int) -> Any:
    """A step whose instructions depend on where its objects lie."""
    step = PlainStep(100)
    objects = [object() for _ in range(ballast)]

    def forward() -> int:
        return len({*objects})

    step.forward = forward  # type: ignore[method-assign]
    return step


class _Remembered:
    """What Python has found of a class is forgotten when the class is changed."""

    changes = 0

    def method(self) -> None:
        """Found by a search, or without."""


def build_searching(changes: int) -> Any:
    """A step that looks for a method 100 times, and changes its class before so many of them."""
    step = PlainStep(10)
    remembered = _Remembered()

    def forward() -> int:
        for number in range(100):
            # An assignment either way: only what it is made to differs.
            (_Remembered if number < changes else remembered).changes = number
            remembered.method()
        return 0

    step.forward = forward  # type: ignore[method-assign]
    return step


def fail(_: int) -> Any:
    raise ValueError("no such network\nand more")


def die(_: int) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_: int) -> Any:
    while True:
        time.sleep(1)


def machine_seen(path: str) -> Any:
    """Notes what was seen of the machine when this module was imported, and what is seen now."""
    Path(path).write_text(json.dumps({"imported": SEEN_WHEN_IMPORTED, "counted": _machine()}))
    return PlainStep(10)


def environment_seen(path: str) -> Any:
    """Notes the environment that the step is counted in."""
    Path(path).write_text("\n".join(sorted(os.environ)))
    return PlainStep(10)
