"""A gate over small records, for tests of what it says and keeps; and a record that it finds slower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.gate.baseline import Baseline, Machine
from peft_update_bench.bench.gate.gate import Gate
from peft_update_bench.bench.options import AdaptationOptions, RunOptions
from peft_update_bench.bench.record import AdaptationSettings, Record

from tests.adaptations import SETTINGS
from tests.records import LATENCY, changed, record

HERE = Machine("A CPU", 2)
TOLERANCES = {"allocator_peak": 0.05, "rss_peak": 0.25, "latency": 0.1, "median_seconds": 1.0}
FFT = Cell("resnet18", "fft")
SHIFT = Cell("resnet18", "lora", 4, "shift")
ADAPTING: dict[str, Any] = {
    "selection": Selection(architectures=("resnet18",), methods=("lora",), ranks=(4,), tasks=("shift",)),
    "adaptation": AdaptationOptions(settings={"shift": AdaptationSettings(**SETTINGS, corruption="fog", severity=5)}),
}


def of(*records: Record, matrix: str = "core", is_filtered: bool = False, **more: Any) -> Baseline:
    cells = {found.cell: found for found in records}
    return Baseline(Path("baselines/0001_a.json"), cells, {}, HERE, matrix, is_filtered, **more)


def gate(*records: Record, **run: Any) -> Gate:
    return Gate(RunOptions(tolerances=TOLERANCES, **run), of(*records) if records else None, HERE)


def slower(factor: float) -> Record:
    figures = {key: LATENCY[key] * factor for key in LATENCY if key.startswith(("relative", "wall_relative"))}
    return record(**changed("latency", **figures))
