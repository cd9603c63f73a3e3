"""The latency instrument on a clock that the tests turn by hand: no test here depends on how fast anything is."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle, repeat
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.instruments.calibration import calibration_step
from fixtures.instruments.clock import ONE_THREAD, Clock, LatencyError, queued_ns
from fixtures.instruments.latency import PairedSample, SamplingLimits, measure, measure_periodic, sample_rounds
from fixtures.instruments.rounds import LOOKING_ALLOWANCE, ratio_interval
from fixtures.instruments.steady import fixed_threads, retained_heap

MS = 1_000_000
SHORT = SamplingLimits(warm_up_rounds=0, min_rounds=4, max_rounds=12, budget_seconds=1e6, max_refreshes=4)


@pytest.fixture(autouse=True, scope="module")
def _quick_garbage_collection() -> Iterator[None]:
    """Every measurement collects garbage first; torch's own objects, which stay, need not be looked at 100 times."""
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass
class Machine:
    """Three clocks and the steps that turn them. `calls` are the steps' names in the order they ran."""

    wall: int = 0
    cpu: int = 0
    queued: int = 0
    calls: list[str] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.cpu, lambda: self.queued)

    def step(
        self, name: str, cpu_ms: Iterator[float], asleep_ms: float = 0.0, queued_ms: Iterator[float] | None = None
    ) -> Callable[[], None]:
        def run() -> None:
            cpu, queued = next(cpu_ms), 0.0 if queued_ms is None else next(queued_ms)
            self.calls.append(name)
            self.cpu += round(cpu * MS)
            self.queued += round(queued * MS)
            self.wall += round((cpu + asleep_ms + queued) * MS)

        return run


def sampled(
    step_ms: Iterator[float], reference_ms: Iterator[float], limits: SamplingLimits = SHORT, asleep_ms: float = 0.0
) -> PairedSample:
    machine = Machine()
    step = machine.step("step", step_ms, asleep_ms)
    return measure(step, machine.step("reference", reference_ms), limits=limits, clock=machine.clock)


def noisy(middle: float, seed: int, spread: float = 0.04) -> Iterator[float]:
    random = np.random.default_rng(seed)
    while True:
        yield middle * math.exp(random.normal(0, spread))


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


class TestClocks:
    def test_sleeping_shows_on_the_wall_clock_only(self) -> None:
        record: dict[str, Any] = sampled(repeat(20.0), repeat(20.0), asleep_ms=5.0).as_record()
        assert (record["relative"], record["wall_relative"]) == (1.0, pytest.approx(1.25))

    def test_waiting_for_a_core_shows_in_the_absolute_time_only(self) -> None:
        machine = Machine()
        step = machine.step("step", repeat(20.0), queued_ms=cycle([0.0, 7.0, 40.0]))
        sample = measure(step, machine.step("reference", repeat(20.0)), limits=SHORT, clock=machine.clock)
        assert sample.as_record()["wall_relative"] == 1.0
        assert sample.step_seconds[:3] == (0.020, 0.027, 0.060)

    def test_with_several_threads_the_process_is_timed(self) -> None:
        assert Clock.for_threads(1) == ONE_THREAD
        assert ONE_THREAD.cpu_ns is time.thread_time_ns
        assert Clock.for_threads(2) == Clock(cpu_ns=time.process_time_ns, threads=2)

    def test_the_time_without_a_core_is_a_count(self) -> None:
        assert queued_ns() >= 0

    def test_a_wait_that_only_one_clock_saw_leaves_at_least_the_work(self) -> None:
        machine = Machine()
        step = machine.step("step", repeat(20.0))

        def missed() -> None:
            step()
            machine.queued += 50 * MS

        assert machine.clock.time(missed).unqueued == 20 * MS
        assert replace(machine.clock, threads=4).time(missed).unqueued == 5 * MS

    @pytest.mark.parametrize("cpu_ms", [0.0, -1.0])
    def test_a_step_without_measurable_time_is_an_error(self, cpu_ms: float) -> None:
        with pytest.raises(LatencyError, match="the step is too short, or the clock too coarse"):
            sampled(repeat(cpu_ms), repeat(20.0), asleep_ms=5.0)


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


class TestSurroundings:
    @pytest.mark.parametrize("enabled", [True, False])
    def test_garbage_collection_is_off_while_timing_and_as_before_afterwards(self, enabled: bool) -> None:
        machine, seen = Machine(), []
        step = machine.step("step", repeat(1.0))

        def looking() -> None:
            seen.append(gc.isenabled())
            step()

        (gc.enable if enabled else gc.disable)()
        try:
            measure(looking, machine.step("reference", repeat(1.0)), limits=SHORT, clock=machine.clock)
            assert gc.isenabled() == enabled
            assert not any(seen)
        finally:
            gc.enable()

    @pytest.mark.parametrize("calls", [0, 1, 6])
    def test_an_error_of_the_step_passes_and_garbage_collection_is_back(self, calls: int) -> None:
        machine = Machine()

        def failing() -> None:
            if len(machine.calls) >= 2 * calls:
                raise RuntimeError("out of memory")
            machine.step("step", repeat(1.0))()

        limits = replace(SHORT, warm_up_rounds=3)
        with pytest.raises(RuntimeError, match="out of memory"):
            measure(failing, machine.step("reference", repeat(1.0)), limits=limits, clock=machine.clock)
        assert gc.isenabled()

    def test_threads_are_fixed_and_as_before_afterwards(self) -> None:
        before = torch.get_num_threads()
        seen = []

        def failing() -> None:
            with fixed_threads(before + 1):
                seen.append(torch.get_num_threads())
                raise RuntimeError("from within")

        with pytest.raises(RuntimeError, match="from within"):
            failing()
        assert (seen, torch.get_num_threads()) == ([before + 1], before)

    def test_no_threads_are_refused(self) -> None:
        with pytest.raises(ValueError, match="threads is 0; expected a whole number of at least 1"), fixed_threads(0):
            pass

    def test_the_heap_serves_afterwards(self) -> None:
        with retained_heap():
            torch.ones(1 << 20)
        assert torch.ones(1 << 20).sum() == 1 << 20


class TestPeriodicWork:
    """A step that refreshes when its counter is a multiple of the period, as GaLore's does."""

    @dataclass
    class Periodic:
        machine: Machine
        period: int = 10
        counter: int = 0
        refreshed_in: list[int] = field(default_factory=list)

        def schedule(self) -> None:
            self.counter = 0

        def __call__(self) -> None:
            refreshes = self.counter % self.period == 0
            self.machine.step("refresh" if refreshes else "ordinary", repeat(200.0 if refreshes else 30.0))()
            self.counter += 1

    def sampled(self, period: int = 10, **limits: Any) -> tuple[PairedSample, Machine]:
        machine = Machine()
        step = self.Periodic(machine, period)
        chosen = replace(SHORT, **limits)
        reference = machine.step("reference", repeat(20.0))
        return measure_periodic(step, reference, step, limits=chosen, clock=machine.clock), machine

    @pytest.mark.parametrize("period", [2, 3, 10, 200])
    @pytest.mark.parametrize("warm_up_rounds", [0, 3, 9])
    def test_ordinary_rounds_hold_no_refresh(self, period: int, warm_up_rounds: int) -> None:
        sample, _ = self.sampled(
            period, min_rounds=40, max_rounds=40, warm_up_rounds=warm_up_rounds, refresh_budget_seconds=1e6
        )
        assert {duration.cpu for duration in sample.rounds.step} == {30 * MS}
        assert sample.refreshes is not None
        assert {duration.cpu for duration in sample.refreshes.step} == {200 * MS}
        assert len(sample.refreshes) == SHORT.max_refreshes

    def test_the_amortised_latency_is_the_mean_over_a_period(self) -> None:
        record = self.sampled(period=10)[0].as_record()
        assert record["relative"] == pytest.approx(1.5)
        assert record["refresh_relative"] == pytest.approx(10.0)
        assert record["refresh_relative_low"] == pytest.approx(10.0)
        assert record["refresh_relative_high"] == pytest.approx(10.0)
        assert record["amortised_relative"] == pytest.approx((9 * 1.5 + 10) / 10)

    @pytest.mark.parametrize(("budget_ms", "refreshes"), [(1, 3), (660, 3), (661, 4), (9999, 4)])
    def test_refreshes_have_a_budget_of_their_own(self, budget_ms: int, refreshes: int) -> None:
        sample, machine = self.sampled(refresh_budget_seconds=budget_ms / 1000)
        assert sample.refreshes is not None
        assert len(sample.refreshes) == machine.calls.count("refresh") == refreshes

    def test_a_period_of_one_has_no_ordinary_step(self) -> None:
        with pytest.raises(ValueError, match="the period is 1"):
            self.sampled(period=1)

    def test_an_ordinary_step_has_no_such_figures(self) -> None:
        assert not {"refresh_relative", "amortised_relative"} & sampled(repeat(1.0), repeat(1.0)).as_record().keys()


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


def test_the_calibration_step_does_the_same_work_every_time_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    step = calibration_step()
    assert step().item() == step().item() == calibration_step()().item()
    assert torch.equal(state, torch.get_rng_state())
