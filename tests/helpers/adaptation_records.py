"""Adaptation records as the suite writes them, small, for tests to change."""

from __future__ import annotations

from typing import Any

from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.record import Record

from tests.helpers.records import record

SETTINGS: dict[str, Any] = {
    "data": "digits",
    "data_digest": "0",
    "weights": "scratch",
    "steps": 10,
    "update_images": 100,
    "test_images": 100,
}


def adapted(cell: Cell, before: float, after: float, **figures: Any) -> Record:
    """The record of one seed's update that took the accuracy from `before` to `after`."""
    task = cell.task or "shift"
    shift = {"corruption": "fog", "severity": 3} if task == "shift" else {"new_classes": 5}
    adaptation = {
        "task": task,
        "settings": {**SETTINGS, **shift},
        "learning_rate": 0.001,
        "evaluated_at": [0, 10],
        "runs": [{"seed": 0, "curve": [before, after], "source_accuracy_before": 0.9, "source_accuracy_after": 0.8}],
        "accuracy_before": before,
        "accuracy_after": after,
        "source_accuracy_before": 0.9,
        "source_accuracy_after": 0.8,
        "margin": 0.0,
        "adapted": after >= before,
        "target_share": 0.9,
        "flops_total": 10_000_000_000,
        "peak_memory": 50 * 2**20,
        "exact": [],
        **figures,
    }
    other = "flops memory growth result first_step measured_memory latency parameters"
    only = dict.fromkeys(other.split())
    return record(cell, adaptation=adaptation, **only)
