"""How far accuracies scatter that should be the same, and how far apart two of them may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Self

from peft_update_bench.bench.gate.slowdown import FAMILY_ERROR

Seeds = Sequence[float]
"""One cell's accuracies, as fractions, a seed each."""


@dataclass(frozen=True)
class Spread:
    """How far accuracies scatter that should be the same.

    ``deviation`` is the seeds' standard deviation, as a fraction, with its degrees of freedom; ``networks`` is that
    between networks, where two of them are compared.
    """

    deviation: float
    freedom: float
    networks: float = 0.0

    @classmethod
    def of(cls, groups: Sequence[Seeds]) -> Self:
        """That of several cells, pooled; at least one of them has two seeds or more."""
        several = _several(groups)
        freedom = sum(len(group) - 1 for group in several)
        squares = sum((len(group) - 1) * _variance(group) for group in several)
        return cls(math.sqrt(squares / freedom), freedom)

    @property
    def cause(self) -> str:
        return "the spread over seeds" + (" and between networks" if self.networks else "")

    def tolerance(self, seeds_now: int, seeds_before: int, comparisons: int, images: int) -> float:
        """How far two means may be apart, as a fraction: Student's t for one of `comparisons` one-sided tests.

        At least two images' worth, because nothing finer than an image is measured, and no tie is exact.
        """
        # Šidák's correction (JASA 62, 1967).
        error = 1 - (1 - FAMILY_ERROR) ** (1 / comparisons)
        scale = math.hypot(self.deviation * math.sqrt(1 / seeds_now + 1 / seeds_before), self.networks * math.sqrt(2))
        from scipy.stats import t  # seconds, which no run without accuracies should wait for

        return max(float(t.isf(error, self.freedom)) * scale, 2 / images)

    def alike(self, seeds: int, choices: int, images: int) -> float:
        """How far below the best of `choices` another may be, as a fraction, and be said to equal it: all that differ
        by their seeds alone are said so in 95 tables of 100."""
        return self.tolerance(seeds, seeds, max(1, choices - 1), images)


@dataclass(frozen=True)
class VariancePrior:
    """What is known of how far a cell scatters before its own few seeds are looked at: other cells do it differently.

    Variances are taken to come from a scaled inverse χ² of `freedom` degrees, whose scale each set of cells has for
    itself; infinite where all of a set scatter alike, as far as seeds tell. After Smyth, Linear Models and Empirical
    Bayes Methods, Statistical Applications in Genetics and Molecular Biology 3 (2004), sections 4 and 6.
    """

    freedom: float
    least: float
    """A variance that none is below: that of rounding to a whole image."""

    @classmethod
    @lru_cache(maxsize=8)  # every cell of a run asks for that of the same baseline
    def of(cls, sets: tuple[tuple[tuple[float, ...], ...], ...], images: int) -> Self:
        """From sets of cells, each cell with its seeds' accuracies on so many `images`."""
        from scipy.special import polygamma

        least = 1 / images**2 / 12
        squares = noise = freedom = 0.0
        for groups in map(_several, sets):
            if len(groups) > 1:
                freedom += len(groups) - 1
                squares += (len(groups) - 1) * _variance([_log_scale(group, least) for group in groups])
                noise += (len(groups) - 1) * fmean(float(polygamma(1, (len(group) - 1) / 2)) for group in groups)
        unexplained = (squares - noise) / freedom if freedom else 0.0
        return cls(2 * _inverse_trigamma(unexplained) if unexplained > 0 else math.inf, least)

    def spread(self, own: Seeds, cells: Sequence[Seeds]) -> Spread:
        """That of the cell with the seeds `own`, of the set `cells`: between its own and the usual one of the set.

        Less sure of itself than the pooled one, by the degrees of freedom. Needs `freedom` to be finite.
        """
        from scipy.special import digamma

        half, degrees = self.freedom / 2, len(own) - 1
        logs = fmean(_log_scale(group, self.least) for group in _several(cells))
        usual = math.exp(logs + float(digamma(half)) - math.log(half))
        squares = self.freedom * usual + (degrees * max(_variance(own), self.least) if degrees else 0.0)
        freedom = self.freedom + degrees
        return Spread(math.sqrt(squares / freedom), min(freedom, Spread.of(cells).freedom))


def _variance(values: Sequence[float]) -> float:
    # statistics.variance counts in fractions, twenty times as long, and a run asks for thousands.
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _several(groups: Sequence[Seeds]) -> list[Seeds]:
    return [group for group in groups if len(group) > 1]


def _log_scale(group: Seeds, least: float) -> float:
    """An unbiased estimate of the logarithm of the variance from which a cell's seeds were drawn."""
    from scipy.special import digamma

    half = (len(group) - 1) / 2
    return math.log(max(_variance(group), least)) - float(digamma(half)) + math.log(half)


def _inverse_trigamma(value: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import polygamma

    # Trigamma of x is between 1 / x and 1 / x + 1 / x².
    found = brentq(lambda x: float(polygamma(1, x)) - value, 1 / value, (1 + math.sqrt(1 + 4 * value)) / (2 * value))
    return float(found)
