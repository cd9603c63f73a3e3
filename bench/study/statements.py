"""The study's statements, one answer each: the page, the command and the documents print these."""

from __future__ import annotations

from collections.abc import Sequence

from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import accuracy, cost
from peft_update_bench.bench.study.statement import Finding, Statement, check

STATEMENTS: tuple[Statement, ...] = (*cost.STATEMENTS, *accuracy.STATEMENTS)


def measure_all(records: Sequence[Record]) -> list[Finding]:
    """Every statement: those on cost computed here and now, those on accuracy taken from a run's `records`."""
    return [check(statement, records) for statement in STATEMENTS]
