"""Whether steps were timed beside other work: their times leave waiting for a core out, but what was shared shows."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from peft_update_bench.bench.record import Record
from peft_update_bench.bench.units import count

LOADED = 0.10
"""The share of the time in which others had the cores from which on a recording is one made under load."""


def explain_load(what: str, records: Iterable[Record]) -> str:
    """That `what`, a run or a file, was timed under load, in a sentence; empty where it was not or nothing says so."""
    shares = [r.latency.without_core for r in records if r.latency and r.latency.without_core is not None]
    if not shares or median(shares) < LOADED:
        return ""
    return (
        f"{what} was timed under load: others had the cores for {median(shares):.0%} of the time of its steps (median "
        f"of {count(len(shares), 'cell')}). Times leave that out, caches were shared all the same, and a slowdown of "
        "20% may hide behind that: record baselines on idle cores."
    )
