"""Which smaller image an update would fit with, where it does not fit with the one that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.recommend.budget import Answer, Costs, Limit

STEP = 32
"""Pixels between the sizes that are tried; the networks' own strides multiply up to it."""

TRIED = 4
"""So many cells at most, the nearest of each architecture: each size that is tried takes a second."""

OF_THE_IMAGE = frozenset({"memory", "flops"})
"""The limits that a smaller image can help with."""

Compute = Callable[[Cell, int], Costs | None]
"""A cell's costs at an image of so many pixels, None where it cannot be computed."""


@dataclass(frozen=True)
class Smaller:
    """A cell, the largest image of those tried with which it fits, and its costs there; without one, what the smallest
    image still misses."""

    costs: Costs
    pixels: int
    fits: bool
    missing: str = ""

    @property
    def sentence(self) -> str:
        size = f"{self.pixels}×{self.pixels}"
        if self.fits:
            return f"A smaller image fits: {self.costs.cell} at {size} (computed)."
        return f"No smaller image helps {self.costs.cell}: at {size} it would still need {self.missing} (computed)."


def find_smaller(found: Answer, pixels: int, compute: Compute) -> list[Smaller]:
    """For the nearest cells of an answer without a feasible one, the largest image below `pixels` that fits.

    Where several fit, the largest images come first; where none does, the nearest cell alone is told.
    """
    sizes = list(range(STEP, pixels, STEP))
    tried = [_try(costs, found.limits, sizes, compute) for costs in _candidates(found)] if sizes else []
    told = [one for one in tried if one is not None]
    fitting = sorted((one for one in told if one.fits), key=lambda one: -one.pixels)
    return fitting or told[:1]


def _candidates(found: Answer) -> Iterable[Costs]:
    """The nearest cell of each architecture that misses only what a smaller image can help with."""
    by_architecture: dict[str, Costs] = {}
    for costs in found.left_out:
        if {limit.name for limit in found.binding(costs)} <= OF_THE_IMAGE:
            by_architecture.setdefault(costs.cell.architecture, costs)
    return list(by_architecture.values())[:TRIED]


def _try(costs: Costs, limits: Iterable[Limit], sizes: list[int], compute: Compute) -> Smaller | None:
    """Bisect: a larger image never costs less."""
    relevant = [limit for limit in limits if limit.name in OF_THE_IMAGE]

    def misses(at: Costs) -> list[Limit]:
        return [limit for limit in relevant if limit.used(at) > 1]

    smallest = compute(costs.cell, sizes[0])
    if smallest is None:
        return None
    if missed := misses(smallest):
        return Smaller(smallest, sizes[0], False, "; ".join(limit.shortfall(smallest) for limit in missed))
    best, low, high = (smallest, sizes[0]), 0, len(sizes)
    while high - low > 1:
        middle = (low + high) // 2
        at = compute(costs.cell, sizes[middle])
        if at is None or misses(at):
            high = middle
        else:
            best, low = (at, sizes[middle]), middle
    return Smaller(best[0], best[1], True)
