"""What comes of measuring a cell."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from peft_update_bench.bench.record import Record


@dataclass(frozen=True)
class Measurement:
    """A cell's record and, where latency was asked for, the durations of the timed steps in seconds."""

    record: Record
    step_seconds: tuple[float, ...] = ()

    @property
    def median_seconds(self) -> float | None:
        return median(self.step_seconds) if self.step_seconds else None
