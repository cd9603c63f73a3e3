"""The latency instrument on a clock that the tests turn by hand: what is timed, and what surrounds it."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field, replace
from itertools import cycle, repeat
from typing import Any

import pytest
import torch
from peft_update_bench.fixtures.instruments.calibration import calibration_step
from peft_update_bench.fixtures.instruments.clock import ONE_THREAD, Clock, LatencyError, queued_ns
from peft_update_bench.fixtures.instruments.latency import PairedSample, measure, measure_periodic
from peft_update_bench.fixtures.instruments.steady import fixed_threads, retained_heap

from tests.hand_turned import MS, SHORT, Machine, sampled

pytestmark = pytest.mark.usefixtures("quick_garbage_collection")


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


def test_the_calibration_step_does_the_same_work_every_time_and_leaves_the_random_state() -> None:
    state = torch.get_rng_state()
    step = calibration_step()
    assert step().item() == step().item() == calibration_step()().item()
    assert torch.equal(state, torch.get_rng_state())
