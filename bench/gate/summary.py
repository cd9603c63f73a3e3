"""What a run came to: the sentence, the notes, and the table, in the terminal and as Markdown."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten

from peft_update_bench.bench import metrics, terminal
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.gate import Result
from peft_update_bench.bench.gate.together import paragraph, told_together
from peft_update_bench.bench.gate.verdict import Kind, Verdict, fails
from peft_update_bench.bench.units import NOTHING, count
from tabulate import tabulate

_SEVERITY: tuple[Kind, ...] = (
    "missing", "regressed", "unstable", "improved", "new", "unrecorded", "not comparable", "ok"
)  # fmt: skip
_BAD = frozenset({"failed", "missing", "regressed", "unstable"})
_NAMED = 3
"""Figures that moved, in a line of the terminal's table."""


@dataclass(frozen=True)
class Summary:
    """The results of a run's cells, in its order, and what they were compared with.

    `measured` are the metrics that the run measured, whose columns the table has. `remarks` are what a reader should
    know of how the run went, each a sentence. `record_command` records a new baseline; empty where there is none to
    name. `compared` is the baseline itself, where cells that fail for one cause are to be told together, and
    `also_fails` are the kinds of verdict that fail besides those that always do.
    """

    results: Sequence[Result]
    measured: tuple[str, ...] = ()
    baseline: str = ""
    record_command: str = ""
    remarks: tuple[str, ...] = ()
    compared: Baseline | None = None
    also_fails: frozenset[Kind] = frozenset()

    @property
    def failing(self) -> list[Result]:
        """The cells that fail, for whatever reason."""
        return [
            result for result in self.results if result.error or any(fails(v, self.also_fails) for v in result.verdicts)
        ]

    @property
    def together(self) -> list[list[Result]]:
        """The failing cells that are told together, by cause; empty where each has a message of its own."""
        return told_together(self.results, self.also_fails) if self.compared else []

    @property
    def paragraphs(self) -> list[str]:
        """Lines for each cause that several cells fail for, and how to keep what is meant."""
        if self.compared is None or not self.together:
            return []
        lines = [line for results in self.together for line in paragraph(results, self.compared, self.also_fails)]
        return [*lines, f"If the change is meant, record a new baseline: {self.record_command}"]

    @property
    def headline(self) -> str:
        """How many cells of which kind, against what."""
        counts = Counter(kind_of(result) for result in self.results)
        words = ", ".join(f"{number} {kind}" for kind, number in counts.most_common()) or "none measured"
        against = f"against {self.baseline}" if self.baseline else "no baseline compared (--benchmark-compare)"
        incomparable = len(self._verdicts("not comparable"))
        unjudged = f"; {count(incomparable, 'figure')} not comparable" if incomparable else ""
        return f"{count(len(self.results), 'cell')}, {against}: {words}{unjudged}"

    @property
    def notes(self) -> list[str]:
        """What a reader should know beside the table."""
        found = [*self.remarks]
        for result in self.results:
            found += [f"{result.cell}: {remark}." for remark in (result.record and result.record.remarks) or ()]
        if self.incomparable:
            found.append(self.incomparable)
        if unrecorded := self._verdicts("unrecorded"):
            names = ", ".join(sorted({verdict.metric for verdict in unrecorded}))
            found.append(f"New figures, which the baseline is too old to judge: {names}.")
        # A run that fails records nothing.
        if self._verdicts("improved") and self.record_command and not self.failing:
            found.append(f"Improved past the tolerance; to keep it, record a new baseline: {self.record_command}")
        if self._verdicts("new") and self.record_command:
            found.append(f"New cells have no baseline and were not judged; record one: {self.record_command}")
        return found

    @property
    def incomparable(self) -> str:
        """What was not compared, and why; empty where everything was."""
        incomparable = self._verdicts("not comparable")
        reasons = sorted({verdict.note for verdict in incomparable})
        return f"Not compared: {_words(incomparable)} ({'; '.join(reasons)})." if incomparable else ""

    def lines(self, characters: int | None) -> list[str]:
        """All that ends a run in a terminal whose lines have so many `characters`; None where there is no end.

        Without a cell, as where the run was interrupted before the first had ended, there is no table.
        """
        table = [self.table(characters)] if self.results else []
        return [*self.paragraphs, *table, *self.notes, self.headline]

    def table(self, characters: int | None = None) -> str:
        """The table for a terminal, one line a cell where it is wide enough. Of what moved in a cell that fails it
        names a few figures: the messages have all."""
        return terminal.table(self._rows(self.results, most=_NAMED), self.headers, characters)

    @property
    def markdown(self) -> str:
        """The verdict in a sentence, the table and the notes, for a pull request. Failing cells come first."""
        ordered = sorted(self.results, key=lambda result: kind_of(result) not in _BAD)
        rows = [[escape(value) for value in row] for row in self._rows(ordered)]
        table = tabulate(rows, self.headers, tablefmt="pipe", disable_numparse=True) if rows else ""
        causes = indented(self.paragraphs)
        return "\n\n".join(filter(None, [escape(self.headline), causes, table, *map(escape, self.notes)])) + "\n"

    @property
    def headers(self) -> list[str]:
        records = [result.record for result in self.results if result.record]
        return ["cell", *(column.heading(records) for _, column in self._columns), "verdict"]

    @property
    def _columns(self) -> list[tuple[metrics.Row, metrics.Column]]:
        return [(row, row.figure.brief) for row in metrics.rows(self.measured) if row.figure.brief is not None]

    def _rows(self, results: Iterable[Result], most: int | None = None) -> list[list[str]]:
        return [
            [
                str(result.cell),
                *(row.entry(result.record, column)[1] if result.record else NOTHING for row, column in self._columns),
                describe(result, most),
            ]
            for result in results
        ]

    def _verdicts(self, kind: Kind) -> list[Verdict]:
        return [verdict for result in self.results for verdict in result.verdicts if verdict.kind == kind]


def kind_of(result: Result) -> str:
    """The one word for a cell: its gravest verdict."""
    if result.error:
        return "failed"
    kinds = {verdict.kind for verdict in result.verdicts}
    # A cell whose computed metrics hold is ok, also where its measured ones could not be compared, or where the
    # baseline is older than a figure.
    if "ok" in kinds:
        kinds -= {"not comparable", "unrecorded"}
    return next((kind for kind in _SEVERITY if kind in kinds), "not compared")


def escape(text: str) -> str:
    """Text as text in Markdown: no cell boundary, no HTML, no link.

    By entities, because a backslash in the text would take another's effect away. An underscore within a word is no
    emphasis, and the table's source stays readable.
    """
    whole = html.escape(text, quote=False).translate(_AS_ENTITIES)
    whole = _AT_A_WORDS_END.sub(lambda found: "&#95;" * len(found[0]), whole)
    return _BEFORE_PUNCTUATION.sub("&#92;", whole)


def indented(lines: Iterable[str]) -> str:
    """Lines of text as Markdown, with what indents them: as entities, because blanks it would take for code or drop."""
    return "<br>\n".join(escape(line).replace("  ", "&emsp;", 1) for line in lines)


_AS_ENTITIES = str.maketrans(
    {"|": "&#124;", "[": "&#91;", "`": "&#96;", "*": "&#42;", "~": "&#126;", "\n": " ", "\r": " "}
)
_BEFORE_PUNCTUATION = re.compile(r"\\(?=[^\w\s])")
_AT_A_WORDS_END = re.compile(r"(?<!\w)_+|_+(?!\w)")


def describe(result: Result, most: int | None = None) -> str:
    """A cell's verdict in the last column: its word, and what moved or could not be compared. Where that fails, and
    `most` is given, as in a terminal that has the whole above, so many figures, or the beginning of what is wrong."""
    kind = kind_of(result)
    if kind == "failed":
        return f"failed: {result.error if most is None else shorten(result.error, width=80, placeholder=' …')}"
    unjudged = sum(verdict.kind == "not comparable" for verdict in result.verdicts)
    moved = [f"{verdict.metric} {verdict.shown_change}" for verdict in result.verdicts if verdict.kind == kind]
    if kind in {"regressed", "improved", "unstable"}:
        named = moved[:most] if kind in _BAD else moved
        more = f" and {len(moved) - len(named)} more" if len(named) < len(moved) else ""
        return f"{kind}: {', '.join(named)}{more}"
    return f"{kind}, {unjudged} not comparable" if unjudged and kind != "not comparable" else kind


def _words(verdicts: Iterable[Verdict]) -> str:
    """The metrics that verdicts are of, as a sentence names them."""
    sections = {verdict.metric.partition(".")[0] for verdict in verdicts}
    named = [metric.words for metric in metrics.METRICS.values() if metric.name in sections]
    named += [] if sections <= set(metrics.METRICS) else ["absolute times"]
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
