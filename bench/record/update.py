"""What is recorded of an update step: its workload, FLOPs, memory and latency."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from peft_update_bench.bench.record.part import Count, Part, Ratio
from peft_update_bench.bench.units import count
from peft_update_bench.fixtures.instruments.latency.interval import Interval
from pydantic import Field, FiniteFloat, PositiveInt, model_validator


class WorkloadEntry(Part):
    """What the cells of a run's matrix are updated with, as options say."""

    batch_size: PositiveInt
    image_size: PositiveInt
    num_classes: PositiveInt
    optimizer: str
    dtype: str
    threads: PositiveInt
    device: str

    @property
    def words(self) -> str:
        return (
            f"batch {self.batch_size} of 3×{self.image_size}×{self.image_size}, {self.num_classes} classes, "
            f"{self.optimizer}, {self.dtype}, {count(self.threads, 'thread')}, {self.device}"
        )


class StepWorkload(Part):
    """What a user's own step is done with, as read from the step."""

    batch: str
    optimizer: str
    dtype: str
    device: str
    threads: PositiveInt

    @property
    def words(self) -> str:
        return f"{self.batch}, {self.optimizer}, {self.dtype}, {count(self.threads, 'thread')}, {self.device}"


def kind_of_workload(data: Any) -> str:
    """By which of both classes a `workload` is read."""
    has_batch = "batch" in data if isinstance(data, dict) else isinstance(data, StepWorkload)
    return "step" if has_batch else "matrix"


class Parameters(Part):
    """Numbers of parameters, and of the elements of running statistics that the update moves."""

    total: Count
    trainable: Count
    statistics: Count | None = None


class Flops(Part):
    """FLOPs of one ordinary update step, by phase.

    ``elementwise`` counts the elements of operators without a formula and is in no other figure. ``stock_backward`` is
    the unmodified counter's, shown and never gated. ``optimizer_elementwise`` is the optimizer's part of
    ``elementwise``, and ``optimizer_operators`` says how often its step calls which operator. An optimizer with
    periodic work has the FLOPs of its refreshing step (``optimizer_refresh``), the period in steps, and the mean of all
    steps (``amortised_total``).
    """

    forward: Count
    backward: Count
    optimizer: Count
    total: Count
    elementwise: Count
    stock_backward: Count
    optimizer_elementwise: Count | None = None
    optimizer_operators: dict[str, Count] | None = None
    optimizer_refresh: Count | None = None
    refresh_period: PositiveInt | None = None
    amortised_total: Annotated[FiniteFloat, Field(ge=0)] | None = None

    @property
    def of_mean_step(self) -> float:
        """FLOPs of a step in the mean over all, the periodic work included."""
        return self.total if self.amortised_total is None else self.amortised_total

    def of_steps(self, steps: int) -> int:
        """FLOPs of the first `steps` steps, the periodic work at their beginning included."""
        if self.optimizer_refresh is None or self.refresh_period is None:
            return steps * self.total
        refreshes = -(-steps // self.refresh_period)
        return steps * self.total + refreshes * (self.optimizer_refresh - self.optimizer)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.total != self.forward + self.backward + self.optimizer:
            raise ValueError("total is not the sum of forward, backward and optimizer")
        return self


class Memory(Part):
    """Bytes live at the moment of the peak, by category, and where in the step that moment is: in which module, or,
    where the peak is the allocator's, in which node of autograd or operator.

    ``first_peak`` is the first step's, in which the optimizer makes its states; ``refresh_peak`` that of a step with
    periodic work.
    """

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
    first_peak: Count | None = None
    refresh_peak: Count | None = None

    @property
    def highest(self) -> int:
        """The peak of all steps: a device must hold the first and the refreshing one too, however rare they are."""
        return max(self.peak, self.first_peak or 0, self.refresh_peak or 0)

    def categories(self) -> dict[str, int]:
        names = ("parameters", "buffers", "gradients", "activations", "temporaries", "optimizer_states", "other")
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.peak != sum(self.categories().values()):
            raise ValueError("peak is not the sum of its categories")
        return self


class MeasuredMemory(Part):
    """Bytes, as the machine saw them.

    ``computed_gap`` is how far the computed transient peak is below the allocator's, as a fraction of it;
    ``unexplained_gap`` what is left of that without kernels' workspaces. Both are shown, not gated.
    """

    allocator_peak: Count
    allocator_transient: Count
    rss_peak: Count
    computed_gap: FiniteFloat | None = None
    unexplained_gap: FiniteFloat | None = None


CLOCKS = ("relative", "wall_relative")
"""The two clocks' keys in the record's `latency`."""


class Latency(Part):
    """The update's duration as a multiple of the reference step's; each with a confidence interval.

    ``relative`` is by CPU time and ``wall_relative`` by wall clock. Periodic work has the refreshing step's multiple
    and the mean of all steps' (``amortised_relative``); of a step that refreshes once in ``period`` steps both are
    absent where no refreshing step was timed. ``without_core`` is the share of the rounds' time in which
    others had the cores; older records, and systems that do not tell, have none.
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
    reference: Literal["fft", "calibration", "calibration-2"]
    period: Annotated[int, Field(ge=2)] | None = None
    refresh_relative: Ratio | None = None
    refresh_relative_low: Ratio | None = None
    refresh_relative_high: Ratio | None = None
    amortised_relative: Ratio | None = None
    without_core: Annotated[FiniteFloat, Field(ge=0, lt=1)] | None = None

    @property
    def is_references(self) -> bool:
        """Whether the cell is itself the reference of others, timed against a calibration step."""
        return self.reference != "fft"

    @property
    def mean_relative(self) -> float | None:
        """The ratio of all steps, refreshing ones included; None where none of these was timed."""
        if self.amortised_relative is None and self.period is not None:
            return None
        return self.relative if self.amortised_relative is None else self.amortised_relative

    def interval(self, clock: str) -> Interval:
        """The ratio by `clock`, one of :data:`CLOCKS`."""
        estimate, low, high = (getattr(self, f"{clock}{end}") for end in ("", "_low", "_high"))
        return Interval(estimate, low, high, self.confidence)

    @model_validator(mode="after")
    def _intervals_hold_their_estimate(self) -> Self:
        if not self.relative_low <= self.relative <= self.relative_high:
            raise ValueError("relative is outside relative_low to relative_high")
        if not self.wall_relative_low <= self.wall_relative <= self.wall_relative_high:
            raise ValueError("wall_relative is outside wall_relative_low to wall_relative_high")
        return self
