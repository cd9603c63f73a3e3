"""When sampling a latency ends: narrow enough, out of rounds, or out of time."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import cycle, repeat
from typing import Any

import pytest
from peft_update_bench.fixtures.instruments.latency import SamplingLimits, measure
from peft_update_bench.fixtures.instruments.rounds import ratio_interval

from tests.hand_turned import MS, SHORT, Machine, noisy, sampled

pytestmark = pytest.mark.usefixtures("quick_garbage_collection")


class TestLimits:
    def test_the_first_goes_first_in_every_other_round_and_warm_up_is_not_timed(self) -> None:
        machine = Machine()
        step, reference = machine.step("s", repeat(1.0)), machine.step("r", repeat(1.0))
        sample = measure(step, reference, limits=replace(SHORT, warm_up_rounds=2), clock=machine.clock)
        assert "".join(machine.calls) == "rs" * 2 + "rssr" * 2
        assert len(sample.rounds) == 4

    @pytest.mark.parametrize(("of_width", "rounds", "stable"), [(0.999, 7, True), (1.001, 4, True), (0.1, 12, False)])
    def test_sampling_ends_at_the_first_look_that_is_narrow(self, of_width: float, rounds: int, stable: bool) -> None:
        # Looks come after 4, 5, 7 and 9 rounds; the fourth's interval is just too wide, just narrow enough, or far off.
        width = ratio_interval([math.log(1.01), 0.0] * 2, 0.95).half_width
        share = of_width * width / math.log1p(SHORT.tolerance)
        limits = replace(SHORT, width_share=share, stable_share=share)
        sample = sampled(cycle([20.2, 20.0]), repeat(20.0), limits)
        assert (len(sample.rounds), sample.stable) == (rounds, stable)

    @pytest.mark.parametrize(("of_width", "stable"), [(0.999, False), (1.001, True)])
    def test_what_stays_wider_is_stable_up_to_a_limit_of_its_own(self, of_width: float, stable: bool) -> None:
        width = ratio_interval([math.log(1.01), 0.0] * 2, 0.95).half_width
        share = of_width * width / math.log1p(SHORT.tolerance)
        limits = replace(SHORT, width_share=1e-9, stable_share=share, max_rounds=4)
        assert sampled(cycle([20.2, 20.0]), repeat(20.0), limits).stable == stable

    def test_more_rounds_make_it_narrow_enough(self) -> None:
        sample = sampled(noisy(20, 1, 0.06), repeat(20.0), SamplingLimits(warm_up_rounds=0, budget_seconds=1e6))
        assert 20 < len(sample.rounds) < 200
        assert sample.stable

    @pytest.mark.parametrize("max_rounds", [4, 5, 12])
    def test_never_more_than_the_most(self, max_rounds: int) -> None:
        assert len(sampled(noisy(20, 1, 0.5), repeat(20.0), replace(SHORT, max_rounds=max_rounds)).rounds) == max_rounds

    @pytest.mark.parametrize(("budget_ms", "rounds"), [(1, 4), (160, 4), (239, 6), (240, 6), (241, 7), (320, 8)])
    def test_the_budget_ends_what_comes_after_the_fewest(self, budget_ms: int, rounds: int) -> None:
        limits = replace(SHORT, budget_seconds=budget_ms / 1000, width_share=1e-9, stable_share=1e-9)
        sample = sampled(cycle([19.0, 21.0]), repeat(20.0), limits)
        assert len(sample.rounds) == rounds
        assert not sample.stable

    def test_time_without_a_core_is_not_charged_to_the_budget(self) -> None:
        machine = Machine()
        step = machine.step("step", cycle([19.0, 21.0]), queued_ms=repeat(1000.0))
        limits = replace(SHORT, budget_seconds=0.320, width_share=1e-9)
        sample = measure(step, machine.step("reference", repeat(20.0)), limits=limits, clock=machine.clock)
        assert len(sample.rounds) == 8

    def test_both_clocks_must_be_narrow(self) -> None:
        machine = Machine()
        step = machine.step("step", repeat(20.0))
        asleep = cycle([0, 15])

        def sleeping() -> None:
            step()
            machine.wall += next(asleep) * MS

        sample = measure(sleeping, machine.step("reference", repeat(20.0)), limits=SHORT, clock=machine.clock)
        assert (len(sample.rounds), sample.stable) == (12, False)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("tolerance", 0.0),
            ("tolerance", math.nan),
            ("width_share", -1.0),
            ("confidence", 1.0),
            ("warm_up_rounds", -1),
            ("min_rounds", 1),
            ("max_rounds", 3),
            ("budget_seconds", math.inf),
            ("max_refreshes", 2),
            ("stable_share", 0.1),
            ("refresh_budget_seconds", 0.0),
        ],
    )
    def test_impossible_limits_are_refused(self, name: str, value: float) -> None:
        impossible: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            replace(SHORT, **impossible)
