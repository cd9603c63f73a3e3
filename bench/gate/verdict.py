"""Verdicts: one record against its baseline. Knows records, not networks, and not pytest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isclose
from typing import Literal

from peft_update_bench.bench import metrics
from peft_update_bench.bench.gate.load import expected
from peft_update_bench.bench.gate.slowdown import FAMILY_ERROR, judge_slowdown
from peft_update_bench.bench.gate.tolerances import limit_of
from peft_update_bench.bench.metrics import Evidence, Row
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.units import show_difference, show_fraction

Kind = Literal["ok", "improved", "new", "unrecorded", "not comparable", "unstable", "regressed", "missing"]
FAILING: frozenset[Kind] = frozenset({"regressed", "missing"})


@dataclass(frozen=True)
class Verdict:
    """One metric of one cell against its baseline. `change` is a fraction of the baseline's figure."""

    metric: str
    kind: Kind
    unit: str | None = None
    now: float | None = None
    before: float | None = None
    tolerance: float = 0.0
    note: str = ""

    @property
    def change(self) -> float | None:
        if self.now is None or self.before is None:
            return None
        if self.before == 0:
            return 0.0 if self.now == 0 else float("inf")
        return self.now / self.before - 1

    @property
    def shown_change(self) -> str:
        """How far the figure moved: as a fraction of before, and accuracies in points, as they are compared."""
        if self.unit == "accuracy" and self.now is not None and self.before is not None:
            return f"{100 * (self.now - self.before):+.1f} points"
        return show_fraction(self.change)

    @property
    def whole_change(self) -> str:
        """As `shown_change`, and by how much in the figure's unit."""
        if self.now is None or self.before is None or self.unit == "accuracy":
            return self.shown_change
        return f"{self.shown_change}, {show_difference(self.now - self.before, self.unit)}"


@dataclass(frozen=True)
class Terms:
    """How a run is judged: the tolerance of each limit, why measured figures may not be compared (empty where they
    may), and the error rate of each verdict from intervals."""

    tolerances: Mapping[str, float] = field(default_factory=dict)
    incomparable: str = ""
    error_rate: float = FAMILY_ERROR


def judge(now: Record, before: Record | None, terms: Terms) -> list[Verdict]:
    """Judge every figure of `now` that the table of metrics judges and that was measured.

    Accuracies are not among them: seeds of the whole baseline say what they scatter (``gate/adapting.py``).
    """
    if before is None:
        return [Verdict("the cell", "new")]
    judged = (_judge(row, now, before, terms) for row in metrics.rows() if row.metric.of(now) is not None)
    return [verdict for verdict in judged if verdict is not None]


def fails(verdict: Verdict, also_fails: Collection[Kind] = ()) -> bool:
    """Whether a verdict fails its cell. `also_fails` are the kinds that a run was asked to fail for besides."""
    return verdict.kind in FAILING or verdict.kind in also_fails


def _judge(row: Row, now: Record, before: Record, terms: Terms) -> Verdict | None:
    evidence, unit, name = row.figure.evidence, row.figure.unit, str(row)
    new, old = row.of(now), row.of(before)
    if evidence in {Evidence.SHOWN, Evidence.SEEDS} or (new is None and old is None):
        return None
    tolerance = terms.tolerances[row.figure.limit] if row.figure.limit else terms.tolerances.get(limit_of(row), 0.0)
    if old is None and before.schema_ < row.figure.since:
        return Verdict(name, "unrecorded", unit, new, None, tolerance, "the baseline is older than this figure")
    if new is None or old is None:
        absent = "the baseline" if old is None else "this run"
        return Verdict(name, "missing", unit, new, old, tolerance, f"{absent} has no such figure")
    if evidence is Evidence.INTERVAL and (note := _other_reference(row, now, before)):
        return Verdict(name, "missing", unit, new, old, tolerance, note)
    incomparable = terms.incomparable if evidence.needs_machine else ""
    if row.metric.conditions is not None:
        incomparable = incomparable or row.metric.conditions(row.metric.of(now), row.metric.of(before))
    if incomparable:
        return Verdict(name, "not comparable", unit, new, old, tolerance, incomparable)
    if evidence is Evidence.INTERVAL:
        return _judge_interval(row, now, before, tolerance, terms.error_rate)
    if evidence is Evidence.TOLERANCE:
        return judge_measured(name, unit, new, old, tolerance, noise=row.figure.noise)
    return _judge_exact(row, new, old, tolerance)


def _judge_exact(row: Row, new: float, old: float, tolerance: float) -> Verdict:
    """Judge a figure that is equal on every machine: as it is, unless its cell was given a tolerance."""
    note = ""
    if tolerance:
        kind = judge_measured(str(row), row.figure.unit, new, old, tolerance).kind
    else:
        kind = "ok" if new == old else "regressed" if new > old else "improved"
    if kind == "improved" and row.figure.evidence is Evidence.PINNED:
        kind, note = "regressed", "fewer is another method, and no saving"
    if row.figure.floor and new < row.figure.floor * old:
        kind, note = "regressed", "so much less is no saving: something is left out"
    return Verdict(str(row), kind, row.figure.unit, new, old, tolerance, note)


def judge_measured(
    metric: str,
    unit: str,
    now: float,
    before: float,
    tolerance: float,
    incomparable: str = "",
    *,
    noise: float = 0.0,
) -> Verdict:
    """Judge a measured figure by its tolerance, a factor of 1 + `tolerance` either way; a change of at most `noise` is
    none, whatever the factor."""
    kind: Kind = "ok"
    if incomparable:
        kind = "not comparable"
    elif abs(now - before) <= noise:
        pass
    elif _exceeds(now, before * (1 + tolerance)):
        kind = "regressed"
    elif _exceeds(before, now * (1 + tolerance)):
        kind = "improved"
    return Verdict(metric, kind, unit, now, before, tolerance, incomparable)


def _exceeds(figure: float, limit: float) -> bool:
    """By more than floats round: 1 + 0.15 is less than 1.15, and what is exactly at its limit would be beyond it."""
    return figure > limit and not isclose(figure, limit, rel_tol=1e-12)


def _other_reference(row: Row, now: Record, before: Record) -> str:
    """Why two ratios are of different things; empty where they are not."""
    new, old = (row.metric.of(record).reference for record in (now, before))
    return "" if new == old else f"timed against {new}, the baseline against {old}"


def _judge_interval(row: Row, now: Record, before: Record, tolerance: float, error_rate: float) -> Verdict:
    latency, latency_before = (row.metric.of(record) for record in (now, before))
    new, old = (one.interval(row.figure.key) for one in (latency, latency_before))
    again = expected(latency_before, row.figure.key, tolerance, latency)
    slowdown = judge_slowdown(new, again, tolerance=tolerance, error_rate=error_rate)
    changes = slowdown.low, slowdown.high, tolerance
    why = ""
    if again != old:
        # Told as changes of what the baseline holds.
        changes = tuple((1 + change) * again.estimate / old.estimate - 1 for change in changes)
        why = f"; less than {100 * tolerance:.3g}% is tolerated, because the baseline was timed under load"
    low, high, allowed = changes
    note = f"between {low:+.1%} and {high:+.1%} with confidence{why}"
    return Verdict(str(row), slowdown.kind, row.figure.unit, new.estimate, old.estimate, allowed, note)
