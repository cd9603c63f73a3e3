"""The verdict on a latency: two measurements with their intervals in, one verdict with its interval out.

A slowdown is a regression only when it exceeds the tolerance with confidence, over all comparisons of a run together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.stats import norm

BETWEEN_RUNS = 0.010
"""Standard deviation, on the scale of logarithms, between runs of the same code, on top of the sampling error.

A run's interval cannot know what all its rounds share: where its memory lies, which kernels were chosen. Measured on
MobileNetV3-Small, LoRA against full fine-tuning, by CPU time beside other work: 0.7 % between 8 processes and 0.4 %
between 5 builds within each, 0.8 % together. ``python -m tests.studies.latency_study`` prints it for any machine.
"""

UNSTABLE_WIDTH = 1.0
"""The half-width of a change's interval, as a multiple of the tolerance (both on the scale of logarithms), past which
no verdict is given: half of all slowdowns by the tolerance twice over would go unseen."""

Kind = Literal["ok", "improved", "unstable", "regressed"]


@dataclass(frozen=True)
class Interval:
    """A ratio and its interval at a confidence."""

    estimate: float
    low: float
    high: float
    confidence: float

    def __post_init__(self) -> None:
        for name in ("estimate", "low", "high"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; expected a finite ratio above 0")
        if not self.low <= self.estimate <= self.high:
            raise ValueError(f"the estimate, {self.estimate}, lies outside its interval, {self.low} to {self.high}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; expected a number between 0 and 1")

    @property
    def sampling_variance(self) -> float:
        """On the scale of logarithms. The interval's longer side counts."""
        half_width = max(math.log(self.high / self.estimate), math.log(self.estimate / self.low))
        return (half_width / float(norm.ppf((1 + self.confidence) / 2))) ** 2

    @property
    def variance(self) -> float:
        """Of the estimate's logarithm: sampling, and what differs between runs."""
        return self.sampling_variance + BETWEEN_RUNS**2


@dataclass(frozen=True)
class Slowdown:
    """How much slower, as a fraction of before (+0.2 is 20 % slower), with its interval, and what follows from it.

    The interval holds the true change, in all comparisons of the run at once, with the run's confidence.
    """

    kind: Kind
    change: float
    low: float
    high: float
    tolerance: float

    @property
    def suspected(self) -> bool:
        """Whether it is worth a second measurement: the estimate alone exceeds the tolerance, or none was possible."""
        return self.kind == "unstable" or self.change > self.tolerance


def judge_slowdown(
    now: Interval, before: Interval, *, tolerance: float, comparisons: int, family_error: float = 0.05
) -> Slowdown:
    """Judge a measurement against an earlier one, as one of `comparisons` in this run.

    Raises ValueError where a number is out of its range.
    """
    change = math.log(now.estimate / before.estimate)
    return _judge(change, math.sqrt(now.variance + before.variance), tolerance, comparisons, family_error)


def judge_ratio(ratio: Interval, *, tolerance: float, comparisons: int, family_error: float = 0.05) -> Slowdown:
    """Judge a change that was measured directly, as the ratio of two versions that ran in turn.

    Two versions are two builds, so what differs between runs counts twice.
    """
    variance = ratio.sampling_variance + 2 * BETWEEN_RUNS**2
    return _judge(math.log(ratio.estimate), math.sqrt(variance), tolerance, comparisons, family_error)


def combine(first: Interval, second: Interval) -> Interval:
    """Two measurements of the same thing as one, at the first's confidence: the mean, each weighed by its precision.

    Where the two disagree by more than their intervals allow, their difference makes the interval: a burst that hit one
    of them must not alarm by way of the mean. What differs between runs is not reduced: the second measurement of a run
    may well share it with the first.
    """
    weight = second.variance / (first.variance + second.variance)
    difference = math.log(first.estimate / second.estimate)
    sampled = weight**2 * first.sampling_variance + (1 - weight) ** 2 * second.sampling_variance
    error = math.sqrt(max(sampled, weight * (1 - weight) * difference**2))
    half_width = error * float(norm.ppf((1 + first.confidence) / 2))
    middle = second.estimate * math.exp(weight * difference)
    return Interval(middle, middle * math.exp(-half_width), middle * math.exp(half_width), first.confidence)


def _judge(change: float, error: float, tolerance: float, comparisons: int, family_error: float) -> Slowdown:
    """Šidák's correction (JASA 62, 1967): a cell is judged as soon as it is measured, so every comparison has the same
    share of the family's error, whatever the others turn out to be."""
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"the tolerance is {tolerance}; expected a positive fraction")
    if comparisons < 1:
        raise ValueError(f"comparisons is {comparisons}; expected a whole number of at least 1")
    if not 0 < family_error < 1:
        raise ValueError(f"family_error is {family_error}; expected a number between 0 and 1")
    half_width = error * float(norm.isf(1 - (1 - family_error) ** (1 / comparisons)))
    low, high = change - half_width, change + half_width
    limit = math.log1p(tolerance)
    kind: Kind = "ok"
    if low > limit:
        kind = "regressed"
    elif high < -limit:
        kind = "improved"
    elif half_width > UNSTABLE_WIDTH * limit:
        kind = "unstable"
    return Slowdown(kind, math.expm1(change), math.expm1(low), math.expm1(high), tolerance)
