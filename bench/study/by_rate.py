"""What a search for learning rates changes: accuracies with the rates that methods bring, which were searched on other
images, beside those with rates of a search on the network and its own images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peft_update_bench.bench.record import Record
from peft_update_bench.bench.study import front
from peft_update_bench.bench.study.by_condition import accuracy_of
from peft_update_bench.bench.units import NOTHING

HEADERS = ("network", "method", "rate, brought", "accuracy with it", "rate, searched", "accuracy with it")


def rows(brought: Sequence[Record], searched: Sequence[Record]) -> list[list[str]]:
    """A row for each network and method of `searched`, the most accurate first, under HEADERS.

    "best" and "equal" are among the methods of one column. A rate is the optimizer's: of several groups' the highest.
    Raises CommandError where runs cannot be compared.
    """
    before = {network.architecture: network for network in front.networks(brought)}
    rates_before, rates = _rates(brought), _rates(searched)
    return [
        [
            network.architecture,
            name,
            rates_before.get((network.architecture, name), NOTHING),
            accuracy_of(name, before.get(network.architecture)),
            rates[network.architecture, name],
            accuracy_of(name, network),
        ]
        for network in front.networks(searched)
        for name in [*(choice.name for choice in network.by_accuracy), *network.harmful]
    ]


def _rates(records: Sequence[Record]) -> Mapping[tuple[str, str], str]:
    """By network and choice, as people write them."""
    found = {}
    for record in records:
        rate = front.adaptation_of(record).learning_rate
        found[record.architecture, front.name_of(record.method, record.rank)] = NOTHING if rate is None else f"{rate:g}"
    return found
