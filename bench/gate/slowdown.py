"""The verdict on a latency: two measurements with their intervals in, one verdict with its interval out.

A slowdown is a regression only when it exceeds the tolerance with confidence, over all comparisons of a run together.
The first measurement of a cell only screens: what it suspects is measured again, longer and from a fresh build, and the
second measurement alone decides. So the tests of a run are its second measurements, of which there are few, and only
they share the rate of false alarms (:class:`ErrorBudget`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from peft_update_bench.fixtures.instruments.latency.interval import Interval

BETWEEN_RUNS = 0.010
"""Standard deviation, on the scale of logarithms, between runs of the same code, on top of the sampling error.

A run's interval cannot know what all its rounds share: where its memory lies, which kernels were chosen. Measured on
MobileNetV3-Small, LoRA against full fine-tuning, by CPU time beside other work: 0.7 % between 8 processes and 0.4 %
between 5 builds within each, 0.8 % together. ``python -m tests.studies.latency_study`` prints it for any machine.
"""

FAMILY_ERROR = 0.05
"""How often a run may fail where nothing is worse than is tolerated."""

UNSTABLE_WIDTH = 1.0
"""The half-width of a change's interval, as a multiple of the tolerance (both on the scale of logarithms), past which
no verdict is given: half of all slowdowns by the tolerance twice over would go unseen."""

EARLY_SHARE = 0.01
"""The share of its error rate at which a measurement that goes on is judged, so that a clear case may end it. It is
judged some 15 times at most, and its intervals allow for that besides (``fixtures/instruments/latency/rounds.py``)."""

SCREENING_RATE = 0.01
"""The rate at which each look at a first measurement may take a cell just as slow as is tolerated for no slower. A cell
slower by twice the tolerance is told apart all the same: it lies some 6 standard errors off where an interval is 3 %
wide either way."""

Kind = Literal["ok", "improved", "unstable", "regressed"]


@dataclass
class ErrorBudget:
    """The rate of false alarms of one run, spent test by test. A test is a cell's second measurement.

    The n-th test's own share is FAMILY_ERROR / 2 × 1 / (n (n + 1)), so that the shares of however many tests add up to
    less than FAMILY_ERROR / 2: alpha-spending, Foster and Stine (J. R. Stat. Soc. B 70, 2008). The half pays for the
    selection: both measurements share the baseline's error, and of cells exactly as slow as is tolerated half are
    suspected, which at most doubles the rate among them.

    A test that finds its cell slower passes its share on to the next: the fallback procedure, Wiens (Pharmaceutical
    Statistics 2, 2003). So a run in which everything is slower needs no more evidence for the last cell than for the
    first; one whose suspicions come to nothing needs more and more. A cell is slower if any of its `metrics` says so,
    which divide the test's share evenly, after Bonferroni.
    """

    metrics: int = 2
    tests: int = 0
    passed_on: float = 0.0

    def __post_init__(self) -> None:
        if self.tests < 0 or self.metrics < 1:
            raise ValueError(f"tests is {self.tests} and metrics is {self.metrics}; expected at least 0 and at least 1")

    @property
    def share(self) -> float:
        """The rate at which the next test may err."""
        test = self.tests + 1
        return FAMILY_ERROR / 2 / (test * (test + 1)) + self.passed_on

    @property
    def rate(self) -> float:
        """The rate at which each metric may err in the next test."""
        return self.share / self.metrics

    def spend(self, *, found_slower: bool) -> None:
        """Count a test and what it found."""
        self.passed_on = self.share if found_slower else 0.0
        self.tests += 1


@dataclass(frozen=True)
class Slowdown:
    """How much slower, as a fraction of before (+0.2 is 20 % slower), with its interval, and what follows from it.

    "unstable" is what the measurement cannot decide: its interval is too wide, or a slowdown past the tolerance is
    estimated, but not with confidence.

    Each end of the interval errs at the rate of the comparison.
    """

    kind: Kind
    change: float
    low: float
    high: float
    tolerance: float

    @property
    def suspected(self) -> bool:
        """Whether it is worth a second measurement: the estimate alone exceeds the tolerance."""
        return self.change > self.tolerance


def judge_slowdown(now: Interval, before: Interval, *, tolerance: float, error_rate: float) -> Slowdown:
    """Judge a measurement against an earlier one, erring at most at `error_rate`.

    Raises ValueError where a number is out of its range.
    """
    change = math.log(now.estimate / before.estimate)
    return _judge(change, math.sqrt(_variance(now) + _variance(before)), tolerance, error_rate)


def judge_ratio(ratio: Interval, *, tolerance: float, error_rate: float) -> Slowdown:
    """Judge a change that was measured directly, as the ratio of two versions that ran in turn.

    Two versions are two builds, so what differs between runs counts twice.
    """
    variance = ratio.sampling_variance + 2 * BETWEEN_RUNS**2
    return _judge(math.log(ratio.estimate), math.sqrt(variance), tolerance, error_rate)


@dataclass(frozen=True)
class Decision:
    """When a measurement of a cell may end: as soon as more rounds could hardly change what it is to decide.

    `before` is the baseline's interval by each clock; `error_rate` is each clock's. A measurement that only `screens`
    decides nothing against a cell, and may end on less evidence.
    """

    before: Mapping[str, Interval]
    tolerance: float
    error_rate: float
    screens: bool = False

    def is_made(self, now: Mapping[str, Interval]) -> bool:
        """Whether it is clear, and a verdict can be given."""
        looking_rate = SCREENING_RATE if self.screens else EARLY_SHARE * self.error_rate
        if not is_clear(self._judge(now, looking_rate)):
            return False
        return all(one.kind != "unstable" for one in self._judge(now, self.error_rate))

    def _judge(self, now: Mapping[str, Interval], error_rate: float) -> list[Slowdown]:
        return [
            judge_slowdown(now[clock], before, tolerance=self.tolerance, error_rate=error_rate)
            for clock, before in self.before.items()
        ]


def is_clear(slowdowns: Iterable[Slowdown]) -> bool:
    """Whether a cell regressed by one of its metrics, or did not by any."""
    found = [*slowdowns]
    return any(one.kind == "regressed" for one in found) or all(one.high <= one.tolerance for one in found)


def _variance(interval: Interval) -> float:
    """Of the estimate's logarithm: sampling, and what differs between runs."""
    return interval.sampling_variance + BETWEEN_RUNS**2


def _judge(change: float, error: float, tolerance: float, error_rate: float) -> Slowdown:
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"the tolerance is {tolerance}; expected a positive fraction")
    if not 0 < error_rate < 0.5:
        raise ValueError(f"the error rate is {error_rate}; expected a number between 0 and 0.5")
    half_width = error * NormalDist().inv_cdf(1 - error_rate)
    low, high = change - half_width, change + half_width
    limit = math.log1p(tolerance)
    kind: Kind = "ok"
    if low > limit:
        kind = "regressed"
    elif high < -limit:
        kind = "improved"
    elif change > limit or half_width > UNSTABLE_WIDTH * limit:
        kind = "unstable"
    return Slowdown(kind, math.expm1(change), math.expm1(low), math.expm1(high), tolerance)
