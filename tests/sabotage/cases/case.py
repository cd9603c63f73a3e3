"""A case: a fault in a cell, and what the gate must say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Range = tuple[float, float]
Instrument = Literal["computed", "measured_memory", "latency", "adaptation", "whole"]

DOUBLED = (0.999, 1.001)
ABOVE = (1e-9, math.inf)
"""Any increase: the baseline's figure is next to nothing, or the change itself is."""
GONE = (-1.0, -1.0)
MISSING = None
"""The figure itself is no longer there."""


def about(fraction: float) -> Range:
    """A fifth to either side."""
    return (min(0.8 * fraction, 1.2 * fraction), max(0.8 * fraction, 1.2 * fraction))


@dataclass(frozen=True)
class Case:
    """A fault in one cell: what regresses and by how much, or is missing; what may read as improved; and cells that
    must not notice. ``error`` is the beginning of a message where the cell cannot be measured at all."""

    fault: str
    cell: str
    alarms: Mapping[str, Range | None] = field(default_factory=dict)
    improves: frozenset[str] = frozenset()
    quiet: tuple[str, ...] = ()
    instrument: Instrument = "computed"
    error: str = ""

    def __str__(self) -> str:
        return f"{self.fault}-{self.cell}"


FORWARD, BACKWARD, OPTIMIZER = "flops.forward", "flops.backward", "flops.optimizer"
ELEMENTWISE, AMORTISED, REFRESH = "flops.elementwise", "flops.amortised_total", "flops.optimizer_refresh"
PERIOD, OPTIMIZER_ELEMENTWISE = "flops.refresh_period", "flops.optimizer_elementwise"
PEAK, FIRST_PEAK, REFRESH_PEAK = "memory.peak", "memory.first_peak", "memory.refresh_peak"
TOTAL, TRAINABLE, STATISTICS = "parameters.total", "parameters.trainable", "parameters.statistics"
ALLOCATOR, RSS = "measured_memory.allocator_peak", "measured_memory.rss_peak"
