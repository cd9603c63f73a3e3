"""The record: what one cell writes into pytest-benchmark's JSON, under ``extra_info``.

Integers are bytes or floating-point operations. A metric that was not measured is absent, never 0 or null. Reading is
as strict as writing: a figure of the wrong type, a negative one, NaN, or a key that the schema does not know is an
error.

History of the schema: 1, the first.
"""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, ValidationError, model_validator

from bench.cells import Cell
from bench.gate.slowdown import Interval

PACKAGES = {"torch": "torch", "torchvision": "torchvision", "peft": "peft", "galore-torch": "galore_torch"}
"""What a record's figures depend on: distribution name to module name."""

Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[FiniteFloat, Field(gt=0)]


class RecordError(Exception):
    """A record that does not follow the schema: where, and what was expected."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _absent_rather_than_null(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name, value in data.items():
                if value is None:
                    raise ValueError(f"{name} is null; a metric that was not measured is absent")
        return data


class WorkloadEntry(_Part):
    batch_size: PositiveInt
    image_size: PositiveInt
    num_classes: PositiveInt
    optimizer: str
    dtype: str
    threads: PositiveInt
    device: str


class Parameters(_Part):
    """Numbers of parameters."""

    total: Count
    trainable: Count


class Flops(_Part):
    """FLOPs of one ordinary update step, by phase.

    ``elementwise`` counts the elements of operators without a formula and is in no other figure. ``stock_backward`` is
    the unmodified counter's, shown and never gated. An optimizer with periodic work has the FLOPs of its refreshing
    step (``optimizer_refresh``), the period in steps, and the mean of all steps (``amortised_total``).
    """

    forward: Count
    backward: Count
    optimizer: Count
    total: Count
    elementwise: Count
    stock_backward: Count
    optimizer_refresh: Count | None = None
    refresh_period: PositiveInt | None = None
    amortised_total: Annotated[FiniteFloat, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.total != self.forward + self.backward + self.optimizer:
            raise ValueError("total is not the sum of forward, backward and optimizer")
        return self


class Memory(_Part):
    """Bytes live at the moment of the peak, by category, and where in the step that moment is."""

    peak: Count
    parameters: Count
    buffers: Count
    gradients: Count
    activations: Count
    temporaries: Count
    optimizer_states: Count
    other: Count
    peak_phase: str
    peak_module: str
    refresh_peak: Count | None = None

    def categories(self) -> dict[str, int]:
        names = ("parameters", "buffers", "gradients", "activations", "temporaries", "optimizer_states", "other")
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.peak != sum(self.categories().values()):
            raise ValueError("peak is not the sum of its categories")
        return self


class MeasuredMemory(_Part):
    """Bytes, as the machine saw them.

    ``computed_gap`` is how far the computed transient peak is below the allocator's, as a fraction of it;
    ``unexplained_gap`` what is left of that without kernels' workspaces. Both are shown, not gated.
    """

    allocator_peak: Count
    allocator_transient: Count
    rss_peak: Count
    computed_gap: FiniteFloat | None = None
    unexplained_gap: FiniteFloat | None = None


class Latency(_Part):
    """The update's duration as a multiple of the reference step's; each with a confidence interval.

    ``relative`` is by CPU time and ``wall_relative`` by wall clock. Periodic work has the refreshing step's multiple
    and the mean of all steps' (``amortised_relative``).
    """

    relative: Ratio
    relative_low: Ratio
    relative_high: Ratio
    wall_relative: Ratio
    wall_relative_low: Ratio
    wall_relative_high: Ratio
    rounds: PositiveInt
    confidence: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    stable: bool
    reference: Literal["fft", "calibration"]
    refresh_relative: Ratio | None = None
    refresh_relative_low: Ratio | None = None
    refresh_relative_high: Ratio | None = None
    amortised_relative: Ratio | None = None

    def interval(self, clock: str) -> Interval:
        """The ratio by `clock`, which is ``relative`` or ``wall_relative``."""
        estimate, low, high = (getattr(self, f"{clock}{end}") for end in ("", "_low", "_high"))
        return Interval(estimate, low, high, self.confidence)

    @model_validator(mode="after")
    def _intervals_hold_their_estimate(self) -> Self:
        if not self.relative_low <= self.relative <= self.relative_high:
            raise ValueError("relative is outside relative_low to relative_high")
        if not self.wall_relative_low <= self.wall_relative <= self.wall_relative_high:
            raise ValueError("wall_relative is outside wall_relative_low to wall_relative_high")
        return self


class Record(_Part):
    """One cell's metrics under one workload, with the versions of the packages that produced them."""

    schema_: Literal[1] = Field(alias="schema")
    architecture: str
    method: str
    rank: PositiveInt | None = None
    workload: WorkloadEntry
    versions: dict[str, str]
    parameters: Parameters | None = None
    flops: Flops | None = None
    memory: Memory | None = None
    measured_memory: MeasuredMemory | None = None
    latency: Latency | None = None

    @property
    def cell(self) -> Cell:
        return Cell(self.architecture, self.method, self.rank)

    def as_extra_info(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def read_record(data: Any) -> Record:
    """Check one cell's ``extra_info``. Raises RecordError, whose message begins with the key at fault."""
    try:
        return Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the record"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        given = "" if first["type"] == "missing" else f", given {_shortened(first['input'])}"
        raise RecordError(f"{where}: {first['msg']}{given}{more}") from None


def installed_versions() -> dict[str, str]:
    """The versions that a record depends on, of the modules that are really imported."""
    versions = {
        # A module knows its own version even where another copy's metadata stands earlier on the path.
        distribution: getattr(import_module(module), "__version__", None) or version(distribution)
        for distribution, module in PACKAGES.items()
    }
    return {**versions, "python": platform.python_version()}


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
