"""The matrix as a table: which figures of a record stand in which column, for the page and for Markdown alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.report.runs import Comparison
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.summary import escape, indented, kind_of
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.units import NOTHING, count, show
from tabulate import tabulate

Figure = int | float


@dataclass(frozen=True)
class Entry:
    """One cell of the table: the figure as the record holds it, None where it was not measured, and as it is shown."""

    value: Figure | None
    text: str


Column = tuple[metrics.Row, metrics.Column]
"""A figure of the table of metrics, and the column that shows it."""


def _columns(records: Iterable[Record]) -> tuple[Column, ...]:
    """Every column that some record fills.

    FLOPs and peak memory are an ordinary step's; GaLore's rare refreshing step has columns of its own. An adaptation is
    a cell of its own, with columns of its own.
    """
    shown = [(row, row.figure.column) for row in metrics.rows() if row.figure.column is not None]
    held = list(records)
    return tuple(pair for pair in shown if any(pair[0].entry(record, pair[1])[0] is not None for record in held))


@dataclass(frozen=True)
class Row:
    cell: Cell
    entries: tuple[Entry, ...]
    kind: str
    """The one word for the cell's verdict, empty without a comparison."""


@dataclass(frozen=True)
class Matrix:
    headings: tuple[str, ...]
    rows: tuple[Row, ...]


def matrix(run: Baseline, comparison: Comparison | None) -> Matrix:
    """Every cell; a column that no record fills is left out."""
    records = run.records
    columns = _columns(records.values())
    rows = [
        Row(
            cell,
            tuple(Entry(*row.entry(record, c)) for row, c in columns),
            kind_of(comparison.results[cell]) if comparison else "",
        )
        for cell, record in records.items()
    ]
    lost = [result for result in comparison.results.values() if result.record is None] if comparison else []
    rows += [Row(result.cell, tuple(Entry(None, NOTHING) for _ in columns), kind_of(result)) for result in lost]
    return Matrix(tuple(column.heading(records.values()) for _, column in columns), tuple(rows))


def moved_row(cell: Cell, verdict: Verdict) -> tuple[str, ...]:
    """A verdict as cell, metric, kind, before, now, change."""
    both = verdict.now is not None and verdict.before is not None
    return (
        str(cell),
        verdict.metric,
        verdict.kind,
        show(verdict.before, verdict.unit),
        show(verdict.now, verdict.unit),
        verdict.whole_change if both else verdict.note or NOTHING,
    )


MOVED_HEADERS = ("cell", "metric", "verdict", "before", "now", "change")


def markdown(run: Baseline, comparison: Comparison | None, conditions: Iterable[str]) -> str:
    """The verdict, what several cells fail for, what moved; and the matrix, folded where there is a verdict to read."""
    table = matrix(run, comparison)
    headers = ["cell", *table.headings, *(["verdict"] if comparison else [])]
    rows = [
        [str(row.cell), *(entry.text for entry in row.entries), *([row.kind] if comparison else [])]
        for row in table.rows
    ]
    whole = _pipe(headers, rows, right=len(table.headings))
    about = "\n".join(f"- {escape(line)}" for line in conditions)
    if comparison is None:
        return f"{count(len(rows), 'cell')} of {escape(run.name)}, compared with nothing\n\n{whole}\n\n{about}\n"
    parts = [("" if comparison.passes else "**Does not hold its baseline.** ") + escape(comparison.summary.headline)]
    parts += [indented(lines) for lines in comparison.causes]
    if comparison.moved:
        parts.append(_pipe(list(MOVED_HEADERS), [list(moved_row(*pair)) for pair in comparison.moved], right=0))
    parts += [escape(note) for note in comparison.summary.notes]
    parts.append(f"<details><summary>All {count(len(rows), 'cell')}</summary>\n\n{whole}\n\n</details>")
    return "\n\n".join([*parts, about]) + "\n"


def _pipe(headers: list[str], rows: list[list[str]], right: int) -> str:
    """A Markdown table; the `right` columns after the first are aligned right."""
    alignment = ["left", *(["right"] * right), *(["left"] * (len(headers) - right - 1))]
    escaped = [[escape(value) for value in row] for row in rows]
    return tabulate(escaped, headers, tablefmt="pipe", disable_numparse=True, colalign=alignment if rows else None)
