"""Accuracy by what a network was adapted to: which method is best under which shift, or for new classes, which is
within so much memory, and whether the rank matters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from statistics import fmean

from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import front, front_tables
from peft_update_bench.bench.study.front import Choice, Network
from peft_update_bench.bench.units import NOTHING, show

Table = tuple[list[str], list[list[str]]]
"""Headers and rows."""
Networks = Sequence[Network | None]
"""One network in each condition; None where it was not adapted to it."""


def accuracies(runs: Iterable[Sequence[Record]], methods: Collection[str] = ()) -> Table:
    """A row for each network and method, a column for each of `runs`, which are of one condition each.

    "equal" is a method that the most accurate one does not beat by more than seeds scatter. The methods of a network
    stand in the order of their mean accuracy. Where `methods` are named, these alone are shown, and judged among all.

    Raises CommandError where runs cannot be compared.
    """
    return _table(["method", "peak memory"], runs, partial(_by_method, shown=methods))


def by_rank(runs: Iterable[Sequence[Record]]) -> Table:
    """A row for each method of a network that several ranks were tried of in one of `runs`, which are of one condition
    each: a column for each rank, and one for full fine-tuning. "best" and "equal" are as in :func:`accuracies`.

    Raises CommandError where runs cannot be compared.
    """
    conditions = [(front.networks(records), records) for records in runs]
    ranks = sorted({record.rank for _, records in conditions for record in records if record.rank is not None})
    rows = [
        [
            network.architecture,
            method,
            front.in_words(network.conditions),
            *(accuracy_of(front.name_of(method, rank), network) for rank in ranks),
            accuracy_of("fft", network),
        ]
        for networks, records in conditions
        for network in networks
        for method in dict.fromkeys(record.method for record in records)
        if len(_ranks(records, network.architecture, method)) > 1
    ]
    order = {name: position for position, name in enumerate(dict.fromkeys(row[0] for row in rows))}
    return [
        "network",
        "method",
        "adapted to",
        *(f"rank {rank}" for rank in ranks),
        "full fine-tuning",
    ], sorted(rows, key=lambda row: (order[row[0]], row[1]))


def _ranks(records: Iterable[Record], architecture: str, method: str) -> set[int | None]:
    return {record.rank for record in records if (record.architecture, record.method) == (architecture, method)}


def within_budgets(runs: Iterable[Sequence[Record]]) -> Table:
    """A row for each network and budget, a column for each of `runs`: the most accurate method within the budget, how
    probable it is that it is, and what equals it.

    Raises CommandError where runs cannot be compared.
    """
    return _table(["peak memory at most"], runs, _by_budget)


def _table(
    headers: Sequence[str], runs: Iterable[Sequence[Record]], rows_of: Callable[[Networks], Iterable[list[str]]]
) -> Table:
    columns = {}
    for records in runs:
        found = front.networks(records)
        columns[front.in_words(found[0].conditions)] = {network.architecture: network for network in found}
    return ["network", *headers, *columns], [
        [architecture, *row]
        for architecture in dict.fromkeys(name for column in columns.values() for name in column)
        for row in rows_of([column.get(architecture) for column in columns.values()])
    ]


def _by_method(networks: Networks, shown: Collection[str]) -> list[list[str]]:
    held: dict[str, list[Choice]] = {}
    for network in networks:
        for choice in network.choices if network else ():
            if not shown or choice.name in shown:
                held.setdefault(choice.name, []).append(choice)
    by_accuracy = sorted(held, key=lambda name: -fmean(choice.accuracy for choice in held[name]))
    return [
        [
            name,
            show(max(choice.peak or 0.0 for choice in held[name]), "bytes"),
            *(accuracy_of(name, network) for network in networks),
        ]
        for name in by_accuracy
    ]


def accuracy_of(name: str, network: Network | None) -> str:
    """The accuracy of a choice, whether it is the best of its network's or equals it, or what there is instead."""
    if network is not None and name in network.harmful:
        return front.WORSE
    choices = network.choices if network else ()
    choice = next((choice for choice in choices if choice.name == name), None)
    if network is None or choice is None:
        return NOTHING
    best = max(choices, key=lambda choice: choice.accuracy)
    verdict = " best" if choice is best else " equal" if network.equals(choice, best) else ""
    return f"{network.shown(choice)}{verdict}"


def _by_budget(networks: Networks) -> Iterable[list[str]]:
    least = min(network.least_peak for network in networks if network)
    for limit in (limit for limit in front_tables.BUDGETS if limit >= least):
        found = [_best(network, limit) if network else NOTHING for network in networks]
        yield [front_tables.limit_in_words(limit), *found]


def _best(network: Network, limit: float) -> str:
    best = network.best(limit)
    if best is None:
        return front_tables.none_in_words(network)
    equal = f"; equal: {', '.join(choice.name for choice in best.equal)}" if best.equal else ""
    return f"{best.choice.name} {best.choice.accuracy:.1%} ({best.sure}){equal}"
