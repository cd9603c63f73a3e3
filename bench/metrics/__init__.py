"""The table of metrics: whatever any part of the suite knows of a figure stands here, once.

Options, gate, summary, Markdown, page, charts, history, recommend and ``--help`` follow from it. A metric is an
instrument (``fixtures/instruments/``), a section of the record (``bench/record/``), the function that measures it (such
as those in ``bench/measuring/computing.py``) and its row in ``table.py``. A metric from elsewhere is added with
:func:`add`.

Nothing heavy is imported here: options and ``--help`` read the table before torch is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

from peft_update_bench.bench.metrics.row import (
    Budget,
    Column,
    Curve,
    Evidence,
    Figure,
    Metric,
    Number,
    Row,
    is_from_elsewhere,
    load,
)
from peft_update_bench.bench.metrics.table import ABSOLUTE_TIME, METRICS

__all__ = [
    "ABSOLUTE_TIME",
    "METRICS",
    "Budget",
    "Column",
    "Curve",
    "Evidence",
    "Figure",
    "Metric",
    "Number",
    "Row",
    "add",
    "budgets",
    "default_tolerances",
    "is_from_elsewhere",
    "load",
    "names_of",
    "row",
    "rows",
]


def add(metric: Metric) -> None:
    """Add a metric from elsewhere; one of that name is replaced. Call it where the suite finds it before it reads its
    options: in a module that a conftest.py imports, or that ``[tool.peft-update-bench] modules`` names."""
    METRICS[metric.name] = metric


def rows(names: tuple[str, ...] | None = None) -> Iterator[Row]:
    """Every figure, or those of the metrics named."""
    for metric in METRICS.values():
        if names is None or metric.name in names:
            yield from (Row(metric, figure) for figure in metric.figures)


def row(name: str) -> Row:
    """The figure called ``section.key``. Raises KeyError where there is none."""
    return {str(found): found for found in rows()}[name]


def names_of(benchmark: str, *, by_default: bool = False) -> tuple[str, ...]:
    """The metrics that `benchmark` measures, or those that it measures where none is named."""
    return tuple(m.name for m in METRICS.values() if m.benchmark == benchmark and (m.by_default or not by_default))


def budgets() -> dict[str, Budget]:
    return {found.figure.budget.name: found.figure.budget for found in rows() if found.figure.budget}


def default_tolerances() -> dict[str, float]:
    """How much a measured figure may grow before it counts as a regression, as a fraction, by its limit's name."""
    limits = [*(found.figure for found in rows()), ABSOLUTE_TIME]
    return {figure.limit: figure.tolerance for figure in limits if figure.tolerance is not None}
