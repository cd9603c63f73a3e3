"""A run's figures for a dashboard: ``update-bench export --format bencher RUN.json``.

    update-bench export --format bencher run.json --output bencher.json
    bencher run --adapter json --file bencher.json
    update-bench export --format github-action-benchmark run.json --output benchmark.json

``bencher`` is the Bencher Metric Format: cells are benchmarks and figures are measures, with the ends of a latency's
interval where it has one. ``github-action-benchmark`` is a list for that action's tool ``customSmallerIsBetter``;
accuracies, of which more is better, are left out of it. Figures are as the record holds them: bytes, FLOPs, seconds,
ratios. Without a run it is the newest committed baseline, without --output the JSON goes to stdout.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.commands.output import writing
from peft_update_bench.bench.commands.report import runs
from peft_update_bench.bench.gate import baseline
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.metrics import Evidence, Row
from peft_update_bench.bench.record import Record
from peft_update_bench.fixtures.files import write_named


@dataclass(frozen=True)
class Exported:
    """A figure of a cell; `low` and `high` are the ends of its interval, None where it has none."""

    cell: Cell
    name: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("measured", nargs="?", type=Path, metavar="RUN.json", help="default: the newest baseline")
    parser.add_argument("--format", required=True, choices=list(FORMATS), help="whose it is")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: stdout")


def run(given: argparse.Namespace) -> int:
    """Write the JSON. Raises CommandError where the run cannot be read or the file not be written."""
    path = given.measured or runs.newest()
    found = baseline.read(path)
    text = json.dumps(FORMATS[given.format](found), indent=1) + "\n"
    if given.output is None:
        print(text, end="")
        return 0
    with writing(given.output, [path]):
        write_named(given.output, text.encode())
    return 0


def bencher(run: Baseline) -> dict[str, dict[str, dict[str, float]]]:
    """The Bencher Metric Format, as its reference has it: benchmark, measure, and value with its bounds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for figure in _figures(run):
        metric = {"value": figure.value}
        if figure.low is not None and figure.high is not None:
            metric |= {"lower_value": figure.low, "upper_value": figure.high}
        found.setdefault(str(figure.cell), {})[figure.name] = metric
    return found


def github_action_benchmark(run: Baseline) -> list[dict[str, Any]]:
    """What the action asks of ``customSmallerIsBetter``: name, unit and value; range and extra are optional."""
    held = runs.conditions(run).sentence
    return [
        {
            "name": f"{figure.cell} {figure.name}",
            "unit": figure.unit,
            "value": figure.value,
            **({} if figure.low is None else {"range": f"{figure.low} to {figure.high}"}),
            "extra": held,
        }
        for figure in _figures(run)
        if figure.unit != "accuracy"
    ]


FORMATS: dict[str, Callable[[Baseline], Any]] = {
    "bencher": bencher,
    "github-action-benchmark": github_action_benchmark,
}


def _figures(run: Baseline) -> Iterator[Exported]:
    """Every figure of every cell that was measured, and pytest-benchmark's median."""
    for cell, record in run.records.items():
        for row in metrics.rows():
            value = row.of(record)
            if value is not None:
                yield Exported(cell, str(row), row.figure.unit, value, *_interval(row, record))
        if cell in run.seconds:
            yield Exported(cell, "stats.median", "s", run.seconds[cell])


def _interval(row: Row, record: Record) -> tuple[float, float] | tuple[()]:
    if row.figure.evidence is not Evidence.INTERVAL:
        return ()
    found = row.metric.of(record).interval(row.figure.key)
    return found.low, found.high
