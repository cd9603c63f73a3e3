"""A fault put in: into this process, and into those that measure memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring import computing, executing, measurement, timing
from peft_update_bench.fixtures import update_step
from peft_update_bench.fixtures.instruments.computed import schedule
from peft_update_bench.fixtures.update_step import UpdateStep
from peft_update_bench.fixtures.workload import Workload

from tests.sabotage.faults import FAULTS


@contextmanager
def injected(name: str) -> Iterator[None]:
    """The fault in this process, and in the children that measure memory."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (measurement, computing, executing, timing):
            patch.setattr(module, "build_step", partial(build_with, name))
        patch.setattr(f"{__name__}.in_place", name)
        # A process that has the fault from its start has seen no other optimizer.
        patch.setattr(schedule, "_SEEN", {})
        FAULTS[name](patch)
        yield


in_place = ""
"""The fault that this process has."""


def build_with(name: str, cell: Cell, workload: Workload, device: str) -> UpdateStep:
    """What measurements build, with a fault. In a child process the fault is put in first, and stays."""
    global in_place
    if in_place != name:
        FAULTS[name](pytest.MonkeyPatch())
        in_place = name
    return update_step.build_update_step(cell.architecture, cell.method, cell.rank, workload, device=device)
