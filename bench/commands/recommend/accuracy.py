"""What a baseline of adaptation says of accuracy: what it was measured on, and which differences seeds alone make."""

from __future__ import annotations

from dataclasses import replace

from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.spread import Spread
from peft_update_bench.bench.record import WorkloadEntry


def measured_on(adapted: Baseline) -> str:
    """The data, the tasks and the size of the images: ``mnist_5k under fog or with 3 new classes, 32 px``."""
    records = [record for record in adapted.records.values() if record.adaptation]
    settings = [record.adaptation.settings for record in records if record.adaptation]
    data = " or ".join(dict.fromkeys(found.data for found in settings))
    tasks = [f"under {found.corruption}" for found in settings if found.corruption]
    tasks += [f"with {found.new_classes} new classes" for found in settings if found.new_classes]
    workloads = [record.workload for record in records if isinstance(record.workload, WorkloadEntry)]
    sizes = " or ".join(dict.fromkeys(f"{workload.image_size} px" for workload in workloads))
    return f"{' '.join(filter(None, (data, ' or '.join(dict.fromkeys(tasks)))))}, {sizes}"


def alike(adapted: Baseline) -> float:
    """How far below the best accuracy another may be, as a fraction, and count as equal to it; 0 where one seed says
    nothing of it.

    By the rule of the study's tables, but over all networks and tasks: each of the cells is compared with the best. One
    that left its network worse than it was scatters like no other, and counts for nothing here either.
    """
    adaptations = {cell: record.adaptation for cell, record in adapted.records.items() if record.adaptation}
    records = {cell: found for cell, found in adaptations.items() if not found.harms}
    ends = [[run.curve[-1] for run in found.runs] for found in records.values() if len(found.runs) > 1]
    if not ends:
        return 0.0
    seeds = min(len(found.runs) for found in records.values())
    images = min(found.settings.test_images for found in records.values())
    choices = {replace(cell, task=None) for cell in records}
    return Spread.of(ends).alike(seeds, len(choices), images)
