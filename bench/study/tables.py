"""The study's tables as Markdown. Some are of a run's records; others of committed baselines, or computed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import (
    accuracy,
    all_methods,
    by_condition,
    by_rate,
    committed,
    cost,
    fashion,
    figures,
    front_tables,
    memory_by_batch,
    savings,
)
from peft_update_bench.bench.study.statement import HEADERS, Statement, check, percent
from peft_update_bench.bench.units import show, show_fraction
from peft_update_bench.fixtures.architectures import CORE_ARCHITECTURES
from tabulate import tabulate

Records = Sequence[Record]

_END_EARLY = ("fft", "mobile_tl", "last_layers", "bn_head", "head")
"""What needs little memory, beside full fine-tuning."""


def make(name: str, records: Records) -> str:
    """The table of that name, from a run's `records` where it needs any."""
    return _MAKERS[name](records)


def statements(listed: Iterable[Statement], records: Records) -> str:
    return _markdown(HEADERS, [check(statement, records).row() for statement in listed])


def counts() -> str:
    """FLOPs by three counters: full fine-tuning's backward pass, and what LoRA r=1 seems to save."""
    counters: tuple[tuple[str, cost.Cost, cost.Cost], ...] = (
        ("in truth", cost.backward_flops, cost.step_flops),
        ("torch's counter", cost.stock_backward_flops, cost.stock_step_flops),
        ("the study's counter", cost.defined_backward_flops, cost.defined_step_flops),
    )
    rows = []
    for network in CORE_ARCHITECTURES:
        fft, lora = cost.measure(Cell(network, "fft")), Cell(network, "lora", 1)
        rows.append([f"{network}, fft, backward pass", *(show(count(fft), "FLOPs") for _, count, _ in counters)])
        rows.append(
            ["saved by LoRA r=1, backward pass", *(percent(cost.saved(lora, count), 1) for _, count, _ in counters)]
        )
        rows.append(["saved by LoRA r=1, whole step", *(percent(cost.saved(lora, step), 1) for _, _, step in counters)])
    return _markdown(["", *(name for name, _, _ in counters)], rows)


def peaks() -> str:
    """Peak memory that LoRA saves, by both definitions."""
    rows = [
        [
            str(cell),
            percent(cost.saved(cell, cost.defined_peak_memory), 1),
            percent(cost.saved(cell, cost.peak_memory), 1),
        ]
        for cell in cost.adapted_cells(memory_by_batch.ARCHITECTURES, ["lora"], (1, 2, 4, 8, 16))
    ]
    return _markdown(["saved by", "the categories' maxima, summed", "held at once"], rows)


def batch_table(peaks: Iterable[memory_by_batch.Peak]) -> tuple[list[str], list[list[str]]]:
    """Peak memory over the batch size: headers, and a row for each size."""
    headers = ["batch"]
    rows: dict[int, list[str]] = {}
    for peak in peaks:
        header = f"{peak.architecture}, {peak.update}"
        if header not in headers:
            headers.append(header)
        change = "" if peak.bytes == peak.of_fft else f" ({show_fraction(-peak.saved)})"
        rows.setdefault(peak.batch_size, [str(peak.batch_size)]).append(show(peak.bytes, "bytes") + change)
    return headers, list(rows.values())


def saved_beside_decoders() -> str:
    options = savings.Options()
    return savings.savings_table(savings.measure(options), options.ranks)


def costs_of_methods(architecture: str) -> str:
    return _markdown(all_methods.HEADERS, [cost.row() for cost in all_methods.measure(architecture)])


def cells(records: Records) -> str:
    """What the adaptation records hold, cell by cell, as the table that ends a run shows it."""
    brief = [(row, row.figure.brief) for row in metrics.rows(("adaptation",)) if row.figure.brief]
    rows = [[str(record.cell), *(row.entry(record, column)[1] for row, column in brief)] for record in records]
    return _markdown(["cell", *(column.title for _, column in brief)], rows)


def fronts(records: Records) -> str:
    """Accuracy against costs, and what the accuracies are of."""
    table = _markdown(front_tables.FRONT_HEADERS, front_tables.front_rows(records))
    return f"{table}\n\n{front_tables.conditions_in_words(records)}"


def rates() -> str:
    brought, searched = committed.by_every_method(), committed.adapted(committed.FASHION_SEARCHED)
    return _markdown(by_rate.HEADERS, by_rate.rows(brought, searched))


def within_budgets(records: Records) -> str:
    return _markdown(front_tables.BUDGET_HEADERS, front_tables.budget_rows(records))


_MAKERS: dict[str, Callable[[Records], str]] = {
    "study-cost": partial(statements, cost.STATEMENTS),
    "study-accuracy": partial(statements, accuracy.STATEMENTS),
    "study-counts": lambda _: counts(),
    "study-peaks": lambda _: peaks(),
    "study-batches": lambda _: _markdown(*batch_table(memory_by_batch.measure())),
    "study-savings": lambda _: saved_beside_decoders(),
    "study-cells": cells,
    "front": fronts,
    "front-budgets": within_budgets,
    "methods-resnet18": lambda _: costs_of_methods("resnet18"),
    "methods-mobilenet_v2": lambda _: costs_of_methods("mobilenet_v2"),
    "figures-resnet18": lambda _: figures.table("resnet18"),
    "figures-mobilenet_v2": lambda _: figures.table("mobilenet_v2"),
    "digits-front": lambda _: fronts(committed.adapted(committed.DIGITS)),
    "digits-budgets": lambda _: within_budgets(committed.adapted(committed.DIGITS)),
    "fashion-accuracy": lambda _: _markdown(fashion.HEADERS, fashion.rows()),
    "fashion-conditions": lambda _: _markdown(*by_condition.accuracies(committed.by_condition())),
    "fashion-early": lambda _: _markdown(*by_condition.accuracies(committed.by_condition(), _END_EARLY)),
    "fashion-ranks": lambda _: _markdown(*by_condition.by_rank(committed.by_condition())),
    "fashion-budgets": lambda _: _markdown(*by_condition.within_budgets(committed.by_condition())),
    "fashion-cells": lambda _: cells(committed.adapted(committed.FASHION)),
    "fashion-front": lambda _: fronts(committed.adapted(committed.FASHION)),
    "fashion-classes-front": lambda _: fronts(committed.adapted(committed.FASHION_CLASSES)),
    "fashion-methods-front": lambda _: fronts(committed.by_every_method()),
    "fashion-searched-front": lambda _: fronts(committed.adapted(committed.FASHION_SEARCHED)),
    "fashion-rates": lambda _: rates(),
}


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)
