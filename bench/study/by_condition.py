"""Accuracy by what a network was adapted to: which method is best under which shift, or for new classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import front
from peft_update_bench.bench.study.front import Choice, Network
from peft_update_bench.bench.units import show


def table(runs: Iterable[Sequence[Record]]) -> tuple[list[str], list[list[str]]]:
    """Headers, and a row for each network and method; a column for each of `runs`, which are of one condition each.

    "equal" is a method that the most accurate one does not beat by more than seeds scatter. The methods of a network
    stand in the order of their mean accuracy.

    Raises CommandError where runs cannot be compared.
    """
    columns = {}
    for records in runs:
        found = front.networks(records)
        columns[front.told(found[0].conditions)] = {network.architecture: network for network in found}
    headers = ["network", "method", "peak memory", *columns]
    return headers, [
        row
        for architecture in dict.fromkeys(name for column in columns.values() for name in column)
        for row in _rows(architecture, [column.get(architecture) for column in columns.values()])
    ]


def _rows(architecture: str, networks: Sequence[Network | None]) -> list[list[str]]:
    held: dict[str, list[Choice]] = {}
    for network in networks:
        for choice in network.choices if network else ():
            held.setdefault(choice.name, []).append(choice)
    by_accuracy = sorted(held, key=lambda name: -fmean(choice.accuracy for choice in held[name]))
    return [
        [
            architecture,
            name,
            show(max(choice.costs["peak memory"] or 0 for choice in held[name]), "bytes"),
            *(_accuracy(name, network) for network in networks),
        ]
        for name in by_accuracy
    ]


def _accuracy(name: str, network: Network | None) -> str:
    choices = network.choices if network else ()
    choice = next((choice for choice in choices if choice.name == name), None)
    if network is None or choice is None:
        return "–"
    best = max(choices, key=lambda choice: choice.accuracy)
    verdict = " best" if choice is best else " equal" if network.equals(choice, best) else ""
    return f"{choice.accuracy:.1%} ± {100 * network.margin:.1f}{verdict}"
