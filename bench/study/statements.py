"""What a claim is: a statement with its source, and what re-measuring it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Verdict = Literal["reproduced", "not reproduced", "reproduced only by a counting error", "not measured in this run"]
Source = Literal["abstract", "secondary"]

WITHIN = 0.05
"""How far a figure may be from the study's and still reproduce it: five percentage points."""

Given = TypeVar("Given")


@dataclass(frozen=True)
class Outcome:
    """What a measurement says of a claim: our figure in words, the configuration that gave it, the verdict."""

    ours: str
    configuration: str
    verdict: Verdict


@dataclass(frozen=True)
class Claim(Generic[Given]):
    """A statement of the study.

    `source` is "abstract" for what its abstract says, "secondary" for what summaries of its text say. `measure` finds
    out; `expected` is the verdict with the supported package versions, None where it is a run's to give.
    """

    statement: str
    theirs: str
    source: Source
    measure: Callable[[Given], Outcome]
    expected: Verdict | None = None


@dataclass(frozen=True)
class Finding:
    """A claim and what became of it."""

    claim: Claim[object]
    ours: str
    configuration: str
    verdict: Verdict


def check(claim: Claim[Given], given: Given) -> Finding:
    """Measure a claim."""
    outcome = claim.measure(given)
    return Finding(claim, outcome.ours, outcome.configuration, outcome.verdict)  # type: ignore[arg-type]


def reaches(theirs: float, corrected: float, stock: float | None = None) -> Verdict:
    """The verdict on "up to `theirs`": whether the best saving gets there, or does so by the stock count alone."""
    if corrected >= theirs - WITHIN:
        return "reproduced"
    if stock is not None and stock >= theirs - WITHIN:
        return "reproduced only by a counting error"
    return "not reproduced"


def percent(fraction: float, digits: int = 0) -> str:
    return f"{fraction * 100:.{digits}f} %"


def equals(theirs: float, ours: float) -> Verdict:
    """The verdict on one figure."""
    return "reproduced" if abs(ours - theirs) <= WITHIN else "not reproduced"
