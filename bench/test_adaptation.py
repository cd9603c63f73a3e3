"""The benchmark of adaptation: a trained network updated to a shift or to new classes, recorded and judged.

Run with ``--metrics adaptation``; pytest's option ``--seeds`` says how many updates a cell takes.
"""

from __future__ import annotations

from typing import Any

import pytest
from peft_update_bench.bench.adaptation import FAILURES, record, reference, updates
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.gate import Gate
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.processes.update_runs import UpdateRuns


def select_cells(gate: Gate) -> list[Cell]:
    """The run's cells where it asks for adaptation, and those that the baseline has and the run no longer has."""
    if gate.run.adaptation is None:
        return []
    return [*gate.cells, *sorted(gate.missing, key=str)]


def test_adaptation(
    architecture: str,
    method: str,
    rank: int | None,
    task: str,
    run: RunOptions,
    gate: Gate,
    update_runs: UpdateRuns,
    benchmark: Any,
) -> None:
    """Update one cell with every seed; fail if it cannot be updated or does not hold its baseline."""
    cell = Cell(architecture, method, rank, task)
    if cell in gate.missing:
        pytest.fail(gate.lose(cell), pytrace=False)
    assert run.adaptation is not None
    benchmark.group = f"{architecture} (time spent waiting; updates run beside each other)"
    try:
        outcomes = benchmark.pedantic(update_runs.outcomes, args=(updates(cell, run.adaptation),))
        of_reference = update_runs.outcomes(updates(reference(cell), run.adaptation))
        measured = record(cell, run, outcomes, of_reference)
    except FAILURES as error:
        pytest.fail(gate.fail(cell, str(error)), pytrace=False)
    benchmark.extra_info.update(measured.as_extra_info())
    failure = gate.failure(gate.judge(measured))
    if failure:
        pytest.fail(failure, pytrace=False)
