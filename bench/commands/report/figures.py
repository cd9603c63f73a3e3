"""A run's figures: each chart with what it shows and for what it holds, for the page, and as SVG and PNG for papers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import vl_convert
from peft_update_bench.bench import metrics
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.commands.report import chart_style, charts
from peft_update_bench.bench.commands.report.accuracy_chart import accuracy_against
from peft_update_bench.bench.commands.report.chart_style import MIB, Chart
from peft_update_bench.bench.commands.report.runs import Conditions, conditions
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import front, front_tables
from peft_update_bench.fixtures.files import write_named

WIDTH = 480
"""Of a PNG's plot, in CSS pixels, of which there are 96 to the inch."""
PIXELS_PER_INCH = 300


@dataclass(frozen=True)
class Figure:
    """A chart with its title and conditions. `name` is unique in a report, and its file's name without the ending."""

    name: str
    title: str
    section: str
    specification: dict[str, Any]
    conditions: Conditions


def of_run(run: Baseline) -> Iterator[Figure]:
    """Every figure of a run, by architecture and batch size."""
    records = list(run.records.values())
    for subject in dict.fromkeys(record.cell.subject for record in records):
        ours = [record for record in records if record.cell.subject == subject]
        steps = [record for record in ours if record.adaptation is None]
        drawn: list[tuple[str, str, Chart | None, list[Record]]] = [
            ("memory-by-category", "Peak memory by category", charts.memory_by_category(steps), steps)
        ]
        drawn += [
            (f"{row.metric.name}-by-rank", curve.title, charts.by_rank(steps, row, curve), steps)
            for row in metrics.rows()
            if (curve := row.figure.curve) is not None
        ]
        for task in dict.fromkeys(record.adaptation.task for record in ours if record.adaptation):
            of_task = [record for record in ours if record.adaptation and record.adaptation.task == task]
            drawn += _accuracy(task, of_task)
        for key, title, chart, of in drawn:
            if chart is not None:
                yield figure(subject, key, title, chart, _conditions(run, of))


def figure(section: str, key: str, title: str, chart: Chart, held: Conditions) -> Figure:
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", f"{section}-{key}").strip("-")
    description = f"{title}, {section}. {held.sentence}"
    return Figure(name, title, section, chart_style.specification(chart, description), held)


def _conditions(run: Baseline, records: list[Record]) -> Conditions:
    """Those of all runs; of an adaptation also what its accuracies are of."""
    held = conditions(run, records)
    if not records[0].adaptation:
        return held
    return replace(held, workload=f"{front_tables.setting_of(records[0])}; {held.workload}")


def _accuracy(task: str, records: list[Record]) -> list[tuple[str, str, Chart | None, list[Record]]]:
    margin = _margin(records)
    against_memory = accuracy_against(
        records, lambda found: found.peak_memory, "peak memory, MiB", "bytes", MIB, margin
    )
    against_flops = accuracy_against(
        records, lambda found: found.flops_total, "FLOPs of the whole update, G", "FLOPs", 1e9, margin
    )
    return [
        (f"{task}-accuracy-memory", f"Accuracy ({task}) against peak memory", against_memory, records),
        (f"{task}-accuracy-flops", f"Accuracy ({task}) against FLOPs", against_flops, records),
    ]


def _margin(records: list[Record]) -> float | None:
    """Half of an accuracy's interval, a fraction; None where there is one seed, which leaves it unknown."""
    try:
        (network,) = front.networks(records)
    except CommandError:
        return None
    return network.margin


def by_itself(figure: Figure) -> str:
    """The figure as Vega-Lite, on white, its conditions under the title."""
    held = figure.conditions
    lines = [line for text in (held.workload, held.versions, held.machine) for line in wrap(text, 100)]
    specification = figure.specification | {
        "width": WIDTH,
        "autosize": {"type": "pad"},
        "title": {"text": f"{figure.section}: {figure.title}", "subtitle": lines, "subtitleFontSize": 9, "offset": 12},
    }
    # Outside a page there is no text colour to take, nor one that shines through.
    return json.dumps(specification).replace('"currentColor"', '"#222222"').replace('"transparent"', '"white"')


def write(figures: list[Figure], folder: Path) -> None:
    """Write each figure to ``folder/NAME.png`` and ``NAME.svg``. Raises CommandError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            plain = by_itself(figure)
            image: bytes = vl_convert.vegalite_to_png(plain, scale=PIXELS_PER_INCH / 96, ppi=96)
            write_named(folder / f"{figure.name}.png", image)
            write_named(folder / f"{figure.name}.svg", vl_convert.vegalite_to_svg(plain).encode())
    except OSError as error:
        raise CommandError(f"--figures {folder}: {error.strerror}; expected a folder that can be written") from None
