"""One measurement of one cell, as the latency gate makes it, with a slowdown of known size put into its step."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import torch
from peft_update_bench.bench.cells import Cell
from peft_update_bench.bench.gate.slowdown import Decision
from peft_update_bench.bench.measuring.timing import until
from peft_update_bench.fixtures.instruments.latency import paired
from peft_update_bench.fixtures.instruments.latency.calibration import NAME as CALIBRATION
from peft_update_bench.fixtures.instruments.latency.calibration import calibration_step
from peft_update_bench.fixtures.instruments.latency.clock import Step
from peft_update_bench.fixtures.instruments.latency.paired import ReferenceName, SamplingLimits
from peft_update_bench.fixtures.instruments.steady import fixed_threads
from peft_update_bench.fixtures.update_step import build_update_step
from peft_update_bench.fixtures.workload import Workload
from torch.nn import functional


@dataclass(frozen=True)
class Slowdown:
    """Extra work as a fraction of the step's own time: computing, or asleep."""

    fraction: float = 0.0
    how: Literal["computing", "sleeping"] = "computing"

    def __str__(self) -> str:
        return f"{self.fraction:.0%} {self.how}" if self.fraction else "none"


def measure(cell: Cell, slowdown: Slowdown, limits: SamplingLimits, decision: Decision | None) -> dict[str, Any]:
    """Measure `cell` under the default workload, within `limits` or until `decision` is made. In a process of its own.

    Returns the record's `latency`, with the step's median by the wall clock (`median_s`), which pytest-benchmark
    compares, and what the measurement took (`seconds`).
    """
    start = time.perf_counter()
    workload = Workload()
    with fixed_threads(workload.threads):
        step = build_update_step(cell.architecture, cell.method, cell.rank, workload)
        name: ReferenceName = CALIBRATION if cell.method == "fft" else "fft"
        if cell.method == "fft":
            reference: Step = calibration_step()
        else:
            reference = build_update_step(cell.architecture, "fft", None, workload)
        slowed = _slowed(step, slowdown)
        enough = until(decision) if decision else None
        if step.periodic_work is None:
            sample = paired.measure(slowed, reference, limits=limits, until=enough, reference_name=name)
        else:
            # What is judged is the ordinary step.
            few = replace(limits, max_refreshes=limits.min_refreshes)
            sample = paired.measure_periodic(slowed, reference, step.periodic_work, limits=few, until=enough)
    seconds = time.perf_counter() - start
    return {**sample.as_record(), "median_s": median(sample.step_seconds), "seconds": seconds}


def _slowed(step: Step, slowdown: Slowdown) -> Step:
    """`step`, and after each call as much more as it has just taken times the fraction. So the slowdown is exact on a
    machine whose speed changes, too."""
    if not slowdown.fraction:
        return step
    # Some 50 µs, so that 5 % of a step are many.
    images, weight = torch.ones(1, 32, 14, 14), torch.ones(64, 32, 1, 1)

    def slowed() -> None:
        start = time.thread_time_ns()
        step()
        now = time.thread_time_ns()
        extra_ns = slowdown.fraction * (now - start)
        if slowdown.how == "sleeping":
            time.sleep(extra_ns / 1e9)
        else:
            while time.thread_time_ns() < now + extra_ns:
                functional.conv2d(images, weight)

    return slowed
