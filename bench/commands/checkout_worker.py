"""One checkout's update step, timed when asked. Run by ``checkout_client.py``, in a process of its own.

It imports `fixtures` from the checkout that it runs in, which may be older than this file, and its clock by path from
the folder of this file: both checkouts are timed by the same instrument. Requests and answers are JSON, one a line.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

INSTRUMENTS = Path(__file__).resolve().parents[2] / "fixtures" / "instruments"


class TimedStep:
    """A cell's step. What it does only periodically is kept out of its ordinary updates, and can be timed apart."""

    def __init__(self, cell: dict[str, Any], workload: dict[str, Any], clock: Any) -> None:
        if cell.get("is_step"):
            self.step = _own_step(cell)
        else:
            self.step = _step_of_the_checkout(cell, workload)
        self.clock = clock
        self.periodic_work = getattr(self.step, "periodic_work", None)
        self.period = None if self.periodic_work is None else self.periodic_work.period
        self.updates = 0

    def update(self) -> dict[str, int]:
        """Nanoseconds of one ordinary update."""
        # A new optimizer's first step is a refreshing one; the first update is a warm-up.
        if self.period is not None and self.updates >= self.period - 1:
            self.refresh()
        self.updates += 1
        return asdict(self.clock.time(self.step))

    def refresh(self) -> dict[str, int]:
        """Nanoseconds of one update with the periodic work."""
        assert self.periodic_work is not None
        self.periodic_work.schedule()
        self.updates = 0
        return asdict(self.clock.time(self.step))


def _step_of_the_checkout(cell: dict[str, Any], workload: dict[str, Any]) -> Any:
    # The package is the checkout that this process runs in, not an installed copy. `fixtures`, its name in the
    # current folder, is what an older checkout's modules call each other, and the package's alias in a newer one.
    package = ModuleType("peft_update_bench")
    package.__path__ = [str(Path.cwd())]
    sys.modules[package.__name__] = package
    from fixtures.update_step import build_update_step
    from fixtures.workload import Workload

    return build_update_step(cell["architecture"], cell["method"], cell["rank"], Workload(**workload))


def _own_step(cell: dict[str, Any]) -> Any:
    """A user's step from the checkout that this process runs in, built by the package that is installed."""
    from peft_update_bench.fixtures.own_steps import build

    return build(cell["architecture"], cell["method"], cell["rank"])


def serve(settings: dict[str, Any]) -> None:
    # The answers' stream is kept apart: whatever libraries print goes to the log.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    clock, steady = _instrument("latency/clock"), _instrument("steady")
    threads = settings["workload"]["threads"]
    if hasattr(os, "sched_setaffinity"):
        # Both checkouts on the same cores: one core may be slower than another, and would then slow one of the two.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    with steady.fixed_threads(threads), steady.retained_heap():
        timed = TimedStep(settings["cell"], settings["workload"], clock.Clock.for_threads(threads))
        gc.collect()
        gc.disable()
        requests = {"period": lambda: timed.period, "update": timed.update, "refresh": timed.refresh}
        for line in sys.stdin:
            print(json.dumps(requests[line.strip()]()), file=answers, flush=True)


def _instrument(name: str) -> ModuleType:
    """A module of the folder of this file, under a name that no checkout has."""
    spec = importlib.util.spec_from_file_location(f"comparing_{Path(name).name}", INSTRUMENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
