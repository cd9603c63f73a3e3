"""Figures as people write them: 1.18 GFLOPs, 84.4 MiB, +90.1 %."""

from __future__ import annotations

from math import isinf

import humanize
from peft_update_bench.bench.gate.verdict import Verdict


def show(value: float | None, unit: str | None) -> str:
    """A figure of the record in its unit; a dash where there is none."""
    if value is None:
        return "–"
    if unit == "bytes":
        return humanize.naturalsize(value, binary=True, format="%.2f")
    if unit == "×":
        return f"{value:.3f} ×"
    if unit == "accuracy":
        return f"{value:.1%}"
    if unit == "parameters":
        return f"{value:,.0f} parameters"
    # Four digits: figures that are compared to the last one should look different where they are.
    return humanize.metric(value, unit or "", precision=4)


def show_change(verdict: Verdict) -> str:
    """How far a figure moved: as a fraction of before, and accuracies in points, as they are compared."""
    if verdict.unit == "accuracy" and verdict.now is not None and verdict.before is not None:
        return f"{100 * (verdict.now - verdict.before):+.1f} points"
    return show_fraction(verdict.change)


def show_whole_change(verdict: Verdict) -> str:
    """As :func:`show_change`, and by how much in the figure's unit."""
    change = show_change(verdict)
    if verdict.now is None or verdict.before is None or verdict.unit == "accuracy":
        return change
    difference = verdict.now - verdict.before
    sign = "+" if difference >= 0 else "−"
    return f"{change}, {sign}{show(abs(difference), verdict.unit)}"


def show_fraction(fraction: float | None) -> str:
    """A relative change with its sign, precise enough that a change never reads as none."""
    if fraction is None:
        return "–"
    if isinf(fraction):
        return "from zero"
    digits = 1 if fraction == 0 or abs(fraction) >= 0.0005 else 5
    return f"{fraction * 100:+.{digits}f} %"
