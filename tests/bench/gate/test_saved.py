"""Records that were saved are judged as the run that saved them judged them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from peft_update_bench.bench.gate.gate import Gate, Result, judge_saved
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.slowdown import ErrorBudget
from peft_update_bench.bench.record import Record

from tests.helpers.records import FFT, LORA, changed, record
from tests.helpers.sessions import HERE, TOLERANCES, gate, of

BASELINE = replace(of(record(FFT), record(LORA)), seconds={LORA: 0.05})


def kinds(result: Result) -> dict[str, str]:
    return {verdict.metric: verdict.kind for verdict in result.verdicts if verdict.kind != "ok"}


def test_without_a_baseline_a_record_is_kept_and_not_judged() -> None:
    assert gate().judge(record()) == Result(LORA, record(), ())


def test_each_is_judged_against_its_own_baseline() -> None:
    dearer = changed("flops", forward=1100, total=3100)
    saved = [(record(FFT), None, of(record(FFT, **dearer))), (record(LORA, **dearer), 0.2, BASELINE)]
    results = judge_saved(saved, TOLERANCES, HERE)
    assert [(cell, kinds(result)) for cell, result in results.items()] == [
        (FFT, {"flops.forward": "improved"}),
        (LORA, {"flops.forward": "regressed", "stats.median": "regressed"}),
    ]


def test_the_machine_is_the_one_that_saved_them() -> None:
    results = judge_saved([(record(LORA), 0.05, BASELINE)], TOLERANCES, Machine("Another CPU", 8))
    assert kinds(results[LORA])["latency.relative"] == kinds(results[LORA])["stats.median"] == "not comparable"


def timed(relative: float, half: float) -> dict[str, Any]:
    return changed("latency", relative=relative, relative_low=relative - half, relative_high=relative + half)


@pytest.mark.parametrize(
    ("first", "budget"),
    [
        (timed(0.80, 0.01), ErrorBudget()),
        (timed(0.90, 0.15), ErrorBudget(tests=1)),
        (timed(1.20, 0.01), ErrorBudget(tests=1, passed_on=ErrorBudget().share)),
    ],
    ids=["nothing suspected", "suspected and not found", "found slower"],
)
def test_a_suspicion_spends_the_budget_of_the_cells_after_it(first: dict[str, Any], budget: ErrorBudget) -> None:
    now: Record = record(LORA, **timed(0.85, 0.01))
    results = judge_saved([(record(FFT, **first), None, BASELINE), (now, None, BASELINE)], TOLERANCES, HERE)
    assert results[LORA] == Gate(TOLERANCES, BASELINE, HERE, budget).judge(now)
