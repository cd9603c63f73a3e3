"""The verdict on a latency: at its limits, under damaged input, and its error rates on synthetic runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from bench.gate.slowdown import BETWEEN_RUNS, Interval, Slowdown, combine, judge_ratio, judge_slowdown
from fixtures.instruments.latency import SamplingLimits

CORE_COMPARISONS = 96  # 48 cells by two clocks


def interval(estimate: float, standard_error: float = 0.0) -> Interval:
    half_width = standard_error * norm.ppf(0.975)
    return Interval(estimate, estimate * math.exp(-half_width), estimate * math.exp(half_width), 0.95)


def judged(change: float, *, tolerance: float = 0.10, comparisons: int = 1, error: float = 0.0) -> Slowdown:
    return judge_slowdown(interval(0.8 * change, error), interval(0.8), tolerance=tolerance, comparisons=comparisons)


def allowance(comparisons: int, error: float = 0.0) -> float:
    """How far past the tolerance, as a factor, a slowdown must be seen to be one, by the formulas of the docstrings."""
    per_comparison = 1 - 0.95 ** (1 / comparisons)
    return math.exp(norm.isf(per_comparison) * math.sqrt(2 * BETWEEN_RUNS**2 + error**2))


@pytest.mark.parametrize("comparisons", [1, CORE_COMPARISONS])
@pytest.mark.parametrize("error", [0.0, 0.01])
def test_a_slowdown_regresses_just_above_its_limit_and_not_just_below(comparisons: int, error: float) -> None:
    limit = 1.10 * allowance(comparisons, error)
    below = judged(limit * 0.9999, comparisons=comparisons, error=error)
    above = judged(limit * 1.0001, comparisons=comparisons, error=error)
    assert (below.kind, above.kind) == ("ok", "regressed")
    assert below.suspected
    assert above.low == pytest.approx(0.10, abs=2e-4)


def test_an_improvement_is_one_just_past_its_limit_and_not_just_before() -> None:
    limit = 1 / (1.10 * allowance(1))
    assert [judged(limit * near).kind for near in (1.0001, 0.9999)] == ["ok", "improved"]


def test_what_is_too_wide_is_unstable_just_above_the_limit_and_not_just_below() -> None:
    limit = math.sqrt((math.log(1.10) / norm.isf(0.05)) ** 2 - 2 * BETWEEN_RUNS**2)
    assert [judged(1.0, error=limit * near).kind for near in (0.9999, 1.0001)] == ["ok", "unstable"]


def test_two_measurements_that_the_instrument_calls_stable_get_a_verdict() -> None:
    half_width = SamplingLimits().stable
    stable = Interval(1.0, math.exp(-half_width), math.exp(half_width), 0.95)
    assert judge_slowdown(stable, stable, tolerance=0.10, comparisons=CORE_COMPARISONS).kind == "ok"


def test_a_clear_regression_counts_even_where_the_interval_is_wide() -> None:
    assert judged(2.0, error=0.1).kind == "regressed"


def test_the_limit_itself_is_within_the_tolerance() -> None:
    wide = interval(1.0, 10.0)
    assert judge_slowdown(wide, wide, tolerance=0.1, comparisons=1).kind == "unstable"
    assert judged(1.10).kind == "ok"
    assert not judged(1.0).suspected
    assert not judged(1.0999).suspected
    assert judged(1.1001).suspected


def test_more_comparisons_demand_more_evidence() -> None:
    assert judged(1.15, comparisons=1).kind == "regressed"
    assert judged(1.15, comparisons=CORE_COMPARISONS).kind == "ok"


def test_the_change_and_its_interval_are_fractions_of_before() -> None:
    slowdown = judge_slowdown(interval(1.2), interval(1.0), tolerance=0.1, comparisons=1)
    assert slowdown.change == pytest.approx(0.2)
    assert (1 + slowdown.low) * (1 + slowdown.high) == pytest.approx(1.2**2)


def test_a_ratio_measured_directly_is_judged_as_two_runs_are() -> None:
    direct = judge_ratio(interval(1.3, 0.01), tolerance=0.1, comparisons=5)
    assert direct == judge_slowdown(interval(1.3, 0.01), interval(1.0), tolerance=0.1, comparisons=5)


class TestCombine:
    def test_two_that_agree_are_narrower_than_either(self) -> None:
        both = combine(interval(1.2, 0.01), interval(1.2, 0.01))
        assert both.estimate == pytest.approx(1.2)
        assert both.sampling_variance == pytest.approx(interval(1.2, 0.01).sampling_variance / 2)

    def test_a_burst_in_one_of_two_does_not_alarm(self) -> None:
        before, burst, quiet = interval(1.0, 0.005), interval(1.5, 0.005), interval(1.0, 0.005)
        alone = judge_slowdown(burst, before, tolerance=0.1, comparisons=1)
        again = judge_slowdown(combine(burst, quiet), before, tolerance=0.1, comparisons=1)
        assert (alone.kind, again.kind) == ("regressed", "unstable")

    def test_the_more_precise_weighs_more(self) -> None:
        both = combine(interval(1.00, 0.05), interval(1.02, 0.005))
        assert 1.015 < both.estimate < 1.02

    def test_a_regression_that_comes_twice_alarms(self) -> None:
        now = combine(interval(1.21, 0.008), interval(1.19, 0.008))
        assert judge_slowdown(now, interval(1.0, 0.008), tolerance=0.1, comparisons=96).kind == "regressed"


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("name", ["estimate", "low", "high"])
def test_figures_that_are_no_ratio_are_refused(name: str, value: float) -> None:
    figures = {"estimate": 1.0, "low": 0.9, "high": 1.1} | {name: value}
    with pytest.raises(ValueError, match=f"{name} is {value}; expected a finite ratio above 0"):
        Interval(**figures, confidence=0.95)


@pytest.mark.parametrize(("low", "high"), [(1.01, 1.1), (0.9, 0.99)])
def test_an_estimate_outside_its_interval_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="lies outside its interval"):
        Interval(1.0, low, high, 0.95)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"confidence is .+; expected a number between"):
        Interval(1.0, 0.9, 1.1, confidence)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 0.0}, "the tolerance is 0.0; expected a positive fraction"),
        ({"tolerance": math.nan}, "the tolerance is nan"),
        ({"comparisons": 0}, "comparisons is 0"),
        ({"family_error": 0.0}, "family_error is 0.0"),
        ({"family_error": 1.0}, "family_error is 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    chosen = {"tolerance": 0.1, "comparisons": 1} | settings
    with pytest.raises(ValueError, match=message):
        judge_slowdown(interval(1.0), interval(1.0), **chosen)  # type: ignore[arg-type]


class TestErrorRates:
    """Runs of the whole core matrix on synthetic figures, with what differs between runs as large as is allowed for.

    A run alarms as the gate does: a suspected slowdown is measured again, and counts if both together regress.
    """

    sampling_error = 0.0075

    def alarms(self, slowdown: float, runs: int, seed: int) -> np.ndarray:
        """Whether each comparison of each run alarmed; (runs, comparisons)."""
        random = np.random.default_rng(seed)

        def of_run(true: float) -> float:
            return true * math.exp(random.normal(0, BETWEEN_RUNS))

        def measured(in_run: float) -> Interval:
            return interval(in_run * math.exp(random.normal(0, self.sampling_error)), self.sampling_error)

        def alarm() -> bool:
            before, run = measured(of_run(1.0)), of_run(1 + slowdown)
            first = measured(run)
            if not self.judge(first, before).suspected:
                return False
            return self.judge(combine(first, measured(run)), before).kind == "regressed"

        return np.array([[alarm() for _ in range(CORE_COMPARISONS)] for _ in range(runs)])

    def judge(self, now: Interval, before: Interval) -> Slowdown:
        return judge_slowdown(now, before, tolerance=0.10, comparisons=CORE_COMPARISONS)

    def test_no_run_alarms_when_nothing_changed(self) -> None:
        assert not self.alarms(0.0, runs=40, seed=0).any()

    def test_at_most_one_run_in_twenty_alarms_when_every_cell_is_as_slow_as_is_tolerated(self) -> None:
        assert self.alarms(0.10, runs=40, seed=1).any(axis=1).mean() <= 0.05

    def test_a_slowdown_twice_the_tolerance_is_caught_in_95_of_100(self) -> None:
        assert self.alarms(0.20, runs=10, seed=2).mean() >= 0.95

    def test_a_slowdown_by_half_is_always_caught(self) -> None:
        assert self.alarms(0.50, runs=10, seed=3).all()
