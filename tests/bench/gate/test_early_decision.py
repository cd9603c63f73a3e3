"""A measurement that ends once its outcome is clear: when, and that it errs no more for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from peft_update_bench.bench.gate.slowdown import Decision, ErrorBudget, judge_slowdown
from peft_update_bench.bench.measuring.timing import until
from peft_update_bench.fixtures.instruments.latency.clock import Duration
from peft_update_bench.fixtures.instruments.latency.interval import Interval
from peft_update_bench.fixtures.instruments.latency.paired import DEFAULT_LIMITS, SamplingLimits, Until, sample_rounds
from peft_update_bench.fixtures.instruments.latency.rounds import Rounds

from tests.helpers.manual_clock import MS, Machine, noisy

pytestmark = pytest.mark.slow

BEFORE = Interval(1.0, 0.99, 1.01, 0.95)
NEVER_NARROW = SamplingLimits(width_share=1e-6, max_rounds=300, budget_seconds=1e6)
TO_DECIDE = NEVER_NARROW.min_rounds_to_decide


def decision(error_rate: float = ErrorBudget().rate) -> Decision:
    return Decision({"relative": BEFORE, "wall_relative": BEFORE}, tolerance=0.10, error_rate=error_rate)


def rounds_of(ratio: float, enough: Until | None, limits: SamplingLimits = NEVER_NARROW, spread: float = 0.04) -> int:
    machine = Machine()
    step = machine.step("step", noisy(20 * ratio, seed=1, spread=spread))
    reference = machine.step("reference", noisy(20, seed=2, spread=spread))
    return len(sample_rounds(step, reference, limits, machine.clock, until=enough))


@pytest.mark.parametrize("ratio", [0.9, 1.0, 1.5, 3.0])
def test_a_clear_outcome_ends_it_at_the_first_look_that_may(ratio: float) -> None:
    assert TO_DECIDE <= rounds_of(ratio, until(decision())) <= TO_DECIDE * 1.25
    assert rounds_of(ratio, None) == 300


def test_an_outcome_that_stays_open_does_not_end_it() -> None:
    assert rounds_of(1.10, until(decision())) == 300


@pytest.mark.parametrize(
    ("ratio", "spread", "least", "most"),
    [
        (1.0, 0.01, 4, 4),  # clear at the first look
        (1.0, 0.15, 9, 60),  # not clear there
        (1.08, 0.01, 20, 40),  # within the tolerance, and too near to its limit to be clear: until narrow, as without
        (1.10, 0.04, 40, 200),
    ],
)
def test_a_first_measurement_ends_when_the_cell_is_clearly_no_slower(
    ratio: float, spread: float, least: int, most: int
) -> None:
    limits = replace(DEFAULT_LIMITS, budget_seconds=1e6)
    assert limits.min_rounds_to_decide == 4
    assert least <= rounds_of(ratio, until(replace(decision(), screens=True)), limits, spread) <= most
    assert rounds_of(ratio, None, limits, spread) >= limits.min_rounds


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_a_first_measurement_suspects_what_is_20_percent_slower(heavy_tails: bool) -> None:
    """However early it may end."""
    random = np.random.default_rng(0)
    enough = until(replace(decision(), screens=True))
    for _ in range(100):
        rounds = Rounds()
        for count in range(1, 61):
            noise = random.standard_t(3) / math.sqrt(3) if heavy_tails else random.normal()
            # Spread as beside other work, and what differs between runs (BETWEEN_RUNS) against the cell by twice that.
            duration = round(20 * MS * 1.20 * math.exp(0.05 * noise - 0.02))
            rounds.step.append(Duration(duration, duration, duration))
            rounds.reference.append(Duration(20 * MS, 20 * MS, 20 * MS))
            if count in FIRST_LOOKS and enough(rounds):
                break
        assert rounds.cpu(0.95).estimate > 1.10


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_a_step_as_slow_as_is_tolerated_alarms_no_more_often_than_the_rate_allows(heavy_tails: bool) -> None:
    random = np.random.default_rng(0)
    rate, spread, samples = 0.05, 0.25, 100
    settled = decision(rate)
    enough = until(settled)

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


FIRST_LOOKS = {4, 5, 7, 9, 12, 15, 19, 24, 30, 38, 48, 60}
LOOKS = {40, 50, 63, 79, 99, 124, 155, 194, 243, 300}
