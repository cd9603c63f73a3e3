"""Figures as people write them: 1.18 GFLOPs, 84.4 MiB, +90.1 %."""

from __future__ import annotations

from math import isinf

import humanize

NOTHING = "–"


def show(value: float | None, unit: str | None) -> str:
    """A figure of the record in its unit; a dash where there is none."""
    if value is None:
        return NOTHING
    if unit == "bytes":
        return humanize.naturalsize(value, binary=True, format="%.2f")
    if unit == "×":
        return f"{value:.3f} ×"
    if unit == "accuracy":
        return f"{value:.1%}"
    if unit == "parameters":
        return f"{value:,.0f} parameters"
    if unit == "instructions":
        return f"{humanize.metric(value, precision=4)} instructions"
    if unit == "steps":
        return f"{value:.0f}"
    # Four digits: figures that are compared to the last one should look different where they are.
    return humanize.metric(value, unit or "", precision=4)


def show_fraction(fraction: float | None) -> str:
    """A relative change with its sign, precise enough that a change never reads as none."""
    if fraction is None:
        return NOTHING
    if isinf(fraction):
        return "from zero"
    size = abs(fraction)
    digits = ".1f" if size == 0 or size >= 5e-4 else ".5f" if size >= 5e-8 else ".1g"
    return f"{fraction * 100:+{digits}} %"


def show_difference(difference: float, unit: str | None) -> str:
    """How much a figure moved, in its unit and with the sign that fractions have."""
    return f"{'+' if difference >= 0 else '-'}{show(abs(difference), unit)}"


def count(number: int, noun: str) -> str:
    """A number of things: "1 cell", "2 cells"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
