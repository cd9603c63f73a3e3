"""What a cell's real steps show: what they take of memory, and whether the update trains, repeats and is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring import still_parameters
from peft_update_bench.bench.measuring.measurement import (
    LeakError,
    Measuring,
    NotRepeatableError,
    build_step,
    users_warnings,
)
from peft_update_bench.bench.units import show
from peft_update_bench.fixtures import global_state, own_steps
from peft_update_bench.fixtures.instruments import cuda, measured_memory, repeatability
from peft_update_bench.fixtures.instruments.computed import Computed, result
from peft_update_bench.fixtures.instruments.computed.hidden_memory import LARGEST_GAP
from peft_update_bench.fixtures.instruments.computed.result import ResultError
from peft_update_bench.fixtures.instruments.measured_memory import MeasuredMemory
from peft_update_bench.fixtures.instruments.steady import fixed_threads, retained_heap, return_freed_memory
from peft_update_bench.fixtures.update_step import UpdateStep
from peft_update_bench.fixtures.workload import Workload


def measure_memory(measuring: Measuring) -> None:
    """What the allocator handed out, what the process occupied and how long the first step took, in a fresh process;
    then whether the update repeats, and is what was trained when it is stored and merged."""
    cell, workload = measuring.cell, measuring.run.workload
    memory, complaint = _measure_memory(measuring)
    trained = (cell, workload, memory.losses, memory.unmoved)
    must_train = still_parameters.must_train
    # Something is built only where something is to be explained.
    explains = memory.unmoved or not all(map(math.isfinite, memory.losses))
    measuring.add_remarks(measuring.process.call(must_train, *trained) if explains else must_train(*trained))
    if memory.kept_per_step > 0:
        raise LeakError(f"every step keeps {show(memory.kept_per_step, 'bytes')} more, seen over a dozen steps")
    if complaint is not None:
        raise complaint
    if "measured_memory" in measuring.run.metrics:
        gaps = _gaps(measuring.computed, memory)
        measuring.sections["measured_memory"] = {**memory.as_record(), **gaps}
        if cell.is_users or cell.is_step:
            measuring.add_remarks(told_apart(gaps.get("unexplained_gap", 0.0)))
    if "first_step" in measuring.run.metrics:
        measuring.sections["first_step"] = {"seconds": memory.first_seconds}


_Found = tuple[MeasuredMemory, NotRepeatableError | ResultError | None]


def _measure_memory(measuring: Measuring) -> _Found:
    cell, workload = measuring.cell, measuring.run.workload
    build, threads = measuring.builder(workload.device), workload.threads
    # What a user's own code imports is not what its update needs.
    prepare = measuring.builder("meta") if cell.is_users else None
    if not cell.is_step:
        return measuring.process.call_fresh(_measure_and_check, cell, workload, build, prepare)
    if not cell.is_tests:
        return measuring.process.call_fresh(measured_memory.measure_here, build, threads, prepare), None
    if importable := own_steps.importable_name(cell.architecture):
        build = partial(build_step, replace(cell, architecture=importable), workload, "cpu")
        return measuring.process.call_fresh(measured_memory.measure_here, build, threads, build), None
    measuring.add_remarks(
        ["its builder cannot be imported, so that its RSS was measured in a process forked from pytest's own"]
    )
    return measuring.process.call_forked(_measure_memory_here, build, threads, prepare), None


def _measure_memory_here(*given: Any) -> MeasuredMemory:
    """In a process that has what another has freed, which would not count again."""
    return_freed_memory()
    return measured_memory.measure_here(*given)


def _measure_and_check(
    cell: Cell, workload: Workload, build: Callable[[], UpdateStep], prepare: Callable[[], object] | None
) -> _Found:
    """A cell's memory, and what is wrong with its update, which is not looked for where it does not train."""
    on_cuda = workload.device == "cuda"
    memory = measured_memory.measure_here(
        build, workload.threads, prepare, with_state=not on_cuda, device=workload.device
    )
    if not all(map(math.isfinite, memory.losses)) or memory.kept_per_step > 0:
        return memory, None
    with (
        users_warnings(cell),
        fixed_threads(workload.threads),
        retained_heap(),  # memory is not measured any more
        global_state.default_dtype_of(cell.architecture),
        cuda.exact_kernels() if on_cuda else nullcontext(),
    ):
        state, steps = memory.state, memory.steps
        if on_cuda:
            # What was measured had the kernels of every day.
            steps = repeatability.LEAST_STEPS
            state = repeatability.state_of(repeatability.update(build, steps).network)
        step, difference = repeatability.update_again(build, state, steps)
        if difference:
            return memory, NotRepeatableError(difference)
        try:
            result.check(step, build, result.moved_by(step, build))
        except ResultError as error:
            return memory, error
    return memory, None


def told_apart(unexplained_gap: float) -> list[str]:
    """A remark where a step of a user's own code is further from what was measured than its trace was from the
    allocator's: what it holds was not found, or is not in the allocator's memory."""
    if abs(unexplained_gap) <= LARGEST_GAP:
        return []
    how = "more" if unexplained_gap < 0 else "less"
    return [
        f"its computed peak is {abs(unexplained_gap):.1%} of the transient one {how} than what the allocator handed "
        "out to it, workspaces apart; known of NumPy's batches, which are in the former and in RSS alone, of a "
        "subclass's tensors, of what code in C++ holds, and of work that comes in some steps only"
    ]


def _gaps(figures: Computed | None, memory: MeasuredMemory) -> dict[str, float]:
    """How far the computed peak is below the measured one, and how much of that kernels' workspaces do not explain."""
    if figures is None:
        return {}
    gaps = {"computed_gap": measured_memory.computed_gap(figures.memory, memory)}
    if memory.allocations is not None:
        gaps["unexplained_gap"] = measured_memory.unexplained_gap(figures.memory, memory)
    return gaps
