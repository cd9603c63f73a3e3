"""The study's tables as Markdown, each a function of a run's records; those on cost look at none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from peft_update_bench.bench import metrics
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import (
    accuracy,
    all_methods,
    committed,
    cost,
    fashion,
    figures,
    front,
    memory_by_batch,
    savings,
)
from peft_update_bench.bench.study.statement import HEADERS, Statement, check, percent
from peft_update_bench.bench.units import show, show_fraction
from peft_update_bench.fixtures.architectures import CORE_ARCHITECTURES
from tabulate import tabulate

Records = Sequence[Record]


@dataclass(frozen=True)
class Table:
    """A table that the command makes and a document may hold. `takes` says roughly how long, on two idle cores."""

    about: str
    make: Callable[[Records], str]
    takes: str
    needs_adaptation: bool = False


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
    return f"{_markdown(front.FRONT_HEADERS, front.front_rows(records))}\n\n{front.conditions_in_words(records)}"


def within_budgets(records: Records) -> str:
    return _markdown(front.BUDGET_HEADERS, front.budget_rows(records))


def _of_fashion_mnist(make: Callable[[Records], str]) -> Callable[[Records], str]:
    """A table of the committed runs on Fashion-MNIST, whatever run the others are of."""

    def made(_: Records) -> str:
        return make(committed.on_fashion_mnist())

    return made


def _statements_by_both(_: Records) -> str:
    return fashion.statements()


def _figures(architecture: str) -> Callable[[Records], str]:
    def make(_: Records) -> str:
        return figures.table(architecture)

    return make


TABLES = {
    "study-cost": Table("The statements on cost", _statements(cost.STATEMENTS), "30 s"),
    "study-accuracy": Table("The statements on accuracy", _statements(accuracy.STATEMENTS), "no time", True),
    "study-counts": Table("FLOPs by three counters", counts, "5 s"),
    "study-peaks": Table("Peak memory by both definitions", peaks, "5 s"),
    "study-batches": Table("LoRA's peak memory over the batch size", batches, "15 s"),
    "study-savings": Table("Peak memory saved, beside language models", saved_beside_decoders, "60 s"),
    "study-cells": Table("Every cell of the adaptation baseline", cells, "no time", True),
    "front": Table("Accuracy against what it costs", fronts, "no time", True),
    "front-budgets": Table("The most accurate method within so much memory", within_budgets, "no time", True),
    "methods-resnet18": Table("Every method's cost on ResNet-18", _all_methods("resnet18"), "60 s"),
    "methods-mobilenet_v2": Table("Every method's cost on MobileNetV2", _all_methods("mobilenet_v2"), "60 s"),
    "figures-resnet18": Table("Every method's figures on ResNet-18", _figures("resnet18"), "5 s"),
    "figures-mobilenet_v2": Table("Every method's figures on MobileNetV2", _figures("mobilenet_v2"), "5 s"),
    "fashion-accuracy": Table(
        "The statements on accuracy, by two baselines", lambda _: fashion.statements(), "no time"
    ),
    "fashion-cells": Table("Every cell of the runs on Fashion-MNIST", _of_fashion_mnist(cells), "no time"),
    "fashion-front": Table("Accuracy against what it costs, on Fashion-MNIST", _of_fashion_mnist(fronts), "no time"),
    "fashion-budgets": Table(
        "The most accurate method within so much memory, on Fashion-MNIST", _of_fashion_mnist(within_budgets), "no time"
    ),
}
DEFAULT = ("study-cost", "study-accuracy")


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)
