"""The study's tables as Markdown, each a function of a run's records; those on cost look at none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import (
    accuracy,
    all_methods,
    by_condition,
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


def make(name: str, records: Records) -> str:
    """The table of that name, from a run's `records` where it needs any."""
    return _MAKERS[name](records)


def _statements(statements: Iterable[Statement]) -> Callable[[Records], str]:
    def make(records: Records) -> str:
        return _markdown(HEADERS, [check(statement, records).row() for statement in statements])

    return make


def counts(_: Records) -> str:
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


def peaks(_: Records) -> str:
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


def batches(_: Records) -> str:
    return _markdown(*batch_table(memory_by_batch.measure()))


def saved_beside_decoders(_: Records) -> str:
    options = savings.Options()
    return savings.savings_table(savings.measure(options), options.ranks)


def _all_methods(architecture: str) -> Callable[[Records], str]:
    def make(_: Records) -> str:
        return _markdown(all_methods.HEADERS, [cost.row() for cost in all_methods.measure(architecture)])

    return make


def cells(records: Records) -> str:
    """What the adaptation records hold, cell by cell, as the table that ends a run shows it."""
    brief = [(row, row.figure.brief) for row in metrics.rows(("adaptation",)) if row.figure.brief]
    rows = [[str(record.cell), *(row.entry(record, column)[1] for row, column in brief)] for record in records]
    return _markdown(["cell", *(column.title for _, column in brief)], rows)


def fronts(records: Records) -> str:
    """Accuracy against costs, and what the accuracies are of."""
    table = _markdown(front_tables.FRONT_HEADERS, front_tables.front_rows(records))
    return f"{table}\n\n{front_tables.conditions_in_words(records)}"


def within_budgets(records: Records) -> str:
    return _markdown(front_tables.BUDGET_HEADERS, front_tables.budget_rows(records))


def _of_committed(make: Callable[[Records], str], folder: Path) -> Callable[[Records], str]:
    """A table of the committed runs in `folder`, whatever run the others are of."""

    def made(_: Records) -> str:
        return make(committed.adapted(folder))

    return made


def _fashion(make: Callable[[Iterable[Records]], by_condition.Table]) -> Callable[[Records], str]:
    """A table of the committed runs on Fashion-MNIST, condition by condition."""

    def made(_: Records) -> str:
        return _markdown(*make(map(committed.adapted, committed.FASHION_CONDITIONS)))

    return made


def _statements_by_both(_: Records) -> str:
    return fashion.statements()


def _figures(architecture: str) -> Callable[[Records], str]:
    def make(_: Records) -> str:
        return figures.table(architecture)

    return make


_MAKERS: dict[str, Callable[[Records], str]] = {
    "study-cost": _statements(cost.STATEMENTS),
    "study-accuracy": _statements(accuracy.STATEMENTS),
    "study-counts": counts,
    "study-peaks": peaks,
    "study-batches": batches,
    "study-savings": saved_beside_decoders,
    "study-cells": cells,
    "front": fronts,
    "front-budgets": within_budgets,
    "methods-resnet18": _all_methods("resnet18"),
    "methods-mobilenet_v2": _all_methods("mobilenet_v2"),
    "figures-resnet18": _figures("resnet18"),
    "figures-mobilenet_v2": _figures("mobilenet_v2"),
    "fashion-accuracy": _statements_by_both,
    "digits-front": _of_committed(fronts, committed.DIGITS),
    "digits-budgets": _of_committed(within_budgets, committed.DIGITS),
    "fashion-conditions": _fashion(by_condition.accuracies),
    "fashion-budgets": _fashion(by_condition.within_budgets),
    "fashion-cells": _of_committed(cells, committed.FASHION),
    "fashion-front": _of_committed(fronts, committed.FASHION),
    "fashion-classes-front": _of_committed(fronts, committed.FASHION_CLASSES),
}


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)
