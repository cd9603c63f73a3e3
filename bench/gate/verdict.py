"""Verdicts: one record against its baseline. Knows records, not networks, and not pytest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from peft_update_bench.bench.gate.slowdown import judge_slowdown
from peft_update_bench.bench.record import CLOCKS, Latency, Record

Kind = Literal["ok", "improved", "new", "not comparable", "unstable", "regressed", "missing"]
FAILING: frozenset[Kind] = frozenset({"regressed", "missing"})
Unit = Literal["FLOPs", "bytes", "parameters", "×", "elements", "s", "accuracy"]


@dataclass(frozen=True)
class Metric:
    """One gated figure of the record.

    ``tolerance`` names an entry of the tolerance table, for measured figures; computed ones have none and tolerate no
    increase. ``exact`` figures, the counts of parameters and moving statistics, may not decrease either: fewer trained
    parameters are another method, not a cheaper one.
    """

    section: str
    key: str
    unit: Unit
    tolerance: str | None = None
    exact: bool = False

    def __str__(self) -> str:
        return f"{self.section}.{self.key}"

    def of(self, record: Record) -> float | None:
        part = getattr(record, self.section)
        return None if part is None else getattr(part, self.key)


GATED = (
    Metric("parameters", "total", "parameters", exact=True),
    Metric("parameters", "trainable", "parameters", exact=True),
    Metric("parameters", "statistics", "elements", exact=True),
    Metric("flops", "forward", "FLOPs"),
    Metric("flops", "backward", "FLOPs"),
    Metric("flops", "optimizer", "FLOPs"),
    Metric("flops", "optimizer_refresh", "FLOPs"),
    Metric("flops", "amortised_total", "FLOPs"),
    Metric("flops", "elementwise", "elements"),
    Metric("memory", "peak", "bytes"),
    Metric("memory", "refresh_peak", "bytes"),
    Metric("measured_memory", "allocator_peak", "bytes", tolerance="allocator_peak"),
    Metric("measured_memory", "rss_peak", "bytes", tolerance="rss_peak"),
)
"""What is judged figure by figure. Latency is judged by its intervals; ``flops.total`` is the sum of its parts."""


@dataclass(frozen=True)
class Verdict:
    """One metric of one cell against its baseline. `change` is a fraction of the baseline's figure."""

    metric: str
    kind: Kind
    unit: Unit | None = None
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


def judge(
    now: Record,
    before: Record | None,
    *,
    tolerances: Mapping[str, float],
    incomparable: str,
    error_rate: float,
) -> list[Verdict]:
    """Judge every metric of `now` that was measured.

    `incomparable` says why measured figures may not be compared, empty where they may. `error_rate` is
    that of each latency's verdict.
    """
    if before is None:
        return [Verdict("the cell", "new")]
    verdicts = [verdict for metric in GATED if (verdict := _judge(metric, now, before, tolerances, incomparable))]
    if now.latency is not None:
        verdicts += _judge_latency(now.latency, before.latency, tolerances["latency"], incomparable, error_rate)
    return verdicts


def fails(verdict: Verdict, unstable_fails: bool) -> bool:
    return verdict.kind in FAILING or (unstable_fails and verdict.kind == "unstable")


def _judge(
    metric: Metric, now: Record, before: Record, tolerances: Mapping[str, float], incomparable: str
) -> Verdict | None:
    if getattr(now, metric.section) is None:
        return None
    new, old = metric.of(now), metric.of(before)
    if new is None and old is None:
        return None
    if new is None or old is None:
        absent = "the baseline" if old is None else "this run"
        return Verdict(str(metric), "missing", metric.unit, new, old, note=f"{absent} has no such figure")
    if metric.tolerance is None:
        kind: Kind = "ok" if new == old else "regressed" if new > old or metric.exact else "improved"
        return Verdict(str(metric), kind, metric.unit, new, old)
    return judge_measured(str(metric), metric.unit, new, old, tolerances[metric.tolerance], incomparable)


def judge_measured(metric: str, unit: Unit, now: float, before: float, tolerance: float, incomparable: str) -> Verdict:
    """Judge a measured figure by its tolerance, a factor of 1 + `tolerance` either way."""
    kind: Kind = "ok"
    if incomparable:
        kind = "not comparable"
    elif now > before * (1 + tolerance):
        kind = "regressed"
    elif now < before / (1 + tolerance):
        kind = "improved"
    return Verdict(metric, kind, unit, now, before, tolerance, incomparable)


def _judge_latency(
    now: Latency, before: Latency | None, tolerance: float, incomparable: str, error_rate: float
) -> Iterator[Verdict]:
    for clock in CLOCKS:
        metric = f"latency.{clock}"
        new = now.interval(clock)
        if before is None:
            yield Verdict(metric, "missing", "×", new.estimate, None, tolerance, "the baseline has no such figure")
            continue
        old = before.interval(clock)
        if now.reference != before.reference:
            note = f"timed against {now.reference}, the baseline against {before.reference}"
            yield Verdict(metric, "missing", "×", new.estimate, old.estimate, tolerance, note)
            continue
        if incomparable:
            yield Verdict(metric, "not comparable", "×", new.estimate, old.estimate, tolerance, incomparable)
            continue
        slowdown = judge_slowdown(new, old, tolerance=tolerance, error_rate=error_rate)
        note = f"between {slowdown.low:+.1%} and {slowdown.high:+.1%} with confidence"
        yield Verdict(metric, slowdown.kind, "×", new.estimate, old.estimate, tolerance, note)
