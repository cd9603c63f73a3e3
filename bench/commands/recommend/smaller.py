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

Compute = Callable[[Cell, int], Costs | str]
"""A cell's costs at an image of so many pixels, or why they cannot be computed."""


@dataclass(frozen=True)
class Smaller:
    """A cell and an image of so many pixels: the largest of those tried with which it fits; where it fits with none,
    the smallest that could be computed; where none could, the largest. And what there is to say of it."""

    cell: Cell
    pixels: int
    fits: bool
    sentence: str


def find_smaller(found: Answer, pixels: int, compute: Compute) -> list[Smaller]:
    """For the nearest cells of an answer without a feasible one, the largest image below `pixels` that fits.

    Where several fit, the largest images come first; where none does, the nearest cell alone is told.
    """
    sizes = list(range(STEP, pixels, STEP))
    tried = [_try(costs, found.limits, sizes, compute) for costs in _candidates(found)] if sizes else []
    fitting = sorted((one for one in tried if one.fits), key=lambda one: -one.pixels)
    return fitting or tried[:1]


def _candidates(found: Answer) -> Iterable[Costs]:
    """The nearest cell of each architecture that misses only what a smaller image can help with."""
    by_architecture: dict[str, Costs] = {}
    for costs in found.left_out:
        if {limit.name for limit in found.binding(costs)} <= OF_THE_IMAGE:
            by_architecture.setdefault(costs.cell.architecture, costs)
    return list(by_architecture.values())[:TRIED]


def _try(costs: Costs, limits: Iterable[Limit], sizes: list[int], compute: Compute) -> Smaller:
    """Bisect: a larger image never costs less, and one that cannot be computed is too small for the network, as where
    it leaves batch norm a single value in training."""
    cell = costs.cell
    relevant = [limit for limit in limits if limit.name in OF_THE_IMAGE]
    fits = misses = fails = None
    low, high = -1, len(sizes)
    while high - low > 1:
        middle = (low + high) // 2
        pixels = sizes[middle]
        at, size = compute(cell, pixels), f"{pixels}×{pixels}"
        if isinstance(at, str):
            low, fails = middle, Smaller(cell, pixels, False, f"No smaller image helps {cell}: at {size} {at}")
        elif missed := [limit for limit in relevant if not limit.met(at)]:
            need = "; ".join(limit.shortfall(at) for limit in missed)
            told = f"No smaller image helps {cell}: at {size} it would still need {need} (computed)."
            high, misses = middle, Smaller(cell, pixels, False, told)
        else:
            low, fits = middle, Smaller(cell, pixels, True, f"A smaller image fits: {cell} at {size} (computed).")
    found = fits or misses or fails
    assert found is not None, "there is a size to try"
    return found
