"""Where the level of a noisy figure changes over many runs, which no two runs that follow each other would show.

By ``ruptures``, which the extra ``history`` brings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from statistics import fmean, median, stdev

EXTRA = "pip install 'peft-update-bench[history]'"

MIN_RUNS = 4
"""A level is one of so many runs; of fewer, noise makes levels."""
PENALTY = 6.0
"""What one more level costs, in variances of the noise times the logarithm of the number of runs."""
ALPHA = 0.001
"""How unlikely the difference of two levels must be by noise alone (Welch's test): a page has hundreds of series, and
a search for the best place finds one in noise too."""
LEAST_CHANGE = 0.005
"""A change of level by less is not told, however quiet the runs are, and the noise is taken for at least half of it."""

_NORMAL = 0.6745
"""The median distance from the mean of a normal distribution of standard deviation 1."""


def is_available() -> bool:
    return find_spec("ruptures") is not None


def change_points(values: Sequence[float]) -> list[tuple[int, float]]:
    """The places in a series of positive figures at which a new level begins, each with the change as a fraction.

    Levels are those of the logarithms' means, so that a figure and its reciprocal change at the same places. The noise
    is estimated from neighbours' differences, in which a change of level counts once.
    """
    if len(values) < 2 * MIN_RUNS:
        return []
    import numpy as np
    import ruptures
    from scipy.stats import ttest_ind_from_stats

    logarithms = [math.log(value) for value in values]
    differences = [abs(b - a) for a, b in pairwise(logarithms)]
    noise = max(median(differences) / _NORMAL / math.sqrt(2), LEAST_CHANGE / 2)
    search = ruptures.Pelt(model="l2", min_size=MIN_RUNS, jump=1).fit(np.array(logarithms).reshape(-1, 1) / noise)
    ends: list[int] = search.predict(pen=PENALTY * math.log(len(values)))
    found = []
    for start, place, end in zip([0, *ends], ends, ends[1:], strict=False):
        before, after = _level(logarithms[start:place]), _level(logarithms[place:end])
        change = math.exp(after[0] - before[0]) - 1
        if abs(change) >= LEAST_CHANGE and ttest_ind_from_stats(*before, *after, equal_var=False).pvalue < ALPHA:
            found.append((place, change))
    return found


def _level(logarithms: Sequence[float]) -> tuple[float, float, int]:
    """Mean, standard deviation and number. Runs that agree by chance are not as quiet as they look."""
    return fmean(logarithms), max(stdev(logarithms), LEAST_CHANGE / 2), len(logarithms)
