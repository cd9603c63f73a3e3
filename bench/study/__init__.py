"""The study's statements, re-measured: arXiv 2507.23536, "From LLMs to Edge", Slamanig, Corti, Saukh, 2025."""

from __future__ import annotations

from collections.abc import Sequence

from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import accuracy, cost
from peft_update_bench.bench.study.statements import Finding, check


def measure_all(records: Sequence[Record]) -> list[Finding]:
    """Every claim: those on cost computed here and now, those on accuracy taken from a run's `records`."""
    return [check(claim, None) for claim in cost.CLAIMS] + [check(claim, records) for claim in accuracy.CLAIMS]
