"""A session and its gate over small records, for tests of what they say and keep; and a record found slower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from peft_update_bench.bench.benchmarks.adaptation import AdaptationBenchmark
from peft_update_bench.bench.benchmarks.base import Benchmark
from peft_update_bench.bench.cells import Cell, Selection
from peft_update_bench.bench.gate.baseline import Baseline
from peft_update_bench.bench.gate.gate import Gate, Result
from peft_update_bench.bench.gate.machine import Machine
from peft_update_bench.bench.gate.messages import explain_failure
from peft_update_bench.bench.options import RunOptions
from peft_update_bench.bench.options.adaptation import AdaptationOptions
from peft_update_bench.bench.record import AdaptationSettings, Record
from peft_update_bench.bench.session.session import Session

from tests.helpers.adaptation_records import SETTINGS
from tests.helpers.records import LATENCY, changed, record

HERE = Machine("A CPU", 2)
TOLERANCES = {
    "first_step": 1.0, "allocator_peak": 0.05, "rss_peak": 0.25, "latency": 0.1, "median_seconds": 1.0,
    "instructions": 0.002,
}  # fmt: skip
FFT = Cell("resnet18", "fft")
SHIFT = Cell("resnet18", "lora", 4, "shift")
ADAPTING: dict[str, Any] = {
    "selection": Selection(architectures=("resnet18",), methods=("lora",), ranks=(4,), tasks=("shift",)),
    "benchmark": AdaptationBenchmark(
        AdaptationOptions(settings={"shift": AdaptationSettings(**SETTINGS, corruption="fog", severity=5)})
    ),
}


class CannotMeasureError(Exception):
    """What `PreparedRecords` fails with."""


class PreparedRecords(Benchmark):
    """A benchmark whose measurements are records given beforehand; a text is the error of a cell that has none."""

    name = "update"

    def __init__(self, measured: Mapping[Cell, Record | str]) -> None:
        self.measured = measured

    def measure(self, cell: Cell, run: RunOptions, gate: Gate, benchmark: Any) -> Result:
        found = self.measured[cell]
        if isinstance(found, str):
            raise CannotMeasureError(found)
        return gate.judge(found, 0.05)

    @classmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        return (CannotMeasureError,)


def of(*records: Record, matrix: str = "core", is_filtered: bool = False, **more: Any) -> Baseline:
    cells = {found.cell: found for found in records}
    return Baseline(Path("baselines/0001_a.json"), cells, {}, HERE, matrix, is_filtered, **more)


def gate(*records: Record) -> Gate:
    return Gate(TOLERANCES, of(*records) if records else None, HERE)


def session(*records: Record, **run: Any) -> Session:
    return Session(RunOptions(tolerances=TOLERANCES, **run), gate(*records))


def run_cell(a_session: Session, cell: Cell) -> str:
    """Run one cell as its test does; returns the failure's message, empty where there is none."""
    return a_session.run_cell(cell, SimpleNamespace(extra_info={}))


def explain(result: Result, baseline: Baseline | None, **run: Any) -> str:
    """The message of `result` in a run of these options, empty where it does not fail."""
    options = RunOptions(tolerances=TOLERANCES, **run)
    return explain_failure(result, baseline, options.record_command, options.also_fails)


def slower(factor: float) -> Record:
    figures = {key: LATENCY[key] * factor for key in LATENCY if key.startswith(("relative", "wall_relative"))}
    return record(**changed("latency", **figures))
