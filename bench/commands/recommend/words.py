"""The answer in words and tables: as Markdown, or in lines that fit a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peft_update_bench.bench import terminal
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.recommend.budget import Answer, Costs
from peft_update_bench.bench.commands.recommend.smaller import Smaller
from peft_update_bench.bench.gate.grouped import cells_in_words
from peft_update_bench.bench.metrics import budgets
from peft_update_bench.bench.units import NOTHING, count, show
from tabulate import tabulate

ROWS = 10
"""Of a table, where no other number is asked for."""

INSTRUCTIONS = (
    "Instructions are counted, so they hold for any machine with the same package versions; they are no time. Vector "
    "units, caches, memory and cores make of the same count another latency on each device: time it there."
)


@dataclass(frozen=True)
class Tables:
    """How tables are shown: at most `rows` of each, what the accuracies in them were measured on, and how many
    characters a terminal's line has; None for Markdown."""

    rows: int = ROWS
    measured_on: str = ""
    characters: int | None = None


def paragraphs(found: Answer, tables: Tables, smaller: Sequence[Smaller], failures: dict[Cell, str]) -> list[str]:
    """The paragraphs of the answer. `smaller` are what was tried where nothing fits."""
    parts = []
    if found.feasible:
        by = budgets()[found.by]
        order = f"{'best' if by.at_least else 'lowest'} {by.words} first"
        parts.append(f"{_cells(found.feasible, tables)} within the budget, {order}:")
        places = dict(zip((costs.cell for costs in found.feasible), found.places, strict=True))
        parts.append(_table(found.feasible, tables, lambda costs: _used(found, costs), "tightest limit", places))
        if len(set(found.places)) < len(found.places):
            parts.append("Cells of one place differ by no more than seeds do; what stores less comes first.")
        if found.by != "accuracy":
            parts.append("The order says what an update costs, not how well it adapts.")
    else:
        parts.append("No cell fits.")
        parts += [one.sentence for one in smaller]
    if found.left_out:
        nearest = found.left_out[0]
        name = "Next best" if found.feasible else "Nearest"
        parts.append(f"{name}: {nearest.cell} would need {_needs(found, nearest)}.")
        parts.append(f"{_cells(found.left_out, tables, 'left out, the nearest first')}:")
        parts.append(_table(found.left_out, tables, lambda costs: _needs(found, costs), "would need"))
    parts += _notes((*found.feasible, *found.left_out))
    for reason in dict.fromkeys(failures.values()):
        cells = [cell for cell, other in failures.items() if other == reason]
        parts.append(f"Not computed: {cells_in_words(cells)}: {reason}")
    return parts


def _cells(rows: Sequence[Costs], tables: Tables, words: str = "") -> str:
    what = f"{count(len(rows), 'cell')}{f' {words}' if words else ''}"
    return f"{what} ({tables.rows} shown, --rows N for more)" if len(rows) > tables.rows else what


def _notes(costs: Sequence[Costs]) -> list[str]:
    """What the figures are, and what they are not."""
    notes = []
    if costs and (frozen := costs[0].frozen):
        notes.append(
            f"Peak memory holds every weight in RAM, the frozen ones too: {show(frozen, 'bytes')} of "
            f"{costs[0].cell}'s. A device that reads frozen weights from flash needs that much less RAM, and that much "
            "flash besides what is stored of the update."
        )
    if unsteady := [one.cell for one in costs if one.unsteady]:
        notes.append(f"Unstable when it was recorded, and a rough ratio, is the latency of {cells_in_words(unsteady)}.")
    if any(one.instructions is not None for one in costs):
        notes.append(INSTRUCTIONS)
    return notes


def _table(
    rows: Sequence[Costs],
    tables: Tables,
    last: Callable[[Costs], str],
    title: str,
    places: dict[Cell, int] | None = None,
) -> str:
    shown = [b for b in budgets().values() if any(costs.figures.get(b.name) is not None for costs in rows)]
    counted = any(costs.instructions is not None for costs in rows)
    body = [
        [
            *([str(places[costs.cell])] if places else []),
            str(costs.cell),
            *(show(costs.figures.get(b.name), b.unit) for b in shown),
            *([_instructions(costs)] if counted else []),
            last(costs),
        ]
        for costs in rows[: tables.rows]
    ]
    # A table may be copied out of Markdown without the sentence on the workload.
    measured_on = f" ({tables.measured_on})" if tables.measured_on and tables.characters is None else ""
    titles = [f"{b.words}{measured_on if b.name == 'accuracy' else ''}" for b in shown]
    headers = [*(["place"] if places else []), "cell", *titles, *(["instructions"] if counted else []), title]
    if tables.characters is not None:
        return terminal.table(body, headers, tables.characters, names=2 if places else 1)
    return tabulate(body, headers, tablefmt="github", disable_numparse=True)


def _instructions(costs: Costs) -> str:
    return NOTHING if costs.instructions is None else show(costs.instructions, "instructions").partition(" instr")[0]


def _used(found: Answer, costs: Costs) -> str:
    limit = found.tightest(costs)
    return f"{limit.budget.words}, {limit.used(costs):.0%} of it"


def _needs(found: Answer, costs: Costs) -> str:
    return "; ".join(limit.shortfall(costs) for limit in found.binding(costs))
