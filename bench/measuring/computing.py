"""What is computed of a cell: one pass over its step, on the meta device or, of users' own code, executed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring import still_parameters
from peft_update_bench.bench.measuring.measurement import LeakError, Measuring, build_step, users_warnings
from peft_update_bench.bench.units import show
from peft_update_bench.fixtures import global_state
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.instruments.computed import Computed, result, whole
from peft_update_bench.fixtures.instruments.steady import fixed_threads
from peft_update_bench.fixtures.instruments.tracing.calls import RunsNoneTwice
from peft_update_bench.fixtures.instruments.tracing.trace import NotComputableError
from peft_update_bench.fixtures.methods import method_named
from peft_update_bench.fixtures.update_step import UpdateStep, build_update_step
from peft_update_bench.fixtures.workload import Workload


def compute(measuring: Measuring) -> None:
    """FLOPs, peak memory and parameter counts, from one pass over the step."""
    names = measuring.run.metrics
    figures, remarks = measuring.process.call(_compute, measuring.cell, measuring.run.workload, names)
    measuring.add_remarks(remarks)
    measuring.computed = figures
    measuring.sections |= {"parameters": figures.parameters, "where": figures.where}
    measuring.sections |= {
        name: found
        for name, found in (
            ("flops", {**figures.flops, "optimizer_operators": figures.operators}),
            ("memory", figures.memory),
            ("growth", figures.growth),
            ("result", figures.result),
        )
        if name in names and found
    }


def _compute(cell: Cell, workload: Workload, names: Sequence[str]) -> tuple[Computed, list[str]]:
    """The computed figures, and remarks on what the optimizer leaves as it was.

    Of a user's own step neither how it grows nor what it leaves is known: its batch and its network are its own.

    Raises NotTrainingError, LeakError.
    """
    with users_warnings(cell):
        with _building(cell):
            step = build_step(cell, workload, "meta")
        if cell.is_step and step.periodic_work is None:
            with fixed_threads(workload.threads):
                figures = whole.measure(step, with_memory="memory" in names)
            return figures, [*figures.remarks]
        assert isinstance(step, UpdateStep), "only a whole step of a user's own is none"
        if type(step).__call__ is not UpdateStep.__call__:
            raise NotComputableError(
                f"{type(step).__name__} has a __call__ of its own, and {cell.method} does periodic work, which is told "
                "apart by an UpdateStep's phases; expected another method, or an UpdateStep as it is"
            )
        grows = "growth" in names and not cell.is_step
        figures = computed.measure(step, with_memory="memory" in names, grows=grows)
        if cell.is_step:
            return figures, [*figures.remarks]
        remarks = [*still_parameters.must_write_to_all(cell, workload, step, figures.still), *figures.remarks]
        if figures.kept.bytes > 0:
            kept = figures.kept
            raise LeakError(
                f"every step keeps {show(kept.bytes, 'bytes')} more than it found, the most of it made in "
                f"{kept.phase}, {kept.module}"
            )
        if "result" in names:
            with global_state.default_dtype_of(cell.architecture):
                build = partial(build_update_step, cell.architecture, cell.method, cell.rank, workload)
                moving = result.moved_by(step, build)
                # Of the suite's own, tests have seen that they merge; where memory is measured, that sees it too.
                if cell.is_users and not {"measured_memory", "first_step"} & {*names}:
                    result.check(build(), build, moving)
                figures = replace(figures, result=result.compute(step, figures.states, moving))
    return figures, remarks


def _building(cell: Cell) -> AbstractContextManager[object]:
    """For the suite's own cells, where their method computes with all weights, which on the meta device is slow."""
    if cell.is_users or cell.is_step or not method_named(cell.method).computes_with_weights:
        return nullcontext()
    return RunsNoneTwice()
