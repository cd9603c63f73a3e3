"""What a device can spend, what a cell costs, and how far apart the two are. Knows figures, not networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.metrics import Budget, budgets
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.record.adaptation import at_least
from peft_update_bench.bench.units import show


@dataclass(frozen=True)
class Costs:
    """A cell's figures, by the budget that limits them; one that is not known is absent.

    Each is of the step that a device must be able to do: the peak of the highest step, the FLOPs and the latency of the
    mean one. ``frozen`` are the bytes of weights that the update leaves as they are, which the peak includes;
    ``instructions`` those of an ordinary step, where they were counted; ``unsteady`` is a latency that scattered too
    widely to be judged.
    """

    cell: Cell
    figures: Mapping[str, float]
    frozen: int = 0
    instructions: int | None = None
    unsteady: bool = False

    @classmethod
    def of(cls, record: Record, adaptations: Iterable[Record] = (), counted: Record | None = None) -> Self | None:
        """The costs in a record, None where it has not all that is computed.

        An accuracy is the worst of the tasks' in `adaptations`; `counted` is the cell's record with instructions.
        """
        if record.memory is None or record.flops is None or record.parameters is None:
            return None
        found = {}
        for name, budget in budgets().items():
            known = [figure for one in (record, *adaptations) if (figure := budget.of(one)) is not None]
            own = budget.of(record)
            if own is not None or known:
                found[name] = own if own is not None else (min if budget.at_least else max)(known)
        parameters = record.parameters
        frozen = record.memory.parameters * (parameters.total - parameters.trainable) // max(parameters.total, 1)
        instructions = counted.instructions.total if counted and counted.instructions else None
        unsteady = "latency" in found and record.latency is not None and not record.latency.stable
        return cls(replace(record.cell, task=None), found, frozen, instructions, unsteady)


@dataclass(frozen=True)
class Limit:
    """One line of a budget: at most `value`; of an accuracy, at least. `typed` is how it was written, if it was."""

    budget: Budget
    value: float
    typed: str = ""

    def __str__(self) -> str:
        return f"{self.budget.words} at {'least' if self.budget.at_least else 'most'} {self.shown}"

    @property
    def name(self) -> str:
        return self.budget.name

    @property
    def shown(self) -> str:
        """As it was typed; decimal bytes in the unit of the figures too, in which they are another number."""
        figure = show(self.value, self.budget.unit)
        if not self.typed:
            return figure
        is_decimal = self.budget.unit == "bytes" and "i" not in self.typed.lower()
        return f"{self.typed} ({figure})" if is_decimal else self.typed

    def met(self, costs: Costs) -> bool:
        figure = costs.figures.get(self.name)
        if figure is None:
            return False
        return at_least(figure, self.value) if self.budget.at_least else figure <= self.value

    def used(self, costs: Costs) -> float:
        """The share of the limit that a cell takes; infinite where it is not known."""
        figure = costs.figures.get(self.name)
        if figure is None:
            return math.inf
        if self.budget.at_least:
            return math.inf if figure == 0 else self.value / figure
        return figure / self.value

    def shortfall(self, costs: Costs) -> str:
        """What would have to change for a cell to fit, in words."""
        figure = costs.figures.get(self.name)
        if figure is None:
            return f"a known {self.budget.words} ({self.budget.unknown})"
        if self.budget.unit == "accuracy":
            points = (self.value - figure) * 100
            return f"{points:.1f} points more {self.budget.more}"
        difference = show(figure - self.value, self.budget.unit)
        return f"{difference} more {self.budget.more} (+{figure / self.value - 1:.0%})"


@dataclass(frozen=True)
class Answer:
    """Cells that meet every limit, in order; the others, nearest first.

    ``places`` are those of the feasible cells, from 1; cells whose accuracies seeds alone may set apart share one.
    """

    limits: tuple[Limit, ...]
    by: str
    feasible: tuple[Costs, ...]
    left_out: tuple[Costs, ...]
    places: tuple[int, ...]

    def binding(self, costs: Costs) -> list[Limit]:
        """The limits that a cell does not meet, the farthest first."""
        missed = [limit for limit in self.limits if not limit.met(costs)]
        return sorted(missed, key=lambda limit: -limit.used(costs))

    def tightest(self, costs: Costs) -> Limit:
        """The limit of which a cell takes most."""
        return max(self.limits, key=lambda limit: limit.used(costs))


def answer(cells: Sequence[Costs], limits: Sequence[Limit], by: str | None, alike: float = 0.0) -> Answer:
    """Sort `cells` into those that meet all `limits` and those that do not.

    In order of `by`: the best accuracy first, or the lowest of the others. Without it, by accuracy where that is known
    of every feasible cell, and else by peak memory. Accuracies that are no farther than `alike` below the best of their
    place count as equal, and then what stores less comes first. A cell is as far off as the limit that it misses most.
    """
    feasible = [costs for costs in cells if all(limit.met(costs) for limit in limits)]
    if by is None:
        by = "accuracy" if feasible and all("accuracy" in costs.figures for costs in feasible) else "memory"

    def rank(costs: Costs) -> tuple[float, float]:
        figure = costs.figures.get(by)
        if figure is None:
            return math.inf, costs.figures["memory"]
        return (-figure if budgets()[by].at_least else figure), costs.figures["memory"]

    def distance(costs: Costs) -> tuple[int, float, tuple[float, float]]:
        used = [limit.used(costs) for limit in limits]
        known = [share for share in used if math.isfinite(share)]
        return len(used) - len(known), max(known, default=0.0), rank(costs)

    ordered, places = _in_places(sorted(feasible, key=rank), alike if by == "accuracy" else 0.0)
    left_out = sorted((costs for costs in cells if costs not in feasible), key=distance)
    return Answer(tuple(limits), by, ordered, tuple(left_out), places)


def _in_places(ordered: Sequence[Costs], alike: float) -> tuple[tuple[Costs, ...], tuple[int, ...]]:
    """Cells that come in order of accuracy, with those that are alike put in order of what they store; their places."""
    if not alike:
        return tuple(ordered), tuple(range(1, len(ordered) + 1))
    found: list[Costs] = []
    places: list[int] = []
    while len(found) < len(ordered):
        rest = ordered[len(found) :]
        best = rest[0].figures.get("accuracy")
        # Not a bit of rounding decides: accuracies are counts of images divided.
        equal = [c for c in rest if best is None or best - (c.figures.get("accuracy") or 0.0) <= alike + 1e-9]
        places += [len(found) + 1] * len(equal)
        found += sorted(equal, key=lambda costs: (costs.figures["flash"], costs.figures["memory"]))
    return tuple(found), tuple(places)
