"""Metrics and kinds of benchmark that were added from elsewhere, held to what they should be.

Any record that is read needs a metric's section, and the options need the kinds; so these are looked at once a
project's modules are imported. What measures a metric may import whatever it likes, and is looked at for a run that
measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from peft_update_bench.bench.benchmarks import BENCHMARKS
from peft_update_bench.bench.metrics import METRICS, Evidence, Figure, is_from_elsewhere
from peft_update_bench.bench.options.values import OptionError, fraction
from peft_update_bench.fixtures.imported import ImportedNameError, load, load_as_it_is, must_accept

if TYPE_CHECKING:
    from peft_update_bench.bench.metrics import Metric


def check_additions() -> None:
    """Raise OptionError where a section or a kind is not what it should be."""
    for metric in METRICS.values():
        if is_from_elsewhere(metric.section):
            _check_section(metric)
    for name, implementation in BENCHMARKS.items():
        if is_from_elsewhere(implementation):
            _check_kind(name, implementation)


def check_measures(names: Iterable[str]) -> None:
    """Raise OptionError where what measures one of the metrics named cannot be called with a ``Measuring``."""
    for metric in (METRICS[name] for name in names):
        if is_from_elsewhere(metric.measure):
            what = f"the metric {metric.name!r} is measured by {metric.measure!r}"
            measure = _found(load, metric.measure, what)
            if not callable(measure):
                raise OptionError(f"{what}, which is of type {type(measure).__name__}; expected a function")
            try:
                must_accept(measure, "a function that is given a Measuring", None)
            except ImportedNameError as error:
                raise OptionError(f"{what}, which {error}") from None


def _check_section(metric: Metric) -> None:
    from peft_update_bench.bench.record import Record
    from peft_update_bench.bench.record.part import Part

    what = f"the metric {metric.name!r} has the section {metric.section!r}"
    if not metric.name.isidentifier() or metric.name.startswith("_"):
        raise OptionError(f"{what}; expected a name of letters, digits and _, by which --metrics may name it")
    if not isinstance(metric.figures, tuple) or not all(isinstance(figure, Figure) for figure in metric.figures):
        raise OptionError(f"{what} and figures of type {type(metric.figures).__name__}; expected a tuple of Figure")
    section = _found(load_as_it_is, metric.section, what)
    if not isinstance(section, type) or not issubclass(section, Part):
        raise OptionError(f"{what}; expected a subclass of peft_update_bench.bench.record.part.Part")
    if metric.name in Record.model_fields:
        raise OptionError(f"{what}, and every record has its own {metric.name!r}; expected another name")
    for figure in metric.figures:
        if figure.key not in section.model_fields:
            raise OptionError(f"{what}, which has no {figure.key!r}; expected a field for each of its figures")
        _check_evidence(figure, f"the figure {metric.name}.{figure.key}")
    if metric.benchmark and metric.benchmark not in BENCHMARKS:
        raise OptionError(
            f"the metric {metric.name!r} is of the benchmark {metric.benchmark!r}; expected one of "
            f"{', '.join(BENCHMARKS)}"
        )


_OF_ANY_SECTION = (Evidence.SHOWN, Evidence.EXACT, Evidence.PINNED, Evidence.TOLERANCE)
"""The others are judged by what latency's and adaptation's sections hold besides."""


def _check_evidence(figure: Figure, what: str) -> None:
    if figure.evidence not in _OF_ANY_SECTION:
        raise OptionError(
            f"{what} has the evidence {figure.evidence}; expected one of {', '.join(map(str, _OF_ANY_SECTION))}"
        )
    has_tolerance = figure.tolerance is not None
    if bool(figure.limit) != has_tolerance or (figure.evidence is Evidence.TOLERANCE) != has_tolerance:
        raise OptionError(
            f"{what} has the limit {figure.limit!r}, the tolerance {figure.tolerance} and {figure.evidence}; expected "
            f"limit and tolerance with {Evidence.TOLERANCE}, and neither with another"
        )
    if has_tolerance:
        fraction(f"{what}: its tolerance", figure.tolerance)


def _check_kind(name: str, implementation: str) -> None:
    from peft_update_bench.bench.benchmarks.base import Benchmark

    what = f"the benchmark {name!r} is {implementation!r}"
    kind = _found(load_as_it_is, implementation, what)
    if not isinstance(kind, type) or not issubclass(kind, Benchmark):
        raise OptionError(f"{what}; expected a subclass of peft_update_bench.bench.benchmarks.base.Benchmark")
    if getattr(kind, "name", None) != name:
        raise OptionError(f"{what}, whose name is {getattr(kind, 'name', None)!r}; expected {name!r}")
    if kind.__abstractmethods__:
        raise OptionError(f"{what}, which does not define {', '.join(sorted(kind.__abstractmethods__))}")


def _found(load: Callable[[str], Any], name: str, what: str) -> Any:
    try:
        return load(name)
    except ImportedNameError as error:
        raise OptionError(f"{what}: {error}") from None
