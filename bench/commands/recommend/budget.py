"""What a device can spend, what a cell costs, and how far apart the two are. Knows figures, not networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.figures import show
from peft_update_bench.bench.record import Record

Name = Literal["memory", "flops", "latency", "flash", "accuracy"]
WORDS: dict[Name, str] = {
    "memory": "peak memory", "flops": "FLOPs", "latency": "latency / fft", "flash": "flash", "accuracy": "accuracy",
}  # fmt: skip
UNITS: dict[Name, str] = {"memory": "bytes", "flops": "FLOPs", "latency": "×", "flash": "bytes", "accuracy": "%"}

_BYTES_A_PARAMETER = 4  # float32


def show_figure(name: Name, value: float | None) -> str:
    """A figure with its unit, an accuracy in per cent, a dash where there is none."""
    if name == "accuracy" and value is not None:
        return f"{value:.1%}"
    return show(value, UNITS[name])


@dataclass(frozen=True)
class Costs:
    """A cell's figures; None where one is not known.

    ``memory``    bytes at the peak, of a step with the optimizer's periodic work where that needs more
    ``flops``     of one step, of the mean step where some do periodic work
    ``latency``   as a multiple of full fine-tuning's, of the mean step likewise
    ``flash``     bytes of the trained parameters, which is what an update must store or ship
    ``accuracy``  after the update, the worst of the tasks that were measured
    """

    cell: Cell
    memory: float
    flops: float
    flash: float
    latency: float | None = None
    accuracy: float | None = None

    @classmethod
    def of(cls, record: Record, adaptations: Iterable[Record] = ()) -> Self | None:
        """The costs in a record, None where it has not all that is computed."""
        memory, flops, parameters, latency = record.memory, record.flops, record.parameters, record.latency
        if memory is None or flops is None or parameters is None:
            return None
        relative = None
        if latency is not None:
            relative = latency.relative if latency.amortised_relative is None else latency.amortised_relative
            if latency.is_references:
                relative = 1.0  # full fine-tuning itself
        accuracies = [other.adaptation.accuracy_after for other in adaptations if other.adaptation is not None]
        return cls(
            Cell(record.architecture, record.method, record.rank),
            memory=max(memory.peak, memory.refresh_peak or 0),
            flops=flops.total if flops.amortised_total is None else flops.amortised_total,
            flash=parameters.trainable * _BYTES_A_PARAMETER,
            latency=relative,
            accuracy=min(accuracies, default=None),
        )

    def figure(self, name: Name) -> float | None:
        value: float | None = getattr(self, name)
        return value


@dataclass(frozen=True)
class Limit:
    """One line of a budget: at most `value`; of an accuracy, at least."""

    name: Name
    value: float

    def __str__(self) -> str:
        return f"{WORDS[self.name]} at {'least' if self.name == 'accuracy' else 'most'} {self.shown}"

    @property
    def shown(self) -> str:
        return show_figure(self.name, self.value)

    def used(self, costs: Costs) -> float:
        """The share of the limit that a cell takes, above 1 where it does not fit; infinite where it is not known."""
        figure = costs.figure(self.name)
        if figure is None:
            return math.inf
        if self.name == "accuracy":
            return math.inf if figure == 0 else self.value / figure
        return figure / self.value

    def shortfall(self, costs: Costs) -> str:
        """What would have to change for a cell to fit, in words."""
        figure = costs.figure(self.name)
        if figure is None:
            return f"a known {WORDS[self.name]} ({_UNKNOWN[self.name]})"
        if self.name == "accuracy":
            points = (self.value - figure) * 100
            return f"{points:.1f} points more accuracy"
        difference = show_figure(self.name, figure - self.value)
        return f"{difference} more {_MORE[self.name]} (+{figure / self.value - 1:.0%})"


_MORE: dict[Name, str] = {"memory": "memory", "flops": "FLOPs", "latency": "of fft's latency", "flash": "flash"}
_UNKNOWN: dict[Name, str] = {
    "latency": "no baseline has timed it under this workload",
    "accuracy": "the baseline holds no adaptation of it",
}


@dataclass(frozen=True)
class Answer:
    """Cells that meet every limit, in order; the others, nearest first."""

    limits: tuple[Limit, ...]
    by: Name
    feasible: tuple[Costs, ...]
    left_out: tuple[Costs, ...]

    def binding(self, costs: Costs) -> list[Limit]:
        """The limits that a cell does not meet, the farthest first."""
        missed = [limit for limit in self.limits if limit.used(costs) > 1]
        return sorted(missed, key=lambda limit: -limit.used(costs))

    def tightest(self, costs: Costs) -> Limit:
        """The limit of which a cell takes most."""
        return max(self.limits, key=lambda limit: limit.used(costs))


def answer(cells: Sequence[Costs], limits: Sequence[Limit], by: Name | None) -> Answer:
    """Sort `cells` into those that meet all `limits` and those that do not.

    In order of `by`: the best accuracy first, or the lowest of the others. Without it, by accuracy where that is known
    of every feasible cell, and else by peak memory. A cell is as far off as the limit that it misses most.
    """
    feasible = [costs for costs in cells if all(limit.used(costs) <= 1 for limit in limits)]
    if by is None:
        by = "accuracy" if feasible and all(costs.accuracy is not None for costs in feasible) else "memory"

    def rank(costs: Costs) -> tuple[float, float]:
        figure = costs.figure(by)
        if figure is None:
            return math.inf, costs.memory
        return (-figure if by == "accuracy" else figure), costs.memory

    def distance(costs: Costs) -> tuple[int, float, tuple[float, float]]:
        used = [limit.used(costs) for limit in limits]
        known = [share for share in used if math.isfinite(share)]
        return len(used) - len(known), max(known, default=0.0), rank(costs)

    left_out = sorted((costs for costs in cells if costs not in feasible), key=distance)
    return Answer(tuple(limits), by, tuple(sorted(feasible, key=rank)), tuple(left_out))
