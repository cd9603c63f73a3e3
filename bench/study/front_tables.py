"""The front and the budgets as tables, and in words what their accuracies are of."""

from __future__ import annotations

from collections.abc import Sequence

from peft_update_bench.bench.record import Adaptation, Record
from peft_update_bench.bench.study.front import (
    COSTS,
    Condition,
    Network,
    adaptation_of,
    condition_of,
    in_words,
    networks,
)
from peft_update_bench.bench.units import NOTHING, count, show

BUDGETS = tuple(size * 2**20 for size in (8, 16, 32, 64, 128, 256))
"""Bytes at the peak of an update."""

FRONT_HEADERS = ("network", "method", "accuracy after, 95 %", *(cost.name for cost in COSTS), "on the front of")


def front_rows(records: Sequence[Record]) -> list[list[str]]:
    """A row for each method, the most accurate first."""
    rows = []
    for network in networks(records):
        fronts = {cost.name: network.front(cost.name) for cost in COSTS}
        for choice in network.by_accuracy:
            shown = [show(choice.costs[cost.name], cost.unit) for cost in COSTS]
            holding = ", ".join(name for name, front in fronts.items() if choice in front) or "none"
            rows.append([network.architecture, choice.name, network.shown(choice), *shown, holding])
    return rows


BUDGET_HEADERS = (
    "network",
    "peak memory at most",
    "most accurate",
    "accuracy after, 95 %",
    "that it is",
    "equal to it",
)


def budget_rows(records: Sequence[Record]) -> list[list[str]]:
    """For each network and budget the most accurate method within it, and how sure that is."""
    rows = []
    for network in networks(records):
        for limit in BUDGETS:
            words = [network.architecture, limit_in_words(limit)]
            best = network.best(limit)
            if best is None:
                rows.append([*words, none_in_words(network), NOTHING, NOTHING, NOTHING])
                continue
            equal = ", ".join(choice.name for choice in best.equal) or "none"
            rows.append([*words, best.choice.name, network.shown(best.choice), best.sure, equal])
    return rows


def limit_in_words(limit: float) -> str:
    """One of :data:`BUDGETS`: ``64 MiB``."""
    return show(limit, "bytes").replace(".00", "")


def none_in_words(network: Network) -> str:
    """What stands where no choice of `network` fits."""
    return f"none: the least needs {show(network.least_peak, 'bytes')}"


def setting_in_words(adaptation: Adaptation, conditions: Sequence[Condition], seeds: int) -> str:
    """What accuracies are of: images, first weights, what was adapted to, and how long."""
    settings = adaptation.settings
    return (
        f"{settings.data} from {settings.weights} weights, {in_words(conditions)}; {count(seeds, 'seed')}, "
        f"{settings.steps} steps, {settings.test_images} test images"
    )


def setting_of(record: Record) -> str:
    """As :func:`setting_in_words`, of one cell."""
    adaptation = adaptation_of(record)
    return setting_in_words(adaptation, [condition_of(adaptation)], len(adaptation.runs))


def conditions_in_words(records: Sequence[Record]) -> str:
    """What stands under the tables: of what the accuracies are, by how many seeds, and what counts as equal."""
    lines = []
    for network in networks(records):
        adaptation = next(r.adaptation for r in records if r.architecture == network.architecture and r.adaptation)
        line = (
            f"{network.architecture}: {setting_in_words(adaptation, network.conditions, network.seeds)}; methods up to "
            f"{100 * network.alike:.1f} points below another equal it; steps are to {network.target_share:.0%} of full "
            "fine-tuning's gain"
        )
        if network.incomplete:
            line += f"; not adapted to all of it, and left out: {', '.join(network.incomplete)}"
        if network.harmful:
            line += f"; worse after the update than before, and left out: {', '.join(network.harmful)}"
        lines.append(f"{line}.")
    return " ".join(lines)
