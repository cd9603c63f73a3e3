"""The verdict on a latency: at its limits, under damaged input, and its error rates on synthetic runs."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from peft_update_bench.bench.gate.slowdown import (
    BETWEEN_RUNS,
    EARLY_SHARE,
    FAMILY_ERROR,
    Decision,
    ErrorBudget,
    Slowdown,
    is_clear,
    judge_ratio,
    judge_slowdown,
)
from peft_update_bench.fixtures.instruments.latency.interval import Interval
from peft_update_bench.fixtures.instruments.latency.paired import SamplingLimits

CORE_CELLS = 48


def interval(estimate: float, standard_error: float = 0.0) -> Interval:
    half_width = standard_error * NormalDist().inv_cdf(0.975)
    return Interval(estimate, estimate * math.exp(-half_width), estimate * math.exp(half_width), 0.95)


def rate_of(test: int) -> float:
    """The rate of a run's `test`-th second measurement, after others that came to nothing."""
    return ErrorBudget(tests=test - 1).rate


def judge_change(change: float, *, tolerance: float = 0.10, error_rate: float = 0.05, error: float = 0.0) -> Slowdown:
    return judge_slowdown(interval(0.8 * change, error), interval(0.8), tolerance=tolerance, error_rate=error_rate)


def allowance(error_rate: float, error: float = 0.0) -> float:
    """How far past the tolerance, as a factor, a slowdown must be seen to be one, by the formulas of the docstrings."""
    return math.exp(NormalDist().inv_cdf(1 - error_rate) * math.sqrt(2 * BETWEEN_RUNS**2 + error**2))


@pytest.mark.parametrize("rate", [0.05, rate_of(1), rate_of(5)])
@pytest.mark.parametrize("error", [0.0, 0.01])
def test_a_slowdown_regresses_just_above_its_limit_and_is_undecided_just_below(rate: float, error: float) -> None:
    limit = 1.10 * allowance(rate, error)
    below = judge_change(limit * 0.9999, error_rate=rate, error=error)
    above = judge_change(limit * 1.0001, error_rate=rate, error=error)
    assert (below.kind, above.kind) == ("unstable", "regressed")
    assert below.suspected
    assert above.low == pytest.approx(0.10, abs=2e-4)


@pytest.mark.parametrize(("change", "suspected"), [(2 * (1 - 1e-9), False), (2, False), (2 * (1 + 1e-9), True)])
def test_an_estimate_at_its_tolerance_is_not_suspected(change: float, suspected: bool) -> None:
    """A logarithm that is exact: twice as slow is 100 %."""
    found = judge_change(change, tolerance=1.0)
    assert (found.suspected, found.kind) == (suspected, "unstable" if suspected else "ok")


def test_the_shares_of_all_tests_of_a_run_add_up_to_half_of_the_familys_error() -> None:
    assert rate_of(1) == FAMILY_ERROR / 8
    assert ErrorBudget(metrics=3, tests=1).rate == pytest.approx(FAMILY_ERROR / 36)
    spent = [sum(2 * rate_of(test) for test in range(1, tests + 1)) for tests in (1, 10, 10_000)]
    assert spent == sorted(spent)
    assert 0.999 * FAMILY_ERROR / 2 < spent[-1] < FAMILY_ERROR / 2


def test_an_improvement_is_one_just_past_its_limit_and_not_just_before() -> None:
    limit = 1 / (1.10 * allowance(0.05))
    assert [judge_change(limit * near).kind for near in (1.0001, 0.9999)] == ["ok", "improved"]


def test_what_is_too_wide_is_unstable_just_above_the_limit_and_not_just_below() -> None:
    limit = math.sqrt((math.log(1.10) / NormalDist().inv_cdf(0.95)) ** 2 - 2 * BETWEEN_RUNS**2)
    assert [judge_change(1.0, error=limit * near).kind for near in (0.9999, 1.0001)] == ["ok", "unstable"]


def test_two_measurements_that_the_instrument_calls_stable_get_a_verdict() -> None:
    half_width = SamplingLimits().stable
    stable = Interval(1.0, math.exp(-half_width), math.exp(half_width), 0.95)
    assert judge_slowdown(stable, stable, tolerance=0.10, error_rate=rate_of(1)).kind == "ok"


def test_a_clear_regression_counts_even_where_the_interval_is_wide() -> None:
    assert judge_change(2.0, error=0.1).kind == "regressed"


def test_the_limit_itself_is_within_the_tolerance() -> None:
    wide = interval(1.0, 10.0)
    assert judge_slowdown(wide, wide, tolerance=0.1, error_rate=0.05).kind == "unstable"
    assert judge_change(1.0999).kind == "ok"
    assert not judge_change(1.0).suspected
    assert not judge_change(1.0999).suspected
    assert judge_change(1.1001).suspected


def test_later_tests_demand_more_evidence() -> None:
    assert judge_change(1.15, error_rate=rate_of(1)).kind == "regressed"
    assert judge_change(1.15, error_rate=rate_of(10)).kind == "unstable"


def test_the_change_and_its_interval_are_fractions_of_before() -> None:
    slowdown = judge_slowdown(interval(1.2), interval(1.0), tolerance=0.1, error_rate=0.05)
    assert slowdown.change == pytest.approx(0.2)
    assert (1 + slowdown.low) * (1 + slowdown.high) == pytest.approx(1.2**2)


def test_a_ratio_measured_directly_is_judged_as_two_runs_are() -> None:
    direct = judge_ratio(interval(1.3, 0.01), tolerance=0.1, error_rate=0.05)
    assert direct == judge_slowdown(interval(1.3, 0.01), interval(1.0), tolerance=0.1, error_rate=0.05)


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
        ({"error_rate": 0.0}, "the error rate is 0.0; expected a number between 0 and 0.5"),
        ({"error_rate": 0.5}, "the error rate is 0.5"),
        ({"error_rate": math.nan}, "the error rate is nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    chosen = {"tolerance": 0.1, "error_rate": 0.05} | settings
    with pytest.raises(ValueError, match=message):
        judge_slowdown(interval(1.0), interval(1.0), **chosen)


@pytest.mark.parametrize(("metrics", "tests"), [(0, 0), (2, -1)])
def test_a_budget_of_nothing_is_refused(metrics: int, tests: int) -> None:
    with pytest.raises(ValueError, match=f"tests is {tests} and metrics is {metrics}; expected at least 0 and at"):
        ErrorBudget(metrics, tests)


def test_one_metric_has_a_tests_whole_share() -> None:
    assert ErrorBudget(metrics=1).rate == ErrorBudget().share == 2 * ErrorBudget().rate


def test_what_is_slower_passes_its_share_on_and_what_is_not_loses_it() -> None:
    slower, not_slower = ErrorBudget(), ErrorBudget()
    slower.spend(found_slower=True)
    not_slower.spend(found_slower=False)
    assert slower.rate == pytest.approx(FAMILY_ERROR / 24 + FAMILY_ERROR / 8)
    assert not_slower.rate == pytest.approx(FAMILY_ERROR / 24)
    slower.spend(found_slower=False)
    assert slower.rate == ErrorBudget(tests=2).rate


def test_a_run_in_which_everything_is_slower_spends_no_more_than_its_budget() -> None:
    budget = ErrorBudget()
    shares = []
    for _ in range(1000):
        shares.append(budget.share)
        budget.spend(found_slower=True)
    assert shares == sorted(shares)
    assert 0.99 * FAMILY_ERROR / 2 < shares[-1] < FAMILY_ERROR / 2


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ((1.0, 1.0), True),  # neither clock can be slower than is tolerated
        ((1.0, 1.5), True),  # asleep
        ((1.5, 1.0), True),
        ((1.09, 1.0), False),
        ((1.11, 1.0), False),
    ],
)
def test_a_clear_case_ends_a_measurement_early_and_another_does_not(changes: tuple[float, float], made: bool) -> None:
    decision = Decision({"cpu": interval(0.8), "wall": interval(0.8)}, tolerance=0.10, error_rate=0.05)
    now = {clock: interval(0.8 * change) for clock, change in zip(decision.before, changes, strict=True)}
    assert decision.is_made(now) == made


def test_a_slowdown_that_can_be_no_more_than_is_tolerated_is_a_clear_case() -> None:
    assert is_clear([Slowdown("ok", 0.0, -0.1, 0.1, tolerance=0.1)])
    assert not is_clear([Slowdown("ok", 0.0, -0.1, 0.11, tolerance=0.1)])


def test_an_early_decision_needs_more_evidence_than_a_last_one() -> None:
    decision = Decision({"cpu": interval(0.8)}, tolerance=0.10, error_rate=0.05)
    limit = 1.10 * allowance(EARLY_SHARE * 0.05)
    assert not decision.is_made({"cpu": interval(0.8 * limit * 0.9999)})
    assert decision.is_made({"cpu": interval(0.8 * limit * 1.0001)})


@pytest.mark.slow
class TestErrorRates:
    """Runs of the whole core matrix on synthetic figures, with what differs between runs as large as is allowed for.

    A run alarms as the gate does: a suspected slowdown is measured again, from a fresh build, and that decides. The two
    clocks are as good as independent here, which they are not; it makes alarms more frequent.
    """

    screening_error = 0.015
    careful_error = 0.0075

    def alarms(self, slowdowns: list[float], runs: int, seed: int) -> np.ndarray:
        """Whether each cell of each run alarmed; (runs, cells)."""
        random = np.random.default_rng(seed)

        def measured(true: float, error: float) -> Interval:
            return interval(true * math.exp(random.normal(0, math.hypot(BETWEEN_RUNS, error))), error)

        def run() -> list[bool]:
            budget, alarms = ErrorBudget(), []
            for slowdown in slowdowns:
                before = [measured(1.0, self.careful_error) for _ in range(2)]
                screened = [self.judge(measured(1 + slowdown, self.screening_error), b, budget.rate) for b in before]
                if not any(verdict.suspected for verdict in screened):
                    alarms.append(False)
                    continue
                again = [self.judge(measured(1 + slowdown, self.careful_error), b, budget.rate) for b in before]
                alarms.append(any(verdict.kind == "regressed" for verdict in again))
                budget.spend(found_slower=alarms[-1])
            return alarms

        return np.array([run() for _ in range(runs)])

    def judge(self, now: Interval, before: Interval, rate: float) -> Slowdown:
        return judge_slowdown(now, before, tolerance=0.10, error_rate=rate)

    def test_no_run_alarms_when_nothing_changed(self) -> None:
        assert not self.alarms([0.0] * CORE_CELLS, runs=40, seed=0).any()

    def test_at_most_one_run_in_twenty_alarms_when_every_cell_is_as_slow_as_is_tolerated(self) -> None:
        assert self.alarms([0.10] * CORE_CELLS, runs=100, seed=1).any(axis=1).mean() <= FAMILY_ERROR

    def test_a_slowdown_twice_the_tolerance_is_caught_in_95_of_100(self) -> None:
        cells = [0.0] * (CORE_CELLS // 2) + [0.20]
        assert self.alarms(cells, runs=100, seed=2)[:, -1].mean() >= 0.95

    def test_it_is_caught_as_often_where_every_cell_is_slower(self) -> None:
        assert self.alarms([0.20] * CORE_CELLS, runs=20, seed=4).mean() >= 0.95

    def test_a_slowdown_of_every_cell_by_half_is_always_caught(self) -> None:
        assert self.alarms([0.50] * CORE_CELLS, runs=5, seed=3).all()
