"""The matrix as a table: which figures of a record stand in which column, for the page and for Markdown alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.report.runs import Comparison
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.figures import show, show_whole_change
from peft_update_bench.bench.gate.summary import escape, kind_of
from peft_update_bench.bench.gate.verdict import Verdict
from peft_update_bench.bench.record import Record
from tabulate import tabulate

Figure = int | float


@dataclass(frozen=True)
class Entry:
    """One cell of the table: the figure as the record holds it, None where it was not measured, and as it is shown."""

    value: Figure | None
    text: str


@dataclass(frozen=True)
class Column:
    """A column of figures, shown in `unit` or by `shown`; `of` reads the figure from a record."""

    title: str
    unit: str
    of: Callable[[Record], Figure | None]
    shown: Callable[[Record, Figure], str] | None = None

    def entry(self, record: Record) -> Entry:
        value = self.of(record)
        if value is None:
            return Entry(None, "–")
        return Entry(
            value, self.shown(record, value) if self.shown else show(value, self.unit).removesuffix(" parameters")
        )


def _latency(record: Record) -> float | None:
    """Relative to full fine-tuning, which is 1; its own ratio, to the calibration step, is on another scale."""
    latency = record.latency
    if latency is None:
        return None
    return 1 if latency.is_references else latency.relative


def _latency_text(record: Record, _: Figure) -> str:
    latency = record.latency
    assert latency is not None
    if latency.is_references:
        text = "1 (reference)"
    else:
        text = f"{latency.relative:.3f} ({latency.relative_low:.3f} to {latency.relative_high:.3f})"
    return text if latency.stable else f"{text} unstable"


def _percent(_: Record, value: Figure) -> str:
    return f"{value * 100:.1f} %"


def _plain(_: Record, value: Figure) -> str:
    return str(value)


COLUMNS = (
    Column("trainable parameters", "parameters", lambda r: r.parameters.trainable if r.parameters else None),
    Column("FLOPs", "FLOPs", lambda r: r.flops.total if r.flops else None),
    Column("FLOPs, mean with refreshes", "FLOPs", lambda r: r.flops.amortised_total if r.flops else None),
    Column("peak memory", "bytes", lambda r: r.memory.peak if r.memory else None),
    Column("peak of a refreshing step", "bytes", lambda r: r.memory.refresh_peak if r.memory else None),
    Column("RSS peak", "bytes", lambda r: r.measured_memory.rss_peak if r.measured_memory else None),
    Column("latency / fft", "×", _latency, _latency_text),
    Column("accuracy before", "", lambda r: r.adaptation.accuracy_before if r.adaptation else None, _percent),
    Column("accuracy after", "", lambda r: r.adaptation.accuracy_after if r.adaptation else None, _percent),
    Column("steps to target", "", lambda r: r.adaptation.steps_to_target if r.adaptation else None, _plain),
    Column("FLOPs to target", "FLOPs", lambda r: r.adaptation.flops_to_target if r.adaptation else None),
)
"""FLOPs and peak memory are an ordinary step's; GaLore's rare refreshing step has columns of its own. An adaptation is
a cell of its own, which has the last columns."""


@dataclass(frozen=True)
class Row:
    cell: Cell
    entries: tuple[Entry, ...]
    kind: str
    """The one word for the cell's verdict, empty without a comparison."""


@dataclass(frozen=True)
class Matrix:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def matrix(run: Baseline, comparison: Comparison | None) -> Matrix:
    """Every cell; a column that no record fills is left out."""
    records = run.records
    columns = tuple(c for c in COLUMNS if any(c.of(record) is not None for record in records.values()))
    rows = [
        Row(cell, tuple(c.entry(record) for c in columns), kind_of(comparison.results[cell]) if comparison else "")
        for cell, record in records.items()
    ]
    lost = [result for result in comparison.results.values() if result.record is None] if comparison else []
    rows += [Row(result.cell, tuple(Entry(None, "–") for _ in columns), kind_of(result)) for result in lost]
    return Matrix(columns, tuple(rows))


def moved_row(cell: Cell, verdict: Verdict) -> tuple[str, ...]:
    """A verdict as cell, metric, kind, before, now, change."""
    both = verdict.now is not None and verdict.before is not None
    return (
        str(cell),
        verdict.metric,
        verdict.kind,
        show(verdict.before, verdict.unit),
        show(verdict.now, verdict.unit),
        show_whole_change(verdict) if both else verdict.note or "–",
    )


MOVED_HEADERS = ("cell", "metric", "verdict", "before", "now", "change")


def markdown(run: Baseline, comparison: Comparison | None, conditions: Iterable[str]) -> str:
    """The verdict, what moved, and the matrix folded away where there is a verdict to read first."""
    table = matrix(run, comparison)
    headers = ["cell", *(column.title for column in table.columns), *(["verdict"] if comparison else [])]
    rows = [
        [str(row.cell), *(entry.text for entry in row.entries), *([row.kind] if comparison else [])]
        for row in table.rows
    ]
    whole = _pipe(headers, rows, right=len(table.columns))
    about = "\n".join(f"- {escape(line)}" for line in conditions)
    if comparison is None:
        return f"{len(rows)} cells of {escape(run.name)}, compared with nothing\n\n{whole}\n\n{about}\n"
    parts = [("" if comparison.passes else "**Does not hold its baseline.** ") + escape(comparison.headline)]
    if comparison.moved:
        parts.append(_pipe(list(MOVED_HEADERS), [list(moved_row(*pair)) for pair in comparison.moved], right=0))
    parts += [escape(note) for note in comparison.notes]
    parts.append(f"<details><summary>All {len(rows)} cells</summary>\n\n{whole}\n\n</details>")
    return "\n\n".join([*parts, about]) + "\n"


def _pipe(headers: list[str], rows: list[list[str]], right: int) -> str:
    """A Markdown table; the `right` columns after the first are aligned right."""
    alignment = ["left", *(["right"] * right), *(["left"] * (len(headers) - right - 1))]
    escaped = [[escape(value) for value in row] for row in rows]
    return tabulate(escaped, headers, tablefmt="pipe", disable_numparse=True, colalign=alignment if rows else None)
