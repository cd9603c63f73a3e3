"""What a run was asked for, checked: every bad value is one sentence that says what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft_update_bench.bench.cells import MATRICES, Selection
from peft_update_bench.bench.options.adaptation import (
    ADAPTATION,
    ADAPTATION_OPTIONS,
    DEFAULT_WORKLOAD,
    AdaptationOptions,
    read_adaptation,
)
from peft_update_bench.bench.options.values import OptionError, comma_separated, names, one_of, whole_number
from peft_update_bench.fixtures import own_networks
from peft_update_bench.fixtures.architectures import ARCHITECTURES, FURTHER_ARCHITECTURES, UnsupportedNetworkError
from peft_update_bench.fixtures.imported import ImportedNameError, is_imported
from peft_update_bench.fixtures.methods import METHODS, method_named
from peft_update_bench.fixtures.workload import Workload

METRICS = ("flops", "memory", "measured_memory", "latency")
"""The update benchmark's, measured by default."""


@dataclass(frozen=True)
class RunOptions:
    """Cells, workload and metrics of one run. `adaptation` is None in the update benchmark."""

    selection: Selection = field(default_factory=Selection)
    workload: Workload = field(default_factory=Workload)
    metrics: tuple[str, ...] = METRICS
    tolerances: Mapping[str, float] = field(default_factory=dict)
    unstable: str = "warn"
    records_baseline: bool = False
    cell_seconds: int = 300
    adaptation: AdaptationOptions | None = None

    @property
    def computed(self) -> bool:
        return "flops" in self.metrics or "memory" in self.metrics

    def baseline_folder(self, storage: Path) -> Path:
        """Where this run's baselines are in `storage`: adaptation's have a folder of their own, so that neither
        benchmark takes the other's newest file for its own."""
        return storage if self.adaptation is None else storage / ADAPTATION

    @property
    def repeat(self) -> str:
        """The options that repeat this run's workload and cells, as one types them; empty for the default run.

        Filters are left out, because a baseline should be whole; a user's own names are in no matrix, and stay.
        """
        default, matrix = (Workload(), "core") if self.adaptation is None else (DEFAULT_WORKLOAD, "subset")
        words = [] if self.adaptation is None else [self.adaptation.repeat]
        words += [
            f"--{name.replace('_', '-')} {getattr(self.workload, name)}"
            for name in ("batch_size", "image_size", "threads", "device")
            if getattr(self.workload, name) != getattr(default, name)
        ]
        if self.selection.matrix != matrix:
            words.append(f"--matrix {self.selection.matrix}")
        for name in ("architectures", "methods"):
            chosen = getattr(self.selection, name) or ()
            if any(map(is_imported, chosen)):
                words.append(f"--{name} {','.join(chosen)}")
        return " ".join(words)


def read(
    given: Mapping[str, str | None], tolerances: Mapping[str, float], *, records_baseline: bool = False
) -> RunOptions:
    """Check the options as typed, keyed by name without dashes; None, or no key, where an option was not given.

    Raises OptionError.
    """
    metrics = names("metrics", given.get("metrics"), (*METRICS, ADAPTATION)) or METRICS
    adapts = metrics == (ADAPTATION,)
    if ADAPTATION in metrics and not adapts:
        raise OptionError(
            f"--metrics is {given['metrics']!r}; expected adaptation alone, because it has a workload of its own "
            "(its records hold FLOPs and memory too)"
        )
    meaningless = [] if adapts else [name for name in ADAPTATION_OPTIONS if given.get(name) is not None]
    if meaningless:
        raise OptionError(
            f"--{meaningless[0].replace('_', '-')} is given without --metrics adaptation; expected both or neither"
        )
    sizes: dict[str, Any] = {
        name: whole_number(name, given[name])
        for name in ("batch_size", "image_size", "threads")
        if given.get(name) is not None
    }
    workload = replace(DEFAULT_WORKLOAD if adapts else Workload(), **sizes, device=_device(given.get("device")))
    adaptation = None
    if adapts:
        adaptation, num_classes = read_adaptation(given, workload)
        workload = replace(workload, num_classes=num_classes)
    return RunOptions(
        selection=Selection(
            matrix=one_of("matrix", given.get("matrix") or ("subset" if adapts else "core"), MATRICES),
            architectures=comma_separated(given.get("architectures"), lambda name: _architecture(name, workload)),
            methods=comma_separated(given.get("methods"), _method),
            ranks=comma_separated(given.get("ranks"), lambda word: whole_number("ranks", word)),
            tasks=tuple(adaptation.settings) if adaptation else (),
        ),
        workload=workload,
        metrics=metrics,
        adaptation=adaptation,
        tolerances=tolerances,
        unstable=one_of("unstable", given.get("unstable") or "warn", ("fail", "warn")),
        records_baseline=records_baseline,
        cell_seconds=_cell_seconds(given.get("cell_seconds")),
    )


def storage_folder(location: str) -> Path:
    """The folder that ``--benchmark-storage`` names. Raises OptionError for anything but a folder."""
    scheme, separator, path = location.rpartition("://")
    if separator and scheme != "file":
        raise OptionError(f"--benchmark-storage is {location!r}; expected a folder, because the gate reads files only")
    return Path(path)


def _architecture(name: str, workload: Workload) -> str:
    if not is_imported(name):
        return one_of(
            "architectures",
            name,
            (*ARCHITECTURES, *FURTHER_ARCHITECTURES),
            or_else="MODULE:NAME for a network of your own",
        )
    try:
        own_networks.check(name, workload)
    except (ImportedNameError, UnsupportedNetworkError) as error:
        raise OptionError(f"--architectures is {name!r}: {error}") from None
    return name


def _method(name: str) -> str:
    if not is_imported(name):
        return one_of("methods", name, METHODS, or_else="MODULE:NAME for a method of your own")
    try:
        method_named(name)
    except ImportedNameError as error:
        raise OptionError(f"--methods is {name!r}: {error}") from None
    return name


def _cell_seconds(value: str | None) -> int:
    """A cell's time; 0 is for debuggers: no limit, and no process of its own."""
    if value is None:
        return RunOptions.cell_seconds
    if value == "0":
        return 0
    return whole_number("cell_seconds", value)


def _device(value: str | None) -> str:
    device = one_of("device", value or "cpu", ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device is 'cuda'; expected 'cpu', because torch finds no CUDA device on this machine")
    return device
