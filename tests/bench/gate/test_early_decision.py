"""A second measurement that ends once its outcome is clear: when, and that it errs no more for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from peft_update_bench.bench.gate.slowdown import Decision, ErrorBudget, judge_slowdown
from peft_update_bench.bench.timing import until
from peft_update_bench.fixtures.instruments.clock import Duration
from peft_update_bench.fixtures.instruments.interval import Interval
from peft_update_bench.fixtures.instruments.latency import MIN_ROUNDS_TO_DECIDE, SamplingLimits, Until, sample_rounds
from peft_update_bench.fixtures.instruments.rounds import Rounds

from tests.helpers.manual_clock import MS, Machine, noisy

pytestmark = pytest.mark.slow

BEFORE = Interval(1.0, 0.99, 1.01, 0.95)
NEVER_NARROW = 1e-6


def decision(error_rate: float = ErrorBudget().rate) -> Decision:
    return Decision({"relative": BEFORE, "wall_relative": BEFORE}, tolerance=0.10, error_rate=error_rate)


def rounds_of(ratio: float, enough: Until | None) -> int:
    machine = Machine()
    step, reference = machine.step("step", noisy(20 * ratio, seed=1)), machine.step("reference", noisy(20, seed=2))
    limits = SamplingLimits(width_share=NEVER_NARROW, max_rounds=300, budget_seconds=1e6)
    return len(sample_rounds(step, reference, limits, machine.clock, until=enough))


@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.5, 3.0])
def test_a_clear_outcome_ends_it_at_the_first_look_that_may(ratio: float) -> None:
    assert MIN_ROUNDS_TO_DECIDE <= rounds_of(ratio, until(decision(), 0.95)) <= MIN_ROUNDS_TO_DECIDE * 1.25
    assert rounds_of(ratio, None) == 300


def test_an_outcome_that_stays_open_does_not_end_it() -> None:
    assert rounds_of(1.10, until(decision(), 0.95)) == 300


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_a_step_as_slow_as_is_tolerated_alarms_no_more_often_than_the_rate_allows(heavy_tails: bool) -> None:
    random = np.random.default_rng(0)
    rate, spread, samples = 0.05, 0.25, 200
    settled = decision(rate)
    enough = until(settled, 0.95)

    def measured() -> Rounds:
        rounds = Rounds()
        # Between runs the same code differs: BETWEEN_RUNS, which the verdict allows for, and which is left out here.
        for count in range(1, 301):
            noise = random.standard_t(3) / math.sqrt(3) if heavy_tails else random.normal()
            duration = round(20 * MS * 1.10 * math.exp(spread * noise))
            rounds.step.append(Duration(duration, duration, duration))
            rounds.reference.append(Duration(20 * MS, 20 * MS, 20 * MS))
            if count in LOOKS and enough(rounds):
                break
        return rounds

    def alarms(rounds: Rounds) -> bool:
        return judge_slowdown(rounds.cpu(0.95), BEFORE, tolerance=0.10, error_rate=rate).kind == "regressed"

    assert sum(alarms(measured()) for _ in range(samples)) <= rate * samples


LOOKS = {40, 50, 63, 79, 99, 124, 155, 194, 243, 300}
