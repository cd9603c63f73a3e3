"""Whether steps were timed beside other work: their times leave waiting for a core out, but what was shared shows."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from peft_update_bench.bench.record import Latency, Record
from peft_update_bench.bench.units import count
from peft_update_bench.fixtures.instruments.latency.interval import Interval

LOADED = 0.10
"""The share of the time in which others had the cores from which on a recording is one made under load."""

TOO_HIGH = 0.05
"""By what fraction a ratio to full fine-tuning that was timed under load is taken to be too high. A step and its
reference do not need the same of the caches that they share: beside five busy processes on two cores those of nine
cells were 0.9 % lower to 7.0 % higher than idle, and beside two that train those of twenty 2.9 % lower to 2.6 %
higher. Of a ratio to the calibration step nothing is taken: it was 8 % lower on one network and 8 % higher on
another."""

LARGEST_SHARE = 0.5
"""Of the tolerance, that may be taken for it."""


def is_loaded(latency: Latency) -> bool:
    """Whether it was timed under load; not where nothing says so."""
    return latency.without_core is not None and latency.without_core >= LOADED


def expected(before: Latency, clock: str, tolerance: float, now: Latency | None = None) -> Interval:
    """The ratio by `clock` that a cell should have again, after `before`: lower where that is one to full fine-tuning
    that was timed under load and `now`, as far as it is known, was not. A narrow `tolerance` allows for less of that.
    """
    interval = before.interval(clock)
    if before.is_references or not is_loaded(before) or (now is not None and is_loaded(now)):
        return interval
    too_high = 1 + min(TOO_HIGH, tolerance * LARGEST_SHARE)
    estimate, low, high = (end / too_high for end in (interval.estimate, interval.low, interval.high))
    return Interval(estimate, low, high, interval.confidence)


def explain_load(what: str, records: Iterable[Record]) -> str:
    """That `what`, a run or a file, was timed under load, in a sentence; empty where it was not or nothing says so."""
    shares = [r.latency.without_core for r in records if r.latency and r.latency.without_core is not None]
    if not shares or median(shares) < LOADED:
        return ""
    return (
        f"{what} was timed under load: others had the cores for {median(shares):.0%} of the time of its steps (median "
        f"of {count(len(shares), 'cell')}). Times leave that out, caches were shared all the same, which moves a "
        "ratio by up to 8%: record baselines on idle cores."
    )
