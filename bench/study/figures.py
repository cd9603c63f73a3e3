"""Every method's figures on one network, out of the committed baselines: cost, time and accuracy in one table.

No figure is computed here. Where a baseline has none the table has a dash, and the words under it say which file lacks
what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.metrics import row
from peft_update_bench.bench.record import Record
from peft_update_bench.bench.record.update import WorkloadEntry
from peft_update_bench.bench.study import committed, front
from peft_update_bench.bench.study.front import name_of
from peft_update_bench.bench.units import NOTHING, show
from peft_update_bench.fixtures.methods.names import BUILT_IN
from tabulate import tabulate

BATCH_SIZES = (1, 32)

MethodAtRank = tuple[str, int | None]
"""A choice of :mod:`front`, before it has a name."""


@dataclass(frozen=True)
class Column:
    """Figures of one kind as they are shown, by choice, and where they are from."""

    title: str
    sources: Sequence[str]
    figures: Mapping[MethodAtRank, str]

    def lacks(self, choices: Sequence[MethodAtRank], architecture: str) -> str:
        """Which of `choices` have no figure, in words; empty where all have one."""
        lacking = [name_of(*choice) for choice in choices if choice not in self.figures]
        if not lacking:
            return ""
        where = f"{self.title}: {' and '.join(self.sources)} {'has' if len(self.sources) == 1 else 'have'}"
        if not self.figures:
            return f"{where} nothing of {architecture}"
        return f"{where} no {', '.join(lacking)}"


def table(architecture: str) -> str:
    """Markdown: a row for each method that the baseline of costs has, and a sentence for each kind of dash.

    Raises CommandError where a baseline is missing.
    """
    columns = _columns(architecture)
    choices = sorted(columns[0].figures, key=_place)
    rows = [[name_of(*choice), *(column.figures.get(choice, NOTHING) for column in columns)] for choice in choices]
    told = [words for column in columns if (words := column.lacks(choices, architecture))]
    text = tabulate(rows, ["method", *(column.title for column in columns)], tablefmt="pipe", disable_numparse=True)
    why = f"\n\nA dash is a figure that no baseline has. {'. '.join(told)}." if told else ""
    return text + why


def _columns(architecture: str) -> list[Column]:
    costs, times, counts = [committed.newest(committed.METHODS)], committed.timed(), committed.counted()

    def column(title: str, held: Sequence[Baseline], size: int, figure: Callable[[Record], str | None]) -> Column:
        of_network = [r for r in _records(held) if r.architecture == architecture and _batch_size(r) == size]
        shown = {(r.method, r.rank): text for r in of_network if (text := figure(r)) is not None}
        return Column(title, _paths(held), shown)

    return [
        *(column(f"FLOPs, batch {size}", costs, size, _flops) for size in BATCH_SIZES),
        *(column(f"peak, batch {size}", costs, size, _peak) for size in BATCH_SIZES),
        column("to store", costs, BATCH_SIZES[0], _stored),
        column("latency / fft, batch 1", times, 1, _latency),
        column("instructions, batch 1", counts, 1, _instructions),
        _accuracy("MNIST", [committed.DIGITS], committed.adapted(committed.DIGITS), architecture),
        _accuracy(
            "new classes of Fashion-MNIST",
            [committed.FASHION_CLASSES, committed.FASHION_FURTHER],
            committed.by_every_method(),
            architecture,
        ),
    ]


def _records(held: Sequence[Baseline]) -> list[Record]:
    return [record for baseline in held for record in baseline.records.values()]


def _paths(held: Sequence[Baseline]) -> list[str]:
    return [str(baseline.path) for baseline in held]


def _batch_size(record: Record) -> int | None:
    return record.workload.batch_size if isinstance(record.workload, WorkloadEntry) else None


def _accuracy(data: str, folders: Sequence[Path], records: Sequence[Record], architecture: str) -> Column:
    """Of committed runs, which are in `folders`."""
    of_network = [record for record in records if record.architecture == architecture]
    choices = {name_of(record.method, record.rank): (record.method, record.rank) for record in of_network}
    shown: dict[str, str] = {}
    for network in front.networks(of_network):
        shown |= {choice.name: network.shown(choice) for choice in network.choices}
        shown |= dict.fromkeys(network.harmful, front.WORSE)
    by_choice = {choices[name]: text for name, text in shown.items()}
    return Column(f"accuracy, {data}", [str(folder) for folder in folders], by_choice)


def _flops(record: Record) -> str | None:
    return show(record.flops.of_mean_step, "FLOPs") if record.flops else None


def _peak(record: Record) -> str | None:
    return show(record.memory.highest, "bytes") if record.memory else None


def _stored(record: Record) -> str | None:
    return show(record.result.stored_bytes, "bytes") if record.result else None


def _latency(record: Record) -> str | None:
    if record.latency is None:
        return None
    column = row("latency.relative").figure.brief
    assert column is not None
    return row("latency.relative").entry(record, column)[1]


def _instructions(record: Record) -> str | None:
    return show(record.instructions.total, "").strip() if record.instructions else None


def _place(choice: MethodAtRank) -> tuple[int, int]:
    """The order in which the methods are listed, and a method's ranks rising."""
    return [*BUILT_IN].index(choice[0]), choice[1] or 0
