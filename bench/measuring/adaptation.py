"""A cell's adaptation: which updates it takes, and the record that their outcomes make."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.measuring.measurement import FAILURES as MEASUREMENT_FAILURES
from peft_update_bench.bench.measuring.measurement import as_run, record_of
from peft_update_bench.bench.options.adaptation import AdaptationOptions
from peft_update_bench.bench.processes.update_runs import Found
from peft_update_bench.bench.record import Flops, Memory, Record, image_versions, installed_versions
from peft_update_bench.bench.record.adaptation import at_least, steps_to
from peft_update_bench.fixtures.data.datasets import DataError
from peft_update_bench.fixtures.instruments import computed
from peft_update_bench.fixtures.methods import method_named
from peft_update_bench.fixtures.training.adaptation import AdaptationError, Outcome, Update
from peft_update_bench.fixtures.training.cache import CacheError
from peft_update_bench.fixtures.training.weight_sources import WeightsError
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload

MARGIN = 0.05
"""The gain in accuracy from which an update counts as an adaptation, as a fraction."""

TARGET_SHARE = 0.8
"""The share of full fine-tuning's gain that an update's steps are counted to."""

EXACT = ["parameters", "flops", "memory", "adaptation.flops_total", "adaptation.peak_memory"]
"""Equal on every machine with the same package versions. The others repeat on the same machine only, and are judged
with a tolerance."""

FAILURES = (AdaptationError, CacheError, DataError, WeightsError, *MEASUREMENT_FAILURES)
"""What one cell may fail with, each a sentence for the user; the other cells still run."""


def updates(cell: Cell, options: AdaptationOptions) -> list[Update]:
    """One update for each seed."""
    assert cell.task is not None
    rate = _learning_rate(cell, options)
    return [Update(cell.architecture, cell.method, cell.rank, cell.task, seed, rate) for seed in range(options.seeds)]


def _learning_rate(cell: Cell, options: AdaptationOptions) -> float:
    found = options.learning_rates
    return method_named(cell.method).learning_rate if found is None else found.of[cell.method]


def reference(cell: Cell) -> Cell:
    """The cell whose gain sets the target: full fine-tuning of the same architecture for the same task."""
    return Cell(cell.architecture, "fft", None, cell.task)


def record(
    cell: Cell,
    workload: Workload,
    options: AdaptationOptions,
    found: Sequence[Found],
    of_reference: Sequence[Outcome],
) -> Record:
    """The record of `cell` from what was found of its seeds' updates, and from the outcomes of its reference's."""
    outcomes = [one.outcome for one in found]
    assert cell.task is not None
    rate = _learning_rate(cell, options)
    step = build_update_step(cell.architecture, cell.method, cell.rank, workload, device="meta", learning_rate=rate)
    figures = computed.measure(step)
    flops, memory = Flops.model_validate(figures.flops), Memory.model_validate(figures.memory)
    steps = options.plan.steps
    curve = _mean_curve(outcomes)
    after = curve[-1]
    adaptation: dict[str, Any] = {
        "task": cell.task,
        "settings": options.settings[cell.task].model_dump(exclude_none=True),
        "evaluated_at": options.plan.evaluated_at,
        "runs": [
            {
                "seed": seed,
                "curve": outcome.curve,
                "source_accuracy_before": outcome.source_accuracy_before,
                "source_accuracy_after": outcome.source_accuracy_after,
            }
            for seed, outcome in enumerate(outcomes)
        ],
        "accuracy_before": curve[0],
        "accuracy_after": after,
        "source_accuracy_before": fmean(outcome.source_accuracy_before for outcome in outcomes),
        "source_accuracy_after": fmean(outcome.source_accuracy_after for outcome in outcomes),
        "margin": MARGIN,
        "adapted": at_least(after - curve[0], MARGIN),
        "target_share": TARGET_SHARE,
        "flops_total": flops.of_steps(steps),
        "peak_memory": memory.highest,
        "exact": EXACT,
    }
    if step.learning_rate is not None:
        adaptation["learning_rate"] = step.learning_rate
    if len(outcomes) > 1:
        adaptation["accuracy_spread"] = stdev(outcome.curve[-1] for outcome in outcomes)
    full = _mean_curve(of_reference)
    if full[-1] > full[0]:
        # From this cell's own start: where the head is extended, its new weights differ between methods.
        adaptation["target_accuracy"] = target = min(1.0, curve[0] + TARGET_SHARE * (full[-1] - full[0]))
        reached = steps_to(target, options.plan.evaluated_at, curve)
        if reached is not None:
            adaptation |= {"steps_to_target": reached, "flops_to_target": flops.of_steps(reached)}
    versions = {**installed_versions(cell.method), **image_versions()}
    parts: dict[str, object] = {
        "versions": versions,
        "parameters": figures.parameters,
        "flops": figures.flops,
        "memory": figures.memory,
        "adaptation": adaptation,
    }
    if where := {str(one.made_on): one.made_on.model_dump() for one in found if one.made_on is not None}:
        parts["made_on"] = [where[name] for name in sorted(where)]
    return record_of(cell, as_run(step, workload) if cell.is_users else workload, parts)


def _mean_curve(outcomes: Sequence[Outcome]) -> list[float]:
    return [fmean(points) for points in zip(*(outcome.curve for outcome in outcomes), strict=True)]
