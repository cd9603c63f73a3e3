"""The table of metrics: whatever any part of the suite knows of a figure stands here, once.

Options, gate, summary, Markdown, page, charts, history, recommend and ``--help`` follow from it. A metric is an
instrument (``fixtures/instruments/``), a section of the record (``bench/record/``), the function that measures it
(``bench/measurement.py``) and its row in :data:`METRICS`. A metric from elsewhere is added with :func:`add`.

Nothing heavy is imported here: options and ``--help`` read this table before torch is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

from peft_update_bench.bench.units import NOTHING, show

if TYPE_CHECKING:
    from peft_update_bench.bench.record import Adaptation, Latency, Record

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
    """A column of a table. `text` and `value` take a record; without them the column shows the row's own figure."""

    title: str
    text: Callable[[Record], str] | None = None
    value: Callable[[Record], Number | None] | None = None


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

    `tolerance` is the default of ``[tool.peft-update-bench.tolerances]``'s entry `limit`, a fraction. `column` is for
    the page and the report, `brief` for the table that ends a run. `over_time` is the title of its chart over commits;
    it counts as moved where one of its `parts` did.
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


@dataclass(frozen=True)
class Metric:
    """A section of the record and its figures.

    ``words``      how a sentence names it
    ``section``    the section's pydantic model, as MODULE:NAME
    ``measure``    the function that measures it, as MODULE:NAME (``bench/measurement.py`` says what it is given);
                   metrics with the same one are measured in one call. Empty where another metric's does it.
    ``benchmark``  whose ``--metrics`` may name it; empty where none does
    ``conditions`` reads from two sections why they cannot be compared, empty where they can
    """

    name: str
    words: str
    section: str
    figures: tuple[Figure, ...]
    measure: str = ""
    benchmark: str = ""
    by_default: bool = False
    conditions: Callable[[Any, Any], str] | None = None

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
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _latency(record: Record) -> Latency:
    assert record.latency is not None
    return record.latency


def _relative(record: Record) -> float | None:
    """Relative to full fine-tuning, which is 1; its own ratio, to the calibration step, is on another scale."""
    latency = record.latency
    return None if latency is None else 1.0 if latency.is_references else latency.relative


def _unsteady(record: Record, text: str) -> str:
    return text if _latency(record).stable else f"{text} unstable"


def _relative_half_width(record: Record) -> str:
    latency = _latency(record)
    half_width = (latency.relative_high - latency.relative_low) / 2
    text = "1 (reference)" if latency.is_references else f"{latency.relative:.3f} ± {half_width:.3f}"
    return _unsteady(record, text)


def _relative_interval(record: Record) -> str:
    latency = _latency(record)
    ends = f"{latency.relative_low:.3f} to {latency.relative_high:.3f}"
    return _unsteady(record, "1 (reference)" if latency.is_references else f"{latency.relative:.3f} ({ends})")


def _relative_estimate(record: Record) -> tuple[float, float, float] | None:
    latency = record.latency
    if latency is None:
        return None
    return (1, 1, 1) if latency.is_references else (latency.relative, latency.relative_low, latency.relative_high)


def _mean_relative(record: Record) -> float | None:
    """Of the mean step, periodic work included."""
    latency = record.latency
    if latency is None or latency.is_references or latency.amortised_relative is None:
        return _relative(record)
    return latency.amortised_relative


def _adaptation(record: Record) -> Adaptation:
    assert record.adaptation is not None
    return record.adaptation


def _accuracies(record: Record) -> str:
    found = _adaptation(record)
    spread = "" if found.accuracy_spread is None else f" ± {100 * found.accuracy_spread:.1f}"
    adapted = "" if found.adapted else " (not adapted)"
    return f"{found.accuracy_before:.1%} → {found.accuracy_after:.1%}{spread}{adapted}"


def _source_accuracies(record: Record) -> str:
    found = _adaptation(record)
    return f"{found.source_accuracy_before:.1%} → {found.source_accuracy_after:.1%}"


_BYTES_A_PARAMETER = 4  # float32
_RECORD = "peft_update_bench.bench.record"
_MEASUREMENT = "peft_update_bench.bench.measurement"
_FLOPS = Column("FLOPs")
_PEAK = Column("peak memory")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "parameters",
            "parameter counts",
            f"{_RECORD}:Parameters",
            (
                Figure("total", "parameters", Evidence.PINNED),
                Figure(
                    "trainable",
                    "parameters",
                    Evidence.PINNED,
                    column=Column("trainable parameters"),
                    budget=Budget(
                        "flash", "flash", "bytes", "bytes", "512KB",
                        "the most that the trained parameters may take, in float32",
                        lambda r: r.parameters.trainable * _BYTES_A_PARAMETER if r.parameters else None,
                        more="flash",
                    ),
                ),
                Figure("statistics", "elements", Evidence.PINNED),
            ),
        ),
        Metric(
            "flops",
            "FLOPs",
            f"{_RECORD}:Flops",
            (
                Figure(
                    "total",
                    "FLOPs",
                    column=_FLOPS,
                    brief=_FLOPS,
                    curve=Curve("FLOPs of an ordinary step", "GFLOPs", 1e9),
                    over_time="FLOPs",
                    parts=("forward", "backward", "optimizer"),
                    budget=Budget(
                        "flops", "FLOPs", "FLOPs", "FLOPs", "2G", "the most FLOPs of one update",
                        lambda r: r.flops.of_mean_step if r.flops else None,
                        more="FLOPs",
                    ),
                ),
                Figure("forward", "FLOPs", Evidence.EXACT),
                Figure("backward", "FLOPs", Evidence.EXACT),
                Figure("optimizer", "FLOPs", Evidence.EXACT),
                Figure("optimizer_refresh", "FLOPs", Evidence.EXACT),
                Figure("amortised_total", "FLOPs", Evidence.EXACT, column=Column("FLOPs, mean with refreshes")),
                Figure("elementwise", "elements", Evidence.EXACT),
            ),
            measure=f"{_MEASUREMENT}:compute",
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "memory",
            "computed memory",
            f"{_RECORD}:Memory",
            (
                Figure(
                    "peak",
                    "bytes",
                    Evidence.EXACT,
                    column=_PEAK,
                    brief=_PEAK,
                    curve=Curve("Peak memory of an ordinary step", "MiB", 2**20),
                    over_time="Peak memory",
                    budget=Budget(
                        "memory", "peak memory", "bytes", "bytes", "64MB",
                        "the most that an update may need at its peak",
                        lambda r: r.memory.highest if r.memory else None,
                        more="memory",
                    ),
                ),
                Figure("refresh_peak", "bytes", Evidence.EXACT, column=Column("peak of a refreshing step")),
            ),
            measure=f"{_MEASUREMENT}:compute",
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "measured_memory",
            "measured memory",
            f"{_RECORD}:MeasuredMemory",
            (
                # The allocator's figures repeat to the byte, RSS within some 2 %, for the same cell on one machine.
                Figure("allocator_peak", "bytes", Evidence.TOLERANCE, "allocator_peak", 0.01),
                Figure(
                    "rss_peak", "bytes", Evidence.TOLERANCE, "rss_peak", 0.10,
                    column=Column("RSS peak"), over_time="RSS peak",
                ),
            ),
            measure=f"{_MEASUREMENT}:measure_memory",
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "latency",
            "latency",
            f"{_RECORD}:Latency",
            (
                Figure(
                    "relative",
                    "×",
                    Evidence.INTERVAL,
                    "latency",
                    0.10,
                    column=Column("latency / fft", _relative_interval, _relative),
                    brief=Column("latency / fft", _relative_half_width, _relative),
                    curve=Curve("Latency relative to full fine-tuning", "× fft", estimate=_relative_estimate),
                    over_time="Latency relative to its reference",
                    budget=Budget(
                        "latency", "latency / fft", "ratio", "×", "0.8",
                        "the longest that an update may take, as a multiple of full fine-tuning",
                        _mean_relative,
                        more="of fft's latency",
                        unknown="no baseline has timed it under this workload",
                    ),
                ),
                Figure("wall_relative", "×", Evidence.INTERVAL, "latency", 0.10),
            ),
            measure=f"{_MEASUREMENT}:measure_latency",
            benchmark="update",
            by_default=True,
        ),
        Metric(
            "adaptation",
            "adaptation",
            f"{_RECORD}:Adaptation",
            (
                Figure(
                    "accuracy_before", "accuracy",
                    column=Column("accuracy before"), brief=Column("accuracy before → after", _accuracies),
                ),
                Figure(
                    "accuracy_after",
                    "accuracy",
                    Evidence.SEEDS,
                    column=Column("accuracy after"),
                    over_time="Accuracy after the update",
                    budget=Budget(
                        "accuracy", "accuracy", "accuracy", "accuracy", "0.7", "the least accuracy after the update",
                        lambda r: r.adaptation.accuracy_after if r.adaptation else None,
                        more="accuracy",
                        unknown="the baseline holds no adaptation of it",
                        at_least=True,
                    ),
                ),
                Figure(
                    "source_accuracy_after", "accuracy", Evidence.SEEDS,
                    brief=Column("source before → after", _source_accuracies),
                ),
                Figure(
                    "steps_to_target", "steps",
                    column=Column("steps to target"),
                    brief=Column(
                        "steps to target",
                        lambda r: show(_adaptation(r).steps_to_target, "steps").replace(NOTHING, "not reached"),
                        lambda r: 0 if r.adaptation else None,
                    ),
                ),
                Figure(
                    "flops_to_target", "FLOPs", Evidence.SEEDS,
                    column=Column("FLOPs to target"), brief=Column("FLOPs to it"),
                ),
                Figure("peak_memory", "bytes", brief=_PEAK),
            ),
            benchmark="adaptation",
            by_default=True,
        ),
    )
}  # fmt: skip
"""By name, in the order in which columns stand."""

ABSOLUTE_TIME = Figure("median", "s", Evidence.TOLERANCE, "median_seconds", 1.0)
"""pytest-benchmark's own median, which stands beside the record and not in it. Absolute times of the same code move by
more than half on a shared machine: the tolerance catches what is twice as slow."""


def add(metric: Metric) -> None:
    """Add a metric from elsewhere; one of that name is replaced. Call it where the suite finds it before it reads its
    options: in a conftest.py, or in a module that ``[tool.peft-update-bench] modules`` names."""
    METRICS[metric.name] = metric


def rows(names: tuple[str, ...] | None = None) -> Iterator[Row]:
    """Every figure, or those of the metrics named."""
    for metric in METRICS.values():
        if names is None or metric.name in names:
            yield from (Row(metric, figure) for figure in metric.figures)


def row(name: str) -> Row:
    """The figure called ``section.key``. Raises KeyError where there is none."""
    return next((found for found in rows() if str(found) == name), None) or _unknown(name)


def _unknown(name: str) -> Row:
    raise KeyError(name)


def names_of(benchmark: str, *, by_default: bool = False) -> tuple[str, ...]:
    """The metrics that `benchmark` measures, or those that it measures where none is named."""
    return tuple(m.name for m in METRICS.values() if m.benchmark == benchmark and (m.by_default or not by_default))


def budgets() -> dict[str, Budget]:
    return {found.figure.budget.name: found.figure.budget for found in rows() if found.figure.budget}


def default_tolerances() -> dict[str, float]:
    """How much a measured figure may grow before it counts as a regression, as a fraction, by its limit's name."""
    limits = [*(found.figure for found in rows()), ABSOLUTE_TIME]
    return {figure.limit: figure.tolerance for figure in limits if figure.tolerance is not None}
