"""What is recorded of an adaptation: how accurate a network was before, on the way and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Literal, Self

from peft_update_bench.bench.record.part import Accuracy, Count, Part
from pydantic import Field, FiniteFloat, PositiveInt, model_validator


def at_least(accuracy: float, limit: float) -> bool:
    """Whether an accuracy, or what one gained, comes to `limit`.

    Accuracies are counts of images divided: what is exactly there must not depend on the last bit.
    """
    return round(accuracy, 9) >= round(limit, 9)


def steps_to(accuracy: float, evaluated_at: Sequence[int], curve: Sequence[float]) -> int | None:
    """The first step of `evaluated_at`, after 0, at which `curve` is at `accuracy`; None if never."""
    points = zip(evaluated_at[1:], curve[1:], strict=True)
    return next((step for step, reached in points if at_least(reached, accuracy)), None)


class AdaptationSettings(Part):
    """What an adaptation was done on, apart from cell, task and workload. Two results compare only where these agree.

    ``data`` and ``weights`` name where images and first weights come from; ``data_digest`` changes with any image,
    ``published_digest`` with any corrupted one that comes with the data, and is absent where none does. `shift` has a
    ``corruption`` and its ``severity``, `unseen` the number of ``new_classes``. ``update_images`` and ``test_images``
    share no image.
    """

    data: str
    data_digest: str
    weights: str
    steps: PositiveInt
    update_images: PositiveInt
    test_images: PositiveInt
    corruption: str | None = None
    severity: PositiveInt | None = None
    published_digest: str | None = None
    new_classes: PositiveInt | None = None


class AdaptationRun(Part):
    """One seed's update. ``curve`` is the accuracy on the held-out target data after each of ``evaluated_at`` steps."""

    seed: Count
    curve: Annotated[list[Accuracy], Field(min_length=2)]
    source_accuracy_before: Accuracy
    source_accuracy_after: Accuracy


class Adaptation(Part):
    """How well the update adapts: each seed's run, and what they come to.

    Accuracies without a seed are means over the seeds' runs; ``accuracy_spread`` is the standard deviation of their
    accuracy after the update, absent with one seed. ``adapted`` says whether the gain reaches ``margin``.
    ``target_accuracy`` is the accuracy before plus ``target_share`` of full fine-tuning's gain; it, the steps and the
    FLOPs to it are absent where full fine-tuning gains nothing, the last two also where the curve does not reach it.
    ``learning_rate`` is absent where the optimizer has none. ``exact`` names the figures that are equal on every
    machine with the same package versions; the others carry a tolerance.
    """

    task: Literal["shift", "unseen"]
    settings: AdaptationSettings
    learning_rate: Annotated[FiniteFloat, Field(ge=0)] | None = None
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
        """As :func:`steps_to`, of the averaged curve."""
        return steps_to(accuracy, self.evaluated_at, self.curve)

    @property
    def gain(self) -> float:
        return self.accuracy_after - self.accuracy_before

    @property
    def harms(self) -> bool:
        """Whether the network is worse after the update than before."""
        return self.accuracy_after < self.accuracy_before

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
        # Older records decide a gain of exactly the margin by a bit of rounding.
        if self.adapted != at_least(self.gain, self.margin) and not math.isclose(self.gain, self.margin, abs_tol=1e-9):
            raise ValueError("adapted does not fit gain and margin")
        if (self.steps_to_target is None) != (self.flops_to_target is None):
            raise ValueError("steps_to_target and flops_to_target are not both there or both absent")
        return self
