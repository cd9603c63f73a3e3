"""The record: what one cell writes into pytest-benchmark's JSON, under ``extra_info``.

Integers are bytes or floating-point operations. A metric that was not measured is absent, never 0 or null. Reading is
as strict as writing: a figure of the wrong type, a negative one, NaN, or a key that the schema does not know is an
error.

History of the schema: 1, the first; adaptation was added to it as one more part that may be absent.
"""

from __future__ import annotations

import math
import platform
from importlib import import_module
from importlib.metadata import version
from statistics import fmean
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, ValidationError, model_validator

from bench.cells import Cell
from bench.gate.slowdown import Interval

PACKAGES = {"torch": "torch", "torchvision": "torchvision", "peft": "peft", "galore-torch": "galore_torch"}
"""What a record's figures depend on: distribution name to module name."""

Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[FiniteFloat, Field(gt=0)]
Accuracy = Annotated[FiniteFloat, Field(ge=0, le=1)]
"""Fraction of images whose class is right."""


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
    """Numbers of parameters, and of the elements of running statistics that the update moves."""

    total: Count
    trainable: Count
    statistics: Count | None = None


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

    @property
    def highest(self) -> int:
        """The peak of all steps: a device must hold the refreshing one too, however rare it is."""
        return max(self.peak, self.refresh_peak or 0)

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


CLOCKS = ("relative", "wall_relative")
"""The two clocks' keys in the record's `latency`."""


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
    reference: Literal["fft", "calibration", "calibration-2"]
    refresh_relative: Ratio | None = None
    refresh_relative_low: Ratio | None = None
    refresh_relative_high: Ratio | None = None
    amortised_relative: Ratio | None = None

    @property
    def is_references(self) -> bool:
        """Whether the cell is itself the reference of others, timed against a calibration step."""
        return self.reference != "fft"

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


class AdaptationSettings(_Part):
    """What an adaptation was done on, apart from cell, task and workload. Two results compare only where these agree.

    ``data`` and ``weights`` name where images and first weights come from; ``data_digest`` changes with any image.
    `shift` has a ``corruption`` and its ``severity``, `unseen` the number of ``new_classes``. ``update_images`` and
    ``test_images`` share no image.
    """

    data: str
    data_digest: str
    weights: str
    steps: PositiveInt
    update_images: PositiveInt
    test_images: PositiveInt
    corruption: str | None = None
    severity: PositiveInt | None = None
    new_classes: PositiveInt | None = None


class AdaptationRun(_Part):
    """One seed's update. ``curve`` is the accuracy on the held-out target data after each of ``evaluated_at`` steps."""

    seed: Count
    curve: Annotated[list[Accuracy], Field(min_length=2)]
    source_accuracy_before: Accuracy
    source_accuracy_after: Accuracy


class Adaptation(_Part):
    """How well the update adapts: each seed's run, and what they come to.

    Accuracies without a seed are means over the seeds' runs; ``accuracy_spread`` is the standard deviation of their
    accuracy after the update, absent with one seed. ``adapted`` says whether the gain reaches ``margin``.
    ``target_accuracy`` is the accuracy before plus ``target_share`` of full fine-tuning's gain; it, the steps and the
    FLOPs to it are absent where full fine-tuning gains nothing, the last two also where the curve does not reach it.
    ``exact`` names the figures that are equal on every machine with the same package versions; the others carry a
    tolerance.
    """

    task: Literal["shift", "unseen"]
    settings: AdaptationSettings
    learning_rate: Annotated[FiniteFloat, Field(ge=0)]
    evaluated_at: Annotated[list[Count], Field(min_length=2)]
    runs: Annotated[list[AdaptationRun], Field(min_length=1)]
    accuracy_before: Accuracy
    accuracy_after: Accuracy
    accuracy_spread: Accuracy | None = None
    source_accuracy_before: Accuracy
    source_accuracy_after: Accuracy
    margin: Accuracy
    adapted: bool
    target_share: Accuracy
    target_accuracy: Accuracy | None = None
    steps_to_target: PositiveInt | None = None
    flops_total: Count
    flops_to_target: Count | None = None
    peak_memory: Count
    exact: list[str]

    @property
    def curve(self) -> list[float]:
        """The seeds' curves, averaged."""
        return [fmean(points) for points in zip(*(run.curve for run in self.runs), strict=True)]

    def steps_to(self, accuracy: float) -> int | None:
        """The first of ``evaluated_at``, after 0, at which the averaged curve is at `accuracy`; None if never."""
        points = zip(self.evaluated_at[1:], self.curve[1:], strict=True)
        return next((step for step, reached in points if reached >= accuracy), None)

    @property
    def gain(self) -> float:
        return self.accuracy_after - self.accuracy_before

    @property
    def forgetting(self) -> float:
        """How much accuracy on the source data the update cost; negative where it gained."""
        return self.source_accuracy_before - self.source_accuracy_after

    @model_validator(mode="after")
    def _fits_its_runs(self) -> Self:
        seeds = [run.seed for run in self.runs]
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is there twice")
        if self.evaluated_at != sorted(set(self.evaluated_at)) or self.evaluated_at[0] != 0:
            raise ValueError("evaluated_at does not rise from 0")
        if self.evaluated_at[-1] != self.settings.steps:
            raise ValueError("evaluated_at does not end with the last step")
        if any(len(run.curve) != len(self.evaluated_at) for run in self.runs):
            raise ValueError("a curve has another length than evaluated_at")
        for name, figures in (
            ("accuracy_before", [run.curve[0] for run in self.runs]),
            ("accuracy_after", [run.curve[-1] for run in self.runs]),
            ("source_accuracy_before", [run.source_accuracy_before for run in self.runs]),
            ("source_accuracy_after", [run.source_accuracy_after for run in self.runs]),
        ):
            if not math.isclose(getattr(self, name), fmean(figures), abs_tol=1e-9):
                raise ValueError(f"{name} is not the mean of the runs'")
        if (self.accuracy_spread is None) != (len(self.runs) == 1):
            raise ValueError("accuracy_spread does not fit the number of seeds")
        if self.adapted != (self.gain >= self.margin):
            raise ValueError("adapted does not fit gain and margin")
        if (self.steps_to_target is None) != (self.flops_to_target is None):
            raise ValueError("steps_to_target and flops_to_target are not both there or both absent")
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
    adaptation: Adaptation | None = None

    @property
    def cell(self) -> Cell:
        task = self.adaptation.task if self.adaptation else None
        return Cell(self.architecture, self.method, self.rank, task)

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
