"""Cells that fail for one cause, told once: which figures, in which cells, from the mildest to the worst, and where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.gate import Result
from peft_update_bench.bench.gate.grouped import Group, by_figure, cells_in_words
from peft_update_bench.bench.gate.messages import WHERE, recorded_with
from peft_update_bench.bench.gate.verdict import Kind, fails
from peft_update_bench.bench.units import count
from peft_update_bench.fixtures.first_few import first_few

FEW = 3
"""So many failing cells, or fewer, are told one by one."""


def told_together(results: Iterable[Result], also_fails: Collection[Kind] = ()) -> list[list[Result]]:
    """The failing cells by what seems to be one cause; empty where there are few, which are told one by one.

    Cells of one method are told together, and methods whose cells fail in the same figures. A cell that could not be
    measured, or that the run has no longer, has a message of its own.
    """
    failing = [r for r in results if r.record is not None and any(fails(v, also_fails) for v in r.verdicts)]
    if len(failing) <= FEW:
        return []
    figures: dict[str, set[str]] = {}
    for result in failing:
        names = {verdict.metric for verdict in result.verdicts if fails(verdict, also_fails)}
        figures.setdefault(result.cell.method, set()).update(names)
    causes: dict[frozenset[str], list[Result]] = {}
    for result in failing:
        causes.setdefault(frozenset(figures[result.cell.method]), []).append(result)
    return [*causes.values()]


def paragraph(results: Sequence[Result], baseline: Baseline, also_fails: Collection[Kind] = ()) -> list[str]:
    """What the failing `results` have in common, a line for each figure."""
    cells = [result.cell for result in results]
    failing = [(result.cell, v) for result in results for v in result.verdicts if fails(v, also_fails)]
    kinds = dict.fromkeys(verdict.kind for _, verdict in failing)
    groups = [group for kind in kinds for group in by_figure(entry for entry in failing if entry[1].kind == kind)]
    lines = [f"{count(len(cells), 'cell')} not as in {baseline.name}: {cells_in_words(cells)}"]
    lines += [f"  {_figure(group)}" for group in groups]
    differences = {
        recorded_with(result.record, baseline.records[result.cell]): None for result in results if result.record
    }
    return [*lines, *(f"  {words}" for words in (*_where(results, baseline, also_fails), *differences))]


def _where(results: Sequence[Result], baseline: Baseline, also_fails: Collection[Kind]) -> Iterator[str]:
    """What is trained otherwise, in which blocks most of the change is, and what runs more often, for one cell of each
    architecture: the first, whose rank is least. Where it is the same in several, they share a line."""
    for words, explain in WHERE:
        told: set[str] = set()
        cells: dict[str, list[Cell]] = {}
        for result in results:
            if result.cell.architecture in told or result.record is None:
                continue
            failing = [verdict for verdict in result.verdicts if fails(verdict, also_fails)]
            if where := explain(result.record, baseline.records[result.cell], failing):
                told.add(result.cell.architecture)
                cells.setdefault(where, []).append(result.cell)
        for where, alike in cells.items():
            yield f"{words} in {first_few(alike)}: {where}"


def _figure(group: Group) -> str:
    """A figure's kind of verdict, in how many cells, and its least and greatest change with their cells."""
    (_, verdict), *_ = group.verdicts
    number = len(group.verdicts)
    if verdict.kind == "not comparable" or verdict.change is None:
        return f"{group.metric} {verdict.kind} in {number}: {verdict.note}"
    mildest, worst = group.lowest, group.highest
    if abs(mildest[1].change or 0) > abs(worst[1].change or 0):
        mildest, worst = worst, mildest
    least, most = (f"{v.shown_change} ({cell})" for cell, v in (mildest, worst))
    return f"{group.metric} {verdict.kind} in {number}, {least if least == most else f'from {least} to {most}'}"
