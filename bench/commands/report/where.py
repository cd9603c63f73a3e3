"""Where the work of a step is done, before and now: by block of the network and by operator, for the page.

Exact figures as a table, and FLOPs as a treemap: areas are FLOPs, on one scale for before and now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.report.runs import Comparison
from peft_update_bench.bench.commands.report.treemap import Shape, Treemap, treemap
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.where import where_bytes_moved, where_flops_moved
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.units import count, show, show_fraction

STEPS = (0.1, 0.5)
"""Fractions of before at which a box that moved takes a stronger colour."""


@dataclass(frozen=True)
class Pair:
    """A figure now, and before; None where nothing is compared."""

    now: int
    before: int | None

    @property
    def moved(self) -> bool:
        return self.before is not None and self.now != self.before

    @property
    def fraction(self) -> float | None:
        """The change as a fraction of before."""
        if self.before is None:
            return None
        return self.now / self.before - 1 if self.before else float("inf") if self.now else 0.0

    @property
    def change(self) -> str:
        """By how much it moved, to the last digit and as a fraction."""
        if self.before is None or not self.moved:
            return "as before"
        difference = self.now - self.before
        return f"{difference:+,} ({show_fraction(self.fraction)})"


@dataclass(frozen=True)
class Place:
    """A block or an operator: its FLOPs, and bytes that a block makes or calls of an operator."""

    name: str
    flops: Pair
    others: Pair

    @property
    def moved(self) -> bool:
        return self.flops.moved or self.others.moved


@dataclass(frozen=True)
class Part:
    """A cell's work by block, or by operator: the places in the order of the record, and a treemap for each side."""

    kind: str
    others: str
    places: tuple[Place, ...]
    treemaps: tuple[Treemap, ...]


@dataclass(frozen=True)
class CellWork:
    """Where one cell's work is done. `words` say what moved most, empty where nothing did or nothing is compared."""

    cell: Cell
    words: str
    parts: tuple[Part, ...]
    is_compared: bool

    @property
    def moved(self) -> bool:
        return any(place.moved for part in self.parts for place in part.places)


@dataclass(frozen=True)
class Where:
    """What the section shows. `sentence` says what was not recorded, or in how many cells work moved."""

    sentence: str
    moved: tuple[CellWork, ...]
    others: tuple[CellWork, ...]


def where(run: Baseline, comparison: Comparison | None) -> Where:
    """Every cell whose record says where its work is done; those in which it moved come first."""
    old = comparison.other if comparison else None
    found = [
        _cell_work(record, old.records.get(cell) if old else None)
        for cell, record in run.records.items()
        if record.where is not None
    ]
    moved = tuple(work for work in found if work.moved)
    others = tuple(work for work in found if not work.moved)
    return Where(" ".join(_sentences(run, old, found, len(moved))), moved, others)


def _sentences(run: Baseline, old: Baseline | None, found: Sequence[CellWork], moved: int) -> Iterator[str]:
    if not found:
        yield f"Not recorded in {run.name}: its records do not say where in the network work is done."
        return
    if len(found) < len(run.records):
        yield f"Not recorded of {count(len(run.records) - len(found), 'cell')} of {run.name}."
    if old is None:
        yield f"{count(len(found), 'cell')}, compared with nothing."
        return
    compared = sum(work.is_compared for work in found)
    if compared < len(found):
        yield f"Not recorded in {old.name} of {count(len(found) - compared, 'cell')}, which are shown as they are now."
    if compared:
        yield f"Work moved in {moved} of {count(compared, 'cell')}, against {old.name}."


def _cell_work(now: Record, before: Record | None) -> CellWork:
    assert now.where is not None
    old = before.where if before else None
    blocks, operators = now.where.blocks, now.where.operators
    parts = (
        _part("block", "bytes made", _flops_and_bytes(blocks), _flops_and_bytes(old.blocks) if old else None),
        _part("operator", "calls", _flops_and_calls(operators), _flops_and_calls(old.operators) if old else None),
    )
    words = ""
    if before is not None:
        flops, made = where_flops_moved(now, before), where_bytes_moved(now, before)
        words = "; ".join([*([flops] if flops else []), *([f"made: {made}"] if made else [])])
    return CellWork(now.cell, words, parts, old is not None)


_Figures = Mapping[str, tuple[int, int]]


def _flops_and_bytes(blocks: Mapping[str, Sequence[int]]) -> _Figures:
    return {name: (forward + backward, made) for name, (forward, backward, made, _) in blocks.items()}


def _flops_and_calls(operators: Mapping[str, Sequence[int]]) -> _Figures:
    return {name: (flops, calls) for name, (calls, flops) in operators.items()}


def _part(kind: str, others: str, now: _Figures, before: _Figures | None) -> Part:
    places = []
    for name in sorted({**now, **(before or {})}, key=_in_order_of_numbers):
        new, old = now.get(name, (0, 0)), (before or {}).get(name, (0, 0))
        flops, other = (Pair(new[i], old[i] if before is not None else None) for i in (0, 1))
        places.append(Place(name, flops, other))
    return Part(kind, others, tuple(places), tuple(_treemaps(places, is_compared=before is not None)))


def _in_order_of_numbers(name: str) -> list[str | int]:
    """``features.2`` before ``features.10``; texts and numbers alternate, so that only like is compared with like."""
    return [int(part) if number else part for number, part in zip(cycle((False, True)), re.split("([0-9]+)", name))]


def _treemaps(places: Sequence[Place], *, is_compared: bool) -> Iterator[Treemap]:
    """Before, where there is one, and now. Both lay the same places out in the same order, the largest first."""
    ordered = sorted(places, key=lambda place: -max(place.flops.now, place.flops.before or 0))
    totals = {"before": sum(p.flops.before or 0 for p in places), "now": sum(p.flops.now for p in places)}
    for side in ("before", "now") if is_compared else ("now",):
        sizes = [(place, (place.flops.before or 0) if side == "before" else place.flops.now) for place in ordered]
        shapes = [_shape(place, size) for place, size in sizes if size]
        if shapes:
            share = 100 * totals[side] / max(totals.values())
            yield treemap(f"{side}: {show(totals[side], 'FLOPs')}", share, shapes)


def _shape(place: Place, size: int) -> Shape:
    moved = show_fraction(place.flops.fraction) if place.flops.moved else ""
    change = f", {place.flops.change}" if place.flops.before is not None else ""
    return Shape(size, _kind(place.flops), f"{place.name} {moved}".strip(), f"{place.name}: {size:,} FLOPs{change}")


def _kind(flops: Pair) -> str:
    """Grey where it is as before; else more or less, with a number that says how strongly it moved."""
    if flops.before is None or not flops.moved:
        return "same"
    difference = flops.now - flops.before
    # Not by the fraction, which may fall just short of a step.
    strength = 1 + sum(abs(difference) >= step * flops.before for step in STEPS)
    return f"{'more' if difference > 0 else 'less'}-{strength}"
