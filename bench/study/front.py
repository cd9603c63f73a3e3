"""Accuracy against what it costs, network by network: which methods are worth their cost, and which is best within so
much memory, and how sure that is. From runs of ``--metrics adaptation``; several where images are shifted in several
ways.

A method's accuracy is the mean over everything that its network was adapted to, each task and each corruption counting
alike, and over seeds. How far it scatters is the seeds' standard deviation, pooled over the network's cells; Student's
t makes intervals of it. They say what other seeds would give on the same images from the same trained network, and
nothing of other images or networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from peft_update_bench.bench.command_error import CommandError
from peft_update_bench.bench.gate.spread import Spread
from peft_update_bench.bench.metrics import budgets
from peft_update_bench.bench.record import Adaptation, Record

CONFIDENCE = 0.95
DRAWS = 100_000
"""Of possible true accuracies, from which it is counted how often a method is the best: to a third of a percent."""

WORSE = "worse than before"
"""What stands for the accuracy of a choice that harms the network."""

Condition = tuple[str, str]
"""A task, and how its images are shifted; empty where they are not."""


@dataclass(frozen=True)
class Cost:
    """What an update costs: as a record has it, worst of all conditions or their mean, and how it is shown."""

    name: str
    unit: str
    of: Callable[[Record, Adaptation], float | None]
    together: Callable[[Sequence[float]], float] = max


COSTS = (
    Cost("peak memory", "bytes", lambda _, adaptation: adaptation.peak_memory),
    Cost("FLOPs", "FLOPs", lambda _, adaptation: adaptation.flops_total),
    Cost("to store", "bytes", lambda record, _: budgets()["flash"].of(record)),
    Cost("steps", "steps", lambda _, adaptation: adaptation.steps_to_target, fmean),
)
"""Of a whole update. Steps are to the target, in the mean over conditions; unknown where one never gets there."""


@dataclass(frozen=True)
class Choice:
    """A method at a rank: accuracy, a fraction, and costs by name, None where one is not known."""

    name: str
    accuracy: float
    costs: Mapping[str, float | None]

    @property
    def peak(self) -> float | None:
        """Bytes that an update needs at its peak."""
        return self.costs["peak memory"]


@dataclass(frozen=True)
class Network:
    """What was measured of one network.

    `spread` is that of an accuracy that is the mean over `conditions`; every choice has `seeds` in each of them.
    `incomplete` are choices that lack some condition, `harmful` ones that left the network worse in one than it was:
    nobody would choose these, and their seeds scatter like no other's. Neither are compared.
    """

    architecture: str
    choices: tuple[Choice, ...]
    conditions: tuple[Condition, ...]
    spread: Spread
    seeds: int
    images: int
    target_share: float
    incomplete: tuple[str, ...] = ()
    harmful: tuple[str, ...] = ()

    @property
    def margin(self) -> float:
        """Half of an accuracy's interval, as a fraction."""
        from scipy.stats import t  # seconds, which no other table should wait for

        return float(t.ppf((1 + CONFIDENCE) / 2, self.spread.freedom)) * self._error

    def shown(self, choice: Choice) -> str:
        """The accuracy of `choice` with its interval: ``91.2% ± 0.8``."""
        return f"{choice.accuracy:.1%} ± {100 * self.margin:.1f}"

    @property
    def by_accuracy(self) -> list[Choice]:
        """The choices, the most accurate first."""
        return sorted(self.choices, key=lambda choice: -choice.accuracy)

    @property
    def alike(self) -> float:
        """How far a method may be below another, as a fraction, and be said to equal it."""
        return self.spread.alike(self.seeds, len(self.choices), self.images)

    @property
    def least_peak(self) -> float:
        """Bytes that the choice needs which needs the fewest."""
        return min(choice.peak for choice in self.choices if choice.peak is not None)

    @property
    def _error(self) -> float:
        """The standard error of an accuracy."""
        return self.spread.deviation / math.sqrt(self.seeds)

    def equals(self, choice: Choice, better: Choice) -> bool:
        # Accuracies are counts of images divided: not a bit of rounding decides.
        return better.accuracy - choice.accuracy <= self.alike + 1e-9

    def front(self, cost: str) -> list[Choice]:
        """The cheapest of those that equal the most accurate choice, then of what is cheaper the same, and so on.

        In the order of falling cost; one whose cost is not known is not among them.
        """
        left = [(choice, value) for choice in self.choices if (value := choice.costs[cost]) is not None]
        found = []
        while left:
            best = max((choice for choice, _ in left), key=lambda choice: choice.accuracy)
            equal = [(value, -choice.accuracy, choice.name) for choice, value in left if self.equals(choice, best)]
            least, _, name = min(equal)
            found += [choice for choice, _ in left if choice.name == name]
            left = [(choice, value) for choice, value in left if value < least]
        return found

    def best(self, limit: float) -> Best | None:
        """The most accurate choice whose peak is at most `limit` bytes; None where none is."""
        fitting = [choice for choice in self.choices if choice.peak is not None and choice.peak <= limit]
        if not fitting:
            return None
        first = max(fitting, key=lambda choice: choice.accuracy)
        others = tuple(choice for choice in fitting if choice is not first and self.equals(choice, first))
        return Best(first, self._how_often_best(first, fitting), others, len(fitting))

    def _how_often_best(self, first: Choice, fitting: Sequence[Choice]) -> float:
        """In what share of possible true accuracies `first` has the highest: each is drawn around what was measured, by
        Student's t, from a fixed seed."""
        drawn = np.random.default_rng(0).standard_t(self.spread.freedom, (DRAWS, len(fitting)))
        possible = np.array([choice.accuracy for choice in fitting]) + self._error * drawn
        return float((possible.argmax(1) == [*fitting].index(first)).mean())


@dataclass(frozen=True)
class Best:
    """The most accurate of `fitting` choices, the probability that it really is, and those that equal it."""

    choice: Choice
    probability: float
    equal: tuple[Choice, ...]
    fitting: int

    @property
    def sure(self) -> str:
        """How sure that is, in words."""
        return f"{self.probability:.0%}" if self.fitting > 1 else "the only one that fits"


def networks(records: Sequence[Record]) -> list[Network]:
    """Each network of the runs' `records` with an adaptation. Raises CommandError where they cannot be compared."""
    adapted = [record for record in records if record.adaptation is not None]
    return [
        _network(architecture, [record for record in adapted if record.architecture == architecture])
        for architecture in dict.fromkeys(record.architecture for record in adapted)
    ]


def _network(architecture: str, records: Sequence[Record]) -> Network:
    by_choice: dict[str, dict[Condition, tuple[Record, Adaptation]]] = {}
    for record in records:
        adaptation = adaptation_of(record)
        held = by_choice.setdefault(name_of(record.method, record.rank), {})
        condition = condition_of(adaptation)
        if condition in held:
            raise CommandError(
                f"{record.cell} is there twice for {in_words([condition])}; expected runs of other shifts or tasks"
            )
        held[condition] = record, adaptation
    _must_be_alike(architecture, records)
    conditions = tuple(dict.fromkeys(condition for held in by_choice.values() for condition in held))
    harmful = [name for name, held in by_choice.items() if any(a.harms for _, a in held.values())]
    whole = {n: held for n, held in by_choice.items() if held.keys() == {*conditions} and n not in harmful}
    if not whole:
        raise CommandError(
            f"no method of {architecture} was adapted to all of {in_words(conditions)}"
            f"{', and left it better than it was' if harmful else ''}; expected one that was"
        )
    seeds = {len(a.runs) for held in by_choice.values() for _, a in held.values()}
    if min(seeds) < 2 or len(seeds) > 1:
        given = " and ".join(map(str, sorted(seeds)))
        raise CommandError(
            f"{architecture} was adapted with {given} seeds; expected two or more, equally many of each cell"
        )
    compared = [held for name, held in by_choice.items() if name not in harmful]
    groups = [[run.curve[-1] for run in a.runs] for held in compared for _, a in held.values()]
    spread = Spread.of(groups)
    first = adaptation_of(records[0])
    return Network(
        architecture,
        tuple(_choice(name, [held[condition] for condition in conditions]) for name, held in whole.items()),
        conditions,
        replace(spread, deviation=spread.deviation / math.sqrt(len(conditions))),
        seeds.pop(),
        first.settings.test_images * len(conditions),
        first.target_share,
        tuple(name for name in by_choice if name not in whole and name not in harmful),
        tuple(harmful),
    )


def _choice(name: str, held: Sequence[tuple[Record, Adaptation]]) -> Choice:
    costs: dict[str, float | None] = {}
    for cost in COSTS:
        found = [cost.of(record, adaptation) for record, adaptation in held]
        known = [value for value in found if value is not None]
        costs[cost.name] = cost.together(known) if len(known) == len(found) else None
    return Choice(name, fmean(adaptation.accuracy_after for _, adaptation in held), costs)


def name_of(method: str, rank: int | None) -> str:
    """A choice's name in the tables: ``lora, r=4``."""
    return method if rank is None else f"{method}, r={rank}"


def adaptation_of(record: Record) -> Adaptation:
    """That of a record which is known to have one."""
    assert record.adaptation is not None
    return record.adaptation


def condition_of(adaptation: Adaptation) -> Condition:
    """What a network was adapted to."""
    settings = adaptation.settings
    return adaptation.task, f"{settings.corruption} {settings.severity}" if settings.corruption else ""


def in_words(conditions: Sequence[Condition]) -> str:
    """What networks were adapted to: ``shift under fog 5, unseen``."""
    return ", ".join(f"{task} under {shift}" if shift else task for task, shift in conditions)


def _must_be_alike(architecture: str, records: Sequence[Record]) -> None:
    """Raise CommandError where accuracies are of other images, networks, steps or workloads than each other."""
    found = {
        (record.workload, s.data_digest, s.weights, s.steps)
        for record in records
        for s in [adaptation_of(record).settings]
    }
    if len(found) > 1:
        raise CommandError(
            f"{architecture} was adapted on several data sets, first weights, numbers of steps or workloads; expected "
            "runs that differ in task and shift alone"
        )

    trained = {(condition_of(a), a.source_accuracy_before) for record in records for a in [adaptation_of(record)]}
    if len(trained) > len({condition for condition, _ in trained}):
        raise CommandError(
            f"{architecture} was adapted from networks that were trained apart: their accuracies on the source images "
            "differ; expected runs that share one, as those of one cache folder on one machine do"
        )
