"""What a run was asked for, checked: every bad value is one sentence that says what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.cells import MATRICES, Selection
from fixtures import own_networks
from fixtures.architectures import ARCHITECTURES, UnsupportedNetworkError
from fixtures.imported import ImportedNameError, is_imported
from fixtures.methods import METHODS, method_named
from fixtures.workload import Workload

T = TypeVar("T")

_MOST_DIGITS = 9
"""Of a whole number. Python refuses to read thousands of digits, with an error of its own."""

METRICS = ("flops", "memory", "measured_memory", "latency")


class OptionError(Exception):
    """A bad option: what was given and what is allowed."""


@dataclass(frozen=True)
class RunOptions:
    """Cells, workload and metrics of one run."""

    selection: Selection = field(default_factory=Selection)
    workload: Workload = field(default_factory=Workload)
    metrics: tuple[str, ...] = METRICS
    tolerances: Mapping[str, float] = field(default_factory=dict)
    unstable: str = "warn"
    records_baseline: bool = False
    cell_seconds: int = 300

    @property
    def computed(self) -> bool:
        return "flops" in self.metrics or "memory" in self.metrics

    @property
    def repeat(self) -> str:
        """The options that repeat this run's workload and cells, as one types them; empty for the default run.

        Filters are left out, because a baseline should be whole; a user's own names are in no matrix, and stay.
        """
        default = Workload()
        words = [
            f"--{name.replace('_', '-')} {getattr(self.workload, name)}"
            for name in ("batch_size", "image_size", "threads", "device")
            if getattr(self.workload, name) != getattr(default, name)
        ]
        if self.selection.matrix != "core":
            words.append(f"--matrix {self.selection.matrix}")
        for name in ("architectures", "methods"):
            chosen = getattr(self.selection, name) or ()
            if any(map(is_imported, chosen)):
                words.append(f"--{name} {','.join(chosen)}")
        return " ".join(words)


def read(
    given: Mapping[str, str | None], tolerances: Mapping[str, float], *, records_baseline: bool = False
) -> RunOptions:
    """Check the options as typed, keyed by name without dashes; None where an option was not given.

    Raises OptionError.
    """
    sizes: dict[str, Any] = {
        name: _whole_number(name, given[name])
        for name in ("batch_size", "image_size", "threads")
        if given[name] is not None
    }
    workload = Workload(**sizes, device=_device(given["device"]))
    return RunOptions(
        selection=Selection(
            matrix=_one_of("matrix", given["matrix"] or "core", MATRICES),
            architectures=_list(given["architectures"], lambda name: _architecture(name, workload)),
            methods=_list(given["methods"], _method),
            ranks=_list(given["ranks"], lambda word: _whole_number("ranks", word)),
        ),
        workload=workload,
        metrics=_names("metrics", given["metrics"], METRICS) or METRICS,
        tolerances=tolerances,
        unstable=_one_of("unstable", given["unstable"] or "warn", ("fail", "warn")),
        records_baseline=records_baseline,
        cell_seconds=_cell_seconds(given.get("cell_seconds")),
    )


def tolerances(table: Mapping[str, object], overrides: Collection[str]) -> dict[str, float]:
    """The tolerance of each measured metric, as a fraction: `table` from pyproject.toml, `overrides` as NAME=FRACTION.

    Raises OptionError.
    """
    chosen = {name: _fraction(f"tolerance {name} in pyproject.toml", value) for name, value in table.items()}
    for override in overrides:
        name, separator, value = override.partition("=")
        if not separator or name not in chosen:
            raise OptionError(
                f"--tolerance is {override!r}; expected NAME=FRACTION with NAME one of {', '.join(chosen)}"
            )
        chosen[name] = _fraction(f"--tolerance {name}", value)
    if chosen.get("latency") == 0:
        raise OptionError("the tolerance latency is 0; expected a fraction above 0, because it is measured")
    return chosen


def storage_folder(location: str) -> Path:
    """The folder that ``--benchmark-storage`` names. Raises OptionError for anything but a folder."""
    scheme, separator, path = location.rpartition("://")
    if separator and scheme != "file":
        raise OptionError(f"--benchmark-storage is {location!r}; expected a folder, because the gate reads files only")
    return Path(path)


def _one_of(option: str, value: str, allowed: Collection[str], or_else: str = "") -> str:
    if value not in allowed:
        expected = f"{', '.join(allowed)}{', or ' if or_else else ''}{or_else}"
        raise OptionError(f"--{option.replace('_', '-')} is {value!r}; expected one of {expected}")
    return value


def _list(value: str | None, parse: Callable[[str], T]) -> tuple[T, ...] | None:
    """A comma-separated list without repetitions, in the order given."""
    if value is None:
        return None
    return tuple(dict.fromkeys(parse(word.strip()) for word in value.split(",")))


def _names(option: str, value: str | None, allowed: Collection[str]) -> tuple[str, ...] | None:
    return _list(value, lambda word: _one_of(option, word, allowed))


def _architecture(name: str, workload: Workload) -> str:
    if not is_imported(name):
        return _one_of("architectures", name, ARCHITECTURES, or_else="MODULE:NAME for a network of your own")
    try:
        own_networks.check(name, workload)
    except (ImportedNameError, UnsupportedNetworkError) as error:
        raise OptionError(f"--architectures is {name!r}: {error}") from None
    return name


def _method(name: str) -> str:
    if not is_imported(name):
        return _one_of("methods", name, METHODS, or_else="MODULE:NAME for a method of your own")
    try:
        method_named(name)
    except ImportedNameError as error:
        raise OptionError(f"--methods is {name!r}: {error}") from None
    return name


def _whole_number(option: str, value: str | None) -> int:
    flag = f"--{option.replace('_', '-')}"
    is_number = value is not None and value.isascii() and value.isdigit()
    if value is not None and is_number and len(value) > _MOST_DIGITS:
        raise OptionError(f"{flag} has {len(value)} digits; expected at most {_MOST_DIGITS}")
    if value is None or not is_number or int(value) < 1:
        raise OptionError(f"{flag} is {value!r}; expected a whole number of at least 1")
    return int(value)


def _cell_seconds(value: str | None) -> int:
    """A cell's time; 0 is for debuggers: no limit, and no process of its own."""
    if value is None:
        return RunOptions.cell_seconds
    if value == "0":
        return 0
    return _whole_number("cell_seconds", value)


def _fraction(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < 10:
        raise OptionError(f"{name} is {value!r}; expected a fraction of at least 0, such as 0.1 for 10 %")
    return number


def _device(value: str | None) -> str:
    device = _one_of("device", value or "cpu", ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device is 'cuda'; expected 'cpu', because torch finds no CUDA device on this machine")
    return device
