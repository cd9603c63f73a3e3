"""The ratio of two latencies, and that its interval holds the truth."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import cycle, repeat
from typing import Any

import numpy as np
import pytest
from peft_update_bench.fixtures.instruments.latency import SamplingLimits, measure, sample_rounds
from peft_update_bench.fixtures.instruments.rounds import LOOKING_ALLOWANCE, ratio_interval

from tests.hand_turned import SHORT, Machine, sampled

pytestmark = pytest.mark.usefixtures("quick_garbage_collection")


class TestRatio:
    def test_constant_durations_give_their_ratio_exactly(self) -> None:
        record = sampled(repeat(30.0), repeat(20.0)).as_record()
        for name in ("relative", "relative_low", "relative_high", "wall_relative"):
            assert record[name] == pytest.approx(1.5, rel=1e-12)
        assert record["rounds"] == SHORT.min_rounds
        assert (record["stable"], record["reference"], record["confidence"]) == (True, "fft", 0.95)

    def test_the_interval_holds_its_estimate_where_rounding_would_not(self) -> None:
        for ratio in (1 / 3, 0.1, 1.1, math.pi):
            interval = ratio_interval([math.log(ratio)] * 7, 0.95)
            assert interval.low <= interval.estimate <= interval.high

    def test_drift_hits_both_and_cancels(self) -> None:
        # A machine that gets three times slower within the measurement.
        durations = (20 * (1 + i // 2 / 20) for i in range(1000))
        machine = Machine()
        step = machine.step("step", (1.2 * duration for duration in durations))
        reference = machine.step("reference", durations)
        limits = replace(SHORT, min_rounds=40, max_rounds=40)
        assert measure(step, reference, limits=limits, clock=machine.clock).as_record()["relative"] == pytest.approx(
            1.2, rel=0.01
        )

    def test_what_the_second_of_a_pair_gains_cancels(self) -> None:
        durations = cycle([20.0, 18.0])
        record = sampled(durations, durations, replace(SHORT, min_rounds=12)).as_record()
        assert record["relative"] == pytest.approx(1.0, rel=1e-9)

    def test_bursts_are_left_out(self) -> None:
        bursts = cycle([20.0] * 6 + [500.0])
        assert sampled(bursts, repeat(20.0), replace(SHORT, min_rounds=12)).as_record()["relative"] == 1.0

    def test_heavy_tails_leave_the_estimate_near_the_truth(self) -> None:
        random = np.random.default_rng(0)
        heavy = (20 * math.exp(0.02 * random.standard_t(1.5)) for _ in range(1000))
        record = sampled(heavy, repeat(20.0), replace(SHORT, min_rounds=100, max_rounds=100)).as_record()
        assert record["relative"] == pytest.approx(1.0, abs=0.01)

    def test_ties_are_no_trouble(self) -> None:
        sample = sampled(cycle([20.0, 20.0, 21.0]), repeat(20.0), replace(SHORT, min_rounds=12))
        record: dict[str, Any] = sample.as_record()
        assert 0.98 < record["relative_low"] < record["relative"] < record["relative_high"] < 1.05

    def test_two_rounds_give_an_interval_and_one_is_refused(self) -> None:
        interval = ratio_interval([0.0, 0.01], 0.95)
        # Student's t with one degree of freedom. scipy divides by the share that trimming would have left.
        assert interval.half_width == pytest.approx(LOOKING_ALLOWANCE * 12.706 * 0.005 / 0.6, rel=1e-3)
        with pytest.raises(ValueError, match="1 rounds; an interval needs at least 2"):
            ratio_interval([0.0], 0.95)


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_intervals_hold_the_truth_although_sampling_ends_when_they_are_narrow(heavy_tails: bool) -> None:
    limits = SamplingLimits(budget_seconds=1e6)
    held = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        noise = random.standard_t(3, 400) * 0.03 if heavy_tails else random.normal(0, 0.03, 400)
        machine = Machine()
        step, reference = machine.step("step", iter(20 * np.exp(noise))), machine.step("reference", repeat(20.0))
        interval = sample_rounds(step, reference, limits, machine.clock).cpu(0.95)
        held += interval.low <= 1.0 <= interval.high
    assert held / 400 >= 0.95 - 0.02  # this simulation's own standard error is 0.011
