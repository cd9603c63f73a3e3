"""The second measurement of what looks slower: when it is due, what it decides, what it spends."""

from __future__ import annotations

import pytest
from peft_update_bench.bench.gate.gate import Result
from peft_update_bench.bench.gate.slowdown import Decision, ErrorBudget, judge_slowdown
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.record import Record

from tests.helpers.records import LORA, record
from tests.helpers.sessions import FFT, TOLERANCES, gate, slower


@pytest.mark.parametrize(
    ("verdict", "suspected"),
    [
        (Verdict("latency.relative", "ok", "×", 0.9, 0.8, 0.1), True),
        (Verdict("latency.wall_relative", "unstable", "×", 0.9, 0.8, 0.1), True),
        (Verdict("stats.median", "regressed", "s", 2.1, 1.0, 1.0), True),
        (Verdict("latency.relative", "not comparable", "×", 0.9, 0.8, 0.1), False),
        (Verdict("latency.relative", "missing", "×", 0.9, None, 0.1), False),
        (Verdict("latency.relative", "ok", "×", 0.85, 0.8, 0.1), False),
        (Verdict("latency.relative", "ok", "×", 1.5, 1.0, 0.5), False),
        (Verdict("measured_memory.rss_peak", "regressed", "bytes", 2000, 1000, 0.25), False),
    ],
)
def test_what_is_worth_a_second_measurement(verdict: Verdict, suspected: bool) -> None:
    other = Verdict("flops.forward", "regressed", "FLOPs", 2000, 1000)
    assert Result(LORA, record(), (other, verdict)).suspects_slowdown == suspected


def test_only_second_measurements_spend_of_the_error_budget() -> None:
    judge = gate(record())
    first = judge.error_budget.rate
    judge.judge(record())
    assert (judge.error_budget.tests, judge.error_budget.rate) == (0, first)
    judge.judge(record(), confirming=True)
    assert (judge.error_budget.tests, judge.error_budget.passed_on) == (1, 0.0)
    judge.judge(slower(1.5), confirming=True)
    assert judge.error_budget.tests == 2
    assert judge.error_budget.passed_on > 0, "what is slower passes its share on"


def test_a_second_measurement_is_judged_before_its_share_is_spent() -> None:
    """At a ratio that the first test's rate calls slower and the second's does not."""
    first, second = ErrorBudget(), ErrorBudget(tests=1)
    between = next(
        slower(1 + percent / 1000)
        for percent in range(100, 300)
        if [kind(slower(1 + percent / 1000), budget.rate) for budget in (first, second)] == ["regressed", "unstable"]
    )
    found = gate(record()).judge(between, confirming=True)
    assert [verdict.kind for verdict in found.verdicts if verdict.unit == "×"] == ["regressed", "regressed"]


def kind(now: Record, rate: float) -> str:
    assert now.latency is not None
    before = record().latency
    assert before is not None
    intervals = (now.latency.interval("relative"), before.interval("relative"))
    return judge_slowdown(*intervals, tolerance=TOLERANCES["latency"], error_rate=rate).kind


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        ([], False),
        ([Verdict("latency.relative", "regressed")], True),
        ([Verdict("latency.relative", "ok"), Verdict("latency.wall_relative", "regressed")], True),
        ([Verdict("latency.relative", "unstable")], False),
        ([Verdict("flops.forward", "regressed"), Verdict("stats.median", "regressed")], False),
    ],
)
def test_what_counts_as_found_slower(verdicts: list[Verdict], found: bool) -> None:
    assert Result(LORA, record(), tuple(verdicts)).finds_slower == found


def test_what_a_second_measurement_is_to_decide() -> None:
    judge = gate(record())
    before = record().latency
    assert before is not None
    intervals = {"relative": before.interval("relative"), "wall_relative": before.interval("wall_relative")}
    assert judge.decision(LORA) == Decision(intervals, TOLERANCES["latency"], ErrorBudget().rate)
    judge.error_budget.spend(found_slower=False)
    assert judge.decision(LORA) == Decision(intervals, TOLERANCES["latency"], ErrorBudget(tests=1).rate)
    assert judge.decision(FFT) is None
    assert gate().decision(LORA) is None
    assert gate(record(latency=None)).decision(LORA) is None
