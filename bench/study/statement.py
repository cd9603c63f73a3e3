"""What a statement of the study is, and what re-measuring it finds.

The study is Slamanig, Corti, Saukh, "From LLMs to Edge: Parameter-Efficient Fine-Tuning on Edge Devices", arXiv
2507.23536, 2025. Its abstract was at hand, its text was not: what is not in the abstract comes from summaries of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from peft_update_bench.bench.record import Record
from peft_update_bench.bench.units import NOTHING

Verdict = Literal[
    "reproduced",
    "reproduced only by the study's definition",
    "reproduced only in truth",
    "not reproduced",
    "not measured in this run",
]
Source = Literal["abstract", "secondary"]

WITHIN = 0.05
"""How far a figure may be from the study's and still reproduce it: five percentage points."""


@dataclass(frozen=True)
class Answer:
    """What one way of measuring says: our figure in words, and whether it is what the study states."""

    figure: str
    agrees: bool


@dataclass(frozen=True)
class Outcome:
    """What a statement comes to. `measured` says of which cells and by which statistic.

    `in_truth` counts what is executed and held at once; None where the run lacks the records. `by_definition` is the
    same statistic of what the study's own profiler would say; None where that profiler measures no such thing.
    """

    measured: str
    in_truth: Answer | None
    by_definition: Answer | None = None

    @property
    def verdict(self) -> Verdict:
        if self.in_truth is None:
            return "not measured in this run"
        if self.by_definition is None or self.by_definition.agrees == self.in_truth.agrees:
            return "reproduced" if self.in_truth.agrees else "not reproduced"
        return "reproduced only in truth" if self.in_truth.agrees else "reproduced only by the study's definition"


@dataclass(frozen=True)
class Statement:
    """A statement of the study.

    `source` is "abstract" for what its abstract says, "secondary" for what summaries of its text say. `measure` finds
    out; it is given a run's records, which those on accuracy need. `expected` is the verdict with the supported package
    versions and, on accuracy, with the committed baseline.
    """

    text: str
    theirs: str
    source: Source
    measure: Callable[[Sequence[Record]], Outcome]
    expected: Verdict


@dataclass(frozen=True)
class Finding:
    """A statement and what became of it."""

    statement: Statement
    outcome: Outcome

    @property
    def verdict(self) -> Verdict:
        return self.outcome.verdict

    def row(self) -> tuple[str, ...]:
        """The finding under :data:`HEADERS`: the same on a page, in the command's table and in a document."""
        return (
            self.statement.text,
            self.statement.theirs,
            _figure(self.outcome.by_definition),
            _figure(self.outcome.in_truth),
            self.verdict,
            self.outcome.measured,
            self.statement.source,
        )


HEADERS = ("statement", "the study", "by the study's own definition", "in truth", "verdict", "measured", "source")


def check(statement: Statement, records: Sequence[Record]) -> Finding:
    """Measure a statement."""
    return Finding(statement, statement.measure(records))


def _figure(answer: Answer | None) -> str:
    return NOTHING if answer is None else answer.figure


def reaches(theirs: float, ours: float) -> bool:
    """Whether the best of our savings comes to "up to `theirs`"."""
    return ours >= theirs - WITHIN


def equals(theirs: float, ours: float) -> bool:
    """Whether our figure is the study's."""
    return abs(ours - theirs) <= WITHIN


def percent(fraction: float, digits: int = 0) -> str:
    return f"{fraction * 100:.{digits}f} %"
