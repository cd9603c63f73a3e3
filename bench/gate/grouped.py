"""Verdicts of many cells on one figure, told together: how far it moved in the mildest and in the worst cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.fixtures.first_few import first_few
from peft_update_bench.fixtures.methods.names import AS_IT_IS

LISTED = 3
"""At most so many cells are named where no pattern is in them."""


@dataclass(frozen=True)
class Group:
    """The verdicts on one figure, with their cells, in the order of the cells."""

    metric: str
    verdicts: tuple[tuple[Cell, Verdict], ...]

    @property
    def cells(self) -> list[Cell]:
        return [cell for cell, _ in self.verdicts]

    @property
    def lowest(self) -> tuple[Cell, Verdict]:
        """The cell in which the figure fell most, or rose least."""
        return min(self.verdicts, key=_change)

    @property
    def highest(self) -> tuple[Cell, Verdict]:
        return max(self.verdicts, key=_change)


def by_figure(verdicts: Iterable[tuple[Cell, Verdict]]) -> list[Group]:
    """A group for each figure, in the order of the table of metrics; figures that it does not have come last."""
    groups: dict[str, list[tuple[Cell, Verdict]]] = {}
    for cell, verdict in verdicts:
        groups.setdefault(verdict.metric, []).append((cell, verdict))
    order = [str(row) for row in metrics.rows()]
    names = sorted(groups, key=lambda name: order.index(name) if name in order else len(order))
    return [Group(name, tuple(groups[name])) for name in names]


def cells_in_words(cells: Sequence[Cell]) -> str:
    """Which cells: as architectures × methods × ranks where they are all of these, else the first few of them.

    There is no pattern in users' own tests, each of which has a step of its own, nor in steps that are as they are.
    """
    methods = _distinct(cell.method for cell in cells)
    parts: list[list[str]] = [
        _distinct(cell.architecture for cell in cells),
        [] if methods == [AS_IT_IS] else methods,
        _distinct(f"r{cell.rank}" for cell in cells if cell.rank is not None),
        _distinct(cell.task for cell in cells if cell.task is not None),
        _distinct(f"b{cell.batch_size}" for cell in cells if cell.batch_size is not None),
    ]
    number = 1
    for part in parts:
        number *= len(part) or 1
    if len(cells) > LISTED and number == len(cells) and any(parts[1:]) and not any(cell.is_tests for cell in cells):
        return " × ".join(", ".join(part) for part in parts if part)
    return first_few(cells, LISTED)


def _distinct(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


def _change(entry: tuple[Cell, Verdict]) -> float:
    """By which cells are ordered: accuracies by points, the others by the fraction of before."""
    verdict = entry[1]
    if verdict.unit == "accuracy" and verdict.now is not None and verdict.before is not None:
        return verdict.now - verdict.before
    return 0.0 if verdict.change is None else verdict.change
