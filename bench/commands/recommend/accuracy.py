"""What a baseline of adaptation says of accuracy: what it was measured on, and which differences seeds alone make."""

from __future__ import annotations

from peft_update_bench.bench.gate.adapting import Spread
from peft_update_bench.bench.gate.baseline import Baseline
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
    """How far two accuracies may be apart, as a fraction, without the seeds' spread being exceeded; 0 where one seed
    says nothing of it.

    The spread is pooled over the cells and their tasks.
    """
    adaptations = [record.adaptation for record in adapted.records.values() if record.adaptation]
    ends = [[run.curve[-1] for run in found.runs] for found in adaptations if len(found.runs) > 1]
    if not ends:
        return 0.0
    seeds = min(len(found.runs) for found in adaptations)
    images = min(found.settings.test_images for found in adaptations)
    return Spread.of(ends).tolerance(seeds, seeds, comparisons=1, images=images)
