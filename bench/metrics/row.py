"""What a row of the table of metrics is made of."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from peft_update_bench.bench.units import NOTHING, show
from peft_update_bench.fixtures.methods.names import AS_IT_IS

if TYPE_CHECKING:
    from peft_update_bench.bench.record import Record

Number = int | float
Quantity = Literal["bytes", "FLOPs", "ratio", "accuracy"]


class Evidence(Enum):
    """What a figure is worth as evidence, which decides how it is judged."""

    SHOWN = "not judged"
    EXACT = "equal on every machine; may fall and not rise"
    PINNED = "equal on every machine; another figure is another method, also a lower one"
    TOLERANCE = "measured; judged on a machine like the baseline's, by a fraction"
    INTERVAL = "measured beside a reference on a machine like the baseline's; two intervals are compared"
    SEEDS = "an accuracy, or what it takes to one; compared with what seeds scatter"

    @property
    def needs_machine(self) -> bool:
        return self in {Evidence.TOLERANCE, Evidence.INTERVAL}


@dataclass(frozen=True)
class Column:
    """A column of a table. `text` and `value` take a record; without them the column shows the row's own figure.
    `of_steps` is its title where all records are of users' own steps, as they are, if another."""

    title: str
    text: Callable[[Record], str] | None = None
    value: Callable[[Record], Number | None] | None = None
    of_steps: str = ""

    def heading(self, records: Iterable[Record]) -> str:
        return self.of_steps if self.of_steps and {record.method for record in records} == {AS_IT_IS} else self.title


@dataclass(frozen=True)
class Curve:
    """A chart against rank. `estimate` gives the figure with the ends of its interval, None where it is exact."""

    title: str
    axis: str
    scale: float = 1.0
    estimate: Callable[[Record], tuple[float, float, float] | None] | None = None


@dataclass(frozen=True)
class Budget:
    """A limit that ``recommend`` knows, named after its option.

    `of` reads the figure from a record; of several records the worst counts. `more` says what a cell lacks that misses
    the limit, `unknown` why a cell's figure may not be known.
    """

    name: str
    words: str
    quantity: Quantity
    unit: str
    example: str
    help: str
    of: Callable[[Record], float | None]
    more: str
    unknown: str = "the record holds none"
    at_least: bool = False


@dataclass(frozen=True)
class Figure:
    """One figure of the record.

    `tolerance` is the default of ``[tool.peft-update-bench.tolerances]``'s entry `limit`, a fraction. `column` is
    for the page and the report, `brief` for the table that ends a run. `over_time` is the title of its chart over
    commits; it counts as moved where one of its `parts` did. `noise` is by how much it moves where nothing changed,
    in its unit, however small it is. A fall below the share `floor` of the baseline's figure is no saving, and
    fails. `since` is the record's schema all of whose records have the figure: an older one that lacks it, as the
    first ones of schema 1 lack statistics, cannot judge it.
    """

    key: str
    unit: str
    evidence: Evidence = Evidence.SHOWN
    limit: str = ""
    tolerance: float | None = None
    column: Column | None = None
    brief: Column | None = None
    curve: Curve | None = None
    over_time: str = ""
    parts: tuple[str, ...] = ()
    budget: Budget | None = None
    floor: float = 0.0
    noise: float = 0.0
    since: int = 1


@dataclass(frozen=True)
class Metric:
    """A section of the record and its figures.

    ``words``      how a sentence names it
    ``section``    the section's pydantic model, as MODULE:NAME
    ``measure``    the function that measures it, as MODULE:NAME; it is given a ``Measuring`` (``bench/measuring/``);
                   metrics with the same one are measured in one call. Empty where another metric's does it.
    ``benchmark``  whose ``--metrics`` may name it; empty where none does
    ``in_baselines``  whether a run that saves a baseline measures it, though nobody named it: later runs may name it
    ``of_steps``   whether it is told of a user's own step too
    ``is_always_known``  whether each cell has it; where one cannot, a remark says why
    ``conditions`` reads from two sections why they cannot be compared, empty where they can
    """

    name: str
    words: str
    section: str
    figures: tuple[Figure, ...]
    measure: str = ""
    benchmark: str = ""
    by_default: bool = False
    in_baselines: bool = False
    of_steps: bool = True
    is_always_known: bool = True
    conditions: Callable[[Any, Any], str] | None = None

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether it was added to the suite's own, be it by another function for one of these."""
        return is_from_elsewhere(self.section) or is_from_elsewhere(self.measure)

    def model(self) -> Any:
        return load(self.section)

    def of(self, record: Record) -> Any:
        """The record's section, None where it was not measured."""
        return getattr(record, self.name, None)


@dataclass(frozen=True)
class Row:
    """A figure with the metric that it is of."""

    metric: Metric
    figure: Figure

    def __str__(self) -> str:
        return f"{self.metric.name}.{self.figure.key}"

    def of(self, record: Record) -> Number | None:
        section = self.metric.of(record)
        value: Number | None = None if section is None else getattr(section, self.figure.key)
        return value

    def entry(self, record: Record, column: Column) -> tuple[Number | None, str]:
        """What `column` holds of a record, and how it is shown."""
        value = column.value(record) if column.value else self.of(record)
        if value is None:
            return None, NOTHING
        return value, column.text(record) if column.text else show(value, self.figure.unit).removesuffix(" parameters")


def load(name: str) -> Any:
    """The object that MODULE:NAME means. What is not needed is not imported."""
    return pkgutil.resolve_name(name)


_SUITE = f"{__name__.partition('.')[0]}."


def is_from_elsewhere(name: str) -> bool:
    """Whether a MODULE:NAME is not this suite's."""
    return bool(name) and not name.startswith(_SUITE)
